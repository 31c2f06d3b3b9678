"""Adapting a model, whatever the method: find, replace, freeze, disable, merge, save and load.

A method says what to adapt and builds a layer for it (`PeftConfig`, `AdapterLayer`); the rest is here. Adapting swaps
modules: where a layer stood, an `AdapterLayer` that holds it stands, and where `modules_to_save` names a module, a copy
that trains. Disabling and unloading put back the very objects that stood there before, so nothing needs to be undone by
arithmetic. The paths that modules have in the plain model are the names on disk.

Files are PEFT's: adapter_config.json and adapter_model.safetensors. What PEFT has no field for (the fingerprint of the
base, a second record of the configuration, what was untied) is in the metadata of the safetensors file, which PEFT does
not look at; an unknown field in adapter_config.json would make it warn.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

import numpy as np

from .. import backend, nn
from ..errors import FormatError, MiniloraError, show
from ..formats import safetensors
from ..formats.atomic import make_folder, parse_json, read_json, remove_leftovers, show_path, write_json
from ..quant import Linear4bit, dequantize_model, quantization, weight_digest
from ..tensor import Tensor

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # before every path of the plain model, on disk
TASK_TYPES = (None, "CAUSAL_LM", "SEQ_CLS", "FEATURE_EXTRACTION")
CLASSIFIER_HEADS = ("classifier", "score")  # what PEFT adds to modules_to_save for SEQ_CLS

METHODS: dict[str, type["PeftConfig"]] = {}  # peft_type -> configuration; filled in __init__.py


# What a method provides


@dataclass(kw_only=True)
class PeftConfig:
    """What the configuration of every method has, and what this room asks of it.

    A method subclasses it, sets `peft_type` and writes `targets`, `shapes` and `adapt`; the other members have a
    default. Raises MiniloraError that lists all `problems` of the values.
    """

    modules_to_save: list[str] | str | None = None  # modules that train whole and are saved with the adapter
    task_type: str | None = None  # "CAUSAL_LM" or "SEQ_CLS": the latter adds the classifier's head to modules_to_save

    peft_type: ClassVar[str]
    # Fields of a file that change nothing that is computed, and values of others that ask for nothing extra.
    unused: ClassVar[frozenset[str]] = frozenset(
        {"peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}
    )
    means_off: ClassVar[dict[str, tuple]] = {}
    # Fields that PEFT does not have: kept beside its file, in the record, and not in it.
    own: ClassVar[frozenset[str]] = frozenset()
    root: ClassVar[str] = PREFIX  # before every path of the plain model, on disk

    def __post_init__(self):
        if isinstance(self.modules_to_save, str):
            self.modules_to_save = [self.modules_to_save]
        elif isinstance(self.modules_to_save, (set, tuple)):
            self.modules_to_save = sorted(self.modules_to_save)
        if problems := self.problems():
            raise MiniloraError(listed(problems))

    def problems(self) -> list[str]:
        """What is wrong with the values, in words."""
        found = []
        names = self.modules_to_save
        if names is not None and not is_list_of_names(names):
            found.append(f"modules_to_save must be a list of names, not {show(repr(names))}")
        if self.task_type not in TASK_TYPES:
            known = ", ".join(task for task in TASK_TYPES if task)
            found.append(f"task_type must be one of {known}, not {show(repr(self.task_type))}")
        return found

    def complete(self, model: nn.Module) -> None:
        """Fill in fields that the model decides. Raises MiniloraError where a value does not fit it."""

    def targets(self, model: nn.Module) -> list[str]:
        """Paths of the modules to adapt. Raises MiniloraError where a name matches nothing."""
        raise NotImplementedError

    def at(self, path: str) -> "PeftConfig":
        """The settings that hold for the module at `path`, where they differ from module to module."""
        return self

    def check(self, path: str, module: nn.Module) -> list[str]:
        """What speaks against a fresh adapter on this module, in words."""
        return []

    def shapes(self, module: nn.Module) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter that an adapter of `module` saves, without making any."""
        raise NotImplementedError

    def adapt(self, module: nn.Module, rng: np.random.Generator) -> "AdapterLayer":
        """A fresh layer around `module`, with the parameters that `shapes` says. Changes nothing in `module`."""
        raise NotImplementedError

    def restore(self, module: nn.Module) -> "AdapterLayer":
        """A layer around `module` that takes the parameters of a file, whatever it starts with."""
        return self.adapt(module, np.random.default_rng(0))

    def notes_on_more_training(self) -> list[str]:
        """What a reader should know who goes on training what was saved."""
        return []

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
        return {"peft_type": self.peft_type, "base_model_name_or_path": None, "inference_mode": True} | asdict(self)

    @classmethod
    def from_dict(cls, content: dict) -> "PeftConfig":
        """From the content of adapter_config.json.

        Raises MiniloraError that lists what it asks for and minilora does not have: loading it anyway would compute
        something else than what was trained.
        """
        known = {field.name for field in fields(cls)}
        refused = [
            f"{show(name)} = {show(json.dumps(value))}"
            for name, value in content.items()
            if name not in known | cls.unused and value and value not in cls.means_off.get(name, ())
        ]
        if refused:
            raise MiniloraError(f"the adapter uses what minilora's {cls.peft_type} does not have: {listed(refused)}")
        return cls(**{name: value for name, value in content.items() if name in known})


