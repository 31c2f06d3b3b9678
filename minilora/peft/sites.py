"""An adapter before it is in place: where it goes in a plain model, fresh or from a file.

A method says what to adapt and builds a layer for it (`config.py`); a `Plan` finds the places and makes an `Adapter`, a
list of `Site`s, which `model.py` puts in and takes out.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minilora import backend, nn
from minilora.errors import FormatError, MiniloraError
from minilora.fields import checked_value, whole
from minilora.peft.config import CLASSIFIER_HEADS, AdapterLayer, PeftConfig, few, is_transposed, matching, tied
from minilora.peft.files import SavedAdapter
from minilora.tensor import Tensor


@dataclass
class Site:
    """A place in the model: what stands there in the plain model, and what stands there in the adapted one."""

    path: str  # in the plain model
    original: nn.Module
    adapted: Any  # an AdapterLayer, or a module that trains whole
    trained: dict[str, Any] = field(default_factory=dict)  # the arrays that a strength has changed, as they were

    @property
    def is_whole(self) -> bool:
        """True where the module itself is trained (modules_to_save)."""
        return not isinstance(self.adapted, AdapterLayer)

    def parameters(self) -> dict[str, Tensor]:
        """Return what trains here, by name."""
        return dict(self.adapted.named_parameters()) if self.is_whole else self.adapted.adapter_parameters()

    def saved_parameters(self) -> dict[str, Tensor]:
        """Return what is saved of it, by name."""
        return self.parameters() if self.is_whole else self.adapted.saved_parameters()

    def file_name(self, config: PeftConfig, name: str) -> str:
        """The name on disk of parameter `name`."""
        return f"{config.root}{self.path}.{name}" if self.is_whole else config.file_name(self.path, name)

    def merged(self) -> nn.Module:
        return self.adapted if self.is_whole else self.adapted.merged()

    def neutral(self) -> dict[str, Any] | None:
        """Return an AdapterLayer's `neutral`; None for PiSSA, which changes not the original but what it left of it."""
        if self.is_whole:
            return {name: p.data for name, p in self.original.named_parameters()}
        return self.adapted.neutral() if self.adapted.base_layer is self.original else None


@dataclass
class Adapter:
    """One of a model's adapters: its places, and how it is to be there."""

    name: str
    config: PeftConfig
    sites: list[Site]
    untied: list[str]  # paths of the modules that share no weight any more while it is in place
    trains: bool = True
    strength: float = 1.0
    flags: dict[Tensor, bool] = field(default_factory=dict)  # what trained at strength 1, while another freezes all

    def parameters(self) -> list[Tensor]:
        """List what trains while it is in place."""
        return [parameter for site in self.sites for parameter in site.parameters().values()]


@dataclass
class Plan:
    """The places of an adapter: paths of the modules to adapt and of the modules to save whole."""

    model: nn.Module
    config: PeftConfig
    targets: list[str]
    saved: list[str]

    def expected(self) -> dict[str, tuple[int, ...]]:
        """Name on disk and shape of everything that will train."""
        shapes: dict[str, tuple[int, ...]] = {}
        for path in self.targets:
            own = self.config.at(path).shapes(self.model.get_submodule(path))
            shapes |= {self.config.file_name(path, name): shape for name, shape in own.items()}
        for path in self.saved:
            for name, p in self.model.get_submodule(path).named_parameters():
                turned = is_transposed(self.model, f"{path}.{name}")
                shapes[f"{self.config.root}{path}.{name}"] = p.shape[::-1] if turned else p.shape
        return shapes

    def fresh(self, name: str, seed: int) -> Adapter:
        """A fresh adapter, not yet in its places."""
        rng = np.random.default_rng(seed)
        return self._build(name, lambda config, module: config.adapt(module, rng))

    def restored(self, name: str) -> Adapter:
        """An adapter that waits for the values of a file, not yet in its places."""
        return self._build(name, lambda config, module: config.restore(module))

    def _build(self, name: str, adapt: Callable[[PeftConfig, nn.Module], AdapterLayer]) -> Adapter:
        adapters = [(path, module, adapt(self.config.at(path), module)) for path, module in self._modules(self.targets)]
        copies = [(path, module, _trainable_copy(module)) for path, module in self._modules(self.saved)]
        sites = [Site(*site) for site in adapters + copies]
        changed = [site.path for site in sites if site.is_whole or site.adapted.changes_weights]
        return Adapter(name, self.config, sites, tied(self.model, changed))

    def _modules(self, paths: list[str]) -> Iterator[tuple[str, nn.Module]]:
        return ((path, self.model.get_submodule(path)) for path in paths)


def plan_of(model: nn.Module, config: PeftConfig) -> Plan:
    """Find what `config` means for `model`, which completes it. MiniloraError if it does not fit."""
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
        raise MiniloraError(f"what modules_to_save names is trained whole, so nothing in it can be: {few(inside)}")
    empty = [path for path in saved if not any(True for _ in model.get_submodule(path).parameters())]
    if empty:
        raise MiniloraError(f"modules_to_save: no parameters to train in {few(empty)}")
    coded = [path for path in saved if any(m.num_quantized for _, m in model.get_submodule(path).named_modules())]
    if coded:
        raise MiniloraError(f"modules_to_save: 4-bit weights cannot train: {few(coded)}; name float modules only")
    return Plan(model, config, targets, saved)


def _trainable_copy(module: nn.Module) -> nn.Module:
    copy = deepcopy(module)
    for parameter in copy.parameters():
        parameter.grad = None
    return copy


def fresh_adapter(model: nn.Module, config: PeftConfig, seed: int, name: str) -> tuple[Adapter, list[str]]:
    """A fresh adapter of the plain `model`, not yet in its places, and notes on it."""
    if not isinstance(config, PeftConfig):
        raise TypeError(f"an adapter needs a configuration such as LoraConfig(), not {type(config).__name__}")
    seed = checked_value("seed", seed, whole(0))
    config = deepcopy(config)
    config.__post_init__()  # its values may have been changed since
    plan = plan_of(model, config)
    problems = [problem for path in plan.targets for problem in config.at(path).check(path, model.get_submodule(path))]
    if problems:
        raise MiniloraError(few(problems))
    frozen = [path for path in CLASSIFIER_HEADS if path in vars(model) and path not in plan.saved + plan.targets]
    notes = [f"the head {path!r} stays frozen; task_type='SEQ_CLS' trains it along" for path in frozen]
    return plan.fresh(name, seed), notes


def loaded_adapter(model: nn.Module, folder: Any, name: str, trains: bool) -> tuple[Adapter, list[str]]:
    """The adapter in `folder` for the plain `model`, not yet in its places, and notes on it."""
    files = SavedAdapter.read(folder)
    try:
        config = files.settings(model)
        plan = plan_of(model, config)
    except MiniloraError as error:
        raise FormatError(f"{files.where}: {error}") from error
    if problems := files.problems(model, config, plan.targets, plan.expected()):
        raise FormatError(f"{files.where}: the adapter does not fit {type(model).__name__}: {'; '.join(problems)}")
    files.check_base(model, plan.saved)
    adapter = plan.restored(name)
    for site in adapter.sites:
        for parameter_name, parameter in (site.saved_parameters() | site.parameters()).items():  # frozen ones too
            array = files.tensors[site.file_name(config, parameter_name)]
            if site.is_whole and is_transposed(model, f"{site.path}.{parameter_name}"):
                array = np.ascontiguousarray(array.T)
            parameter.data = backend.asarray(array.astype(parameter.dtype))
    adapter.trains = trains
    return adapter, (config.notes_on_more_training() if trains else []) + files.notes(model)
