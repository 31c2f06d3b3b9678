"""Small learning-rate search, for `minilora finetune --lr auto` and to give every compared method its best rate."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf

from minilora.errors import MiniloraError
from minilora.train import defaults, text
from minilora.train.loop import TrainConfig, trainable
from minilora.train.text import Chats

SEED = 100  # for searches only, so that no measured seed was used to choose the rate
FACTOR = 3.0  # between the learning rates
MOST_TRIES = 5
SHARE, LEAST_STEPS = 6, 15  # `find_lr` trains 1/SHARE of the steps of the run, but at least LEAST_STEPS


def best_rate(start: float, tries: int, loss: Callable[[float], float | None], most: int | None = None) -> float:
    """Find the learning rate with the lowest loss among `tries` rates around `start`.

    While the best rate is the smallest or largest tried, the search goes on in that direction. loss: returns the
    validation loss at a rate, None if training diverged. most: the most rates to try; None for `tries` + 2, at most
    MOST_TRIES.
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
    """Return a function that trains at a learning rate and returns the best validation loss, in bits per character.

    It trains by `config`. Each call starts from the weights that `model` has now and restores them at the end. The
    function raises MiniloraError if training diverges. batches: batch_size, seq_len and world of `defaults.fit`.
    """
    parameters = trainable(model)
    start = {name: parameter.data.copy() for name, parameter in parameters.items()}

    def loss(rate: float) -> float:
        try:
            at_rate = replace(config, peak_lr=rate)
            return defaults.fit(model, data, at_rate, show_progress=False, **batches).best
        finally:
            for name, parameter in parameters.items():
                parameter.data, parameter.grad = start[name], None

    return loss


def search_config(config: TrainConfig) -> TrainConfig:
    """Return the configuration with which `find_lr` trains at each rate."""
    steps = min(config.steps, max(LEAST_STEPS, config.steps // SHARE))
    return replace(config, steps=steps, warmup=steps // 20, eval_every=0, save_every=0, seed=SEED)


def find_lr(
    model, data: text.Text | Chats, config: TrainConfig, tell: Callable = lambda rate, loss: None, **batches
) -> float:
    """Find the learning rate at which `model` learns `data` best in a sixth of the steps of `config`.

    Tries three to five rates, starting at `config.peak_lr`. tell: called with each rate and its validation loss in bits
    per character, None if training diverged. batches: as in `rate_loss`. The model's weights are restored.
    """
    loss = rate_loss(model, data, search_config(config), **batches)

    def loss_or_none(rate: float) -> float | None:
        value = None
        with suppress(MiniloraError):  # it diverged
            value = loss(rate)
        tell(rate, value)
        return value

    return best_rate(config.peak_lr, 3, loss_or_none)