@dataclass(kw_only=True)
class TargetedConfig(PeftConfig):
    """The configuration of a method that adapts the modules that `target_modules` names."""

    target_modules: list[str] | str | None = None  # names or paths; None: `default_targets`, filled in from the model

    target_kind: ClassVar[type[nn.Module] | tuple] = nn.Linear  # what can be adapted; Linears also by "all-linear"

    def __post_init__(self):
        if isinstance(self.target_modules, (set, tuple)):
            self.target_modules = sorted(self.target_modules)
        super().__post_init__()

    def problems(self) -> list[str]:
        found = super().problems()
        names = self.target_modules
        if isinstance(names, list | str) and not names:
            found.append("target_modules is empty: name at least one layer")
        elif names is not None and not isinstance(names, str) and not is_list_of_names(names):
            found.append(f"target_modules must be names, not {show(repr(names))}")
        return found

    def default_targets(self, model: nn.Module) -> list[str]:
        """What target_modules = None means for `model`."""
        raise NotImplementedError

    def complete(self, model: nn.Module) -> None:
        super().complete(model)
        if self.target_modules is None:
            self.target_modules = list(self.default_targets(model))

    def targets(self, model: nn.Module) -> list[str]:
        names = self.target_modules
        if names == "all-linear" and self.target_kind is nn.Linear:
            return linears_of_blocks(model)
        return matching(model, [names] if isinstance(names, str) else names, "target_modules", self.target_kind)

    def to_dict(self, targets: list[str]) -> dict:
        names = targets if self.target_modules == "all-linear" else self.target_modules
        return super().to_dict(targets) | {"target_modules": [names] if isinstance(names, str) else list(names)}

    @classmethod
    def from_dict(cls, content: dict) -> "TargetedConfig":
        names = content.get("target_modules")
        if isinstance(names, str) and names != "all-linear":  # PEFT reads a lone string as a pattern
            raise MiniloraError(
                f"target_modules is the regular expression {show(repr(names))}; a list of names is needed"
            )
        return super().from_dict(content)


