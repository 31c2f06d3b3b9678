"""Adapting a model, whatever the method: replace, freeze, count, switch, weaken, disable, merge.

A method says what to adapt and builds a layer for it (see `config.py`); the rest is here. Adapting swaps modules: where
a layer stood, an `AdapterLayer` that holds it stands, and where `modules_to_save` names a module, a copy that trains.
Disabling and unloading put back the very objects that stood there before, so nothing needs to be undone by arithmetic.
Of several adapters, which have names, one is in place at a time; switching swaps modules, too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minilora import nn
from minilora.elsewhere import check_arguments
from minilora.errors import MiniloraError, escape, unknown
from minilora.fields import checked_value, number
from minilora.peft.config import PeftConfig
from minilora.peft.files import loaded_adapter, write_adapter
from minilora.peft.sites import Adapter, fresh_adapter
from minilora.quant import dequantize_model, quantization


def _check_plain(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"an adapter goes on a model, which comes first, not on {escape(repr(model))}")
    if nn.adapted_modules(model):
        raise MiniloraError(
            "the model is adapted already: take the plain model that merge_and_unload() or unload() returns"
        )


def get_peft_model(model: nn.Module, config: PeftConfig, seed: int = 0, adapter_name: str = "default") -> "PeftModel":
    """Adapt `model`, in place: everything that it has is frozen, what `config` adds trains. Returns the wrapper.

    seed: of what starts random, drawn by a NumPy Generator. Raises MiniloraError, and changes nothing, where a target
    matches nothing, the settings do not fit a layer, or the model is adapted already.
    """
    _check_plain(model)
    return PeftModel(model, *fresh_adapter(model, config, seed, adapter_name))


class PeftModel(nn.Module):
    """A model with an adapter in it: called, trained and walked like the model itself. Made by `get_peft_model`.

    It may hold several adapters, of which one is in place: the active one, which the rest of this class means by "the
    adapter". The others take no part in anything, and do not train.

    base_model: the model that was adapted. notes: what a reader should know about how it came to be, such as an adapter
    that could not be checked against its base.
    """

    base_model: Any  # its class is the caller's

    def __init__(self, base_model: nn.Module, adapter: Adapter, notes: Sequence[str] = ()):
        self.base_model = base_model
        self.training = base_model.training
        self.notes = list(notes)
        self._adapters, self._active = {adapter.name: adapter}, adapter
        config = getattr(base_model, "config", None)
        self._tied_config = config if getattr(config, "tie_word_embeddings", False) else None
        self._flags = {p: p.requires_grad for p in base_model.parameters()}
        self._ended = ""  # how, once the adapter has been merged or taken off
        self._is_on = False
        base_model.requires_grad_(False)
        self._set_what_trains(adapter)
        self.base_model._is_adapted = True
        self._switch(True)

    # Several adapters

    @property
    def active_adapter(self) -> str:
        """The name of the adapter that is in place."""
        return self._active.name

    @property
    def adapters(self) -> list[str]:
        """The names of all adapters, in the order in which they came."""
        return list(self._adapters)

    @property
    def peft_config(self) -> PeftConfig:
        """The adapter's configuration, a copy of the one that was given."""
        return self._active.config

    def add_adapter(self, adapter_name: str, peft_config: PeftConfig, seed: int = 0) -> None:
        """Add a fresh adapter beside the others, not yet in place; `set_adapter` puts it there, and it trains."""
        self._add(adapter_name, lambda: fresh_adapter(self.base_model, peft_config, seed, adapter_name))

    def load_adapter(self, folder, adapter_name: str, is_trainable: bool = False) -> None:
        """Add the adapter in `folder` beside the others, not yet in place. Errors are those of `from_pretrained`."""
        self._add(adapter_name, lambda: loaded_adapter(self.base_model, folder, adapter_name, is_trainable))

    def set_adapter(self, adapter_name: str, inference_mode: bool = False) -> None:
        """Put the adapter of that name in place of the active one. It trains, as in PEFT, unless in inference mode."""
        self._must_be_in("switch")
        adapter = self._named(adapter_name)
        with self.disable_adapter():
            before, self._active = self._active, adapter
            adapter.trains = not inference_mode
            self._set_what_trains(before)
            self._set_what_trains(adapter)

    def delete_adapter(self, adapter_name: str) -> None:
        """Forget an adapter. In place of the active one, the first of the others by name is set, as in PEFT."""
        self._must_be_in("delete")
        adapter = self._named(adapter_name)
        others = sorted(self._adapters.keys() - {adapter_name})
        if not others:
            raise MiniloraError(
                f"{escape(repr(adapter_name))} is the only adapter; unload() gives back the plain model"
            )
        if adapter is self._active:
            self.set_adapter(others[0], inference_mode=not self._adapters[others[0]].trains)
        del self._adapters[adapter_name]

    @property
    def strength(self) -> float:
        """λ, by which the adapter's change is multiplied: 1 as it was trained."""
        return self._active.strength

    def set_strength(self, strength: float) -> None:
        """Multiply the adapter's change by `strength`, after training: θ₀ + λ τ (Ilharco et al. 2023, section 3).

        0 is the base, 1 the adapter as it was trained, bit for bit; what lies between often keeps more of the base, and
        beyond 1 it is exaggerated. At another strength than 1 nothing trains, and values that are loaded are lost with
        the next change; back at 1 all of it trains. Merging and saving take the adapter at its strength, which is in
        the saved numbers themselves: it opens anywhere, with a strength of 1. Raises MiniloraError, and changes
        nothing, where the change is no multiple of something: DoRA, PiSSA, virtual tokens.
        """
        self._must_be_in("scale")
        strength = checked_value("the strength of an adapter", strength, number(None))
        sites = self._active.sites
        neutral = [site.neutral() for site in sites]
        if strength != 1 and None in neutral:
            raise MiniloraError(
                f"the adapter has no strength but 1, and {strength:g} was given: the change of DoRA, PiSSA, a prefix "
                "or a prompt is not linear"
            )
        for site, values in zip(sites, neutral, strict=True):
            parameters = site.parameters()
            for name, start in (values or {}).items():
                trained = site.trained.setdefault(name, parameters[name].data)
                parameters[name].data = trained if strength == 1 else start + strength * (trained - start)
            if strength == 1:
                site.trained = {}
        was, self._active.strength = self._active.strength, strength
        if (strength == 1) != (was == 1):
            self._set_what_trains(self._active)

    def _named(self, name: str) -> Adapter:
        if not isinstance(name, str) or name not in self._adapters:
            raise MiniloraError(unknown("adapter", name, self._adapters))
        return self._adapters[name]

    def _add(self, name: str, make: Callable[[], tuple[Adapter, list[str]]]) -> None:
        """Add the adapter, with notes, that `make` gives while none is in place."""
        self._must_be_in("add")
        if not isinstance(name, str) or not name:
            raise MiniloraError(f"the name of an adapter must be text, not {escape(repr(name))}")
        if name in self._adapters:
            raise MiniloraError(f"there is an adapter {escape(repr(name))} already: choose another name, or delete it")
        with self.disable_adapter():
            self._adapters[name], notes = make()
        self.notes += [f"{name}: {note}" for note in notes]
        self._set_what_trains(self._adapters[name])

    def _set_what_trains(self, adapter: Adapter) -> None:
        """Set what trains of an adapter whose place, mode or strength has changed; others keep flags set by hand."""
        for parameter in adapter.parameters():
            parameter.requires_grad = adapter is self._active and adapter.trains and adapter.strength == 1

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """The base model's attribute, such as `generate` and `config`, where the wrapper has none of that name."""
        if name == "base_model":  # not set yet
            raise AttributeError(name)
        return getattr(self.base_model, name)

    # Counting

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """(trainable, all) parameters; all includes the originals of what modules_to_save copied, as in PEFT.

        All includes the adapters that are not in place. A weight in 4 bits counts as one parameter, where PEFT counts
        bytes that hold two. A layer that holds a changed copy of its base (PiSSA's residual) counts the base alone.
        """
        was_on = self._is_on
        self._switch(False)
        base, stored = list(self.base_model.parameters()), sum(m.num_quantized for _, m in self.named_modules())
        self._switch(was_on)
        own = [p for adapter in self._adapters.values() for p in adapter.parameters()]
        sizes = [(p.size, p.requires_grad) for p in dict.fromkeys(base + own)]
        return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes) + stored

    def print_trainable_parameters(self) -> None:
        """Print both numbers and their ratio, in PEFT's words."""
        trainable, total = self.get_nb_trainable_parameters()
        share = 100 * trainable / total
        print(f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {share:.4f}")

    # Taking the adapter out

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
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
        """The plain model with the adapter's change, at its strength, added to its weights.

        A merged layer has weights of its own: one that was tied to another is not tied any more. Merged into a base in
        4 bits, the model comes back in floats, with a note: rounding to 4 bits again would erase a small change.
        Raises MiniloraError, and changes nothing, for a method that cannot be merged.
        """
        self._must_be_in("merge")
        # All of them before the first takes its place.
        merged = [(site, site.adapted if site.is_whole else site.adapted.merged()) for site in self._active.sites]
        training, untied = self.base_model.training, self._active.untied
        self._switch(False)
        self._end("merged into its base")
        was_in_4_bits = quantization(self.base_model) is not None
        for site, module in merged:
            self.replace(f"base_model.{site.path}", module.train(training))
            flags = {name: p.requires_grad for name, p in site.original.named_parameters()}
            for name, parameter in module.named_parameters():  # in floats, what was in 4 bits trains again
                parameter.requires_grad = bool(site.original.num_quantized) or flags.get(name, True)
        if was_in_4_bits:
            dequantize_model(self.base_model)
            self.notes.append("the base was in 4 bits; the merged model is in floats, and larger")
        self._set_tied_config(not untied)
        return self.base_model

    def _switch(self, on: bool) -> None:
        """Put the adapted modules in their places, or the original ones back."""
        if on == self._is_on:
            return
        # Paths are those of the plain model: what stands inside another module goes in first and comes out last.
        for site in sorted(self._active.sites, key=lambda site: len(site.path), reverse=on):
            new, old = (site.adapted, site.original) if on else (site.original, site.adapted)
            new.train(old.training)
            self.replace(f"base_model.{site.path}" if site.path else "base_model", new)
        self._set_tied_config(not (on and self._active.untied))
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
        self._active = Adapter(self.active_adapter, self.peft_config, [], [])
        self._adapters = {}
        del self.base_model._is_adapted
        for parameter, flag in self._flags.items():
            parameter.requires_grad = flag

    # Files

    def save_pretrained(self, folder, base_name: str | None = None) -> None:
        """Write adapter_config.json and adapter_model.safetensors of the adapter to `folder`; PEFT opens them.

        base_name: what the reader calls the base: PEFT's base_model_name_or_path. The fingerprint covers the base's
        weights as they are now. Raises MiniloraError where writing fails.
        """
        self._must_be_in("save")
        with self.disable_adapter():
            write_adapter(folder, self.base_model, self._active, base_name)

    @classmethod
    def from_pretrained(
        cls, model: nn.Module, folder, adapter_name: str = "default", is_trainable: bool = False, **others
    ) -> "PeftModel":
        """`model`, adapted in place by the adapter in `folder` (minilora's or PEFT's).

        is_trainable: whether the adapter goes on training; if not, it is frozen too and the model is in eval mode.
        Raises FormatError for files that are damaged, do not fit the model or ask for what minilora does not have,
        listing everything that is wrong, and MiniloraError where the adapter was trained on another base. The model
        is then as it was. An adapter without a fingerprint loads with a note in `notes`.
        """
        check_arguments("from_pretrained", others, ("adapter_name", "is_trainable"))
        _check_plain(model)
        adapted = cls(model, *loaded_adapter(model, folder, adapter_name, is_trainable))
        return adapted if is_trainable else adapted.eval()
