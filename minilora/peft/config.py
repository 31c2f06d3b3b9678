"""The interface of a method (its configuration and its layer), and finding the modules that it adapts by name.

Each method has a file that subclasses `PeftConfig` (or `TargetedConfig`, if names select what is adapted) and
`AdapterLayer`. `model.py` puts these to use; `files.py` saves and loads them.
"""

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Self, TypeGuard

import numpy as np

from minilora import nn
from minilora.errors import MiniloraError, did_you_mean, escape, first_few
from minilora.fields import checked, choice, field_problems
from minilora.models.language_model import Pretrained
from minilora.quant import linears_of_blocks
from minilora.tensor import Tensor

PREFIX = "base_model.model."  # on disk, in front of every path of the plain model
CLASSIFIER_HEADS = ("classifier", "score")  # names of heads that PEFT adds to modules_to_save for SEQ_CLS


class TaskType(StrEnum):
    """The task of an adapter, as adapter_config.json names it. SEQ_CLS also trains the classifier's head."""

    CAUSAL_LM = "CAUSAL_LM"
    SEQ_CLS = "SEQ_CLS"
    FEATURE_EXTRACTION = "FEATURE_EXTRACTION"


# Fields and values


def is_list_of_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def names() -> Any:
    """Create a field that holds a list of names or None."""
    return checked(None, "names in a list", is_list_of_names, optional=True)


def as_list(value: Any) -> Any:
    """Return a lone name, a set or a tuple of names as a list, and other values unchanged."""
    return [value] if isinstance(value, str) else sorted(value) if isinstance(value, set | tuple) else value


# The interface of a method


