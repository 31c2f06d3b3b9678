"""The graph of recorded operations, and the walk back through it.

A `Node` holds one operation's rules: functions from the gradient of its result to the gradient of an input
(vector-Jacobian products). A graph holds no values; an array stays alive only as long as some rule needs it.
"""

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count
from threading import RLock
from typing import Any, TypeAlias

from minilora import backend
from minilora.backend import Array

Rule: TypeAlias = Callable[[Array], Any]  # the gradient of the result -> one array or None, or a tuple of them
Leaf: TypeAlias = Any  # a Tensor without a node
Edge: TypeAlias = tuple[tuple["Node | Leaf | None", ...], Rule]  # the inputs (None: frozen), and their rule

_recording = ContextVar("recording", default=True)


def no_grad() -> AbstractContextManager[None]:
    """Return a context in which, on this thread, operations record nothing and results require no gradient."""
    return _set_recording(False)


def enable_grad() -> AbstractContextManager[None]:
    """Return a context in which, on this thread, operations are recorded, even inside `no_grad`."""
    return _set_recording(True)


@contextmanager
def _set_recording(flag: bool) -> Iterator[None]:
    token = _recording.set(flag)
    try:
        yield
    finally:
        with suppress(ValueError):  # entered by hand, never left, then garbage-collected in another context
            _recording.reset(token)


def is_recording() -> bool:
    """Return True unless operations run inside `no_grad`."""
    return _recording.get()


clock = count()  # nodes are numbered as they are created, which is a topological order


class Node:
    """One recorded operation: the inputs that gradients flow to from here, and the rules that compute them.

    `edges` becomes None once backward has passed. `reads` are the leaves' arrays that its rules may read.

    `recompute` is None, or a function that computes the result's array again from what the rules hold anyway. A later
    operation then does not need to save that array for its own rule.
    """

    __slots__ = ("dtype", "edges", "index", "reads", "recompute", "shape")

    def __init__(self, array: Array, edges: list[Edge], reads: Sequence["Reading"]) -> None:
        self.index = next(clock)
        self.recompute: Callable[[], Array] | None = None
        self.shape = array.shape
        self.dtype = array.dtype
        self.edges: list[Edge] | None = edges
        self.reads = reads

    def release(self) -> list[Edge]:
        """Return the edges, drop them here, and unlock the arrays that they read."""
        if self.edges is None:
            raise RuntimeError("backward() through a graph that was used before; run the forward pass again")
        edges, self.edges, self.recompute = self.edges, None, None
        guards = [reading.guard for reading in self.reads]
        self.reads = ()
        for guard in guards:
            guard.unlock_if_unread()
        return edges


def gradients_of(roots: dict[Node, Array], ends: Collection[Any] = ()) -> dict[Leaf, Array]:
    """Walk back through the graph from `roots`, {node: gradient}, and return {leaf: gradient}. Both are used up.

    Nodes are visited newest first, so a node's gradient is complete when its turn comes. ends: nodes at which the walk
    stops, as it does at leaves. The returned arrays belong to the caller.
    """
    sums: dict[Leaf, tuple[Array, bool]] = {}  # (gradient so far, True if we may write into that array)
    pending: dict[Any, tuple[Array, bool]] = {root: (gradient, False) for root, gradient in roots.items()}
    heap = sorted((-root.index, root) for root in roots)
    roots.clear()
    while heap:
        node = heappop(heap)[1]
        flow = [pending.pop(node)[0]]
        identity = id(flow[0])
        edges = node.release()
        while edges:
            inputs, rule = edges.pop()
            results = rule(flow[0] if edges else flow.pop())  # the last rule may free the incoming gradient
            for x, result in zip(inputs, results if type(results) is tuple else (results,), strict=True):
                if x is None or result is None:
                    continue
                is_end = not isinstance(x, Node) or x in ends
                if not is_end and x not in pending:
                    heappush(heap, (-x.index, x))
                totals = sums if is_end else pending
                totals[x] = _add(totals.get(x), _checked_gradient(result, x, identity))
            del rule, results, result
    return {leaf: array if is_ours else array.copy() for leaf, (array, is_ours) in sums.items()}


def nodes_since(roots: Iterable[Node], since: int) -> list[Node]:
    """List the nodes of the graph behind `roots` that were created from number `since` on."""
    seen = dict.fromkeys(root for root in roots if root.index >= since)
    waiting = list(seen)
    while waiting:
        for inputs, _ in waiting.pop().edges or ():
            new = [x for x in inputs if isinstance(x, Node) and x.index >= since and x not in seen]
            seen |= dict.fromkeys(new)
            waiting += new
    return list(seen)


def inputs_of(nodes: Iterable[Node]) -> tuple[Any, ...]:
    """List the leaves, and the nodes outside `nodes`, that the gradients of `nodes` flow to."""
    nodes = set(nodes)
    inputs = (x for node in nodes for group, _ in node.edges or () for x in group)
    return tuple(dict.fromkeys(x for x in inputs if x is not None and x not in nodes))


def _checked_gradient(result: Array, x: Node | Leaf, incoming: int) -> tuple[Array, bool]:
    """Check the gradient that a rule returned for the input `x`; return (it in x's dtype, True if we own it).

    incoming: id of the gradient that was passed to the rule, which may have returned that very array.
    """
    if not backend.is_array(result):  # NumPy's reductions give scalars
        result = backend.asarray(result)
    if result.shape != x.shape:
        raise RuntimeError(f"a rule returned shape {result.shape} for an input of shape {x.shape}")
    if result.dtype != x.dtype:
        return result.astype(x.dtype), True
    return result, id(result) != incoming and result.base is None


def _add(part: tuple[Array, bool] | None, other: tuple[Array, bool]) -> tuple[Array, bool]:
    """Add two gradients, in place if one of the arrays is ours; return `other` if there is nothing to add to."""
    if part is None:
        return other
    (a, a_is_ours), (b, b_is_ours) = part, other
    if a_is_ours:
        a += b
        return a, True
    if b_is_ours:
        b += a
        return b, True
    return a + b, True


# Protection: arrays that a graph reads must not change


guard_lock = RLock()  # reentrant: a signal handler that looks at a tensor may run while it is held


class Guard:
    """A lock that keeps a leaf's array read-only while live graphs read it (NumPy only: CuPy has no such flag).

    Every node whose rules may read the array holds a `Reading`. Reference counting frees it with the last of those
    nodes, even if their graph is dropped without a backward pass; the next access to the tensor's `data` then unlocks
    the array. (A counter that a node's finalizer decrements would unlock it at once, but an exception that a signal
    handler raises within a finalizer is lost. A version number, as in PyTorch, cannot see NumPy's `t.data[...] = 0`.)
    """

    __slots__ = ("_reading", "array")

    def __init__(self, array: Array) -> None:
        self.array = weakref.ref(array)  # weak: only the rules that need the array keep it alive
        self._reading: Callable[[], Reading | None] = lambda: None

    def read(self) -> "Reading":
        """Lock the array for as long as the returned Reading is alive."""
        with guard_lock:
            reading = self._reading()
            if reading is None:
                reading = Reading(self)
                self._reading = weakref.ref(reading)
                backend.lock(self.array())
            return reading

    def unlock_if_unread(self) -> None:
        with guard_lock:
            if self._reading() is None and (array := self.array()) is not None:
                backend.unlock(array)


class Reading:
    """A token that nodes hold while they rely on the values of a guarded array."""

    __slots__ = ("__weakref__", "guard")

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
