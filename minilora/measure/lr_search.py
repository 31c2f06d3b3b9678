"""A small search for a learning rate: before a method is judged, and for whoever asks `minilora finetune --lr auto`."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf

from minilora.errors import MiniloraError
from minilora.train import defaults, text
from minilora.train.loop import TrainConfig, trainable
from minilora.train.text import Chats

SEED = 100  # of what a search trains, so that no seed of a measurement was looked at before
FACTOR = 3.0  # between the learning rates
MOST_TRIES = 5
SHARE, LEAST_STEPS = 6, 15  # `find_lr` trains one step for so many of the run itself, but at least these


def best_rate(start: float, tries: int, loss: Callable[[float], float | None], most: int | None = None) -> float:
    """Find the learning rate with the least loss: of `tries` around `start`, and further while the best is outermost.

    loss: what a rate comes to on validation data, None where training diverged. most: rates in all; None: two more
    than `tries`, within MOST_TRIES.
    """
    most = min(MOST_TRIES, tries + 2) if most is None else most
    rates = [start * FACTOR**i for i in (0, 1, -1, 2, -2)[:tries]]
    losses: dict[float, float] = {}
    while rates:
        for rate in (float(f"{rate:.2g}") for rate in rates):
            value = loss(rate)
            losses[rate] = inf if value is None else value
        best = min(losses, key=losses.__getitem__)
        outer = {min(losses): best / FACTOR, max(losses): best * FACTOR}
        rates = [outer[best]] if best in outer and len(losses) < most else []
    return best


def rate_loss(model, data: text.Text | Chats, config: TrainConfig, **batches) -> Callable[[float], float]:
    """Return a function of a learning rate: the best validation loss of a training at it, in bits per character.

    It trains by `config`. Each call begins with the weights that `model` has now, and leaves them so. It raises
    MiniloraError if the training diverges. batches: batch_size, seq_len and world of `defaults.fit`.
    """
    parameters = trainable(model)
    start = {name: parameter.data.copy() for name, parameter in parameters.items()}

    def loss(rate: float) -> float:
        try:
            tried = replace(config, peak_lr=rate)
            return defaults.fit(model, data, tried, show_progress=False, **batches).best
        finally:
            for name, parameter in parameters.items():
                parameter.data, parameter.grad = start[name], None

    return loss


def search_config(config: TrainConfig) -> TrainConfig:
    """Return how `find_lr` trains at each rate."""
    steps = min(config.steps, max(LEAST_STEPS, config.steps // SHARE))
    return replace(config, steps=steps, warmup=steps // 20, eval_every=0, save_every=0, seed=SEED)


def find_lr(
    model, data: text.Text | Chats, config: TrainConfig, tell: Callable = lambda rate, loss: None, **batches
) -> float:
    """Find the learning rate at which `model` learns `data` best in a sixth of the steps of `config`; tries 3 to 5.

    The search starts at `config.peak_lr`. tell: called with each rate and its validation loss in bits per character,
    None where training diverged. batches: as of `rate_loss`. The model is left as it was.
    """
    loss = rate_loss(model, data, search_config(config), **batches)

    def tried(rate: float) -> float | None:
        value = None
        with suppress(MiniloraError):  # it diverged
            value = loss(rate)
        tell(rate, value)
        return value

    return best_rate(config.peak_lr, 3, tried)
