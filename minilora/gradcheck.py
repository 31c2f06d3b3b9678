"""A check of gradient rules against central differences.

In float64, (f(x + εd) - f(x - εd)) / 2ε agrees with the gradient along d to about ε² relative, so a wrong rule shows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilora import backend
from minilora.tensor import Tensor, gradients, no_grad

FULL_JACOBIAN_SIZE = 64  # inputs of up to this many elements are checked element by element


class GradientError(AssertionError):
    """A gradient that disagrees with central differences. The message says for which input, where, and by how much."""


def gradcheck(
    fn: Callable[..., Tensor], *inputs: Any, eps: float = 1e-6, atol: float = 1e-8, rtol: float = 1e-6, seed: int = 0
) -> bool:
    """Compare the gradients of `fn` with central differences; returns True or raises GradientError.

    fn: takes the inputs, returns one Tensor of any shape. inputs: Tensors; those that require a gradient and are
    float64 are checked (at least one must be). The result is weighted by a fixed random array, and its gradient is
    compared along two random directions and, for inputs of up to 64 elements, in each element. A difference above
    atol + rtol · (largest absolute value that was compared) is an error. Shapes and dtypes of the gradients are checked
    too, and that no input was changed.
    """
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked or any(inputs[i].dtype != np.float64 for i in checked):
        raise ValueError("gradcheck needs at least one input that requires a gradient, and each such input in float64")
    rng = np.random.default_rng(seed)
    before: list[Any] = [x.numpy() if isinstance(x, Tensor) else None for x in inputs]

    out = fn(*inputs)
    weights = rng.standard_normal(out.shape)
    analytic_gradients = gradients(out, backend.asarray(weights))
    for i, x in enumerate(inputs):
        if before[i] is not None and not np.array_equal(x.numpy(), before[i], equal_nan=True):
            raise GradientError(f"input {i} was changed in place")

    def objective(i: int, array: Any) -> float:
        changed = Tensor(backend.asarray(array), requires_grad=True)  # a parameter, so that modules accept it
        trial = [changed if x is inputs[i] else x for x in inputs]  # an input that is passed twice changes in both
        with no_grad():
            return float((backend.to_numpy(fn(*trial).data) * weights).sum())

    for i in checked:
        x = before[i]
        g = analytic_gradients.get(inputs[i])
        g = np.zeros_like(x) if g is None else backend.to_numpy(g)
        if g.shape != x.shape or g.dtype != x.dtype:
            raise GradientError(f"input {i} is {x.dtype}{x.shape}, its gradient {g.dtype}{g.shape}")
        directions = list(rng.standard_normal((2, *x.shape)))
        if x.size <= FULL_JACOBIAN_SIZE:
            directions += list(np.eye(x.size).reshape(x.size, *x.shape))
        if x.size == 0:
            continue
        numeric = np.array([(objective(i, x + eps * d) - objective(i, x - eps * d)) / (2 * eps) for d in directions])
        with np.errstate(all="ignore"):  # an infinite or NaN gradient is reported below
            analytic = np.array([(g * d).sum() for d in directions])
            error = np.abs(numeric - analytic)
        bound = atol + rtol * max(np.abs(numeric).max(), np.abs(analytic).max())
        if not (error <= bound).all():
            worst = int(np.nanargmax(np.where(np.isnan(error), np.inf, error)))
            where = f"element {worst - 2}" if worst >= 2 else f"random direction {worst}"
            raise GradientError(
                f"input {i}, {where}: the rule gives {analytic[worst]:.10g}, "
                f"central differences give {numeric[worst]:.10g}"
            )
    return True
