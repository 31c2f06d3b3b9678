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

    return _deferred(run, recompute)


def _deferred(make: Callable[[], Tensor], recompute: Callable[[], Tensor]) -> Tensor:
    """Return the Tensor `make()` without its graph: in backward, `recompute()` makes the same Tensor again, and its
    graph is walked then.

    What the graph reads is read-only until then, as for a graph that is kept. RuntimeError in backward if a leaf has
    another array by then.
    """
    start = next(clock)
    out = make()
    if out._node is None or out._node.index < start:  # nothing in it trains, or it made nothing
        return out
    nodes = nodes_since([out._node], start)
    inputs = inputs_of(nodes)
    reads = list({reading for node in nodes for reading in node.reads})
    array = out._data
    del out, nodes  # and with them the graph, and what only the graph held
    lasting = {reading for reading in reads if reading.guard.array() is not None}
    later = [recompute]  # which holds the inputs: they can go as the walk passes what reads them

    def rule(g: Array) -> tuple[Array | None, ...]:
        now = next(clock)
        with enable_grad():
            root = later.pop()()._node
        again = {reading for node in nodes_since([root] if root else [], now) for reading in node.reads}
        if root is None or not lasting <= again:
            raise RuntimeError("a weight was replaced between the forward pass and backward, which computes it again")
        lasting.clear()  # the new graph reads them
        again.clear()
        roots = {root: g}
        del g  # the walk frees gradient by gradient
        found = gradients_of(roots, ends=set(inputs))
        return tuple(found.get(x) for x in inputs)

    return record_graph(array, inputs, rule, reads)
