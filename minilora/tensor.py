"""Tensors that remember how they were made, and `backward`, which turns this memory into gradients.

An operation (see `minilora.ops`) computes an array and calls `record` with one gradient rule per input: a function
that takes the gradient of the output and returns the gradient of that input. The rules form a graph, which
`minilora.graph` walks back.

If an input is frozen, `record` drops its rule at once, and with it the arrays that only this rule would have needed.
That is what makes fine-tuning a few parameters cheaper than training all of them.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from minilora import backend
from minilora.backend import Array, xp
from minilora.errors import escape
from minilora.graph import (
    Edge,
    Guard,
    Node,
    Reading,
    Rule,
    gradients_of,
    guard_lock,
)
from minilora.graph import enable_grad as enable_grad
from minilora.graph import is_recording as is_recording
from minilora.graph import no_grad as no_grad

Operand: TypeAlias = Any  # a Tensor, an array of the backend or of NumPy, a number or a list of numbers
Axis: TypeAlias = int | tuple[int, ...] | None  # None: all axes


class Tensor:
    """An array of the active backend that can take part in a graph.

    data: anything array-like. An array keeps its dtype (float16 becomes float32) and is copied; Python numbers and
        lists become float32.
    requires_grad: if True, `backward` leaves a gradient in `.grad`. Only floating-point tensors can have one.

    On the NumPy backend, a leaf's array is read-only as long as a graph that will use its values is alive:
    `t.data[...] = 0` between forward and backward raises NumPy's ValueError. Assigning a new array, `t.data = a`, is
    always allowed; the graph keeps the old one.

    Comparisons, including `==`, are elementwise and return a boolean Tensor, as in NumPy and PyTorch. Tensors hash by
    identity, so sets and dictionary keys tell equal tensors apart. `t in [a, b]` and `[a, b].index(t)` compare values
    instead, so look for a tensor with `is` or in a set.
    """

    __slots__ = ("__weakref__", "_data", "_guard", "_node", "_requires_grad", "grad")
    __array_ufunc__ = None  # NumPy steps aside in `array + tensor`

    _data: Array
    _node: Node | None
    _guard: Guard | None  # guards a leaf's array, once a graph has read it
    _requires_grad: bool | None  # None: it never required a gradient
    grad: Array

    def __init__(self, data: Operand, requires_grad: bool = False) -> None:
        self._data = _own_array(data)
        self._node = None
        self._guard = None
        self.grad = None
        self._requires_grad = None
        if requires_grad is not False:
            self.requires_grad = requires_grad

    # Data and properties

    @property
    def data(self) -> Array:
        """The array, on the active backend. Assigning to it copies, by the constructor's rules."""
        if self._guard is not None:
            self._guard.unlock_if_unread()
        return self._data

    @data.setter
    def data(self, data: Operand) -> None:
        if self._node is not None:
            raise RuntimeError("the array of a computed tensor cannot be replaced; use detach() to get a leaf")
        array = _own_array(data)
        if self._requires_grad:
            _check_can_train(array)
        adopt(self, array)

    @property
    def requires_grad(self) -> bool:
        """True if `backward` leaves a gradient in `.grad`."""
        return self._requires_grad is True

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        if flag not in (True, False):  # perhaps a dtype, which NumPy's functions take as second argument
            raise TypeError(f"requires_grad must be True or False, not {escape(repr(flag))}")
        if self._node is not None and not flag:
            raise RuntimeError("a computed tensor cannot be frozen; use detach()")
        if flag:
            _check_can_train(self._data)
        if flag or self._requires_grad is not None:
            self._requires_grad = bool(flag)

    @property
    def is_parameter(self) -> bool:
        """True if the tensor requires a gradient, or did before it was frozen. Other tensors are constants."""
        return self._requires_grad is not None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self._data.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return self._data.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self._data.dtype

    def __len__(self) -> int:
        if not self._data.shape:
            raise TypeError("a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        body = str(backend.to_numpy(self._data)).replace("\n", "\n       ")
        grad = ", requires_grad=True" if self._requires_grad else ""
        return f"Tensor({body}, dtype={self._data.dtype}{grad})"

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"a tensor of shape {self.shape} is neither true nor false; use t.numpy().all() or t.numpy().any()"
            )
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Hand NumPy the array, for `np.asarray(t)` and the like. Raises TypeError if the array is on a GPU."""
        return backend.implicitly_to_numpy(self._data, dtype, copy)

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        """Format the only element, as in f"{loss:.3f}"; without a format spec, do the same as `str`."""
        return format(self.item() if spec else str(self), spec)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Run np.sum(t) as ops.sum(t), with its gradient, and likewise all that `ops` has under NumPy's name."""
        own: Any = getattr(ops, function.__name__, None)
        if getattr(own, "__module__", "") != ops.__name__:
            own = function._implementation  # NumPy's own function, which does not come back here
        return own(*args, **kwargs)

    def numpy(self) -> Array:
        """Return a copy on the host, as a NumPy array."""
        return backend.to_numpy(self._data).copy()

    def item(self) -> float:
        """Return the only element as a Python number. Raises ValueError if there is more than one."""
        if self._data.size != 1:
            raise ValueError(f"item() needs one element, this tensor has shape {self._data.shape}")
        return self._data.item()  # type: ignore[no-any-return]

    def detach(self) -> "Tensor":
        """Return the same array outside every graph."""
        out = wrap(self._data)
        if self._node is None:
            out._guard = _guard_of(self)
        return out

    def __deepcopy__(self, memo: object) -> "Tensor":
        """Return a leaf with a copy of the data and of `.grad`."""
        out = _leaf(self._data, self._requires_grad)
        out.grad = None if self.grad is None else self.grad.copy()
        return out

    def __reduce__(self) -> tuple[Callable[..., "Tensor"], tuple[Array, bool | None]]:
        return _leaf, (self.numpy(), self._requires_grad)

    # Backward

    def backward(self, gradient: Operand = None) -> None:
        """Add the gradient of this tensor to `.grad` of each leaf that requires one.

        gradient: the incoming gradient, an array or Tensor of this tensor's shape. It may be left out, and is then 1,
        if this tensor has a single element.
        The graph is used up. Raises RuntimeError if there is no graph, if it was used up before, or if a gradient is
        needed and missing, and ValueError for a gradient of another shape.
        """
        for leaf, g in gradients(self, gradient).items():
            leaf.grad = g if leaf.grad is None else leaf.grad + g

    # Operators and methods: each calls the function of that name in `minilora.ops`, which has the gradient rule

    def __add__(self, other: Operand) -> "Tensor":
        return ops.add(self, other)

    def __radd__(self, other: Operand) -> "Tensor":
        return ops.add(other, self)

    def __sub__(self, other: Operand) -> "Tensor":
        return ops.subtract(self, other)

    def __rsub__(self, other: Operand) -> "Tensor":
        return ops.subtract(other, self)

    def __mul__(self, other: Operand) -> "Tensor":
        return ops.multiply(self, other)

    def __rmul__(self, other: Operand) -> "Tensor":
        return ops.multiply(other, self)

    def __truediv__(self, other: Operand) -> "Tensor":
        return ops.divide(self, other)

    def __rtruediv__(self, other: Operand) -> "Tensor":
        return ops.divide(other, self)

    def __pow__(self, other: Operand) -> "Tensor":
        return ops.power(self, other)

    def __rpow__(self, other: Operand) -> "Tensor":
        return ops.power(other, self)

    def __matmul__(self, other: Operand) -> "Tensor":
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Operand) -> "Tensor":
        return ops.matmul(other, self)

    def __neg__(self) -> "Tensor":
        return ops.negative(self)

    def __abs__(self) -> "Tensor":
        return ops.absolute(self)

    def _not_in_place(self, other: Operand) -> Any:
        """Return NotImplemented, so that Python computes x += y as x = x + y.

        Raises RuntimeError for a parameter: the module and the optimizer that hold it would not see the new tensor.
        """
        if self.is_parameter and self._node is None:
            raise RuntimeError("a parameter cannot change in place; change its array: p.data -= lr * p.grad")
        return NotImplemented

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = __imatmul__ = _not_in_place

    def __getitem__(self, index: Any) -> "Tensor":
        return ops.getitem(self, index)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> "Tensor":  # type: ignore[override]
        return ops.compare(operator.eq, self, other)

    def __ne__(self, other: object) -> "Tensor":  # type: ignore[override]
        return ops.compare(operator.ne, self, other)

    def __lt__(self, other: Operand) -> "Tensor":
        return ops.compare(operator.lt, self, other)

    def __le__(self, other: Operand) -> "Tensor":
        return ops.compare(operator.le, self, other)

    def __gt__(self, other: Operand) -> "Tensor":
        return ops.compare(operator.gt, self, other)

    def __ge__(self, other: Operand) -> "Tensor":
        return ops.compare(operator.ge, self, other)

    def abs(self) -> "Tensor":
        return ops.absolute(self)

    def exp(self) -> "Tensor":
        return ops.exp(self)

    def log(self) -> "Tensor":
        return ops.log(self)

    def sqrt(self) -> "Tensor":
        return ops.sqrt(self)

    def tanh(self) -> "Tensor":
        return ops.tanh(self)

    def sigmoid(self) -> "Tensor":
        return ops.sigmoid(self)

    def clip(self, min: float | None = None, max: float | None = None) -> "Tensor":
        return ops.clip(self, min, max)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return ops.sum(self, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return ops.mean(self, axis, keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return ops.var(self, axis, keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return ops.max(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return ops.min(self, axis, keepdims)

    def logsumexp(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        return ops.logsumexp(self, axis, keepdims)

    def reshape(self, *shape: Any) -> "Tensor":
        return ops.reshape(self, *shape)

    def transpose(self, *axes: Any) -> "Tensor":
        return ops.transpose(self, *axes)

    @property
    def T(self) -> "Tensor":  # noqa: N802 (NumPy's name)
        return ops.transpose(self)

    def swapaxes(self, axis1: int, axis2: int) -> "Tensor":
        return ops.swapaxes(self, axis1, axis2)

    def squeeze(self, axis: Axis = None) -> "Tensor":
        return ops.squeeze(self, axis)

    def expand_dims(self, axis: int | tuple[int, ...]) -> "Tensor":
        return ops.expand_dims(self, axis)

    def broadcast_to(self, shape: int | tuple[int, ...]) -> "Tensor":
        return ops.broadcast_to(self, shape)

    view, unsqueeze = reshape, expand_dims  # PyTorch's names

    def to(self, device: object) -> "Tensor":
        return backend.on_device(self, device)

    def softmax(self, dim: int = -1) -> "Tensor":
        return (self - self.logsumexp(dim, keepdims=True)).exp()

    def clone(self) -> "Tensor":
        return self * 1


# Recording


def record(array: Array, *edges: tuple[Operand, Rule]) -> Tensor:
    """Wrap the result of an operation in a Tensor, with the gradient rules that its inputs need.

    array: the result.
    edges: `(input, rule)`, or `((inputs, …), rule)` if one rule serves several inputs. An input may be anything; only
        Tensors that require a gradient keep their rule. `rule(g)` takes the gradient of the result (an array of its
        shape and dtype) and returns the gradient of the input, which has the input's shape: `g` itself, a view of it,
        or a fresh array, but never an array that something else still uses. With several inputs it returns one array
        or None for each.
    """
    out = wrap(array)
    if out._data.base is not None:  # it may be a view of an input, which nobody may change through it
        backend.lock(out._data)
    if not is_recording():
        return out
    live: list[Edge] = []
    for inputs, rule in edges:
        inputs = inputs if type(inputs) is tuple else (inputs,)
        parents = tuple([(x._node or x) if isinstance(x, Tensor) and x._requires_grad else None for x in inputs])
        if any(parent is not None for parent in parents):
            live.append((parents, rule))
    if live:
        # The arrays that a rule closes over must not change before it runs, so every input that is a leaf is locked.
        leaves = {
            id(x): x
            for inputs, _ in edges
            for x in (inputs if type(inputs) is tuple else (inputs,))
            if isinstance(x, Tensor) and x._node is None
        }
        guards = [guard for guard in map(_guard_of, leaves.values()) if guard is not None]
        _attach(out, live, [guard.read() for guard in guards])
    return out


def _attach(out: Tensor, edges: list[Edge], reads: Sequence[Reading]) -> None:
    """Give `out` a new node with these edges."""
    backend.lock(out._data)
    out._node = Node(out._data, edges, reads)
    out._requires_grad = True


def record_graph(array: Array, inputs: tuple[Any, ...], rule: Rule, reads: Sequence[Reading] = ()) -> Tensor:
    """Wrap the result of an operation whose rule walks a graph of its own.

    inputs: the nodes and leaves at which that walk ends (`graph.inputs_of`); the rule returns a gradient or None for
    each. reads: the guarded arrays that must not change until the rule has run.
    """
    out = wrap(array)
    _attach(out, [(inputs, rule)], reads)
    return out


def gradients(root: Tensor, gradient: Operand = None) -> dict[Tensor, Array]:
    """Compute the gradients of `root`, as `{leaf: array}`, without touching any `.grad`. The graph is used up.

    Raises the same errors as `Tensor.backward`.
    """
    if root._node is None:
        raise RuntimeError(
            "backward() needs a graph, which this tensor does not have: it is a leaf, none of its inputs requires a "
            "gradient, or it was computed under no_grad()"
        )
    if gradient is None:
        if root.size != 1:
            raise RuntimeError(f"backward() from a tensor of shape {root.shape} needs a gradient of that shape")
        gradient = xp.ones(root.shape, dtype=root.dtype)
    gradient = backend.asarray(gradient._data if isinstance(gradient, Tensor) else gradient, dtype=root.dtype)
    if gradient.shape != root.shape:
        raise ValueError(f"a gradient of shape {gradient.shape} does not fit a tensor of shape {root.shape}")
    return gradients_of({root._node: gradient})


# The arrays of tensors


def wrap(array: Array) -> Tensor:
    """Wrap an array of the backend in a Tensor without copying it: for operations, not for data from outside."""
    out = Tensor.__new__(Tensor)
    out._data = array if backend.is_array(array) else backend.asarray(array)
    out._node = None
    out._guard = None
    out._requires_grad = None
    out.grad = None
    return out


def _leaf(data: Operand, requires_grad: bool | None) -> Tensor:
    """Return a leaf with a copy of the data. requires_grad: True, False (frozen), or None (it never trained)."""
    out = Tensor(data)
    out._requires_grad = requires_grad
    return out


def _own_array(data: Operand) -> Array:
    return backend.number_array(data._data if isinstance(data, Tensor) else data)


def _check_can_train(array: Array) -> None:
    if array.dtype.kind != "f":
        raise TypeError(f"only floating-point tensors can require a gradient, this one is {array.dtype}")


def adopt(tensor: Tensor, array: Array) -> None:
    """Make `array`, of the backend, the leaf's array without copying it. The caller must not use it afterwards."""
    tensor._data = array
    tensor._guard = None


def writable_data(tensor: Tensor) -> Array:
    """Return a leaf's array, C-contiguous and writable. If it is read-only, as it is while a live graph needs it, a
    copy takes its place first.
    """
    if not backend.is_writable(tensor.data) or not tensor._data.flags.c_contiguous:
        adopt(tensor, tensor._data.copy(order="C"))
    return tensor._data


def _guard_of(tensor: Tensor) -> Guard | None:
    """Return the guard of a leaf's array, made if it is missing; None if the array cannot be locked."""
    if tensor._guard is None:
        with guard_lock:
            if tensor._guard is None and backend.is_lockable(tensor._data):
                tensor._guard = Guard(tensor._data)
    return tensor._guard


from minilora import ops  # noqa: E402 (it makes Tensors, and their methods call it)
