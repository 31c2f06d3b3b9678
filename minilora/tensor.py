"""Tensors that remember how they were made, and the walk back that turns this memory into gradients.

An operation computes an array and calls `record` with one rule an input: a function from the gradient of its output
to the gradient of that input (a vector-Jacobian product). What is kept is a graph of `Node`s, which hold rules and
shapes but not values; an array stays alive only as long as some rule needs it.

A frozen input has no rule: `record` drops it at once, and with it the arrays that only this rule would have needed.
That is what makes fine-tuning a few parameters cheaper than training all of them.
"""

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count

from minilora import backend
from minilora.backend import xp

_recording = ContextVar("recording", default=True)
_clock = count()  # nodes are numbered in the order of their making, which is a topological order
_lease_lock = threading.RLock()


def no_grad():
    """Within the block (and this thread), operations record nothing and results need no gradient."""
    return _set_recording(False)


def enable_grad():
    """Within the block (and this thread), operations record, inside `no_grad` too."""
    return _set_recording(True)


@contextmanager
def _set_recording(flag: bool):
    token = _recording.set(flag)
    try:
        yield
    finally:
        _recording.reset(token)


def is_recording() -> bool:
    """False inside `no_grad`."""
    return _recording.get()


class _Lease:
    """Keeps a leaf's array read-only while live graphs rely on its values (NumPy only: CuPy has no such flag).

    It does not keep the array alive: that is up to the rules that need it.
    """

    __slots__ = ("array", "count")

    def __init__(self, array):
        self.array = weakref.ref(array)
        self.count = 0

    def take(self) -> None:
        with _lease_lock:
            if self.count == 0:
                backend.lock(self.array())
            self.count += 1

    def release(self) -> None:
        with _lease_lock:
            self.count -= 1
            array = self.array()
            if self.count == 0 and array is not None:
                backend.unlock(array)


class Node:
    """One recorded operation: where gradients go from here.

    `edges` is a list of `(parents, rule)`: the parents are Nodes or leaf Tensors, and `rule(gradient)` gives one array
    (or None) for each. It becomes None when `backward` has passed. The one edge of a `deferred` result has no parents,
    and its rule gives a Tensor, through whose graph the gradient goes on.

    `remake` is None, or makes the result's array anew from what the rules hold anyway, for a rule of a later operation
    that would have to keep it otherwise.
    """

    __slots__ = ("dtype", "edges", "index", "leases", "remake", "shape")

    def __init__(self, array, edges, leases):
        self.index = next(_clock)
        self.remake = None
        self.shape = array.shape
        self.dtype = array.dtype
        self.edges = edges
        self.leases = leases

    def release(self):
        """Hand over the edges and give back the arrays that they hold on to."""
        edges, self.edges, self.remake = self.edges, None, None
        for lease in self.leases:
            lease.release()
        self.leases = ()
        return edges

    def __del__(self):
        for lease in self.leases:
            lease.release()


class Tensor:
    """An array of the active backend that can take part in a graph.

    data: anything array-like. An array keeps its dtype (float16 becomes float32) and is copied; Python numbers and
    lists
        become float32.
    requires_grad: whether `backward` shall leave a gradient in `.grad`; only floating-point tensors can.

    Arithmetic, indexing and methods such as `sum` are defined in `minilora.ops`. While a graph that will use a leaf's
    values is alive, its array is read-only on the NumPy backend: `t.data[...] = 0` between forward and backward raises
    NumPy's ValueError; assigning a new array, `t.data = a`, is always possible and leaves the graph with the old one.
    """

    __slots__ = ("__weakref__", "_data", "_lease", "_node", "_requires_grad", "grad")
    __array_ufunc__ = None  # NumPy steps aside in `array + tensor`

    def __init__(self, data, requires_grad: bool = False):
        if isinstance(data, Tensor):
            data = data._data
        if backend.is_array(data) or hasattr(data, "dtype"):
            array = backend.asarray(data)
            array = array.astype(xp.float32) if array.dtype == xp.float16 else array.copy()
        else:
            array = backend.asarray(data, dtype=xp.float32)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"a tensor holds numbers or booleans, not {array.dtype}")
        self._data = array
        self._node = None
        self._lease = None
        self.grad = None
        self._requires_grad = False
        self.requires_grad = requires_grad

    # What it holds

    @property
    def data(self):
        """The array, of the active backend. Assigning copies."""
        return self._data

    @data.setter
    def data(self, array) -> None:
        if self._node is not None:
            raise RuntimeError("the array of a computed tensor cannot be replaced; use detach() to get a leaf")
        adopt(self, backend.asarray(array._data if isinstance(array, Tensor) else array).copy())

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        if self._node is not None and not flag:
            raise RuntimeError("a computed tensor cannot be frozen; use detach()")
        if flag and self._data.dtype.kind != "f":
            raise TypeError(f"only floating-point tensors can require a gradient, this one is {self._data.dtype}")
        self._requires_grad = bool(flag)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def dtype(self):
        return self._data.dtype

    def __len__(self) -> int:
        if not self._data.shape:
            raise TypeError("a 0-d tensor has no length")
        return self._data.shape[0]

    def __repr__(self) -> str:
        body = str(backend.to_numpy(self._data)).replace("\n", "\n       ")
        grad = ", requires_grad=True" if self._requires_grad else ""
        return f"Tensor({body}, dtype={self._data.dtype}{grad})"

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def numpy(self):
        """A copy on the host, as a NumPy array."""
        return backend.to_numpy(self._data).copy()

    def item(self) -> float:
        """The only element, as a Python number; ValueError where there is more than one."""
        if self._data.size != 1:
            raise ValueError(f"item() needs one element, this tensor has shape {self._data.shape}")
        return self._data.item()

    def detach(self) -> "Tensor":
        """The same array outside every graph."""
        out = wrap(self._data)
        if self._node is None:
            with _lease_lock:
                out._lease = _lease_of(self)
        return out

    def __deepcopy__(self, memo) -> "Tensor":
        """A leaf with a copy of the data and of `.grad`."""
        out = Tensor(self._data, self._requires_grad)
        out.grad = None if self.grad is None else self.grad.copy()
        return out

    def __reduce__(self):
        return Tensor, (self.numpy(), self._requires_grad)

    # The walk back

    def backward(self, gradient=None) -> None:
        """Add the gradient of this tensor to `.grad` of each leaf that requires one.

        gradient: what flows in (array or Tensor of this tensor's shape); 1 where it is left out, for one element only.
        The graph is used up. Raises RuntimeError where there is no graph, where it was used up before, and where a
        gradient is needed but not given; ValueError for a gradient of another shape.
        """
        for leaf, g in gradients(self, gradient).items():
            leaf.grad = g if leaf.grad is None else leaf.grad + g


