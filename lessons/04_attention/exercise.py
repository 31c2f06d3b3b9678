# Made from solution.py by `python -m lessons.build`. Write here, then: minilora check 04
# %% [markdown]
# # Lesson 04: the attention block
#
# Six tasks: a norm, rotary positions, causal attention, heads in groups, the gated MLP, and the block that puts them
# together. The reading is README.md beside this file for tasks 2 to 4, and block.md for the others. `minilora check 04`
# says how far you are, `minilora check 04 --hint` helps.
#
# Everything is a Tensor of minilora, so that gradients flow by themselves. Tensors have `+ - * / @`, indexing, `.T`,
# and the methods `mean, sum, max, exp, sqrt, sigmoid, logsumexp, reshape, swapaxes`, with NumPy's arguments;
# `broadcast_to((2, 3))` takes a shape. `ops.where(condition, a, b)` and `ops.concatenate([a, b], axis)` are functions.
# A NumPy array may stand where a constant is meant, but NumPy's functions do not take Tensors.
#
# Shapes: B texts, T tokens, C channels (hidden size), H heads, H_kv heads for keys and values, D channels of a head,
# F width of the MLP.

# %%
import numpy as np

from minilora import Tensor, nn, ops

# %% [markdown]
# ## Task 1: a norm
#
# Divide each token's vector by the root of the mean of its squares, so that all come in one size; then multiply each
# channel by its weight.


# %%
def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """x (..., C), weight (C,) -> (..., C).

    eps is added to the mean of the squares, so that a vector of zeros gives zeros and not 0 / 0.
    """
    raise NotImplementedError("lesson 04, task 1: normalize each token")


# %% [markdown]
# ## Task 2: rotary positions
#
# A head's D channels are D / 2 pairs: channel i and channel i + D / 2. At position t, pair i is turned by the angle
# t · theta^(-2i / D). Positions and pairs count from 0.


# %%
def rotary_angles(length: int, head_dim: int, theta: float = 10000.0) -> np.ndarray:
    """The angles, (length, head_dim / 2): a row per position, a column per pair."""
    raise NotImplementedError("lesson 04, task 2: turn each pair by its position's angle")


def rotate(x: Tensor, angles: np.ndarray) -> Tensor:
    """x (B, H, T, D), angles (T, D / 2) -> (B, H, T, D): (a, b) becomes (a cos - b sin, a sin + b cos)."""
    raise NotImplementedError("lesson 04, task 2: turn each pair by its position's angle")


# %% [markdown]
# ## Task 3: causal attention
#
# Every query is compared with every key, but what comes later in the text is hidden from it. Scores may be large:
# exp(1000) is infinite, so take something off before.


# %%
def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √D) v, in which token t sees tokens 0 … t. q, k, v and the result: (B, H, T, D)."""
    raise NotImplementedError("lesson 04, task 3: look back, and only back")


# %% [markdown]
# ## Task 4: heads, in groups
#
# A linear layer gives all heads side by side: channels 0 … D-1 are head 0's, the next D are head 1's. Keys and values
# may have fewer heads than queries. Then neighbours share: with 6 query heads and 3 for keys, query heads 0 and 1 look
# into key head 0, 2 and 3 into 1, 4 and 5 into 2.


# %%
def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, H·D) -> (B, H, T, D)."""
    raise NotImplementedError("lesson 04, task 4: split, share and join heads")


def share_heads(x: Tensor, heads: int) -> Tensor:
    """(B, H_kv, T, D) -> (B, heads, T, D), each head repeated for its group of neighbours.

    Raises ValueError where `heads` is not a multiple of H_kv.
    """
    raise NotImplementedError("lesson 04, task 4: split, share and join heads")


def join_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, H·D): what split_heads took apart."""
    raise NotImplementedError("lesson 04, task 4: split, share and join heads")


# %% [markdown]
# ## Task 5: the gated MLP
#
# silu(z) = z · sigmoid(z).


# %%
def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """(silu(x gateᵀ) · (x upᵀ)) downᵀ. x (..., C), gate and up (F, C), down (C, F) -> (..., C)."""
    raise NotImplementedError("lesson 04, task 5: gate what goes through")


# %% [markdown]
# ## Task 6: the block
#
# The parts are made for you, under the names that they have in published models. Put them together with your own
# functions: attention on a normalized copy of x, added to x; then the MLP on a normalized copy of that, added again.
# Queries and keys are rotated, values are not.


# %%
class Block(nn.Module):
    """One layer of a language model, (B, T, C) -> (B, T, C)."""

    def __init__(self, hidden: int, intermediate: int, heads: int, kv_heads: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, hidden // heads
        self.input_layernorm = nn.Parameter(np.ones(hidden, dtype="float32"))  # (C,)
        self.q_proj = nn.Linear(hidden, hidden, bias=False, rng=rng)  # weight (H·D, C)
        self.k_proj = nn.Linear(hidden, kv_heads * self.head_dim, bias=False, rng=rng)  # (H_kv·D, C)
        self.v_proj = nn.Linear(hidden, kv_heads * self.head_dim, bias=False, rng=rng)
        self.o_proj = nn.Linear(hidden, hidden, bias=False, rng=rng)
        self.post_attention_layernorm = nn.Parameter(np.ones(hidden, dtype="float32"))
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False, rng=rng)  # (F, C)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False, rng=rng)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False, rng=rng)  # (C, F)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C). `self.q_proj(h)` applies a layer, `self.gate_proj.weight` is its matrix.

        Your functions' default eps and theta are meant.
        """
        raise NotImplementedError("lesson 04, task 6: put the block together")
