"""`minilora finetune --dry-run`: show the data, memory and time of a training run without training anything."""

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

SHOWN = 60  # characters of each span of text, trained on or not


def dry_run(
    arguments: Namespace, model: Any, tokenizer: Any, data: Text | Chats, config: TrainConfig, batches: Any,
    memory: float, machine: float | None,
) -> None:  # fmt: skip
    """Print the rows' lengths, the memory, the time (from one forward and backward pass), and the first batch as text.

    memory, machine: the bytes that a step needs and the bytes that the machine has; None if unknown.
    """
    lengths = [len(ids) for ids, _ in data.train.rows] if isinstance(data, Chats) else [arguments.seq_len]
    median, most, limit = float(np.median(lengths)), max(lengths), arguments.seq_len
    too_long = sum(length > limit for length in lengths)
    batch = batches.next_batch()
    model.train()
    started = perf_counter()
    batch_gradients(model, [batch], world=this_world())
    seconds = perf_counter() - started
    total, shown = seconds * config.accumulate * config.steps, [as_text(tokenizer, *row) for row in unpadded(batch)]
    facts = {"median_tokens": median, "longest_tokens": most, "too_long": too_long, "seconds": total, "batch": shown}
    of = f" of the machine's {show_size(machine)}" if machine else ""
    lines = [
        f"rows: {median:,.0f} tokens (median), {most:,} at most; {too_long:,} longer than --seq-len {limit:,}",
        f"memory: {show_size(memory)}{of} for a step",
        f"time: about {total:,.0f} s, plus evaluations ({seconds:.2f} s for a batch, forward and backward)",
        "first batch, with an arrow before the text that is trained on:",
        *shown,
        "dry run: nothing was trained or written" + (", and --lr was not searched" if arguments.lr == "auto" else ""),
    ]
    print_result(arguments, facts | {"memory": memory, "machine_memory": machine}, "\n".join(lines))


def as_text(tokenizer: Any, ids: np.ndarray, labels: np.ndarray) -> str:
    """Decode a row, with an arrow before what is trained on. Long prompts lose their start, long answers their end."""
    pieces = []
    for is_trained, span in groupby(zip(ids, labels, strict=True), lambda pair: pair[1] != IGNORED):
        text = tokenizer.decode([int(token) for token, _ in span])
        pieces.append("→ " + escape(text, SHOWN) if is_trained else "…" * (len(text) > SHOWN) + escape(text[-SHOWN:]))
    return "  " + " ".join(pieces)
