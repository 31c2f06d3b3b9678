"""Costs of a method: memory of a training step by kind, size of the saved file, speed of generation.

Memory is measured in a separate process, in which nothing else is alive.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from minilora import threads
from minilora.errors import MiniloraError
from minilora.measure.lab import Lab
from minilora.measure.memory import peak_of_steps
from minilora.measure.records import peak_rss
from minilora.optim import AdamW
from minilora.train import text
from minilora.train.loop import trainable
from minilora.train.world import batch_gradients
from notebooks.figures.memory import live_bytes

CHARACTERS = 6_000  # characters of domain text, enough for two steps
PROMPT = "Return the "


def seconds_in_turns(ways: Mapping[str, Callable[[Any], object]], items: Sequence[Any]) -> dict[str, float]:
    """Return the median seconds per item of each way. The ways take turns; the first item is a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number, item in enumerate([items[0], *items]):
        for name, way in ways.items():
            started = perf_counter()
            way(item)
            if number:
                times[name].append(perf_counter() - started)
    return {name: median(seconds) for name, seconds in times.items()}


def memory_of(base_folder: Path, method: str, seq_len: int, batch_size: int) -> dict[str, int]:
    """Return the bytes that training by `method` needs, measured in a fresh process on one thread.

    "weights", "gradients", "optimizer", "activations": bytes of the arrays alive at the end of the second forward
    pass. "peak": the most bytes alive in two steps, weights included. "process": the peak resident set of the whole
    process, with Python and the libraries.
    """
    return in_fresh_process(_measure, base_folder, method, seq_len, batch_size)


def in_fresh_process(measure: Callable[..., dict], *arguments: Any) -> dict:
    """Return what `measure` returns in a process of its own. Raises MiniloraError if the process is killed."""
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(measure, *arguments).result()
    except BrokenProcessPool as error:
        raise MiniloraError(f"measuring memory failed: {error}") from error


def memory_of_steps(fresh: Callable[[], Any], batches: Any) -> dict[str, int | None]:
    """Measure the numbers of `memory_of` for training steps in this process. fresh: makes a model to train."""
    with threads.using(1):
        model = fresh()
        optimizer = AdamW(list(trainable(model).values()), lr=1e-4)
        batch_gradients(model, [batches.next_batch()])
        optimizer.step()
        gradients = {name: p.grad for name, p in trainable(model).items()}
        optimizer.zero_grad()
        loss = model(**batches.next_batch()).loss
        for name, p in trainable(model).items():
            p.grad = gradients[name]
        kinds = live_bytes(model, optimizer, loss)
        process = peak_rss()
        del model, optimizer, gradients, loss

        model = fresh()
        peak = peak_of_steps(model, batches, live_bytes(model)["weights"])
        return {**kinds, "peak": peak, "process": process}


def _measure(base_folder: Path, method: str, seq_len: int, batch_size: int) -> dict[str, int | None]:
    lab = Lab(base_folder, seq_len, batch_size, test_characters=1000, validation_characters=1000)
    stream = lab.domain_text(CHARACTERS, 0)
    batches = text.training_batches(stream, batch_size, seq_len, 0)
    return memory_of_steps(lambda: lab.fresh(method, 0, tokens=stream.ids), batches)


def file_bytes(model) -> int:
    """Return the bytes of the weights that `save_pretrained` writes: an adapter's, or the whole model's."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sum(os.path.getsize(path) for path in Path(folder).glob("*.safetensors"))


def tokens_per_second(models: dict, tokenizer, tokens: int = 48, rounds: int = 5) -> dict[str, float]:
    """Return {name: tokens per second} of greedy generation, batch 1. The models take turns; medians over the
    rounds.
    """
    prompt = tokenizer.encode(PROMPT)[None]
    generate = lambda model: lambda prompt: model.generate(prompt, tokens, temperature=0, eos_token_id=[])  # noqa: E731
    times = seconds_in_turns({name: generate(model) for name, model in models.items()}, [prompt] * rounds)
    return {name: tokens / seconds for name, seconds in times.items()}
