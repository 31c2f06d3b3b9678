"""Activation checkpointing: keep what a block was given, and compute the rest again when its gradient is wanted.

    forward     the block runs, and what it kept for backward is dropped as soon as it has ended
    backward    when its turn comes, the block runs once more, and the walk goes on through the graph that this makes

With a checkpoint a block, a model of L blocks keeps L inputs and what one block keeps, in place of what L blocks keep,
for one more forward pass (Chen et al. 2016, "Training deep nets with sublinear memory cost", section 3). The second run
repeats the first operation by operation, so that loss and gradients have the same bits with and without it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from minilora import nn
from minilora.tensor import Tensor, deferred, is_recording


def checkpoint(
    block: nn.Module, *arguments: Any, within: Callable[[], AbstractContextManager[Any]] = nullcontext, **keywords: Any
) -> Tensor:
    """`block(*arguments, **keywords)`, a Tensor, with a graph that is made in backward.

    Gradients reach all that the block reads: arguments, its own parameters, and Tensors that it has from elsewhere. It
    must compute the same both times, so what it reads is read-only in between, as in any graph; RuntimeError in
    backward where a weight was replaced. Its dropouts draw the same numbers again. within: makes the context of a run.
    """

    def run() -> Tensor:
        with within():
            out: Tensor = block(*arguments, **keywords)
            return out

    if not is_recording():
        return run()
    same_numbers = nn.replayed_dropout(block)

    def recompute() -> Tensor:
        with same_numbers():
            return run()

    return deferred(run, recompute)
