"""The learning rate over the steps of a run, as a factor on its peak: a warm-up, and then one of several ways down."""

from collections.abc import Callable
from math import cos, pi

DECAY = 0.1  # of the steps after warm-up in which wsd falls


def cosine(progress: float) -> float:
    """Half a cosine (Loshchilov & Hutter 2017, "SGDR", section 3)."""
    return 0.5 * (1 + cos(pi * progress))


def linear(progress: float) -> float:
    return 1 - progress


def constant(progress: float) -> float:
    return 1.0


def wsd(progress: float) -> float:
    """Warmup-stable-decay: the peak, and a fall in the last tenth (Hu et al. 2024, "MiniCPM", section 4.2)."""
    return min(1.0, (1 - progress) / DECAY)


# What is left of the way from the peak to the floor, where `progress` goes from 0 after the warm-up to 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "wsd": wsd,
}


def lr_factor(schedule: str, step: int, steps: int, warmup: int, floor: float = 0.1) -> float:
    """The factor on the peak at `step` (0 … steps-1): linear up to 1 over `warmup` steps, then by the schedule down to
    `floor`.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * SCHEDULES[schedule](min(1.0, progress))
