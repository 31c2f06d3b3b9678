"""A small search for a learning rate, the same wherever methods are compared: none is judged at another's rate."""

from collections.abc import Callable
from math import inf

from minilora.errors import MiniloraError

SEED = 100  # of what a search trains, so that no seed of a measurement was looked at before
FACTOR = 3.0  # between the learning rates
MOST_TRIES = 5


def best_rate(start: float, tries: int, loss: Callable[[float], float | None]) -> float:
    """The learning rate with the least loss: of `tries` around `start`, and at most two further ones while the best is
    outermost. loss: what a rate comes to on validation data, None where training diverged.
    """
    rates = [start * FACTOR**i for i in (0, 1, -1, 2, -2)[:tries]]
    found: dict[float, float] = {}
    while rates:
        for rate in rates:
            rate = float(f"{rate:.2g}")
            value = loss(rate)
            found[rate] = inf if value is None else value
        best = min(found, key=lambda rate: found[rate])
        outer = {min(found): best / FACTOR, max(found): best * FACTOR}
        is_outermost = best in outer and len(found) < min(MOST_TRIES, tries + 2)
        rates = [outer[best]] if is_outermost else []
    return best


def measured(loss: Callable[[], float]) -> dict:
    """What a record says of one rate: its loss, or None and why."""
    try:
        return {"loss": loss()}
    except MiniloraError as error:  # it diverged
        return {"loss": None, "error": str(error)}
