"""The operations of a transformer, fused: each is one node of the graph and makes few passes over memory.

Each file begins with the plain form of its operations, written with `minilora.ops` the way a paper prints them; tests
compare the fused form with it. The fused forms are faster on a CPU for three reasons: elementwise chains run over
blocks of rows that stay in a core's cache, intermediate results are overwritten in place, and no array is saved for
backward that it can do without. Shapes are written (..., C) for any number of leading axes; B batch, T queries, S keys,
H heads, D head size, V classes.

Files are named so that none hides a function: `minilora.functional.linear` is the linear map, from linears.py.
"""

from minilora.functional.activations import dropout, gelu, log_softmax, relu, silu, softmax, swiglu
from minilora.functional.attention import rotary, scaled_dot_product_attention
from minilora.functional.linears import embedding, linear, low_rank_linear
from minilora.functional.losses import chunk_rows, cross_entropy, linear_cross_entropy
from minilora.functional.norms import layer_norm, rms_norm
from minilora.functional.rows import selective_recomputation
from minilora.functional.special import erf

__all__ = [
    "chunk_rows", "cross_entropy", "dropout", "embedding", "erf", "gelu", "layer_norm", "linear",
    "linear_cross_entropy", "log_softmax", "low_rank_linear", "relu", "rms_norm", "rotary",
    "scaled_dot_product_attention", "selective_recomputation", "silu", "softmax", "swiglu",
]  # fmt: skip
