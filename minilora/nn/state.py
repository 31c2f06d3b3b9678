"""Loading a state into a module: names, shapes and ties are checked before anything changes."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from minilora import backend
from minilora.errors import MiniloraError, first_few
from minilora.tensor import Tensor, adopt

if TYPE_CHECKING:
    from minilora.nn.module import Module


def load(module: "Module", state: Mapping[str, Any], strict: bool) -> None:
    """`Module.load_state_dict`."""
    own = dict(module.named_tensors())
    _check(module, state, strict)
    raw = {name: a.data if isinstance(a, Tensor) else a for name, a in state.items() if name in own}
    arrays = {name: backend.asarray(a).astype(own[name].dtype) for name, a in raw.items()}  # astype copies
    first: dict[Tensor, str] = {}  # shared tensor -> the first of its names in the state
    for name, array in arrays.items():
        other = first.setdefault(own[name], name)
        if other != name and not bool((array == arrays[other]).all()):
            raise MiniloraError(f"{other} and {name} are one parameter here, but differ in the state")
    for name, array in arrays.items():
        adopt(own[name], array)


def load_stored(module: "Module", state: Mapping[str, Any], each: Callable[[str, "Module"], "Module"] | None) -> None:
    """`Module.load_stored`."""
    _check(module, state, strict=True)
    first: dict[int, str] = {}  # while all tensors are alive: id -> the name that each is read under
    read_as = {name: first.setdefault(id(t), name) for name, t in module.named_tensors() if name in state}
    for path in [path for path, _ in module.named_modules()]:  # paths alone: a list of modules would hold them all
        _load_own(module, path, state, read_as)
        if each is not None:
            _put(module, path, each)


def _load_own(root: "Module", path: str, state: Mapping[str, Any], read_as: dict[str, str]) -> None:
    """Read the tensors that the module at `path` has itself."""
    for part, tensor in root.get_submodule(path)._parts(Tensor):
        name = f"{path}.{part}" if path else part
        if name not in read_as:  # tied to one that is
            continue
        array = backend.asarray(state[name].read(), dtype=tensor.dtype)
        if (other := read_as[name]) == name:
            adopt(tensor, array)
        elif not bool((array == tensor.data).all()):
            raise MiniloraError(f"{other} and {name} are one parameter here, but differ in the state")


def _put(root: "Module", path: str, each: Callable[[str, "Module"], "Module"]) -> None:
    module = root.get_submodule(path)
    if (new := each(path, module)) is not module:
        root.replace(path, new)


def _check(module: "Module", state: Mapping[str, Any], strict: bool) -> None:
    """Raise MiniloraError that lists the names of `state` that are missing, unexpected (both if strict, or if no name
    fits) or have another shape.
    """
    own = dict(module.named_tensors())
    shared = {own[name] for name in state if name in own}
    missing = [name for name, t in own.items() if name not in state and t not in shared]
    unexpected = [name for name in state if name not in own]
    misshapen = [
        f"{name} has shape {tuple(state[name].shape)}, not {own[name].shape}"
        for name in state
        if name in own and tuple(state[name].shape) != own[name].shape
    ]
    strict = strict or len(unexpected) == len(state) > 0  # a prefix too many, say
    problems = [f"missing {first_few(missing)}"] if strict and missing else []
    problems += [f"unexpected {first_few(unexpected)}"] if strict and unexpected else []
    problems += [first_few(misshapen, separator="; ")] if misshapen else []
    if problems:
        raise MiniloraError(f"the state does not fit {type(module).__name__}: {'; '.join(problems)}")
