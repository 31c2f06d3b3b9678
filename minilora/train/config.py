"""The settings of a run, and the learning rate over its steps: a warmup, then one of several schedules."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

from minilora.errors import MiniloraError
from minilora.fields import choice, field_problems, number, whole

OPTIMIZERS = ("adamw", "sgd")

# The fraction of the way from floor to peak that is left, as `progress` goes from 0 (after the warmup) to 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + cos(pi * progress)),  # Loshchilov & Hutter 2017, "SGDR", section 3
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
    # warmup-stable-decay: at the peak until a linear decay in the last tenth (Hu et al. 2024, "MiniCPM", section 4.2)
    "wsd": lambda progress: min(1.0, (1 - progress) / 0.1),
}


def lr_factor(schedule: str, step: int, steps: int, warmup: int, floor: float = 0.1) -> float:
    """Return the factor on the peak at `step` (0 … steps-1).

    It rises linearly to 1 over `warmup` steps, then falls by the schedule to `floor`.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * SCHEDULES[schedule](min(1.0, progress))


@dataclass
class TrainConfig:
    """Settings of a run. Raises MiniloraError, listing everything that is out of range."""

    steps: int = whole(None, least=1)
    optimizer: str = choice("adamw", *OPTIMIZERS)  # sgd: with momentum betas[0]
    peak_lr: float = number(1e-3, above=0)  # the learning rate at the schedule's peak
    schedule: str = choice("cosine", *SCHEDULES)
    warmup: int = whole(0)  # steps over which the learning rate rises to its peak
    lr_floor: float = number(0.1, least=0)  # the last learning rate, as a share of the peak
    lora_plus: float = number(1.0, above=0)  # learning rate of LoRA's B as a multiple of A's (LoRA+)
    weight_decay: float = number(0.01, least=0)  # for matrices; vectors (norms, biases) have none
    betas: tuple[float, float] = (0.9, 0.999)
    max_norm: float = 1.0  # the norm to which gradients are clipped; inf: not clipped
    accumulate: int = whole(1, least=1)  # batches per step
    eval_every: int = whole(0)  # steps between evaluations; 0: only before the first step and after the last
    patience: int = whole(0)  # evaluations without improvement before the run stops; 0: never stop early
    save_every: int = whole(0)  # steps between checkpoints; 0: only at the end
    seed: int = whole(0)  # for dropout

    def __post_init__(self):
        if problems := field_problems(self):
            raise MiniloraError("; ".join(problems))