def adopt(tensor: Tensor, array) -> None:
    """Make `array`, of the backend, the leaf's array without a copy: nobody else may hold on to it."""
    tensor._data = array
    tensor._lease = None


def wrap(array) -> Tensor:
    """A Tensor around an array of the backend, without a copy: for operations, not for data from outside."""
    out = Tensor.__new__(Tensor)
    out._data = array if backend.is_array(array) else backend.asarray(array)
    out._node = None
    out._lease = None
    out._requires_grad = False
    out.grad = None
    return out


def _lease_of(tensor: Tensor) -> _Lease | None:
    """The lease on a leaf's array; None where there is nothing to lock."""
    if tensor._lease is None and backend.is_lockable(tensor._data):
        tensor._lease = _Lease(tensor._data)
    return tensor._lease


def _take_lease(tensor: Tensor) -> _Lease | None:
    with _lease_lock:
        lease = _lease_of(tensor)
        if lease is not None:
            lease.take()
        return lease


def writable_data(tensor: Tensor):
    """A leaf's array, C-contiguous, for writing in place. One that is read-only, as while a live graph needs it, is
    replaced by a copy first.
    """
    if not backend.is_writable(tensor._data) or not tensor._data.flags.c_contiguous:
        adopt(tensor, tensor._data.copy(order="C"))
    return tensor._data


def record(array, *edges) -> Tensor:
    """The result of an operation, with the rules that its live inputs need.

    array: what was computed.
    edges: `(input, rule)`, or `((inputs, …), rule)` where one rule serves several. An input may be anything; only
        Tensors that require a gradient keep their rule. `rule(g)` takes the gradient of the result (an array of its
        shape and dtype) and returns that of the input, of the input's shape: `g` itself, a view of it, or a fresh
        array, but never an array that something else holds on to. With several inputs it returns one array or None
        for each.
    """
    out = wrap(array)
    if out._data.base is not None:  # perhaps a view of an input, through which nothing may change
        backend.lock(out._data)
    if not _recording.get():
        return out
    kept = []
    for inputs, rule in edges:
        inputs = inputs if type(inputs) is tuple else (inputs,)
        parents = tuple([(x._node or x) if isinstance(x, Tensor) and x._requires_grad else None for x in inputs])
        if any(parent is not None for parent in parents):
            kept.append((parents, rule))
    if kept:
        # Whatever a kept rule closes over must not change before it runs, so every leaf that went in is leased.
        leaves = {
            id(x): x
            for inputs, _ in edges
            for x in (inputs if type(inputs) is tuple else (inputs,))
            if isinstance(x, Tensor) and x._node is None
        }
        leases = [lease for lease in map(_take_lease, leaves.values()) if lease is not None]
        backend.lock(out._data)
        out._node = Node(out._data, kept, leases)
        out._requires_grad = True
    return out


