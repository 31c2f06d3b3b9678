"""How a run trains, and the optimizers that it may name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from minilora.errors import MiniloraError
from minilora.fields import checked, choice, field_problems, is_number, number, whole
from minilora.train.schedule import SCHEDULES

if TYPE_CHECKING:
    from minilora.optim import Optimizer


def _adamw(groups: list[dict], config: TrainConfig) -> Optimizer:
    from minilora.optim import AdamW

    return AdamW(groups, lr=config.peak_lr, betas=config.betas)


def _sgd(groups: list[dict], config: TrainConfig) -> Optimizer:
    from minilora.optim import SGD

    return SGD(groups, lr=config.peak_lr, momentum=config.betas[0])


def _are_betas(value: Any) -> bool:
    is_pair = isinstance(value, (tuple, list)) and len(value) == 2
    return is_pair and all(is_number(beta) and 0 <= beta < 1 for beta in value)


def _is_norm(value: Any) -> bool:
    return is_number(value) and value > 0 or value == inf


OPTIMIZERS: dict[str, Callable[[list[dict], TrainConfig], Optimizer]] = {"adamw": _adamw, "sgd": _sgd}


@dataclass
class TrainConfig:
    """Settings of a run. Raises MiniloraError that lists everything that is out of range."""

    steps: int = whole(None, least=1)
    optimizer: str = choice("adamw", *OPTIMIZERS)  # sgd: with momentum betas[0]
    peak_lr: float = number(1e-3, above=0)  # the learning rate at the schedule's peak
    schedule: str = choice("cosine", *SCHEDULES)
    warmup: int = whole(0)  # steps over which the learning rate rises to its peak
    lr_floor: float = number(0.1, least=0)  # where it ends, as a share of the peak
    lora_plus: float = number(1.0, above=0)  # LoRA's B learns at this multiple of it (LoRA+)
    weight_decay: float = number(0.01, least=0)  # of matrices; vectors (norms, biases) have none
    betas: tuple[float, float] = checked((0.9, 0.999), "two numbers from 0 to below 1", _are_betas)
    max_norm: float = checked(1.0, "a positive number", _is_norm)  # the gradient is clipped to it; or inf
    accumulate: int = whole(1, least=1)  # batches a step
    eval_every: int = whole(0)  # steps between evaluations; 0: none but the last
    patience: int = whole(0)  # evaluations without improvement before the run stops; 0: it goes to the end
    save_every: int = whole(0)  # steps between checkpoints; 0: only at the end
    seed: int = whole(0)  # of dropout

    def __post_init__(self):
        if problems := field_problems(self):
            raise MiniloraError("; ".join(problems))
