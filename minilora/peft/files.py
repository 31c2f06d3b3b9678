"""An adapter's files: writing them, and checking them before the adapter is put on a model.

The files are PEFT's: adapter_config.json and adapter_model.safetensors. What PEFT has no field for (the fingerprint of
the base, a second copy of the configuration) is in the metadata of the safetensors file, which PEFT does not read; an
unknown field in adapter_config.json would make it warn. On disk, modules have the paths that they have in the plain
model.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from minilora import backend, nn
from minilora.errors import FormatError, MiniloraError, escape, first_few
from minilora.formats import safetensors
from minilora.formats.atomic import parse_json, read_json, show_path, write_json
from minilora.peft.config import PeftConfig, is_transposed
from minilora.peft.method import CONFIGS
from minilora.peft.sites import Adapter, build, places_of
from minilora.quant import Linear4bit, quantization, weight_digest

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FAN_IN_FAN_OUT = "fan_in_fan_out"  # PEFT's flag for a base whose files hold weights as (in, out)


def base_fingerprint(model: nn.Module, without: Iterable[str] = ()) -> str:
    """Return the SHA-256 of the names, shapes and float32 bytes of a plain model's weights, in hexadecimal digits.

    without: paths of modules whose weights the adapter itself holds. A tied weight counts under each of its names, so
    a model with a tied head has the same fingerprint as one with a separate, equal head. A weight in 4 bits counts as
    it was before quantization.
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


# Writing


def write_adapter(folder: Any, base: nn.Module, adapter: Adapter, base_name: str | None = None) -> None:
    """Write the files of an adapter of `base`, the plain model, to `folder`.

    base_name: the user's name for the base. Raises MiniloraError if writing fails.
    """
    config = adapter.config
    base_name = config.base_model_name_or_path if base_name is None else base_name
    targets = [site.path for site in adapter.sites if not site.is_whole]
    saved = [site.path for site in adapter.sites if site.is_whole]
    tensors = {}
    for site in adapter.sites:
        for name, parameter, transposed in site.saved(config, base):
            array = backend.to_numpy(parameter.data)
            tensors[name] = array.T if transposed else array
    # Whole paths, because PEFT takes every path that ends with these letters: "norm" would match "input_layernorm".
    content = config.to_dict(targets) | {"modules_to_save": saved or None, "base_model_name_or_path": base_name}
    metadata = {
        "format": "pt",
        "minilora.base": base_fingerprint(base, saved),
        "minilora.config": json.dumps({field.name: content[field.name] for field in fields(config) if field.compare}),
    }
    if quantized := quantization(base):
        metadata["minilora.quantization"] = json.dumps(quantized)
    adapts_linears = getattr(config, "target_kind", None) is nn.Linear
    if adapts_linears and any(is_transposed(base, f"{path}.weight") for path in targets):
        content[FAN_IN_FAN_OUT] = True  # without it, PEFT corrects the flag with a warning
    folder = Path(folder)
    safetensors.save_file(folder / WEIGHTS, tensors, metadata)
    write_json(folder / CONFIG, {name: value for name, value in content.items() if name not in config.own})


# Reading


