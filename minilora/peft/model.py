"""Adapting a model, whatever the method: replace, freeze, count, disable, merge.

A method says what to adapt and builds a layer for it (see `config.py`); the rest is here. Adapting swaps modules: where
a layer stood, an `AdapterLayer` that holds it stands, and where `modules_to_save` names a module, a copy that trains.
Disabling and unloading put back the very objects that stood there before, so nothing needs to be undone by arithmetic.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from minilora import backend, nn
from minilora.errors import FormatError, MiniloraError
from minilora.peft.config import (
    CLASSIFIER_HEADS,
    AdapterLayer,
    PeftConfig,
    TrainingHook,
    few,
    is_transposed,
    matching,
    tied,
)
from minilora.peft.files import SavedAdapter, write_adapter
from minilora.quant import dequantize_model, quantization
from minilora.tensor import Tensor

# Replacing


@dataclass
class _Site:
    """A place in the model: what stands there in the plain model, and what stands there in the adapted one."""

    path: str  # in the plain model
    original: nn.Module
    adapted: Any  # an AdapterLayer, or a module that trains whole

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
        shapes: dict[str, tuple[int, ...]] = {}
        for path in self.targets:
            own = self.config.at(path).shapes(self.model.get_submodule(path))
            shapes |= {self.config.file_name(path, name): shape for name, shape in own.items()}
        for path in self.saved:
            for name, p in self.model.get_submodule(path).named_parameters():
                turned = is_transposed(self.model, f"{path}.{name}")
                shapes[f"{self.config.root}{path}.{name}"] = p.shape[::-1] if turned else p.shape
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
        raise MiniloraError(f"what modules_to_save names is trained whole, so nothing in it can be: {few(inside)}")
    empty = [path for path in saved if not any(True for _ in model.get_submodule(path).parameters())]
    if empty:
        raise MiniloraError(f"modules_to_save: no parameters to train in {few(empty)}")
    coded = [path for path in saved if any(m.num_quantized for _, m in model.get_submodule(path).named_modules())]
    if coded:
        raise MiniloraError(f"modules_to_save: 4-bit weights cannot train: {few(coded)}; name float modules only")
    return _Plan(model, config, targets, saved)


def _trainable_copy(module: nn.Module) -> nn.Module:
    copy = deepcopy(module)
    for parameter in copy.parameters():
        parameter.data = parameter.data.copy()  # leaves behind the lease of a live graph on the original
        parameter.grad = None
    return copy


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
        raise MiniloraError(few(problems))
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

    base_model: Any  # its class is the caller's

    def __init__(self, base_model: nn.Module, peft_config: PeftConfig, sites: list[_Site]):
        self.base_model = base_model
        self.peft_config = peft_config
        self.training = base_model.training
        self.notes: list[str] = []
        self._sites = sites
        self._untied = tied(base_model, [s.path for s in sites if s.is_whole or s.adapted.changes_weights])
        config = getattr(base_model, "config", None)
        self._tied_config = config if getattr(config, "tie_word_embeddings", False) else None
        self._flags = {p: p.requires_grad for p in base_model.parameters()}
        self._ended = ""  # how, once the adapter has been merged or taken off
        self._is_on = False
        base_model.requires_grad_(False)
        for site in sites:
            for parameter in site.parameters().values():
                parameter.requires_grad = True
        self.base_model._is_adapted = True
        self._switch(True)

    # As the model

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)

    def generate(self, *args, **kwargs):
        """The base model's `generate`, with the adapter."""
        return self.base_model.generate(*args, **kwargs)

    def generate_stream(self, *args, **kwargs):
        """The base model's `generate_stream`, with the adapter."""
        return self.base_model.generate_stream(*args, **kwargs)

    def count_targets(self, labels) -> int:
        """How many of the labels count in the loss."""
        return self.base_model.count_targets(labels)

    @property
    def config(self):
        """The base model's configuration."""
        return self.base_model.config

    def training_hook(self, steps: int) -> TrainingHook | None:
        """What the method does in a training loop of `steps` steps besides its layers; None: nothing."""
        return self.peft_config.training_hook(self, steps)

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
        stored = {id(m): m.num_quantized for module in [self, *kept] for _, m in module.named_modules()}
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
                parameter.requires_grad = flags.get(name, not site.original.num_quantized)
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
        for parameter, flag in self._flags.items():
            parameter.requires_grad = flag

    # Files

    def save_pretrained(self, folder, base_name: str | None = None) -> None:
        """Write adapter_config.json and adapter_model.safetensors to `folder`; PEFT opens them.

        base_name: what the reader calls the base: PEFT's base_model_name_or_path. The fingerprint covers the base's
        weights as they are now. Raises MiniloraError where writing fails.
        """
        self._must_be_in("save")
        targets = [site.path for site in self._sites if not site.is_whole]
        saved = [site.path for site in self._sites if site.is_whole]
        tensors = {}
        for site in self._sites:
            for name, parameter in site.saved_parameters().items():
                array = backend.to_numpy(parameter.data)
                turned = site.is_whole and is_transposed(self.base_model, f"{site.path}.{name}")
                tensors[site.file_name(self.peft_config, name)] = array.T if turned else array
        config = self.peft_config.as_saved({site.path: site.adapted for site in self._sites if not site.is_whole})
        with self.disable_adapter():
            write_adapter(folder, self.base_model, config, targets, saved, tensors, self._untied, base_name)

    @classmethod
    def from_pretrained(cls, model: nn.Module, folder, is_trainable: bool = False) -> "PeftModel":
        """`model`, adapted in place by the adapter in `folder` (minilora's or PEFT's).

        is_trainable: whether the adapter goes on training; if not, it is frozen too and the model is in eval mode.
        Raises FormatError for files that are damaged, do not fit the model or ask for what minilora does not have,
        listing everything that is wrong, and MiniloraError where the adapter was trained on another base. The model
        is then as it was. An adapter without a fingerprint loads with a note in `notes`.
        """
        _refuse_adapted(model)
        files = SavedAdapter.read(folder)
        try:
            config = files.settings(model)
            plan = _plan(model, config)
        except MiniloraError as error:
            raise FormatError(f"{files.where}: {error}") from error
        if problems := files.problems(model, config, plan.targets, plan.expected()):
            raise FormatError(f"{files.where}: the adapter does not fit {type(model).__name__}: {'; '.join(problems)}")
        files.check_base(model, plan.saved)

        adapted = cls(model, config, plan.restored())
        for site in adapted._sites:
            for name, parameter in (site.saved_parameters() | site.parameters()).items():  # frozen ones too
                array = files.tensors[site.file_name(config, name)]
                if site.is_whole and is_transposed(model, f"{site.path}.{name}"):
                    array = np.ascontiguousarray(array.T)
                parameter.data = backend.asarray(array.astype(parameter.dtype))
            for parameter in site.parameters().values():
                parameter.requires_grad = is_trainable
        if is_trainable:
            adapted.notes += config.notes_on_more_training()
        adapted.notes += files.notes(model)
        if not is_trainable:
            adapted.eval()
        return adapted
