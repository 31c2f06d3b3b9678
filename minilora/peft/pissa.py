"""PiSSA: LoRA that starts at the principal part of the weight itself (Meng et al. 2024, section 3).

With W = U S Vᵀ, singular values in falling order, and of each the first r,

    A = √(S / s) Vᵀ   (r, in)        B = U √(S / s)   (out, r)        the base becomes W - s · B A, and is frozen

so that the sum is W still, to rounding, and what trains from the first step on is the part of W with the largest
singular values. (In LoRA, B = 0 makes A's random directions the only way in.) The adapter holds the base that it made,
and W stays what it was, so that disabling and unloading are exact: the layer takes the memory of two.

A file holds A and B alone: who opens it, takes W apart again. That gives the same base everywhere, as s · B A is the
best approximation of W of its rank; only where the r-th and the next singular value are equal, W does not say which.
(PEFT's "pissa_niter_…" draws a randomized SVD anew each time: such a file does not say what it was trained on.)
"""

from typing import Any

import numpy as np

from minilora import nn
from minilora.backend import xp
from minilora.errors import MiniloraError
from minilora.peft.config import with_weight


def principal_start(linear: nn.Linear, config: Any, rng: np.random.Generator | None = None):
    """(base, A, B): a frozen Linear without the principal part of `linear`, and the arrays A (r, in) and B (out, r).

    config: a LoraConfig. `linear` stays as it is; a bias is shared. Raises MiniloraError for a weight in 4 bits.
    """
    if linear.num_quantized:
        raise MiniloraError(
            "PiSSA takes the singular vectors of a float weight, and the base is in 4 bits: "
            "load it in floats, or start from init_lora_weights=True"
        )
    weight = linear.weight.data
    factors = principal_factors(weight, config.r, config.scaling)
    a, b = (factor.astype(weight.dtype) for factor in factors)
    base = with_weight(linear, weight - (b * config.scaling) @ a)
    base.weight.requires_grad = False
    return base, a, b


def principal_factors(weight, rank: int, scaling: float = 1.0):
    """A and B as above, in float64: weight (out, in) -> (rank, in), (out, rank)."""
    w = weight.astype(xp.float64)  # in float32, results would depend on the library that computes the SVD
    u, s, vt = xp.linalg.svd(w, full_matrices=False)
    root = xp.sqrt(s[:rank] / scaling)
    return root[:, None] * vt[:rank], u[:, :rank] * root