@dataclass
class SavedAdapter:
    """The content of an adapter's folder, written by minilora or by PEFT."""

    where: str  # the folder, as messages show it
    content: dict  # adapter_config.json, plus those fields of the record that PEFT does not have
    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    record: dict  # the configuration that was saved with the weights; empty if there is none, as in PEFT's files

    @classmethod
    def read(cls, folder: Any, load: Callable = safetensors.load_file) -> "SavedAdapter":
        """Read the files. Raises FormatError if one is missing or damaged, or if minilora does not have the method.

        load: pass `safetensors.open_file` to leave the arrays in the file.
        """
        folder = Path(folder)
        where = show_path(folder)
        if not os.path.exists(folder / WEIGHTS) and os.path.exists(folder / "adapter_model.bin"):
            raise FormatError(f"{where} holds a pickle, which can run any program; save the adapter as safetensors")
        if not (folder / CONFIG).exists() and any((folder / part / "config.json").exists() for part in ("", "model")):
            raise FormatError(f"{where} holds a whole model, not an adapter: give it as --model")
        if not os.path.lexists(folder / CONFIG):
            problem = f"it has no {CONFIG}" if folder.is_dir() else "there is no such folder"
            raise FormatError(f"{where} is not the folder of an adapter or a run: {problem}")
        content = read_json(folder / CONFIG)
        tensors, metadata = load(folder / WEIGHTS)
        kind = content.get("peft_type")
        if not isinstance(kind, str) or kind not in CONFIGS:
            raise FormatError(
                f"{where}: peft_type is {escape(repr(kind))}, which minilora does not have (PEFT has more methods); "
                f"minilora reads {', '.join(CONFIGS)}"
            )
        record = {}
        if "minilora.config" in metadata:
            record = parse_json(metadata["minilora.config"].encode(), f"{where}: the record of the configuration")
        content |= {name: record[name] for name in CONFIGS[kind].own if name in record}
        return cls(where, content, tensors, metadata, record)

    @property
    def quantization(self) -> dict | None:
        """The arguments for `quant.quantize_model` that quantized the base; None if it was in floats."""
        if "minilora.quantization" not in self.metadata:
            return None
        place = f"{self.where}: the record of the quantization"
        record = parse_json(self.metadata["minilora.quantization"].encode(), place)
        if set(record) != {"quant_type", "blocksize", "compress_statistics"}:
            raise FormatError(f"{place} is damaged: {escape(json.dumps(record))}")
        return record


def loaded_adapter(model: nn.Module, folder: Any, name: str, trains: bool) -> tuple[Adapter, list[str]]:
    """Load the adapter in `folder` for the plain `model`, without inserting it. Returns (adapter, notes for the user).

    Raises FormatError, listing everything that is wrong, and MiniloraError if it was trained on another base.
    """
    files = SavedAdapter.read(folder)
    try:
        config = _settings(files, model)
        targets, saved = places_of(model, config)
    except MiniloraError as error:
        raise FormatError(f"{files.where}: {error}") from error
    if problems := _problems(files, model, config, targets, saved):
        raise FormatError(f"{files.where}: the adapter does not fit {type(model).__name__}: {'; '.join(problems)}")
    notes = _compare_base(files, model, saved)
    adapter = build(model, config, name, targets, saved, lambda own, module: own.restore(module))
    for site in adapter.sites:
        for on_disk, parameter, transposed in site.saved(config, model):
            array = files.tensors[on_disk].astype(parameter.dtype)
            parameter.data = backend.asarray(np.ascontiguousarray(array.T) if transposed else array)
    adapter.trains, config.inference_mode = trains, not trains
    return adapter, notes


def _settings(files: SavedAdapter, model: nn.Module) -> PeftConfig:
    """Return the configuration for `model`. Raises MiniloraError if a setting is one that minilora does not have."""
    content = files.content
    if getattr(model, "transposed_linears", ()):  # the model itself knows what this field says
        content = {name: value for name, value in content.items() if name != FAN_IN_FAN_OUT}
    config = CONFIGS[content["peft_type"]].from_dict(content)
    names = config.modules_to_save
    if not files.record and isinstance(names, list) and names:  # PEFT matches the end of a path, not only after a dot
        paths = [path for path, _ in model.named_modules() if path]
        unmatched = [name for name in names if not any(path.endswith(name) for path in paths)]
        config.modules_to_save = [path for path in paths if path.endswith(tuple(names))] + unmatched
    return config


