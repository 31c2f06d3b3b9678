"""What a method provides, its configuration and its layer, and how the modules that it adapts are found by name.

Each method has a file that subclasses `PeftConfig` (or `TargetedConfig`, where names say what is adapted) and
`AdapterLayer`. What is done with them is in `model.py`, what is written and read in `files.py`.
"""

import json
import re
from collections import Counter
from copy import copy
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Self, TypeGuard, TypeVar

import numpy as np

from minilora import nn
from minilora.errors import MiniloraError, did_you_mean, escape, first_few
from minilora.fields import checked, choice, field_problems
from minilora.models.language_model import Pretrained
from minilora.quant import linears_of_blocks
from minilora.tensor import Tensor

PREFIX = "base_model.model."  # before every path of the plain model, on disk
CLASSIFIER_HEADS = ("classifier", "score")  # what PEFT adds to modules_to_save for SEQ_CLS

Config = TypeVar("Config")


class TaskType(StrEnum):
    """The task of an adapter, as adapter_config.json names it. SEQ_CLS trains the classifier's head along."""

    CAUSAL_LM = "CAUSAL_LM"
    SEQ_CLS = "SEQ_CLS"
    FEATURE_EXTRACTION = "FEATURE_EXTRACTION"


# Fields and values


def is_list_of_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def names() -> Any:
    """A field for a list of names, or None."""
    return checked(None, "names in a list", is_list_of_names, optional=True)


def as_list(value: Any) -> Any:
    """A lone name, a set or a tuple of names as a list; other values as they are."""
    return [value] if isinstance(value, str) else sorted(value) if isinstance(value, set | tuple) else value


def changed(config: Config, **values: Any) -> Config:
    """A copy with other values, which are known to be right and not checked again."""
    other = copy(config)
    vars(other).update(values)
    return other


def few(problems: list[str]) -> str:
    """The first of several problems, which may be one for each module, and how many more there are."""
    return first_few(problems, 3, "; ")


# What a method provides