class AdapterLayer(nn.Module):
    """Stands where `base_layer` stood, calls it, and adds something that trains."""

    base_layer: nn.Module
    changes_weights = True  # if not, what the base layer shares with others stays shared

    def adapter_parameters(self) -> dict[str, Tensor]:
        """{name: parameter} of everything but the base layer."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("base_layer.")}

    def saved_parameters(self) -> dict[str, Tensor]:
        """{name: what a file holds}, as `shapes` of the configuration has it: by default, what trains."""
        return self.adapter_parameters()

    def merged(self) -> nn.Module:
        """A plain module that computes the same. Raises MiniloraError where the method has none."""
        raise MiniloraError(f"{type(self).__name__} cannot be merged: it is not a change of weights; use unload()")


# Finding


def is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def matching(model: nn.Module, names: list[str], option: str, kind: type[nn.Module] | tuple) -> list[str]:
    """Paths of the modules of `kind` that `names` mean, in the model's order.

    A name is a whole last name ("q_proj"), a whole path ("model.layers.0.self_attn.q_proj") or the end of one, cut at a
    dot. Raises MiniloraError, which begins with `option` and lists every name that matches nothing, and what there is.
    """
    kind_name = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
    by_end: dict[str, list[str]] = {}  # each end of a path -> the paths that it means
    others: dict[str, str] = {}  # the same for modules of another kind -> their class
    last_names = []
    for path, module in model.named_modules():
        parts = path.split(".") if path else []
        for i in range(len(parts)):
            end = ".".join(parts[i:])
            if isinstance(module, kind):
                by_end.setdefault(end, []).append(path)
            else:
                others.setdefault(end, type(module).__name__)
        if parts and isinstance(module, kind) and not parts[-1].isdigit() and parts[-1] not in last_names:
            last_names.append(parts[-1])
    problems = []
    for name in names:
        if name in by_end:
            continue
        if not re.fullmatch(r"[\w.-]*", name):
            problems.append(f"{show(repr(name))} is not a name (regular expressions are not read)")
        elif name in others:
            problems.append(f"{show(repr(name))} is not a {kind_name}: it is of class {others[name]}")
        else:
            near = get_close_matches(name, last_names, n=1) if len(problems) < 10 else []
            problems.append(f"{show(repr(name))} matches nothing" + (f", did you mean {near[0]!r}?" if near else ""))
    if problems:
        there = ", ".join(last_names) or f"no {kind_name} at all"
        raise MiniloraError(f"{option}: {listed(problems)}; there are: {show(there, 400)}")
    found = {path for name in names for path in by_end[name]}
    return [path for path, _ in model.named_modules() if path in found]


def linears_of_blocks(model: nn.Module) -> list[str]:
    """Paths of all Linears in the model's lists of blocks; of all that it has, where it has no such lists."""
    paths = [path for path, module in model.named_modules() if path and isinstance(module, nn.Linear)]
    if not paths:
        raise MiniloraError(f"'all-linear' finds no Linear in {type(model).__name__}")
    return [path for path in paths if any(part.isdigit() for part in path.split("."))] or paths


def base_fingerprint(model: nn.Module, without: Iterable[str] = ()) -> str:
    """SHA-256 over the names, shapes and float32 bytes of a plain model's weights, as hexadecimal digits.

    without: paths of modules whose weights an adapter brings along. A tied weight counts under each of its names, so a
    model is the same with its head tied and with a head of equal values; a weight in 4 bits counts as it was before.
    """
    skipped = tuple(f"{path}." for path in without)
    total, digests = hashlib.sha256(), {}
    weights: dict[str, tuple[tuple, str]] = {}  # name -> shape and digest
    for path, module in model.named_modules():
        if isinstance(module, Linear4bit):  # as it was before quantization
            shape = (module.out_features, module.in_features)
            weights[f"{path}.weight" if path else "weight"] = shape, module.weight_digest
    for name, array in model.state_dict().items():
        if not name.startswith(skipped):
            if id(array) not in digests:
                digests[id(array)] = weight_digest(array)
            weights[name] = tuple(array.shape), digests[id(array)]
    for name, (shape, digest) in sorted(weights.items()):
        if not name.startswith(skipped):
            total.update(f"{name} {shape} {digest}\n".encode())
    return total.hexdigest()


# Replacing


