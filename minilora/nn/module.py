"""Modules: objects that hold parameters and other modules, and can be walked, listed, saved and rebuilt.

Nothing is registered. The parameters of a module are the Tensors among its attributes that require a gradient or are
frozen, its buffers the other Tensors, its children the Modules; those in lists, tuples and dictionaries count, too,
however deep. Names are the paths to them, as in PyTorch ("model.layers.0.mlp.up_proj.weight").
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Self, TypeVar

from minilora import backend
from minilora.backend import Array
from minilora.errors import MiniloraError, first_few
from minilora.tensor import Operand, Tensor, adopt

Kind = TypeVar("Kind")


def Parameter(data: Operand, requires_grad: bool = True) -> Tensor:  # noqa: N802 (PyTorch's name)
    """A Tensor that trains, or one that is frozen: it stays a parameter, where a plain Tensor is a buffer."""
    tensor = Tensor(data, requires_grad)
    tensor._requires_grad = bool(requires_grad)
    return tensor


class Module:
    """Something with a `forward`. Subclasses assign Tensors and Modules as attributes, in any order."""

    training = True
    num_quantized = 0  # weights that it holds in another form than a Tensor, such as 4-bit codes

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: object) -> None:
        old = vars(self).get(name)
        fits = value is None or isinstance(value, Tensor) and value.is_parameter
        if isinstance(old, Tensor) and old.is_parameter and not fits:  # it would be lost to `parameters`
            raise TypeError(f"{type(self).__name__}.{name} is a parameter: assign an nn.Parameter, or set its .data")
        super().__setattr__(name, value)

    # Walking

    def _parts(self, kind: type[Kind]) -> Iterator[tuple[str, Kind]]:
        """(name, attribute) of every attribute of that kind, those in lists, tuples and dictionaries too."""
        for name, value in vars(self).items():
            yield from _found(name, value, kind)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """(path, module) of this module (path "") and everything below it, parents first."""
        yield prefix, self
        for name, child in self._parts(Module):
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(path, tensor) of every parameter and buffer, a shared one under each of its paths."""
        for path, module in self.named_modules():
            for name, tensor in module._parts(Tensor):
                yield (f"{path}.{name}" if path else name), tensor

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(path, parameter), frozen ones too; a parameter that two modules share comes once, under its first path."""
        seen: set[Tensor] = set()
        for name, tensor in self.named_tensors():
            if tensor.is_parameter and tensor not in seen:
                seen.add(tensor)
                yield name, tensor

    def parameters(self) -> Iterator[Tensor]:
        """Every parameter once, frozen ones too."""
        for _, tensor in self.named_parameters():
            yield tensor

    def get_submodule(self, path: str) -> "Module":
        """The module at `path`; "" is this one. Raises AttributeError that names the part that is missing."""
        here: Any = self
        for i, part in enumerate(parts := path.split(".") if path else []):
            here = _child(here, part)
            if here is None:
                raise AttributeError(f"{type(self).__name__} has no {'.'.join(parts[: i + 1])!r}")
        if not isinstance(here, Module):
            raise AttributeError(f"{path!r} of {type(self).__name__} is not a module")
        return here

    def replace(self, path: str, new: "Module") -> None:
        """Put `new` where the module at `path` is. Raises AttributeError where there is none, ValueError for ""."""
        self.get_submodule(path)
        if not path:
            raise ValueError("a module cannot replace itself: the path is empty")
        *above, name = path.split(".")
        value: Any = new
        holder: Any = self
        for part in above:
            holder = _child(holder, part)
        while isinstance(holder, tuple):  # made anew, and put in its own place in turn
            value = (*holder[: int(name)], value, *holder[int(name) + 1 :])
            *above, name = above
            holder = self
            for part in above:
                holder = _child(holder, part)
        if isinstance(holder, Module):
            setattr(holder, name, value)
        else:
            holder[int(name) if isinstance(holder, list) else name] = value

    # Switches

    def train(self, mode: bool = True) -> Self:
        """Switch training behaviour (dropout) on or off, here and below."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """train(False)."""
        return self.train(False)

    def to(self, device: object) -> Self:
        return backend.on_device(self, device)

    @cached_property  # and not a property, so that a module of yours may have an attribute of this name
    def device(self) -> str:
        return backend.device()

    def requires_grad_(self, flag: bool = True) -> Self:
        """Freeze (False) or unfreeze every parameter here and below."""
        for parameter in self.parameters():
            parameter.requires_grad = flag
        return self

    def gradient_checkpointing_enable(self, flag: bool = True) -> Self:
        """Have each model body here and below save only the inputs of its blocks while it trains, and recompute the
        blocks in backward (see `checkpointing`); False: save all again. MiniloraError where there is no body.
        """
        bodies: list[Any] = [module for _, module in self.named_modules() if hasattr(module, "gradient_checkpointing")]
        if not bodies:
            raise MiniloraError(f"{type(self).__name__} has no blocks that could be computed again")
        for body in bodies:
            body.gradient_checkpointing = flag
        return self

    def gradient_checkpointing_disable(self) -> Self:
        """gradient_checkpointing_enable(False)."""
        return self.gradient_checkpointing_enable(False)

    # State

    def state_dict(self) -> dict[str, Array]:
        """{path: array of the backend} of every parameter and buffer, a shared one under each of its paths. Not
        copied.
        """
        return {name: tensor.data for name, tensor in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy arrays (of the backend or NumPy) into the parameters and buffers, in their dtypes.

        Raises MiniloraError that lists all missing, unexpected and misshapen names at once, or names two that are tied
        here and differ in the state, and changes nothing then.
        strict=False ignores missing and unexpected names, but neither wrong shapes nor a state of which no name fits.
        """
        _check(self, state, strict)
        own = dict(self.named_tensors())
        raw = {name: a.data if isinstance(a, Tensor) else a for name, a in state.items() if name in own}
        arrays = {name: backend.asarray(a).astype(own[name].dtype) for name, a in raw.items()}  # astype copies
        first: dict[Tensor, str] = {}  # shared tensor -> the first of its names in the state
        for name, array in arrays.items():
            _check_same(first.setdefault(own[name], name), name, arrays[first[own[name]]], array)
        for name, array in arrays.items():
            adopt(own[name], array)

    def load_stored(self, state: Mapping[str, Any], each: Callable[[str, "Module"], "Module"] | None = None) -> None:
        """Do what `load_state_dict` does with arrays that are read one by one: values have a `shape` and `read()`.

        each: is given every module (path, module) once its own parameters are there, parents first; what it returns
        takes its place. A module that is replaced is held no longer when the next array is read.

        What is wrong with names and shapes is said before anything is read. That a read fails, or that two names of one
        parameter differ, shows only on the way: the module is half loaded then, and not to be used.
        """
        _check(self, state, strict=True)
        first: dict[int, str] = {}  # while all tensors are alive: id -> the name that each is read under
        read_as = {name: first.setdefault(id(t), name) for name, t in self.named_tensors() if name in state}
        for path in [path for path, _ in self.named_modules()]:  # paths alone: a list of modules would hold them all
            self._load_one(path, state, read_as, each)

    def _load_one(self, path: str, state: Mapping[str, Any], read_as: dict[str, str], each: Any) -> None:
        """Do `load_stored` for the tensors that the module at `path` has itself, and hold none of them."""
        module = self.get_submodule(path)
        for part, tensor in module._parts(Tensor):
            name = f"{path}.{part}" if path else part
            if name not in read_as:  # tied to one that is
                continue
            array = backend.asarray(state[name].read(), dtype=tensor.dtype)
            if read_as[name] == name:
                adopt(tensor, array)
            else:
                _check_same(read_as[name], name, tensor.data, array)
        if each is not None and (new := each(path, module)) is not module:
            self.replace(path, new)

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self._parts(Module)]
        body = "".join(f"\n  {line}" for line in lines)
        return f"{type(self).__name__}({self.extra_repr()}{body}{chr(10) if body else ''})"


def adapted_modules(model: Module) -> list[str]:
    """Paths of what `peft` has changed: its wrapper, the model in it, and the layers that stand around others."""
    marks = {"base_model", "base_layer", "_is_adapted"}
    return [path or "the model" for path, module in model.named_modules() if marks & vars(module).keys()]


def _found(name: str, value: object, kind: type[Kind]) -> Iterator[tuple[str, Kind]]:
    """(name, value) where it is of that kind, or (name.key, item) of all that are in a list, tuple or dictionary."""
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _found(f"{name}.{i}", item, kind)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, (str, int)):  # a Tensor as a key would be fetched to become a name
                yield from _found(f"{name}.{key}", item, kind)


def _child(holder: Any, part: str) -> Any:
    if isinstance(holder, (list, tuple)):
        return holder[int(part)] if part.isdigit() and int(part) < len(holder) else None
    return (holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})).get(part)


def _check(module: Module, state: Mapping[str, Any], strict: bool) -> None:
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


def _check_same(first: str, second: str, one: Array, other: Array) -> None:
    """Raise MiniloraError if two names of one parameter have different arrays."""
    if first != second and not bool((one == other).all()):
        raise MiniloraError(f"{first} and {second} are one parameter here, but differ in the state")
