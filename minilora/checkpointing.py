"""Activation checkpointing: save only a block's inputs, and recompute the rest when its gradient is needed.

    forward     the block runs, and what it saved for backward is dropped as soon as it has finished
    backward    when its turn comes, the block runs once more, and backward walks the graph of this second run

With every block checkpointed, a model of L blocks holds L inputs and the activations of one block instead of those of
L blocks, at the price of one more forward pass (Chen et al. 2016, "Training deep nets with sublinear memory cost",
section 3). The second run repeats the first one operation by operation, so loss and gradients are bit-identical with
and without checkpointing.
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
    """Call `block(*arguments, **keywords)`, which returns a Tensor, and build its graph only in backward.

    Gradients reach everything that the block reads: arguments, its own parameters, and Tensors from elsewhere. It must
    compute the same both times, so the arrays that it reads are read-only in between, as in any graph; backward raises
    RuntimeError if a weight was replaced. Its dropouts draw the same numbers again. within: returns the context manager
    that each of the two runs is wrapped in.
    """
    rngs = nn.dropout_twice(block) if is_recording() else [None]

    def run() -> Tensor:
        rng = rngs.pop(0)
        with within(), nullcontext() if rng is None else nn.dropout_rng(rng):
            out: Tensor = block(*arguments, **keywords)
            return out

    start = next(clock)
    out = run()
    if out._node is None or out._node.index < start:  # nothing was recorded, or the block returned its input
        return out
    nodes = nodes_since([out._node], start)
    inputs = inputs_of(nodes)
    reads = list({reading for node in nodes for reading in node.reads})
    array = out._data
    del out, nodes  # frees the graph, and the arrays that only the graph held
    # Guarded arrays that are still alive, such as weights and inputs: the second run has to read the same ones.
    lasting = {reading for reading in reads if reading.guard.array() is not None}
    reruns = [run]  # holds the inputs; popped in backward, so that they can be freed as the walk goes on

    def rule(g: Array) -> tuple[Array | None, ...]:
        now = next(clock)
        with enable_grad():
            root = reruns.pop()()._node
        read = {reading for node in nodes_since([root] if root else [], now) for reading in node.reads}
        if root is None or not lasting <= read:
            raise RuntimeError(
                "a weight was replaced between the forward pass and backward, which recomputes the block"
            )
        lasting.clear()  # the new graph reads them
        read.clear()
        roots = {root: g}
        del g  # the walk frees each gradient as soon as it is used
        gradients = gradients_of(roots, ends=set(inputs))
        return tuple(gradients.get(x) for x in inputs)

    return record_graph(array, inputs, rule, reads)
