"""Adapting a model, whatever the method: insert, freeze, count, switch, scale, disable, merge.

A method says which modules to adapt and builds a layer for each (see `config.py`); the rest is here. Adapting swaps
modules: an `AdapterLayer` takes the place of the layer that it holds, and a trainable copy takes the place of a module
in `modules_to_save`. Disabling and unloading put the original objects back, so nothing has to be undone by arithmetic.
A model can have several adapters, each with a name; one is in place at a time, and switching swaps modules, too.
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
        raise TypeError(f"the first argument must be the model to adapt, not {escape(repr(model))}")
    if nn.adapted_modules(model):
        raise MiniloraError(
            "the model is adapted already: use the plain model that merge_and_unload() or unload() returns"
        )


def get_peft_model(model: nn.Module, config: PeftConfig, seed: int = 0, adapter_name: str = "default") -> "PeftModel":
    """Adapt `model` in place: freeze everything in it, and train what `config` adds. Returns the wrapper.

    seed: seeds the NumPy generator that draws the adapter's random start. Raises MiniloraError, and changes nothing,
    if a target matches nothing, the settings do not fit a layer, or the model is adapted already.
    """
    _check_plain(model)
    return PeftModel(model, *fresh_adapter(model, config, seed, adapter_name))


class PeftModel(nn.Module):
    """A model with an adapter in it: called, trained and walked like the model itself. Made by `get_peft_model`.

    It may hold several adapters, of which one is in place: the active one, which this class calls "the adapter". The
    others have no effect and do not train.

    base_model: the model that was adapted. notes: what the user should know about how it was made, for example that
    the adapter could not be checked against its base.
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
        self._ended = ""  # how the adapter was removed, for messages; empty while it is in use
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
        """The names of all adapters, in the order in which they were added."""
        return list(self._adapters)

    @property
    def peft_config(self) -> PeftConfig:
        """The adapter's configuration, a completed copy of the caller's."""
        return self._active.config

    def add_adapter(self, adapter_name: str, peft_config: PeftConfig, seed: int = 0) -> None:
        """Add a fresh adapter without putting it in place; `set_adapter` does that, and makes it train."""
        self._add(adapter_name, lambda: fresh_adapter(self.base_model, peft_config, seed, adapter_name))

    def load_adapter(self, folder, adapter_name: str, is_trainable: bool = False) -> None:
        """Add the adapter in `folder` without putting it in place. Raises the errors of `from_pretrained`."""
        self._add(adapter_name, lambda: loaded_adapter(self.base_model, folder, adapter_name, is_trainable))

    def set_adapter(self, adapter_name: str, inference_mode: bool = False) -> None:
        """Put the adapter of this name in place of the active one. As in PEFT, it trains unless `inference_mode` is
        True.
        """
        self._must_be_in("switch")
        adapter = self._named(adapter_name)
        with self.disable_adapter():
            before, self._active = self._active, adapter
            adapter.trains = not inference_mode
            self._set_what_trains(before)
            self._set_what_trains(adapter)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter. If it was the active one, the first of the others by name takes over, as in PEFT."""
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
        """The factor λ that multiplies the adapter's change; 1 is the adapter as trained."""
        return self._active.strength

    def set_strength(self, strength: float) -> None:
        """Multiply the adapter's change by `strength`, after training: θ₀ + λ τ (Ilharco et al. 2023, section 3).

        0 gives the base and 1 the adapter as trained, both bit for bit. Values in between often keep more of the base's
        abilities; values above 1 exaggerate the change. While the strength is not 1, nothing trains, and values loaded
        into the parameters are lost at the next change of strength; back at 1, everything trains again. Merging and
        saving use the adapter at its strength: the scaled numbers are what is saved, so the file opens anywhere, with
        strength 1. Raises MiniloraError, and changes nothing, if the change is not linear in the parameters: DoRA,
        PiSSA, virtual tokens.
        """
        self._must_be_in("scale")
        strength = checked_value("the strength of an adapter", strength, number(None))
        sites = self._active.sites
        neutral = [site.neutral() for site in sites]
        if strength != 1 and None in neutral:
            raise MiniloraError(
                f"this adapter's strength must be 1, not {strength:g}: the change of DoRA, PiSSA, a prefix or a prompt "
                "is not linear, so it cannot be scaled"
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
        """Add the adapter and notes that `make` returns. It is called while no adapter is in place."""
        self._must_be_in("add")
        if not isinstance(name, str) or not name:
            raise MiniloraError(f"the name of an adapter must be text, not {escape(repr(name))}")
        if name in self._adapters:
            raise MiniloraError(f"there is already an adapter {escape(repr(name))}: choose another name, or delete it")
        with self.disable_adapter():
            self._adapters[name], notes = make()
        self.notes += [f"{name}: {note}" for note in notes]
        self._set_what_trains(self._adapters[name])

    def _set_what_trains(self, adapter: Adapter) -> None:
        """Set requires_grad in an adapter after its place, mode or strength changed; others keep flags set by hand."""
        for parameter in adapter.parameters():
            parameter.requires_grad = adapter is self._active and adapter.trains and adapter.strength == 1

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return the base model's attribute (such as `generate` or `config`) if the wrapper has none of that name."""
        if name == "base_model":  # not set yet
            raise AttributeError(name)
        return getattr(self.base_model, name)

    # Counting

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Return the numbers of (trainable, all) parameters.

        "All" includes adapters that are not in place and, as in PEFT, the originals of modules that modules_to_save
        copied. A weight in 4 bits counts as one parameter (PEFT counts bytes, each of which holds two). A layer that
        holds a changed copy of its base (PiSSA's residual) counts only the base.
        """
        was_on = self._is_on
        self._switch(False)
        base, stored = list(self.base_model.parameters()), sum(m.num_quantized for _, m in self.named_modules())
        self._switch(was_on)
        adapter_parameters = [p for adapter in self._adapters.values() for p in adapter.parameters()]
        sizes = [(p.size, p.requires_grad) for p in dict.fromkeys(base + adapter_parameters)]
        return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes) + stored

    def print_trainable_parameters(self) -> None:
        """Print both numbers and their ratio, in PEFT's words."""
        trainable, total = self.get_nb_trainable_parameters()
        share = 100 * trainable / total
        print(f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {share:.4f}")

    # Taking the adapter out

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Make the model exactly the base within a `with` block. Blocks may be nested, and an exception that leaves a
        block switches the adapter on again.
        """
        self._must_be_in("disable")
        was_on = self._is_on
        self._switch(False)
        try:
            yield
        finally:
            if not self._ended:
                self._switch(was_on)

    def unload(self) -> nn.Module:
        """Return the plain model as it was before, with the same modules and the same parameters frozen."""
        self._must_be_in("unload")
        self._switch(False)
        self._end("taken off its base")
        return self.base_model

    def merge_and_unload(self) -> nn.Module:
        """Return the plain model with the adapter's change, at its strength, added to its weights.

        A merged layer has weights of its own, so a weight that was tied to another is no longer tied. After merging
        into a base in 4 bits, the model is in floats, and a note says so: rounding to 4 bits again would erase small
        changes. Raises MiniloraError, and changes nothing, if the method cannot be merged.
        """
        self._must_be_in("merge")
        # Merge every layer before replacing the first, so that an error changes nothing.
        merged = [(site, site.adapted if site.is_whole else site.adapted.merged()) for site in self._active.sites]
        training, untied = self.base_model.training, self._active.untied
        self._switch(False)
        self._end("merged into its base")
        was_in_4_bits = quantization(self.base_model) is not None
        for site, module in merged:
            self.replace(f"base_model.{site.path}", module.train(training))
            flags = {name: p.requires_grad for name, p in site.original.named_parameters()}
            for name, parameter in module.named_parameters():  # a weight that was in 4 bits can train again in floats
                parameter.requires_grad = bool(site.original.num_quantized) or flags.get(name, True)
        if was_in_4_bits:
            dequantize_model(self.base_model)
            self.notes.append("the base was in 4 bits; the merged model is in floats, and larger")
        self._set_tied_config(not untied)
        return self.base_model

    def _switch(self, on: bool) -> None:
        """Put the adapted modules in place, or the original ones back."""
        if on == self._is_on:
            return
        # Paths refer to the plain model, so modules inside other adapted modules go in first and come out last.
        for site in sorted(self._active.sites, key=lambda site: len(site.path), reverse=on):
            new, old = (site.adapted, site.original) if on else (site.original, site.adapted)
            new.train(old.training)
            self.replace(f"base_model.{site.path}" if site.path else "base_model", new)
        self._set_tied_config(not (on and self._active.untied))
        self._is_on = on

    def _set_tied_config(self, tied: bool) -> None:
        """Update the configuration's tie_word_embeddings, if the plain model had its head and embeddings tied."""
        if self._tied_config is not None:
            self._tied_config.tie_word_embeddings = tied

    def _must_be_in(self, verb: str) -> None:
        if self._ended:
            raise MiniloraError(f"cannot {verb} the adapter: it was already {self._ended}")

    def _end(self, how: str) -> None:
        self._ended = how
        self._active = Adapter(self.active_adapter, self.peft_config, [], [])
        self._adapters = {}
        del self.base_model._is_adapted
        for parameter, flag in self._flags.items():
            parameter.requires_grad = flag

    # Files

    def save_pretrained(self, folder, base_name: str | None = None) -> None:
        """Write the adapter's adapter_config.json and adapter_model.safetensors to `folder`, which PEFT can open.

        base_name: the user's name for the base, PEFT's base_model_name_or_path. The fingerprint covers the base's
        weights as they are now. Raises MiniloraError if writing fails.
        """
        self._must_be_in("save")
        with self.disable_adapter():
            write_adapter(folder, self.base_model, self._active, base_name)

    @classmethod
    def from_pretrained(
        cls, model: nn.Module, folder, adapter_name: str = "default", is_trainable: bool = False, **others
    ) -> "PeftModel":
        """Adapt `model` in place by the adapter in `folder`, written by minilora or by PEFT. Returns the wrapper.

        is_trainable: True to continue training; if False, the adapter is frozen too and the model is in eval mode.
        Raises FormatError, listing everything that is wrong, if the files are damaged, do not fit the model or use
        settings that minilora does not have, and MiniloraError if the adapter was trained on another base; the model
        is then unchanged. An adapter without a fingerprint loads with a note in `notes`.
        """
        check_arguments("from_pretrained", others, ("adapter_name", "is_trainable"))
        _check_plain(model)
        adapted = cls(model, *loaded_adapter(model, folder, adapter_name, is_trainable))
        return adapted if is_trainable else adapted.eval()