@dataclass(kw_only=True)
class PeftConfig:
    """The configuration of a method: the fields that all have, and the members that this room calls.

    A method subclasses it, sets `peft_type` and writes `targets`, `shapes` and `adapt`; the other members have a
    default. Where a module is Any, the method says which it adapts. Raises MiniloraError that lists all `problems` of
    the values.
    """

    modules_to_save: list[str] | str | None = names()  # modules that train whole and are saved with the adapter
    task_type: str | None = choice(None, *TaskType, optional=True)  # SEQ_CLS: the head is among modules_to_save
    base_model_name_or_path: Any = field(default=None, compare=False)  # the name by which the base was loaded
    inference_mode: bool = field(default=False, compare=False)  # True: nothing trains; what is saved has it so

    peft_type: ClassVar[str]
    # Fields of a file that change nothing that is computed, and values of others that ask for nothing extra.
    unused: ClassVar[frozenset[str]] = frozenset(
        {"peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}
    )
    means_off: ClassVar[dict[str, tuple]] = {}
    # Fields that PEFT does not have: kept beside its file, in the record, and not in it.
    own: ClassVar[frozenset[str]] = frozenset()
    in_peft: ClassVar[bool] = True  # whether PEFT has the method, and reads its files
    root: ClassVar[str] = PREFIX  # before every path of the plain model, on disk

    def __post_init__(self):
        self.modules_to_save = as_list(self.modules_to_save)
        self.task_type = self.task_type and str(self.task_type)
        if problems := self.problems():
            raise MiniloraError("; ".join(problems))

    def problems(self) -> list[str]:
        """List what is wrong with the values, in words: by default, what their fields do not allow."""
        return field_problems(self)

    def complete(self, model: nn.Module) -> None:
        """Fill in fields that the model decides; called once, before the rest. It may also keep what the layers decide
        together. Raises MiniloraError where a value does not fit the model.
        """

    def targets(self, model: nn.Module) -> list[str]:
        """Paths of the modules to adapt. Raises MiniloraError where a name matches nothing."""
        raise NotImplementedError

    def at(self, path: str) -> Self:
        """The settings that hold for the module at `path`, where they differ from module to module."""
        return self

    def check(self, path: str, module: Any) -> list[str]:
        """List what speaks against a fresh adapter on this module, in words."""
        return []

    def shapes(self, module: Any) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter that an adapter of `module` saves, without making any."""
        raise NotImplementedError

    def adapt(self, module: Any, rng: np.random.Generator) -> "AdapterLayer":
        """A fresh layer around `module`, with the parameters that `shapes` says. Changes nothing in `module`."""
        raise NotImplementedError

    def restore(self, module: Any) -> "AdapterLayer":
        """A layer around `module` that takes the parameters of a file, whatever it starts with."""
        return self.adapt(module, np.random.default_rng(0))

    def file_name(self, path: str, name: str) -> str:
        """The name on disk of parameter `name` of the adapter at `path`."""
        return f"{self.root}{path}.{name}"

    def saved_names(self, model: nn.Module) -> list[str]:
        """modules_to_save, with the head of a classifier where the task is classification."""
        names = list(self.modules_to_save or [])
        if self.task_type == "SEQ_CLS":
            there = {path.rpartition(".")[2] for path, _ in model.named_modules()}
            heads = [name for name in CLASSIFIER_HEADS if name in there]
            if not heads:
                raise MiniloraError(
                    f"task_type 'SEQ_CLS' trains a head called {' or '.join(CLASSIFIER_HEADS)}, and "
                    f"{type(model).__name__} has none"
                )
            names = [name for name in names if name not in CLASSIFIER_HEADS] + heads
        return names

    def to_dict(self, targets: list[str]) -> dict:
        """The content of adapter_config.json. targets: the paths that were adapted."""
        return {"peft_type": self.peft_type} | asdict(self) | {"inference_mode": True}

    @classmethod
    def from_pretrained(cls, folder: Any) -> "PeftConfig":
        """Read the configuration of the adapter in `folder`, of whichever method. Raises FormatError."""
        from minilora.peft.files import CONFIGS, FAN_IN_FAN_OUT, SavedAdapter

        content = SavedAdapter.read(folder).content
        content.pop(FAN_IN_FAN_OUT, None)  # the model says it
        return CONFIGS[content["peft_type"]].from_dict(content)

    @classmethod
    def from_dict(cls, content: dict) -> Self:
        """From the content of adapter_config.json.

        Raises MiniloraError that lists what it asks for and minilora does not have: loading it anyway would compute
        something else than what was trained.
        """
        known = {field.name for field in fields(cls)}
        refused = [
            f"{escape(name)} = {escape(json.dumps(value))}"
            for name, value in content.items()
            if name not in known | cls.unused and value and value not in cls.means_off.get(name, ())
        ]
        if refused:
            raise MiniloraError(f"the adapter uses what minilora's {cls.peft_type} does not have: {'; '.join(refused)}")
        return cls(**{name: value for name, value in content.items() if name in known})


@dataclass(kw_only=True)
class TargetedConfig(PeftConfig):
    """The configuration of a method that adapts the modules that `target_modules` names."""

    # Names or paths; None: `default_targets` of the model.
    target_modules: list[str] | str | None = checked(
        None, "names, one or more", lambda v: v and (isinstance(v, str) or is_list_of_names(v)), optional=True
    )

    target_kind: ClassVar[type[nn.Module] | tuple] = nn.Linear  # what can be adapted; Linears also by "all-linear"
    defaults: ClassVar[dict[str, list[str]]]  # what target_modules = None means, by the model's family

    def __post_init__(self):
        if not isinstance(self.target_modules, str):
            self.target_modules = as_list(self.target_modules)
        super().__post_init__()

    def default_targets(self, model: nn.Module) -> list[str]:
        """List what target_modules = None means for `model`: by default, what `defaults` has for its family."""
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
    """Stands where `base_layer` stood, calls it, and adds something that trains."""

    base_layer: Any
    changes_weights = True  # if not, what the base layer shares with others stays shared

    def adapter_parameters(self) -> dict[str, Tensor]:
        """{name: what trains}: by default, everything but the base layer."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("base_layer.")}

    def saved_parameters(self) -> dict[str, Tensor]:
        """{name: what a file holds}, as `shapes` of the configuration has it: by default, what trains. It may also hold
        what is frozen.
        """
        return self.adapter_parameters()

    def neutral(self) -> dict[str, Any] | None:
        """{name: values at which the layer computes what its base layer does}, for parameters in which the layer's
        change is linear: moved towards them, it is a fraction of itself. None: the method has no strength.
        """
        return None

    def merged(self) -> nn.Module:
        """A plain module that computes the same. Raises MiniloraError where the method has none."""
        raise MiniloraError(f"{type(self).__name__} cannot be merged: it is not a change of weights; use unload()")


def with_weight(linear: nn.Linear, weight) -> nn.Linear:
    """A plain Linear with another weight, an array (out, in), and the bias of `linear`, shared."""
    other = nn.Linear.from_arrays(weight)
    other.bias = linear.bias
    return other


# The model's family


def of_family(model: nn.Module, defaults: dict[str, list[str]]) -> list[str]:
    """The entry for the model's family, as its configuration names it; Llama's for all that have none of their own."""
    family = getattr(getattr(model, "config", None), "model_type", "llama")
    return defaults.get(family, defaults["llama"])


def is_transposed(model: nn.Module, name: str) -> bool:
    """Return True if the model's files, and so PEFT's, hold the parameter `name` as (in, out)."""
    return isinstance(model, Pretrained) and model.is_transposed(name)


# Finding


def meant(names: list[str], paths: list[str]) -> list[str]:
    """List those of `paths` that one of `names` means: the path, or the end of it, cut at a dot."""
    return [path for path in paths if any(f".{path}".endswith(f".{name}") for name in names)]


def matching(model: nn.Module, names: list[str], option: str, kind: type[nn.Module] | tuple) -> list[str]:
    """Paths of the modules of `kind` that `names` mean, in the model's order.

    A name is a whole last name ("q_proj"), a whole path ("model.layers.0.self_attn.q_proj") or the end of one, cut at a
    dot. Raises MiniloraError, which begins with `option` and lists every name that matches nothing, and what there is.
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
            problem = "is not a name (regular expressions are not read)"
        problems.append(f"{escape(repr(name))} {problem}")
    if problems:
        there = ", ".join(last_names) or f"no {kind_name} at all"
        raise MiniloraError(f"{option}: {few(problems)}; there are: {escape(there, 400)}")
    return meant(names, paths)


def tied(model: nn.Module, paths: list[str]) -> list[str]:
    """List those of `paths` whose modules share a weight with a module elsewhere."""
    everywhere = Counter(id(array) for array in model.state_dict().values())
    here = {path: Counter(id(array) for array in model.get_submodule(path).state_dict().values()) for path in paths}
    return [path for path in paths if any(everywhere[key] > count for key, count in here[path].items())]
