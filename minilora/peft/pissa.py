"""PiSSA: LoRA that starts at the principal part of the weight itself (Meng et al. 2024, section 3).

With W = U S Vᵀ, singular values in falling order, and of each the first r,

    A = √(S / s) Vᵀ   (r, in)        B = U √(S / s)   (out, r)        the base becomes W - s · B A, and is frozen

so that the sum is W still, to rounding, and what trains from the first step on is the part of W with the largest
singular values. (In LoRA, B = 0 makes A's random directions the only way in.) The adapter holds the base that it made,
and W stays what it was, so that disabling and unloading are exact: the layer takes the memory of two.

A file holds A and B alone: who opens it, takes W apart again. With the exact SVD that gives the same base everywhere,
as s · B A is the best approximation of W of its rank; only where the r-th and the next singular value are equal, W does
not say which. With a randomized SVD it depends on what was drawn, which PEFT's files do not hold and PEFT draws anew.
So minilora saves such an adapter as what it is relative to W, plain LoRA of rank 2r:

    W - s · B₀ A₀ + s · B A = W + s · [B, -B₀] [A; A₀]        B₀ and A₀: where B and A started
"""

from typing import Any

import numpy as np

from minilora import backend, nn
from minilora.backend import xp
from minilora.errors import MiniloraError
from minilora.peft.config import with_weight
from minilora.tensor import Tensor, wrap


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
    factors = principal_factors(weight, config.r, config.scaling, config.pissa_iterations)
    a, b = (factor.astype(weight.dtype) for factor in factors)
    base = with_weight(linear, weight - (b * config.scaling) @ a)
    base.weight.requires_grad = False
    return base, a, b


def principal_factors(weight, rank: int, scaling: float = 1.0, iterations: int | None = None):
    """A and B as above, in float64: weight (out, in) -> (rank, in), (out, rank).

    With a number of iterations, W is first projected on a subspace of `rank` dimensions, which starts random and is
    turned that often towards the leading singular vectors (Halko et al. 2011, algorithms 4.4 and 5.1). That is faster
    for a small rank. It is always drawn from the same seed, so that one weight gives one result.
    """
    w = weight.astype(xp.float64)  # in float32, results would depend on the library that computes the SVD
    if iterations is None:
        u, s, vt = xp.linalg.svd(w, full_matrices=False)
    else:
        q = _leading_subspace(w, rank, iterations)
        u, s, vt = xp.linalg.svd(q.T @ w, full_matrices=False)  # of a matrix (rank, in)
        u = q @ u
    root = xp.sqrt(s[:rank] / scaling)
    return root[:, None] * vt[:rank], u[:, :rank] * root


def _leading_subspace(w, rank: int, iterations: int):
    """An orthonormal basis (out, rank) of about what the leading left singular vectors of w (out, in) span."""
    probe = backend.asarray(np.random.default_rng(0).standard_normal((w.shape[1], rank)))
    q, _ = xp.linalg.qr(w @ probe)
    for _ in range(iterations):
        q, _ = xp.linalg.qr(w.T @ q)  # (in, rank)
        q, _ = xp.linalg.qr(w @ q)
    return q


def relative_to_the_weight(parameters: dict[str, Tensor], a, b) -> dict[str, Tensor]:
    """A layer's parameters as an update of the original weight, of twice the rank. a, b: where they started."""
    return parameters | {
        "lora_A.weight": wrap(xp.concatenate([parameters["lora_A.weight"].data, a])),
        "lora_B.weight": wrap(xp.concatenate([parameters["lora_B.weight"].data, -b], axis=1)),
    }