def _problems(
    files: SavedAdapter, model: nn.Module, config: PeftConfig, targets: list[str], saved: list[str]
) -> list[str]:
    """List settings that differ from the record, names that are missing or unexpected, and arrays that do not fit.

    This creates no arrays, so that a bad file is rejected before it costs memory.
    """
    expected: dict[str, tuple[int, ...]] = {}  # name on disk -> shape
    bases = {}  # PEFT stores the weights of an adapted head along with the adapter
    for path in targets:
        module = model.get_submodule(path)
        for name, shape in config.at(path).shapes(module).items():
            expected[config.file_name(path, name)] = shape
        for name, p in module.named_parameters():
            bases[config.file_name(path, f"base_layer.{name}")] = p
    for path in saved:
        for name, p in model.get_submodule(path).named_parameters():
            transposed = is_transposed(model, f"{path}.{name}")
            expected[f"{config.root}{path}.{name}"] = p.shape[::-1] if transposed else p.shape
    now = asdict(config)
    changed = [
        f"{name} is {escape(repr(now[name]))} in {CONFIG}, but was {escape(repr(value))} in training"
        for name, value in files.record.items()
        if name in now and now[name] != value
    ]
    missing = [f"missing {name}" for name in expected if name not in files.tensors]
    base_names = {f"{config.root}{name}" for name in model.state_dict()}
    wrong, unexpected = [], []
    for name, array in files.tensors.items():
        if name in expected:
            wrong += _array_problem(name, array, expected[name])
        elif name in bases:
            base = backend.to_numpy(bases[name].data)
            is_residual = getattr(config, "is_pissa", False)  # PiSSA's base, which is computed again here
            wrong += (problem := _array_problem(name, array, base.shape))
            if not problem and not is_residual and not np.array_equal(base, array.astype(base.dtype)):
                wrong.append(f"{name} differs from the weights of this base")
        else:
            hint = ", which modules_to_save does not name" if name in base_names else ""
            hint = hint or ("" if name.startswith(config.root) else f" (names begin with {config.root})")
            unexpected.append(f"unexpected {escape(name, 160)}{hint}")
    return [first_few(problems, separator="; ") for problems in (changed, missing, unexpected, wrong) if problems]


def _array_problem(name: str, array: np.ndarray, shape: tuple[int, ...]) -> list[str]:
    """List what is wrong with an array: another shape or dtype, or values that are not finite."""
    if array.shape != shape:
        return [f"{name} has shape {escape(array.shape)}, not {escape(shape)}"]
    if array.dtype.kind != "f":
        return [f"{name} holds {array.dtype}, not floating-point numbers"]
    with np.errstate(over="ignore"):  # a float64 that is too large becomes infinite
        finite = np.isfinite(array.astype("f4", copy=False)).all()
    return [] if finite else [f"{name} holds NaN or infinite values"]


def _compare_base(files: SavedAdapter, model: nn.Module, without: list[str]) -> list[str]:
    """Return notes on what could not be checked, or differs a little from training.

    without: paths of modules whose weights the adapter itself holds. Raises MiniloraError if the adapter was trained
    on a base other than `model`, or on other 4-bit codes of it.
    """
    if (trained_on := files.metadata.get("minilora.base")) is None:
        return [
            "the adapter carries no fingerprint of its base (PEFT writes none): "
            "whether it was trained on this one could not be checked"
        ]
    if trained_on != (here := base_fingerprint(model, without)):
        raise MiniloraError(
            f"{files.where}: the adapter was trained on another base (fingerprint {escape(trained_on, 12)}) than "
            f"this one ({escape(here, 12)}); load it onto a model with the weights that it was trained on"
        )
    trained_in, here_in = files.quantization, quantization(model)
    if trained_in == here_in:
        return []
    words = f"the adapter was trained on this base in {_in_words(trained_in)}"
    if trained_in and here_in:
        raise MiniloraError(f"{files.where}: {words}, not in {_in_words(here_in)}")
    return [f"{words}, but is used on it in {_in_words(here_in)}: results differ a little"]


def _in_words(settings: dict | None) -> str:
    if settings is None:
        return "floats"
    double = " with double quantization" if settings.get("compress_statistics") else ""
    return f"{settings.get('quant_type')} with blocks of {settings.get('blocksize')}{double}"
