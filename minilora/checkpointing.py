"""Activation checkpointing: keep what a block was given, and compute the rest again when its gradient is wanted.

    forward     the block runs, and what it kept for backward is dropped as soon as it has ended
    backward    when its turn comes, the block runs once more, and the graph that this makes is walked

With a checkpoint a block, a model of L blocks keeps L inputs and what one block keeps, in place of what L blocks keep,
for one more forward pass (Chen et al. 2016, "Training deep nets with sublinear memory cost", section 3). The second run
repeats the first operation by operation, so that loss and gradients have the same bits with and without it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from minilora import nn
from minilora.backend import Array
from minilora.graph import clock, enable_grad, gradients_of, inputs_of, is_recording, nodes_since
from minilora.tensor import Tensor, record_graph


def checkpoint(
    block: nn.Module, *arguments: Any, within: Callable[[], AbstractContextManager[Any]] = nullcontext, **keywords: Any
) -> Tensor:
    """`block(*arguments, **keywords)`, a Tensor, with a graph that is made in backward.

    Gradients reach all that the block reads: arguments, its own parameters, and Tensors that it has from elsewhere. It
    must compute the same both times, so what it reads is read-only in between, as in any graph; RuntimeError in
    backward where a weight was replaced. Its dropouts draw the same numbers again. within: makes the context of a run.
    """
    rngs = nn.dropout_twice(block) if is_recording() else [None]

    def run() -> Tensor:
        rng = rngs.pop(0)
        with within(), nullcontext() if rng is None else nn.dropout_rng(rng):
            out: Tensor = block(*arguments, **keywords)
            return out

    start = next(clock)
    out = run()
    if out._node is None or out._node.index < start:  # nothing in it trains or is recorded, or it made nothing
        return out
    nodes = nodes_since([out._node], start)
    inputs = inputs_of(nodes)
    reads = list({reading for node in nodes for reading in node.reads})
    array = out._data
    del out, nodes  # and with them the graph, and what only the graph held
    lasting = {reading for reading in reads if reading.guard.array() is not None}
    again = [run]  # which holds the inputs: they can go as the walk passes what reads them

    def rule(g: Array) -> tuple[Array | None, ...]:
        now = next(clock)
        with enable_grad():
            root = again.pop()()._node
        read = {reading for node in nodes_since([root] if root else [], now) for reading in node.reads}
        if root is None or not lasting <= read:
            raise RuntimeError("a weight was replaced between the forward pass and backward, which computes it again")
        lasting.clear()  # the new graph reads them
        read.clear()
        roots = {root: g}
        del g  # the walk frees gradient by gradient
        found = gradients_of(roots, ends=set(inputs))
        return tuple(found.get(x) for x in inputs)

    return record_graph(array, inputs, rule, reads)