@dataclass
class _Site:
    """A place in the model: what stands there in the plain model, and what stands there in the adapted one."""

    path: str  # in the plain model
    original: nn.Module
    adapted: nn.Module

    @property
    def is_whole(self) -> bool:
        """True where the module itself is trained (modules_to_save)."""
        return not isinstance(self.adapted, AdapterLayer)

    def parameters(self) -> dict[str, Tensor]:
        """What trains here, by name."""
        return dict(self.adapted.named_parameters()) if self.is_whole else self.adapted.adapter_parameters()

    def saved_parameters(self) -> dict[str, Tensor]:
        """What is saved of it, by name."""
        return self.parameters() if self.is_whole else self.adapted.saved_parameters()

    def file_name(self, config: PeftConfig, name: str) -> str:
        """The name on disk of parameter `name`."""
        return f"{config.root}{self.path}.{name}" if self.is_whole else config.file_name(self.path, name)

    def merged(self) -> nn.Module:
        return self.adapted if self.is_whole else self.adapted.merged()


@dataclass
class _Plan:
    """Where an adapter goes: paths of the modules to adapt and of the modules to save whole."""

    model: nn.Module
    config: PeftConfig
    targets: list[str]
    saved: list[str]

    def expected(self) -> dict[str, tuple[int, ...]]:
        """Name on disk and shape of everything that will train."""
        shapes = {}
        for path in self.targets:
            own = self.config.at(path).shapes(self.model.get_submodule(path))
            shapes |= {self.config.file_name(path, name): shape for name, shape in own.items()}
        for path in self.saved:
            parameters = self.model.get_submodule(path).named_parameters()
            shapes |= {f"{self.config.root}{path}.{name}": p.shape for name, p in parameters}
        return shapes

    def fresh(self, seed: int) -> list[_Site]:
        """Fresh adapters and copies, not yet in their places."""
        rng = np.random.default_rng(seed)
        return self._build(lambda config, module: config.adapt(module, rng))

    def restored(self) -> list[_Site]:
        """Adapters and copies that wait for the values of a file, not yet in their places."""
        return self._build(lambda config, module: config.restore(module))

    def _build(self, adapt: Callable[[PeftConfig, nn.Module], AdapterLayer]) -> list[_Site]:
        adapters = [(path, module, adapt(self.config.at(path), module)) for path, module in self._modules(self.targets)]
        copies = [(path, module, _trainable_copy(module)) for path, module in self._modules(self.saved)]
        return [_Site(*site) for site in adapters + copies]

    def _modules(self, paths: list[str]) -> Iterator[tuple[str, nn.Module]]:
        return ((path, self.model.get_submodule(path)) for path in paths)


def _refuse_adapted(model: nn.Module) -> None:
    if any(isinstance(m, (PeftModel, AdapterLayer)) or "_is_adapted" in vars(m) for _, m in model.named_modules()):
        raise MiniloraError(
            "the model is adapted already: take the plain model that merge_and_unload() or unload() returns"
        )


def _plan(model: nn.Module, config: PeftConfig) -> _Plan:
    """What `config` means for `model`, which completes it; MiniloraError where it does not fit."""
    config.complete(model)
    targets = config.targets(model)
    saved = matching(model, config.saved_names(model), "modules_to_save", nn.Module)
    inside = [
        f"{inner} is in {outer}" if inner != outer else f"{inner} is in both"
        for outer in saved
        for inner in targets + [path for path in saved if path != outer]
        if f"{inner}.".startswith(f"{outer}.")
    ]
    if inside:
        raise MiniloraError(f"what modules_to_save names is trained whole, so nothing in it can be: {listed(inside)}")
    empty = [path for path in saved if not any(True for _ in model.get_submodule(path).parameters())]
    if empty:
        raise MiniloraError(f"modules_to_save: no parameters to train in {listed(empty)}")
    coded = [path for path in saved if any(m.stored_size for _, m in model.get_submodule(path).named_modules())]
    if coded:
        raise MiniloraError(f"modules_to_save: 4-bit weights cannot train: {listed(coded)}; name float modules only")
    return _Plan(model, config, targets, saved)


