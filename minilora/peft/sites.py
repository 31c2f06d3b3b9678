"""Adapters before they are inserted: which modules of the plain model they replace, and with what.

A method says which modules to adapt and builds a layer for each (`config.py`). This file turns that into an `Adapter`,
a list of `Site`s, which `model.py` inserts and removes, and which `files.py` saves and loads.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minilora import nn
from minilora.errors import MiniloraError, first_few
from minilora.fields import checked_value, whole
from minilora.peft.config import CLASSIFIER_HEADS, AdapterLayer, PeftConfig, is_transposed, matching, tied
from minilora.tensor import Tensor


@dataclass
class Site:
    """A place in the model: the module that the plain model has there, and the one that replaces it when adapted."""

    path: str  # path in the plain model
    original: nn.Module
    adapted: Any  # an AdapterLayer, or a module that trains whole
    trained: dict[str, Any] = field(default_factory=dict)  # arrays changed by `set_strength`, as training left them

    @property
    def is_whole(self) -> bool:
        """True if the module itself is trained (modules_to_save)."""
        return not isinstance(self.adapted, AdapterLayer)

    def parameters(self) -> dict[str, Tensor]:
        """Return the parameters that train here, by name."""
        return dict(self.adapted.named_parameters()) if self.is_whole else self.adapted.adapter_parameters()

    def saved(self, config: PeftConfig, model: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
        """Yield (name on disk, parameter, True if files of `model` hold it as (in, out)) for all that is saved."""
        if self.is_whole:
            for name, parameter in self.parameters().items():
                path = f"{self.path}.{name}"
                yield f"{config.root}{path}", parameter, is_transposed(model, path)
        else:
            for name, parameter in self.adapted.saved_parameters().items():
                yield config.file_name(self.path, name), parameter, False

    def neutral(self) -> dict[str, Any] | None:
        """Return the values at which the site computes what the original does; None if its change cannot be scaled.

        PiSSA's cannot, because its layer holds a residual instead of the original.
        """
        if self.is_whole:
            return {name: p.data for name, p in self.original.named_parameters()}
        return self.adapted.neutral() if self.adapted.base_layer is self.original else None


@dataclass
class Adapter:
    """One of a model's adapters: its sites, and its state."""

    name: str
    config: PeftConfig
    sites: list[Site]
    untied: list[str]  # paths of modules whose weight is tied to another's, except while this adapter is in place
    trains: bool = True
    strength: float = 1.0

    def parameters(self) -> list[Tensor]:
        """Return the parameters that train while it is in place."""
        return [parameter for site in self.sites for parameter in site.parameters().values()]


def places_of(model: nn.Module, config: PeftConfig) -> tuple[list[str], list[str]]:
    """Complete `config` from the model, and return the paths of the modules to adapt and of those to train whole.

    Raises MiniloraError if the configuration does not fit the model.
    """
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
        names = first_few(inside, separator="; ")
        raise MiniloraError(f"modules_to_save trains modules whole, so nothing inside may be named too: {names}")
    for path in saved:
        if any(inner.num_quantized for _, inner in model.get_submodule(path).named_modules()):
            raise MiniloraError(f"modules_to_save: 4-bit weights cannot train: {path}; name float modules only")
    return targets, saved


def build(
    model: nn.Module,
    config: PeftConfig,
    name: str,
    targets: list[str],
    saved: list[str],
    adapt: Callable[[PeftConfig, nn.Module], AdapterLayer],
) -> Adapter:
    """Build an adapter for the plain `model`, without inserting it. adapt: returns the layer around a module."""
    modules = {path: model.get_submodule(path) for path in targets + saved}
    sites = [Site(path, modules[path], adapt(config.at(path), modules[path])) for path in targets]
    for path in saved:
        module = modules[path]
        copy = deepcopy(module)
        for parameter in copy.parameters():
            parameter.grad = None
        sites.append(Site(path, module, copy))
    changed = [site.path for site in sites if site.is_whole or site.adapted.changes_weights]
    return Adapter(name, config, sites, tied(model, changed))


def fresh_adapter(model: nn.Module, config: PeftConfig, seed: int, name: str) -> tuple[Adapter, list[str]]:
    """Build a fresh adapter for the plain `model`, without inserting it. Returns (adapter, notes for the user)."""
    if not isinstance(config, PeftConfig):
        raise TypeError(f"an adapter needs a configuration such as LoraConfig(), not {type(config).__name__}")
    seed = checked_value("seed", seed, whole(0))
    config = deepcopy(config)
    config.__post_init__()  # checks it again, as its values may have been changed since
    config.base_model_name_or_path = config.base_model_name_or_path or getattr(model, "name_or_path", None)
    targets, saved = places_of(model, config)
    problems = [problem for path in targets for problem in config.at(path).check(path, model.get_submodule(path))]
    if problems:
        raise MiniloraError(first_few(problems, separator="; "))
    rng = np.random.default_rng(seed)
    frozen = [path for path in CLASSIFIER_HEADS if path in vars(model) and path not in saved + targets]
    notes = [f"the head {path!r} stays frozen; task_type='SEQ_CLS' would train it too" for path in frozen]
    adapter = build(model, config, name, targets, saved, lambda own, module: own.adapt(module, rng))
    adapter.trains = not config.inference_mode
    return adapter, notes
