"""The graph of recorded operations, and the walk back through it.

A `Node` holds one operation's rules: functions from the gradient of its result to the gradient of an input
(vector-Jacobian products). A graph holds no values; an array stays alive only as long as some rule needs it.
"""

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeAlias

from minilora import backend
from minilora.backend import Array

Rule: TypeAlias = Callable[[Array], Any]  # the gradient of the result -> one array or None, or a tuple of them
Leaf: TypeAlias = Any  # a Tensor without a node
Edge: TypeAlias = tuple[tuple["Node | Leaf | None", ...], Rule]  # the inputs (None: frozen), and their rule

_recording = ContextVar("recording", default=True)


def no_grad() -> AbstractContextManager[None]:
    """Within the block (and this thread), operations record nothing and results need no gradient."""
    return _set_recording(False)


def enable_grad() -> AbstractContextManager[None]:
    """Within the block (and this thread), operations record, inside `no_grad` too."""
    return _set_recording(True)


@contextmanager
def _set_recording(flag: bool) -> Iterator[None]:
    token = _recording.set(flag)
    try:
        yield
    finally:
        with suppress(ValueError):  # entered by hand, never left, and collected in another context
            _recording.reset(token)


def is_recording() -> bool:
    """False inside `no_grad`."""
    return _recording.get()


clock = count()  # nodes are numbered in the order of their making, which is a topological order
lease_lock = threading.RLock()


class Node:
    """One recorded operation: where gradients go from here.

    `edges` becomes None when the walk has passed. An edge without inputs has a rule that finds them: it returns a tuple
    of nodes and leaves, and one of their gradients.

    `recompute` is None, or computes the result's array again from what the rules hold anyway, for a rule of a later
    operation that would have to save it otherwise.
    """

    __slots__ = ("dtype", "edges", "index", "leases", "recompute", "shape")

    def __init__(self, array: Array, edges: list[Edge], leases: Sequence["Lease"]) -> None:
        self.index = next(clock)
        self.recompute: Callable[[], Array] | None = None
        self.shape = array.shape
        self.dtype = array.dtype
        self.edges: list[Edge] | None = edges
        self.leases = leases

    def release(self) -> list[Edge] | None:
        """Hand over the edges and give back the arrays that they hold on to."""
        edges, self.edges, self.recompute = self.edges, None, None
        for lease in self.leases:
            lease.release()
        self.leases = ()
        return edges

    def __del__(self) -> None:
        for lease in self.leases:
            lease.release()


def walk(roots: dict[Node, Array], early: bool = False, since: int = 0) -> Iterator[tuple[Leaf, Array]]:
    """The gradients behind `roots`, {node: gradient}, as pairs of a leaf and its array; the graph is used up.

    Nodes are visited newest first, so each has all of its gradient when its turn comes. early: a leaf comes as soon as
    nothing more can be added to its gradient; but at the end, as without `early`, where a rule finds its inputs itself.
    since: nodes made before are leaves.
    """
    pending: dict[Any, tuple[Array, bool]] = {}  # (gradient so far, may we write into it?)
    pending |= {root: (gradient, False) for root, gradient in roots.items()}
    heap = sorted((-root.index, root) for root in roots)
    leaves = []
    uses = _uses(roots) if early else None
    while heap:
        node = heappop(heap)[1]
        g, _ = pending.pop(node)
        edges = node.release()
        if edges is None:
            raise RuntimeError("backward() through a graph that was used before; run the forward pass again")
        while edges:
            inputs, rule = edges.pop()
            results = rule(g)
            if not inputs:  # newer than all nodes that are left, or older than this one
                inputs, results = results
            for x, result in zip(inputs, results if type(results) is tuple else (results,), strict=True):
                if x is None or result is None:
                    continue
                result, ours = _fitted(result, x, g)
                if x in pending:
                    pending[x] = _add(*pending[x], result, ours)
                    continue
                pending[x] = result, ours
                if isinstance(x, Node) and x.index >= since:
                    heappush(heap, (-x.index, x))
                else:
                    leaves.append(x)
            del rule, results, result
            if uses:
                uses.subtract(inputs)
                whole = [x for x in inputs if not isinstance(x, Node) and uses[x] == 0 and x in pending]
                yield from ((leaf, _own(*pending.pop(leaf))) for leaf in dict.fromkeys(whole))
    yield from ((leaf, _own(*pending.pop(leaf))) for leaf in leaves if leaf in pending)


def _fitted(result: Array, x: Node | Leaf, g: Array) -> tuple[Array, bool]:
    """What a rule returned as the gradient of the input `x`, in its dtype, and whether nobody else holds that array."""
    if not backend.is_array(result):  # NumPy's reductions give scalars
        result = backend.asarray(result)
    if result.shape != x.shape:
        raise RuntimeError(f"a rule returned shape {result.shape} for an input of shape {x.shape}")
    if result.dtype != x.dtype:
        return result.astype(x.dtype), True
    return result, result is not g and result.base is None


def _uses(roots: Iterable[Node]) -> Counter[Any] | None:
    """How often each leaf and node is read in the graph behind `roots`; None where a rule finds its inputs itself."""
    uses: Counter[Any] = Counter()
    waiting = list(roots)
    while waiting:
        for inputs, _ in waiting.pop().edges or ():
            if not inputs:
                return None
            waiting += [x for x in dict.fromkeys(inputs) if isinstance(x, Node) and x not in uses]
            uses.update(inputs)
    return uses


def _own(g: Array, ours: bool) -> Array:
    """The array, or a copy where somebody else holds it."""
    return g if ours else g.copy()


def _add(a: Array, a_is_ours: bool, b: Array, b_is_ours: bool) -> tuple[Array, bool]:
    """a + b, written into whichever of the two nobody else holds."""
    if a_is_ours:
        a += b
        return a, True
    if b_is_ours:
        b += a
        return b, True
    return a + b, True


# Armour: what a graph reads does not change


class Lease:
    """Keeps a leaf's array read-only while live graphs rely on its values (NumPy only: CuPy has no such flag).

    It does not keep the array alive: that is up to the rules that need it.
    """

    __slots__ = ("array", "count")

    def __init__(self, array: Array) -> None:
        self.array = weakref.ref(array)
        self.count = 0

    def take(self) -> None:
        with lease_lock:
            if self.count == 0:
                backend.lock(self.array())
            self.count += 1

    def release(self) -> None:
        with lease_lock:
            self.count -= 1
            array = self.array()
            if self.count == 0 and array is not None:
                backend.unlock(array)


def leases_since(node: Node, start: int) -> list[Lease]:
    """The leases of the graph behind `node`, of nodes younger than `start`, each once."""
    found: dict[Lease, None] = {}
    waiting: list[Any] = [node]
    seen = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, Node) and node.index > start and node not in seen:
            seen.add(node)
            found |= dict.fromkeys(node.leases)
            waiting += [x for inputs, _ in node.edges or () for x in inputs]
    return list(found)