def _trainable_copy(module: nn.Module) -> nn.Module:
    copy = deepcopy(module)
    for parameter in copy.parameters():
        parameter.data = parameter.data.copy()  # leaves behind the lease of a live graph on the original
        parameter.grad = None
    return copy


def tied(model: nn.Module, paths: list[str]) -> list[str]:
    """Those of `paths` whose modules share a weight with a module elsewhere."""
    everywhere = Counter(id(array) for array in model.state_dict().values())
    shared = []
    for path in paths:
        here = Counter(id(array) for array in model.get_submodule(path).state_dict().values())
        if any(everywhere[key] > count for key, count in here.items()):
            shared.append(path)
    return shared


def listed(problems: list[str], limit: int = 100) -> str:
    more = f"; and {len(problems) - limit} more" if len(problems) > limit else ""
    return "; ".join(problems[:limit]) + more


# The adapted model


def get_peft_model(model: nn.Module, config: PeftConfig, seed: int = 0) -> "PeftModel":
    """Adapt `model`, in place: everything that it has is frozen, what `config` adds trains. Returns the wrapper.

    seed: of what starts random, drawn by a NumPy Generator. Raises MiniloraError, and changes nothing, where a target
    matches nothing, the settings do not fit a layer, or the model is adapted already.
    """
    if not isinstance(config, PeftConfig):
        raise TypeError(f"get_peft_model needs a configuration such as LoraConfig(), not {type(config).__name__}")
    config = deepcopy(config)
    config.__post_init__()  # its values may have been changed since
    _refuse_adapted(model)
    plan = _plan(model, config)
    problems = [problem for path in plan.targets for problem in config.at(path).check(path, model.get_submodule(path))]
    if problems:
        raise MiniloraError(listed(problems))
    adapted = PeftModel(model, config, plan.fresh(seed))
    for path in (name for name in CLASSIFIER_HEADS if name in vars(model)):
        if path not in plan.saved + plan.targets:
            adapted.notes.append(f"the head {path!r} stays frozen; task_type='SEQ_CLS' trains it along")
    return adapted