@dataclass(kw_only=True)
class PeftConfig:
    """The configuration of a method: the fields that all methods have, and the members that this package calls.

    A method subclasses it, sets `peft_type` and implements `targets`, `shapes` and `adapt`; the other members have a
    default. A parameter `module: Any` is of the class that the method adapts. Raises MiniloraError, listing all
    `problems` of the values.
    """

    modules_to_save: list[str] | str | None = names()  # modules that train whole and are saved with the adapter
    task_type: str | None = choice(None, *TaskType, optional=True)  # SEQ_CLS adds the head to modules_to_save
    base_model_name_or_path: Any = field(default=None, compare=False)  # the name from which the base was loaded
    inference_mode: bool = field(default=False, compare=False)  # True: nothing trains; always True in saved files

    peft_type: ClassVar[str]
    # Fields of a file that do not affect the computation, and values of other fields that switch nothing on.
    unused: ClassVar[frozenset[str]] = frozenset(
        {"peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}
    )
    means_off: ClassVar[dict[str, tuple]] = {}
    # Fields that PEFT does not have. They are saved in the metadata of the weights, not in adapter_config.json.
    own: ClassVar[frozenset[str]] = frozenset()
    in_peft: ClassVar[bool] = True  # True if PEFT has the method and reads its files
    root: ClassVar[str] = PREFIX  # on disk, in front of every path of the plain model

    def __post_init__(self):
        self.modules_to_save = as_list(self.modules_to_save)
        self.task_type = self.task_type and str(self.task_type)
        if problems := self.problems():
            raise MiniloraError("; ".join(problems))

    def problems(self) -> list[str]:
        """List in words what is wrong with the values: by default, what their fields do not allow."""
        return field_problems(self)

    def complete(self, model: nn.Module) -> None:
        """Fill in the fields that depend on the model; called once, before the other members.

        It may also store what all layers share. Raises MiniloraError if a value does not fit the model.
        """

    def targets(self, model: nn.Module) -> list[str]:
        """Return the paths of the modules to adapt. Raises MiniloraError if a name matches nothing."""
        raise NotImplementedError

    def at(self, path: str) -> Self:
        """Return the settings for the module at `path`, for methods whose settings differ between modules."""
        return self

    def check(self, path: str, module: Any) -> list[str]:
        """List the reasons, in words, why this module cannot get a fresh adapter."""
        return []

    def shapes(self, module: Any) -> dict[str, tuple[int, ...]]:
        """Return {name: shape} of the parameters that an adapter of `module` saves, without creating any."""
        raise NotImplementedError

    def adapt(self, module: Any, rng: np.random.Generator) -> "AdapterLayer":
        """Build a fresh layer around `module`, with the parameters of `shapes`. Does not change `module`."""
        raise NotImplementedError

    def restore(self, module: Any) -> "AdapterLayer":
        """Build a layer around `module` whose parameters will be replaced by a file's."""
        return self.adapt(module, np.random.default_rng(0))

    def file_name(self, path: str, name: str) -> str:
        """Return the name on disk of parameter `name` of the adapter at `path`."""
        return f"{self.root}{path}.{name}"

    def saved_names(self, model: nn.Module) -> list[str]:
        """Return modules_to_save, plus the classifier's head if the task is classification."""
        names = list(self.modules_to_save or [])
        if self.task_type == "SEQ_CLS":
            last_names = {path.rpartition(".")[2] for path, _ in model.named_modules()}
            heads = [name for name in CLASSIFIER_HEADS if name in last_names]
            if not heads:
                raise MiniloraError(
                    f"task_type 'SEQ_CLS' trains a head called {' or '.join(CLASSIFIER_HEADS)}, but "
                    f"{type(model).__name__} has none"
                )
            names = [name for name in names if name not in CLASSIFIER_HEADS] + heads
        return names

    def to_dict(self, targets: list[str]) -> dict:
        """Return the content of adapter_config.json. targets: the paths that were adapted."""
        return {"peft_type": self.peft_type} | asdict(self) | {"inference_mode": True}

    @classmethod
    def from_pretrained(cls, folder: Any) -> "PeftConfig":
        """Read the configuration of the adapter in `folder`, whatever its method. Raises FormatError."""
        from minilora.peft.files import CONFIGS, FAN_IN_FAN_OUT, SavedAdapter

        content = SavedAdapter.read(folder).content
        content.pop(FAN_IN_FAN_OUT, None)  # the model knows it
        return CONFIGS[content["peft_type"]].from_dict(content)

    @classmethod
    def from_dict(cls, content: dict) -> Self:
        """Create a configuration from the content of adapter_config.json.

        Raises MiniloraError, listing the settings that minilora does not support: an adapter loaded without them would
        not compute what was trained.
        """
        field_names = {field.name for field in fields(cls)}
        unsupported = [
            f"{escape(name)} = {escape(json.dumps(value))}"
            for name, value in content.items()
            if name not in field_names | cls.unused and value and value not in cls.means_off.get(name, ())
        ]
        if unsupported:
            raise MiniloraError(
                f"the adapter uses settings that minilora's {cls.peft_type} does not have: {'; '.join(unsupported)}"
            )
        return cls(**{name: value for name, value in content.items() if name in field_names})


@dataclass(kw_only=True)
class TargetedConfig(PeftConfig):
    """The configuration of a method that adapts the modules named by `target_modules`."""

    # Names or paths; None: `default_targets` of the model.
    target_modules: list[str] | str | None = checked(
        None, "names, one or more", lambda v: v and (isinstance(v, str) or is_list_of_names(v)), optional=True
    )

    target_kind: ClassVar[type[nn.Module] | tuple] = nn.Linear  # what can be adapted; if nn.Linear, also "all-linear"
    defaults: ClassVar[dict[str, list[str]]]  # model family -> the targets that target_modules = None stands for

    def __post_init__(self):
        if not isinstance(self.target_modules, str):
            self.target_modules = as_list(self.target_modules)
        super().__post_init__()

    def default_targets(self, model: nn.Module) -> list[str]:
        """Return the targets that target_modules = None stands for: by default, those of the model's family."""
        return of_family(model, self.defaults)

    def complete(self, model: nn.Module) -> None:
        super().complete(model)
        if self.target_modules is None:
            self.target_modules = list(self.default_targets(model))

    def targets(self, model: nn.Module) -> list[str]:
        names = self.target_modules
        if names == "all-linear" and self.target_kind is nn.Linear:
            if not (paths := linears_of_blocks(model)):
                raise MiniloraError(f"'all-linear' finds no Linear in {type(model).__name__}")
            return paths
        return matching(model, [names] if isinstance(names, str) else names or [], "target_modules", self.target_kind)

    def to_dict(self, targets: list[str]) -> dict:
        names = targets if self.target_modules == "all-linear" else self.target_modules
        return super().to_dict(targets) | {"target_modules": [names] if isinstance(names, str) else list(names or [])}


class AdapterLayer(nn.Module):
    """A layer that takes the place of `base_layer`, calls it, and adds something that trains."""

    base_layer: Any
    changes_weights = True  # if False, weights that are tied to the base layer's stay tied

    def adapter_parameters(self) -> dict[str, Tensor]:
        """Return {name: parameter} of all that trains: by default, everything but the base layer."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("base_layer.")}

    def saved_parameters(self) -> dict[str, Tensor]:
        """Return {name: parameter} of all that is saved, as listed by `shapes`: by default, all that trains."""
        return self.adapter_parameters()

    def neutral(self) -> dict[str, Any] | None:
        """Return {name: values at which the layer computes what its base layer does}; None if it cannot be scaled.

        The layer's change must be linear in these parameters: `set_strength` scales it by moving them to these values.
        """
        return None

    def merged(self) -> nn.Module:
        """Return a plain module that computes the same. Raises MiniloraError if the method cannot be merged."""
        raise MiniloraError(f"{type(self).__name__} cannot be merged: it is not a change of weights; use unload()")


def with_weight(linear: nn.Linear, weight) -> nn.Linear:
    """Return a plain Linear with this weight, an array (out, in), that shares the bias of `linear`."""
    other = nn.Linear.from_arrays(weight)
    other.bias = linear.bias
    return other


# The model's family


def of_family(model: nn.Module, defaults: dict[str, list[str]]) -> list[str]:
    """Return the entry for the model's family (`model_type` in its configuration), or Llama's if there is none."""
    family = getattr(getattr(model, "config", None), "model_type", "llama")
    return defaults.get(family, defaults["llama"])


def is_transposed(model: nn.Module, name: str) -> bool:
    """Return True if the model's files, and so PEFT's, hold the parameter `name` as (in, out)."""
    return isinstance(model, Pretrained) and model.is_transposed(name)


# Finding modules by name


def meant(names: list[str], paths: list[str]) -> list[str]:
    """Return the paths that match one of `names`, which is a whole path or the end of one after a dot."""
    return [path for path in paths if any(f".{path}".endswith(f".{name}") for name in names)]


def matching(model: nn.Module, names: list[str], option: str, kind: type[nn.Module] | tuple) -> list[str]:
    """Return the paths of the modules of `kind` that match `names`, in the model's order.

    A name is the last part of a path ("q_proj"), a whole path ("model.layers.0.self_attn.q_proj") or the end of one
    after a dot. Raises MiniloraError, which starts with `option` and lists the names that match nothing and those that
    are available.
    """
    modules = {path: module for path, module in model.named_modules() if path}
    paths = [path for path, module in modules.items() if isinstance(module, kind)]
    kind_name = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
    last_names = [name for name in dict.fromkeys(path.rpartition(".")[2] for path in paths) if not name.isdigit()]
    problems: list[str] = []
    for name in names:
        if meant([name], paths):
            continue
        if others := meant([name], list(modules)):
            problem = f"is not a {kind_name}: it is of class {type(modules[others[0]]).__name__}"
        elif re.fullmatch(r"[\w.-]*", name):
            problem = f"matches nothing{did_you_mean(name, last_names, before=', ') if len(problems) < 10 else ''}"
        else:
            problem = "is not a name (regular expressions are not supported)"
        problems.append(f"{escape(repr(name))} {problem}")
    if problems:
        available = ", ".join(last_names) or f"no {kind_name} at all"
        raise MiniloraError(f"{option}: {first_few(problems, separator='; ')}; available: {escape(available, 400)}")
    return meant(names, paths)


def tied(model: nn.Module, paths: list[str]) -> list[str]:
    """Return the paths whose modules share a weight with a module elsewhere in the model."""
    everywhere = Counter(id(array) for array in model.state_dict().values())
    here = {path: Counter(id(array) for array in model.get_submodule(path).state_dict().values()) for path in paths}
    return [path for path in paths if any(everywhere[key] > count for key, count in here[path].items())]