def deferred(make, again) -> Tensor:
    """The Tensor `make()` without its graph: in backward, `again()` makes the same Tensor anew, and the walk goes on
    from there.

    All that the graph needs is leased until then, as for a graph that is kept. RuntimeError in backward where a leaf
    has another array by then.
    """
    start = next(_clock)
    out = make()
    if out._node is None or out._node.index < start:  # nothing in it trains, or it made nothing
        return out
    leases = _leases_since(out._node, start)
    for lease in leases:
        lease.take()
    result = wrap(out._data)
    del out  # and with it the graph, and what only the graph held
    lasting = [lease for lease in leases if lease.array() is not None]

    def rule(g):
        now = next(_clock)
        with enable_grad():
            made = again()
        if not set(lasting) <= set(_leases_since(made._node, now)):
            raise RuntimeError("a weight was replaced between the forward pass and backward, which computes it again")
        return made

    result._node = Node(result._data, [((), rule)], leases)
    result._requires_grad = True
    return result


def _leases_since(node: Node, start: int) -> list[_Lease]:
    """The leases of the graph behind `node`, of nodes younger than `start`, each once."""
    found, seen, waiting = {}, set(), [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Node) and node.index > start and node not in seen:
            seen.add(node)
            found |= dict.fromkeys(node.leases)
            waiting += [parent for parents, _ in node.edges for parent in parents]
    return list(found)


def gradients(root: Tensor, gradient=None) -> dict[Tensor, object]:
    """The gradients of `root` as `{leaf: array}`, without touching any `.grad`; the graph is used up.

    Errors as for `Tensor.backward`.
    """
    return dict(each_gradient(root, gradient))


def each_gradient(root: Tensor, gradient=None, early: bool = False) -> Iterator[tuple[Tensor, object]]:
    """The gradients of `root`, as pairs of a leaf and its array; the graph is used up.

    Nodes are visited newest first, so each has all of its gradient when its turn comes. early: so does a leaf, and it
    comes as soon as nothing more can be added, while the walk goes on; but at the end, like the others, where parts of
    the graph are `deferred`.
    """
    if root._node is None:
        raise RuntimeError(
            "backward() from a tensor that has no graph: nothing it was computed from requires a gradient, or it is a "
            "leaf, or it was computed under no_grad()"
        )
    if gradient is None:
        if root.size != 1:
            raise RuntimeError(f"backward() from a tensor of shape {root.shape} needs a gradient of that shape")
        gradient = xp.ones(root.shape, dtype=root.dtype)
    else:
        gradient = backend.asarray(gradient._data if isinstance(gradient, Tensor) else gradient, dtype=root.dtype)
        if gradient.shape != root.shape:
            raise ValueError(f"a gradient of shape {gradient.shape} does not fit a tensor of shape {root.shape}")

    pending = {root._node: (gradient, False)}  # node or leaf -> (gradient so far, may we write into it?)
    heap = [(-root._node.index, root._node)]
    leaves = []
    uses = _uses(root._node) if early else None
    while heap:
        node = heappop(heap)[1]
        g, _ = pending.pop(node)
        edges = node.release()
        if edges is None:
            raise RuntimeError("backward() through a graph that was used before; run the forward pass again")
        while edges:
            parents, rule = edges.pop()
            results = rule(g)
            if not parents:  # newer than all nodes that are left, so its turn is next
                parents, results = (results._node,), g
            for parent, result in zip(parents, results if type(results) is tuple else (results,), strict=True):
                if parent is None or result is None:
                    continue
                if not backend.is_array(result):  # NumPy's reductions give scalars
                    result = backend.asarray(result)
                if result.shape != parent.shape:
                    raise RuntimeError(f"a rule returned shape {result.shape} for an input of shape {parent.shape}")
                ours = result is not g and result.base is None
                if result.dtype != parent.dtype:
                    result, ours = result.astype(parent.dtype), True
                if parent in pending:
                    pending[parent] = _add(*pending[parent], result, ours)
                    continue
                pending[parent] = result, ours
                if isinstance(parent, Node):
                    heappush(heap, (-parent.index, parent))
                else:
                    leaves.append(parent)
            del rule, results, result
            if uses:
                uses.subtract(parents)
                whole = [p for p in parents if isinstance(p, Tensor) and uses[p] == 0 and p in pending]
                yield from ((leaf, _own(*pending.pop(leaf))) for leaf in dict.fromkeys(whole))
    yield from ((leaf, _own(*pending.pop(leaf))) for leaf in leaves if leaf in pending)


def _uses(node: Node) -> Counter | None:
    """How often each leaf and node is read in the graph behind `node`; None where parts of it are made later."""
    uses, waiting = Counter(), [node]
    while waiting:
        for parents, _ in waiting.pop().edges or ():
            if not parents:
                return None
            waiting += [p for p in dict.fromkeys(parents) if isinstance(p, Node) and p not in uses]
            uses.update(parents)
    return uses


def _own(g, ours: bool):
    """The array, or a copy where somebody else holds it."""
    return g if ours else g.copy()


def _add(a, a_is_ours: bool, b, b_is_ours: bool):
    """a + b, written into whichever of the two nobody else holds."""
    if a_is_ours:
        a += b
        return a, True
    if b_is_ours:
        b += a
        return b, True
    return a + b, True
