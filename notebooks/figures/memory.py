"""Counts the bytes that are alive in a training step, array by array."""

from types import FunctionType

from minilora import backend, nn
from minilora.backend import Array
from minilora.graph import Node
from minilora.tensor import Tensor

KINDS = ("weights", "gradients", "optimizer", "activations")


def live_bytes(model: nn.Module, optimizer=None, *losses: Tensor) -> dict[str, int]:
    """Return the bytes of the arrays alive, by kind: "weights", "gradients", "optimizer", "activations".

    losses: Tensors whose graphs are alive; activations are all arrays that the graphs' rules hold on to and that are no
    weights. A view counts as what it looks into, and each array once. Weights are all that the model holds: codes in 4
    bits as they are, and what an adapter keeps in order to be taken off again.
    """
    weights, moments = _arrays_in(model), _arrays_in([] if optimizer is None else optimizer.state_dict())
    activations = {key: array for key, array in _arrays_in(losses).items() if key not in weights}
    kinds = (weights, _arrays_in([p.grad for p in model.parameters()]), moments, activations)
    return {kind: sum(a.nbytes for a in arrays.values()) for kind, arrays in zip(KINDS, kinds, strict=True)}


def _arrays_in(start) -> dict[int, Array]:
    """Return {id: array} of all arrays reached from `start` through objects, graphs, closures and containers."""
    arrays: dict[int, Array] = {}
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        item = waiting.pop()
        if backend.is_array(item):
            while backend.is_array(getattr(item, "base", None)):
                item = item.base
            arrays[id(item)] = item
            continue
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, (list, tuple, set, dict)):
            waiting.extend(item.values() if isinstance(item, dict) else item)
        elif isinstance(item, Tensor):
            waiting += [item._data, item._node]
        elif isinstance(item, Node):
            waiting.append(item.edges)
        elif isinstance(item, FunctionType):
            waiting.extend(cell.cell_contents for cell in item.__closure__ or ())
        elif type(item).__module__.startswith("minilora.") and hasattr(item, "__dict__"):
            waiting.append(vars(item))
    return arrays