class PeftModel(nn.Module):
    """A model with an adapter in it: called, trained and walked like the model itself. Made by `get_peft_model`.

    base_model: the model that was adapted. peft_config: a copy of the configuration. notes: what a reader should know
    about how it came to be, such as an adapter that could not be checked against its base.
    """

    def __init__(self, base_model: nn.Module, peft_config: PeftConfig, sites: list[_Site]):
        self.base_model = base_model
        self.peft_config = peft_config
        self.training = base_model.training
        self.notes: list[str] = []
        self._sites = sites
        self._untied = tied(base_model, [s.path for s in sites if s.is_whole or s.adapted.changes_weights])
        config = getattr(base_model, "config", None)
        self._tied_config = config if getattr(config, "tie_word_embeddings", False) else None
        self._flags = [(p, p.requires_grad) for p in base_model.parameters()]
        self._ended = ""  # how, once the adapter has been merged or taken off
        self._is_on = False
        base_model.requires_grad_(False)
        for site in sites:
            for parameter in site.parameters().values():
                parameter.requires_grad = True
        base_model._is_adapted = True
        self._switch(True)

    # As the model

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)

    def generate(self, *args, **kwargs):
        """The base model's `generate`, with the adapter."""
        return self.base_model.generate(*args, **kwargs)

    def count_targets(self, labels) -> int:
        """How many of the labels count in the loss."""
        return self.base_model.count_targets(labels)

    @property
    def config(self):
        """The base model's configuration."""
        return self.base_model.config

    # Counting

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """(trainable, all) parameters; all includes the originals of what modules_to_save copied, as in PEFT.

        A weight in 4 bits counts as one parameter, where PEFT counts bytes that hold two. A layer that holds a changed
        copy of its base (PiSSA's residual) counts the base alone.
        """
        at_sites = [p for s in self._sites for p in (*s.original.parameters(), *s.parameters().values())]
        inside = {id(p) for site in self._sites for p in site.adapted.parameters()}
        unique = {id(p): p for p in [*at_sites, *(p for p in self.parameters() if id(p) not in inside)]}
        sizes = [(p.size, p.requires_grad) for p in unique.values()]
        kept = [module for site in self._sites for module in (site.original, site.adapted)]
        stored = {id(m): m.stored_size for module in [self, *kept] for _, m in module.named_modules()}
        return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes) + sum(stored.values())

    def print_trainable_parameters(self) -> None:
        """Print both numbers and their ratio, in PEFT's words."""
        trainable, total = self.get_nb_trainable_parameters()
        share = 100 * trainable / total
        print(f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {share:.4f}")

    # Taking the adapter out

    @contextmanager
    def disable_adapter(self):
        """Within the block the model is the base, exactly. Blocks may be nested; an exception ends them as well."""
        self._must_be_in("disable")
        was_on = self._is_on
        self._switch(False)
        try:
            yield
        finally:
            if not self._ended:
                self._switch(was_on)

    def unload(self) -> nn.Module:
        """The plain model as it was before, with the same modules and the same parameters frozen."""
        self._must_be_in("unload")
        self._switch(False)
        self._end("taken off its base")
        return self.base_model

    def merge_and_unload(self) -> nn.Module:
        """The plain model with the adapter's change added to its weights.

        A merged layer has weights of its own: one that was tied to another is not tied any more. Merged into a base in
        4 bits, the model comes back in floats, with a note: rounding to 4 bits again would erase a small change.
        Raises MiniloraError, and changes nothing, for a method that cannot be merged.
        """
        self._must_be_in("merge")
        merged = [(site, site.merged()) for site in self._sites]  # all of them before the first takes its place
        training = self.base_model.training
        self._switch(False)
        self._end("merged into its base")
        was_in_4_bits = quantization(self.base_model) is not None
        for site, module in merged:
            self.replace(f"base_model.{site.path}", module.train(training))
            flags = {name: p.requires_grad for name, p in site.original.named_parameters()}
            for name, parameter in module.named_parameters():
                parameter.requires_grad = flags.get(name, not site.original.stored_size)
        if was_in_4_bits:
            dequantize_model(self.base_model)
            self.notes.append("the base was in 4 bits; the merged model is in floats, and larger")
        self._set_tied_config(not self._untied)
        return self.base_model

    def _switch(self, on: bool) -> None:
        """Put the adapted modules in their places, or the original ones back."""
        if on == self._is_on:
            return
        # Paths are those of the plain model: what stands inside another module goes in first and comes out last.
        for site in sorted(self._sites, key=lambda site: len(site.path), reverse=on):
            new, old = (site.adapted, site.original) if on else (site.original, site.adapted)
            new.train(old.training)
            self.replace(f"base_model.{site.path}" if site.path else "base_model", new)
        self._set_tied_config(not (on and self._untied))
        self._is_on = on

    def _set_tied_config(self, tied: bool) -> None:
        """A configuration that said that head and embeddings are one weight follows what was untied."""
        if self._tied_config is not None:
            self._tied_config.tie_word_embeddings = tied

    def _must_be_in(self, verb: str) -> None:
        if self._ended:
            raise MiniloraError(f"cannot {verb} the adapter: it was {self._ended} before")

    def _end(self, how: str) -> None:
        self._ended = how
        self._sites = []
        del self.base_model._is_adapted
        for parameter, flag in self._flags:
            parameter.requires_grad = flag

    # Files

    def save_pretrained(self, folder) -> None:
        """Write adapter_config.json and adapter_model.safetensors to `folder`; PEFT opens them.

        The fingerprint covers the base's weights as they are now. Raises MiniloraError where writing fails.
        """
        self._must_be_in("save")
        targets = [site.path for site in self._sites if not site.is_whole]
        saved = [site.path for site in self._sites if site.is_whole]
        tensors = {}
        for site in self._sites:
            for name, parameter in site.saved_parameters().items():
                tensors[site.file_name(self.peft_config, name)] = backend.to_numpy(parameter.data)
        with self.disable_adapter():
            fingerprint, quantized = base_fingerprint(self.base_model, saved), quantization(self.base_model)
        # Whole paths: PEFT takes a module whose path ends with these letters, "norm" for every "input_layernorm" too.
        config = self.peft_config.to_dict(targets) | {"modules_to_save": saved or None}
        metadata = {
            "format": "pt",
            "minilora.base": fingerprint,
            "minilora.config": json.dumps({field.name: config[field.name] for field in fields(self.peft_config)}),
        }
        if self._untied:
            metadata["minilora.untied"] = json.dumps(self._untied)
        if quantized:
            metadata["minilora.quantization"] = json.dumps(quantized)
        folder = Path(folder)
        make_folder(folder)
        remove_leftovers(folder)
        safetensors.save_file(folder / WEIGHTS, tensors, metadata)
        write_json(folder / CONFIG, {n: value for n, value in config.items() if n not in self.peft_config.own})

    @classmethod
    def from_pretrained(cls, model: nn.Module, folder, is_trainable: bool = False) -> "PeftModel":
        """`model`, adapted in place by the adapter in `folder` (minilora's or PEFT's).

        is_trainable: whether the adapter goes on training; if not, it is frozen too and the model is in eval mode.
        Raises FormatError for files that are damaged, do not fit the model or ask for what minilora does not have,
        listing everything that is wrong, and MiniloraError where the adapter was trained on another base. The model
        is then as it was. An adapter without a fingerprint loads with a note in `notes`.
        """
        _refuse_adapted(model)
        folder = Path(folder)
        where = show_path(folder)
        if not os.path.exists(folder / WEIGHTS) and os.path.exists(folder / "adapter_model.bin"):
            raise FormatError(f"{where} holds a pickle, which can run any program; save the adapter as safetensors")
        content = read_json(folder / CONFIG)
        tensors, metadata = safetensors.load_file(folder / WEIGHTS)
        kind = content.get("peft_type")
        if not isinstance(kind, str) or kind not in METHODS:
            raise FormatError(f"{where}: peft_type is {show(repr(kind))}; minilora reads {', '.join(METHODS)}")
        record = _recorded_settings(metadata, where)
        content |= {name: record[name] for name in METHODS[kind].own if name in record}
        try:
            config = METHODS[kind].from_dict(content)
            if "minilora.config" not in metadata and config.modules_to_save:
                config.modules_to_save = _as_peft_reads(config.modules_to_save, model)
            plan = _plan(model, config)
        except MiniloraError as error:
            raise FormatError(f"{where}: {error}") from error
        problems = _changed_settings(config, record) + _misfits(plan, tensors)
        if problems:
            raise FormatError(f"{where}: the adapter does not fit {type(model).__name__}: {listed(problems)}")
        trained_on = metadata.get("minilora.base")
        if trained_on is not None and trained_on != (here := base_fingerprint(model, plan.saved)):
            raise MiniloraError(
                f"{where}: the adapter was trained on another base (fingerprint {show(trained_on, 12)}) than this one "
                f"({show(here, 12)}); load it onto a model with the weights that it was trained on"
            )
        trained_in, here_in = _quantization(metadata), quantization(model)
        if trained_in and here_in and trained_in != here_in:
            raise MiniloraError(
                f"{where}: the adapter was trained on this base in {_in_words(trained_in)}, not in {_in_words(here_in)}"
            )

        adapted = cls(model, config, plan.restored())
        for site in adapted._sites:
            for name, parameter in (site.saved_parameters() | site.parameters()).items():  # frozen ones too
                array = tensors[site.file_name(config, name)]
                parameter.data = backend.asarray(array.astype(parameter.dtype))
            for parameter in site.parameters().values():
                parameter.requires_grad = is_trainable
        if is_trainable:
            adapted.notes += config.notes_on_more_training()
        if trained_on is not None and trained_in != here_in:
            adapted.notes.append(
                f"the adapter was trained on this base in {_in_words(trained_in)}, "
                f"and is used on it in {_in_words(here_in)}: results differ a little"
            )
        if trained_on is None:
            adapted.notes.append(
                "the adapter carries no fingerprint of its base (PEFT writes none): "
                "whether it was trained on this one could not be checked"
            )
        return adapted if is_trainable else adapted.eval()


def adapter_quantization(folder) -> dict | None:
    """The arguments of `quant.quantize_model` with which the base of a saved adapter was quantized; None if not."""
    return _quantization(safetensors.header(Path(folder) / WEIGHTS)[1])


def _quantization(metadata: dict[str, str]) -> dict | None:
    if "minilora.quantization" not in metadata:
        return None
    record = parse_json(metadata["minilora.quantization"].encode(), "the record of the quantization")
    if set(record) != {"quant_type", "blocksize", "compress_statistics"}:
        raise FormatError(f"the record of the quantization is damaged: {show(json.dumps(record))}")
    return record


def _in_words(settings: dict | None) -> str:
    if settings is None:
        return "floats"
    double = " with double quantization" if settings.get("compress_statistics") else ""
    return f"{settings.get('quant_type')} with blocks of {settings.get('blocksize')}{double}"


def _as_peft_reads(names: list[str], model: nn.Module) -> list[str]:
    """Paths for the names in PEFT's modules_to_save, which also mean modules whose last name only ends like them."""
    paths = [path for path, _ in model.named_modules() if path]
    return [path for path in paths if path.endswith(tuple(names))] + [
        name for name in names if not any(path.endswith(name) for path in paths)
    ]


def _recorded_settings(metadata: dict[str, str], where: str) -> dict:
    """The record of the configuration that was saved with the weights; empty where there is none, as in PEFT's."""
    record = metadata.get("minilora.config")
    return {} if record is None else parse_json(record.encode(), f"{where}: the record of the configuration")


def _changed_settings(config: PeftConfig, record: dict) -> list[str]:
    """Settings in which adapter_config.json differs from the record that was saved with the weights."""
    now = asdict(config)
    return [
        f"{name} is {show(repr(now[name]))} in {CONFIG}, but was {show(repr(value))} in training"
        for name, value in record.items()
        if name in now and now[name] != value
    ]


def _misfits(plan: _Plan, tensors: dict[str, np.ndarray]) -> list[str]:
    """Names that are missing or unexpected, shapes that do not fit, values that are not finite numbers."""
    expected = plan.expected()
    problems = [f"missing {name}" for name in expected if name not in tensors]
    copies = {}  # PEFT stores the weights of an adapted head along with the adapter
    for path in plan.targets:
        for name, parameter in plan.model.get_submodule(path).named_parameters():
            copies[plan.config.file_name(path, f"base_layer.{name}")] = parameter
    root = plan.config.root
    own = {f"{root}{name}" for name in plan.model.state_dict()}
    for name, array in tensors.items():
        if name in expected:
            if array.shape != expected[name]:
                problems.append(f"{name} has shape {show(array.shape)}, not {show(expected[name])}")
            elif array.dtype.kind != "f":
                problems.append(f"{name} holds {array.dtype}, not floating-point numbers")
            elif not np.isfinite(_as_float32(array)).all():
                problems.append(f"{name} holds NaN or infinite values")
        elif name in copies:
            base = backend.to_numpy(copies[name].data)
            if not np.array_equal(base, array.astype(base.dtype)):
                problems.append(f"{name} differs from the weights of this base")
        else:
            hint = ", which modules_to_save does not name" if name in own else ""
            hint = hint or ("" if name.startswith(root) else f" (names begin with {root})")
            problems.append(f"unexpected {show(name, 160)}{hint}")
    return problems


def _as_float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 that is too large becomes infinite, and is then refused
        return array.astype("f4", copy=False)
