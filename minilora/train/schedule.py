"""The learning rate over the steps of a run."""

from math import cos, pi


def warmup_cosine(step: int, steps: int, warmup: int, floor: float = 0.1) -> float:
    """The factor on the learning rate at `step` (0 … steps-1): linear up to 1 over `warmup` steps, then half a cosine
    down to `floor` (Loshchilov & Hutter 2017, section 3).
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + cos(pi * min(1.0, progress)))
