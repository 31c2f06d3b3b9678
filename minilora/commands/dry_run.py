"""`minilora finetune --dry-run`: what a training would read, need and take; nothing is trained or written."""

from argparse import Namespace
from itertools import groupby
from time import perf_counter
from typing import Any

import numpy as np

from minilora.commands.common import print_result
from minilora.data.batches import IGNORED, unpadded
from minilora.errors import escape
from minilora.show.grids import show_size
from minilora.train.config import TrainConfig
from minilora.train.text import Chats, Text
from minilora.train.world import batch_gradients, this_world

SHOWN = 60  # characters of each stretch that is learned, or that is not


def dry_run(
    arguments: Namespace, model: Any, tokenizer: Any, data: Text | Chats, config: TrainConfig, batches: Any,
    memory: float, machine: float | None,
) -> None:  # fmt: skip
    """Print the lengths of rows, the memory, the time by one forward and backward pass, and the first batch as text.

    memory, machine: bytes that a step needs, and that there are.
    """
    lengths = [len(ids) for ids, _ in data.train.rows] if isinstance(data, Chats) else [arguments.seq_len]
    median, most, limit = float(np.median(lengths)), max(lengths), arguments.seq_len
    too_long = sum(length > limit for length in lengths)
    batch = batches.next_batch()
    model.train()
    started = perf_counter()
    batch_gradients(model, [batch], world=this_world())
    seconds = perf_counter() - started
    in_all, shown = seconds * config.accumulate * config.steps, [as_text(tokenizer, *row) for row in unpadded(batch)]
    facts = {"median_tokens": median, "longest_tokens": most, "too_long": too_long, "seconds": in_all, "batch": shown}
    of = f" of {show_size(machine)}" if machine else ""
    lines = [
        f"rows: {median:,.0f} tokens (median), {most:,} at most; {too_long:,} longer than --seq-len {limit:,}",
        f"memory: {show_size(memory)}{of} for a step",
        f"time: about {in_all:,.0f} s and evaluations; the first batch took {seconds:.2f} s, forward and backward",
        "the first batch, with an arrow before what is learned:",
        *shown,
        "nothing was trained or written" + (", and no rate searched" if arguments.lr == "auto" else ""),
    ]
    print_result(arguments, facts | {"memory": memory, "machine_memory": machine}, "\n".join(lines))


def as_text(tokenizer: Any, ids: np.ndarray, labels: np.ndarray) -> str:
    """Decode a row, with an arrow before what is learned. A long prompt loses its beginning, a long answer its end."""
    pieces = []
    for is_learned, run in groupby(zip(ids, labels, strict=True), lambda pair: pair[1] != IGNORED):
        text = tokenizer.decode([int(token) for token, _ in run])
        pieces.append("→ " + escape(text, SHOWN) if is_learned else "…" * (len(text) > SHOWN) + escape(text[-SHOWN:]))
    return "  " + " ".join(pieces)
