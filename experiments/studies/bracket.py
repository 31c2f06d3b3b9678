"""A finer search for a learning rate than the usual one: in steps of √3, until both ends are worse than the best."""

from collections.abc import Callable
from math import exp, log

import numpy as np

FINEST, STEP = 1e-3, 3**0.5  # a rate that all searches share, and the factor from one rate to the next
MOST = 12  # rates per search
DIVERGED = 9.0  # bits per character assigned to a training that diverged


def bracketed(start: float, loss: Callable[[float], float | None], margin: float = 0.0) -> dict[float, float]:
    """Return {rate: loss} around `start`, extended until both ends are worse than the best by more than `margin`.

    loss: the validation loss of a rate, None if training diverged.
    """
    losses: dict[int, float] = {}

    def try_step(step: int) -> None:
        value = loss(float(f"{FINEST * STEP**step:.2g}"))
        losses[step] = DIVERGED if value is None else value

    try_step(round(log(start / FINEST) / log(STEP)))
    while len(losses) < MOST:
        limit = min(losses.values()) + margin
        outer = [(losses[end], end + side) for end, side in ((max(losses), 1), (min(losses), -1))]
        if min(outer)[0] > limit:
            break
        try_step(min(outer)[1])
    return {float(f"{FINEST * STEP**step:.2g}"): losses[step] for step in sorted(losses)}


def optimum(losses: dict[float, float], margin: float) -> dict[str, float]:
    """Return the best rate, by a parabola through the best one tried and its neighbours, and the range of good rates.

    low, high: between them, the interpolated losses are within `margin` of the least.
    """
    x, y = np.log(list(losses)), np.array(list(losses.values()))
    best = int(y.argmin())
    lr = x[best]
    if 0 < best < len(x) - 1:
        a, b, _ = np.polyfit(x[best - 1 : best + 2] - lr, y[best - 1 : best + 2], 2)
        lr = lr - b / (2 * a) if a > 0 else lr
    limit = y[best] + margin
    low = np.interp(limit, *_until(x[best::-1], y[best::-1], limit))
    high = np.interp(limit, *_until(x[best:], y[best:], limit))
    return {"lr": exp(lr), "low": exp(low), "high": exp(high), "loss": float(y[best])}


def _until(x: np.ndarray, y: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the two points, losses first, between which the losses pass `limit` for the first time."""
    above = int((y > limit).argmax()) or len(y) - 1
    return y[max(above - 1, 0) : above + 1], x[max(above - 1, 0) : above + 1]
