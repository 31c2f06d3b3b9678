"""Modules: objects that hold parameters and other modules, and can be traversed, saved and loaded.

Nothing is registered; the attributes are searched instead. A module's parameters are the Tensors that require a
gradient or are frozen, its buffers are the other Tensors, and its children are the Modules, including those inside
lists, tuples and dictionaries, however deep. Names are paths, as in PyTorch ("model.layers.0.mlp.up_proj.weight").
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
    """Return a Tensor that is a parameter, trainable or frozen. A plain Tensor that does not train is a buffer."""
    tensor = Tensor(data, requires_grad)
    tensor._requires_grad = bool(requires_grad)
    return tensor


class Module:
    """Base class of everything with a `forward`. Subclasses assign Tensors and Modules as attributes, in any order."""

    training = True
    num_quantized = 0  # number of weights that are not in a Tensor but, for example, in 4-bit codes

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: object) -> None:
        old = vars(self).get(name)
        fits = value is None or isinstance(value, Tensor) and value.is_parameter
        if isinstance(old, Tensor) and old.is_parameter and not fits:  # `parameters` would no longer list it
            raise TypeError(f"{type(self).__name__}.{name} is a parameter: assign an nn.Parameter, or set its .data")
        super().__setattr__(name, value)

    # Traversal

    def _parts(self, kind: type[Kind]) -> Iterator[tuple[str, Kind]]:
        """Yield (name, value) of every attribute of this kind, including those in lists, tuples and dictionaries."""
        for name, value in vars(self).items():
            yield from _search(name, value, kind)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Yield (path, module) for this module (path "") and everything below it, parents first."""
        yield prefix, self
        for name, child in self._parts(Module):
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, tensor) for every parameter and buffer, a shared one under each of its paths."""
        for path, module in self.named_modules():
            for name, tensor in module._parts(Tensor):
                yield (f"{path}.{name}" if path else name), tensor

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, parameter), including frozen ones. A shared parameter comes once, under its first path."""
        seen: set[Tensor] = set()
        for name, tensor in self.named_tensors():
            if tensor.is_parameter and tensor not in seen:
                seen.add(tensor)
                yield name, tensor

    def parameters(self) -> Iterator[Tensor]:
        """Yield every parameter once, including frozen ones."""
        for _, tensor in self.named_parameters():
            yield tensor

    def get_submodule(self, path: str) -> "Module":
        """Return the module at `path`; "" is this one. Raises AttributeError, which names the part that is missing."""
        module: Any = self
        for i, part in enumerate(parts := path.split(".") if path else []):
            module = _child(module, part)
            if module is None:
                raise AttributeError(f"{type(self).__name__} has no {'.'.join(parts[: i + 1])!r}")
        if not isinstance(module, Module):
            raise AttributeError(f"{path!r} of {type(self).__name__} is not a module")
        return module

    def replace(self, path: str, new: "Module") -> None:
        """Put `new` in place of the module at `path`. Raises AttributeError if there is none, and ValueError for ""."""
        self.get_submodule(path)
        if not path:
            raise ValueError("a module cannot replace itself: the path is empty")
        *parents, name = path.split(".")
        value: Any = new
        holder: Any = self
        for part in parents:
            holder = _child(holder, part)
        while isinstance(holder, tuple):  # build a new tuple, and put that in place of the old one
            value = (*holder[: int(name)], value, *holder[int(name) + 1 :])
            *parents, name = parents
            holder = self
            for part in parents:
                holder = _child(holder, part)
        if isinstance(holder, Module):
            setattr(holder, name, value)
        else:
            holder[int(name) if isinstance(holder, list) else name] = value

    # Switches

    def train(self, mode: bool = True) -> Self:
        """Switch training mode (dropout) on or off, in this module and all below it."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch to eval mode, as train(False) does."""
        return self.train(False)

    def to(self, device: object) -> Self:
        return backend.on_device(self, device)

    @cached_property  # not a property, so that a subclass may assign an attribute of this name
    def device(self) -> str:
        return backend.device()

    def requires_grad_(self, flag: bool = True) -> Self:
        """Freeze (False) or unfreeze every parameter of this module and all below it."""
        for parameter in self.parameters():
            parameter.requires_grad = flag
        return self

    def gradient_checkpointing_enable(self, flag: bool = True) -> Self:
        """Make each model body in this module save only its blocks' inputs in training, and recompute the blocks in
        backward (see `checkpointing`). False switches this off. Raises MiniloraError if there is no model body.
        """
        bodies: list[Any] = [module for _, module in self.named_modules() if hasattr(module, "gradient_checkpointing")]
        if not bodies:
            raise MiniloraError(f"{type(self).__name__} has no blocks that could be recomputed")
        for body in bodies:
            body.gradient_checkpointing = flag
        return self

    def gradient_checkpointing_disable(self) -> Self:
        """Switch gradient checkpointing off."""
        return self.gradient_checkpointing_enable(False)

    # State

    def state_dict(self) -> dict[str, Array]:
        """Return {path: array of the backend} of every parameter and buffer, a shared one under each of its paths.
        Arrays are not copied.
        """
        return {name: tensor.data for name, tensor in self.named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy arrays (of the backend or NumPy) into the parameters and buffers, in the dtypes that these have.

        Raises MiniloraError, and changes nothing, if names are missing or unexpected or shapes are wrong (it lists all
        of them), or if two names that are tied here differ in the state.
        strict=False ignores missing and unexpected names, but not wrong shapes, nor a state without any known name.
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
        """Load like `load_state_dict`, but read arrays one by one: the values of `state` have a `shape` and `read()`.

        each: called with every (path, module) once the module's own parameters are loaded, parents first; the module
        that it returns takes its place. A module that was replaced can be freed before the next array is read.

        Wrong names and shapes raise an error before anything is read. A failed read, or two names of one parameter that
        differ, raise an error halfway: the module is then partly loaded and must not be used.
        """
        _check(self, state, strict=True)
        first: dict[int, str] = {}  # id of a tensor (unique while all are alive) -> name to read it under
        read_as = {name: first.setdefault(id(t), name) for name, t in self.named_tensors() if name in state}
        for path in [path for path, _ in self.named_modules()]:  # paths only: a list of modules would keep them alive
            self._load_one(path, state, read_as, each)

    def _load_one(self, path: str, state: Mapping[str, Any], read_as: dict[str, str], each: Any) -> None:
        """Load the tensors of the module at `path` itself, as `load_stored` does, but not those of modules below it."""
        module = self.get_submodule(path)
        for part, tensor in module._parts(Tensor):
            name = f"{path}.{part}" if path else part
            if name not in read_as:  # not in the state: tied to a tensor that is
                continue
            array = backend.asarray(state[name].read(), dtype=tensor.dtype)
            if read_as[name] == name:
                adopt(tensor, array)
            else:
                _check_same(read_as[name], name, tensor.data, array)
        if each is not None and (new := each(path, module)) is not module:
            self.replace(path, new)

    def extra_repr(self) -> str:
        """Return the text that `repr` shows between the parentheses."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self._parts(Module)]
        body = "".join(f"\n  {line}" for line in lines)
        return f"{type(self).__name__}({self.extra_repr()}{body}{chr(10) if body else ''})"


def adapted_modules(model: Module) -> list[str]:
    """List the paths of modules that `peft` has changed: its wrapper, the model inside, and layers that wrap others."""
    marks = {"base_model", "base_layer", "_is_adapted"}
    return [path or "the model" for path, module in model.named_modules() if marks & vars(module).keys()]


def _search(name: str, value: object, kind: type[Kind]) -> Iterator[tuple[str, Kind]]:
    """Yield (name, value) if it is of this kind, or (name.key, item) for all inside a list, tuple or dictionary."""
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _search(f"{name}.{i}", item, kind)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, (str, int)):  # a Tensor as key would have to be copied from the GPU to become a name
                yield from _search(f"{name}.{key}", item, kind)


def _child(holder: Any, part: str) -> Any:
    if isinstance(holder, (list, tuple)):
        return holder[int(part)] if part.isdigit() and int(part) < len(holder) else None
    return (holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})).get(part)


def _check(module: Module, state: Mapping[str, Any], strict: bool) -> None:
    """Raise MiniloraError if names of `state` are missing or unexpected, or have another shape, listing all of them.

    Missing and unexpected names count only if `strict`, or if no name at all fits.
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
    strict = strict or len(unexpected) == len(state) > 0  # for example, all names have an extra prefix
    problems = [f"missing {first_few(missing)}"] if strict and missing else []
    problems += [f"unexpected {first_few(unexpected)}"] if strict and unexpected else []
    problems += [first_few(misshapen, separator="; ")] if misshapen else []
    if problems:
        raise MiniloraError(f"the state does not fit {type(module).__name__}: {'; '.join(problems)}")


def _check_same(first: str, second: str, one: Array, other: Array) -> None:
    """Raise MiniloraError if two names of the same parameter have different arrays."""
    if first != second and not bool((one == other).all()):
        raise MiniloraError(f"{first} and {second} are the same parameter here, but differ in the state")
