"""Models with their tokenizers: new ones, by name, or from files, with or without an adapter."""

import os
import shlex
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from minilora.data.tokenizer import Tokenizer, folder_tokenizer
from minilora.errors import FormatError, MiniloraError, did_you_mean, escape
from minilora.formats.atomic import read_json, show_path
from minilora.formats.gguf import read_gguf
from minilora.formats.safetensors import open_file
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.models.registry import family_of
from minilora.peft import PeftModel
from minilora.peft.files import SavedAdapter
from minilora.quant import load_4bit
from minilora.train import hub
from minilora.train.catalog import BASE, CATALOG, find
from minilora.train.run import RECORD

TRAINING = "training.json"  # file beside an adapter with the record of its training


def new_model(tokenizer: Tokenizer, seed: int, **sizes: Any) -> LlamaForCausalLM:
    """Create an untrained model for the tokenizer. sizes: fields of LlamaConfig."""
    ends: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
    return LlamaForCausalLM(LlamaConfig(vocab_size=tokenizer.vocab_size, **ends, **sizes), seed=seed)


def base_folder() -> Path:
    """Return the folder of the pretrained model that comes with the package."""
    return Path(str(resources.files("minilora"))) / "assets" / "base"


def load_model(
    source: str | None, adapter: str | Path | None = None, quantization: dict | None = None, strength: float = 1.0
):
    """Load a language model and its tokenizer.

    source: "base" (comes with the package), a name from `minilora models list`, a .gguf file, a Hugging Face folder,
    ORG/NAME of a model in the Hub's cache, or a run folder, which stands for its `model` folder (as `adapter`: for its
    `adapter` folder); None: `base_of` the adapter. quantization: arguments of `quantize_model`, to load the model in
    4 bits without ever holding all of it in float32.

    adapter: a folder whose adapter is put on the model, with this strength, for inference: nothing trains. The model is
    in 4 bits if the adapter was trained on 4 bits. Raises MiniloraError if there is no such model, and FormatError for
    damaged files.
    """
    if adapter is None and strength != 1:
        raise MiniloraError(f"--strength {strength:g} needs an adapter: give one with --adapter")
    source = base_of(adapter) if source is None else source
    path = path_of_model(source)
    family = family_of(path)
    tokenizer = tokenizer_of(path)
    if adapter is not None:
        quantization = SavedAdapter.read(adapter_folder(adapter), open_file).quantization
    model: Any = load_4bit(family, path, **quantization) if quantization else family.from_pretrained(path)
    if tokenizer.vocab_size > (size := model.config.vocab_size):
        raise FormatError(
            f"{escape(source)}: the tokenizer has {tokenizer.vocab_size} tokens, but the model only {size}"
        )
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter_folder(adapter))
        model.set_strength(strength)
    return model, tokenizer


def adapter_folder(source: str | Path) -> Path:
    """Return the folder of an adapter: `source`, or its folder `adapter` if `source` is a run folder."""
    inside = Path(source) / "adapter"
    return inside if (inside / "adapter_config.json").is_file() else Path(source)


def base_of(adapter: str | Path | None) -> str:
    """Return the base of the adapter in a folder or run folder, as a source for `load_model`; for None, "base".

    Raises MiniloraError, which says what the adapter was trained on, if that base is not on this machine.
    """
    if adapter is None:
        return BASE
    folder = adapter_folder(adapter)
    has_model = (folder / "model" / "config.json").exists()  # of a run that trained the whole model
    if not (has_model or (folder / "adapter_config.json").exists()) and (folder / RECORD).exists():
        raise MiniloraError(
            f"the run in {show_path(folder)} has no adapter yet; minilora finetune --resume --out "
            f"{escape(shlex.quote(str(folder)), 400)} completes it"
        )
    saved = SavedAdapter.read(folder, open_file)
    name = saved.content.get("base_model_name_or_path")
    name = name if isinstance(name, str) else ""
    if not name and "minilora.base" in saved.metadata:  # the fingerprint will show if it was another base
        return BASE
    # For PEFT, a quantized copy has the name of its original on the Hub; training.json has the name that was typed.
    typed = read_json(folder / TRAINING).get("model") if os.path.lexists(folder / TRAINING) else None
    copies = [copy for copy, entry in CATALOG.items() if name and name == entry.hub_name and typed in (None, copy)]
    names = copies if typed in copies else [name, *copies]
    for name in names:
        with suppress(MiniloraError, OSError):
            if name and path_of_model(name).exists():
                return name
    base, advice = show_path(name) if name else "a base without a name", "give the base as --model"
    if name and (name in CATALOG or hub.is_hub_name(name)):
        advice += f", or get it: minilora models get {name}"
    raise MiniloraError(f"{show_path(folder)} belongs to {base}, which is not on this machine: {advice}")


def path_of_model(source: str) -> Path:
    """Return the folder or GGUF file of the model `source`. Raises MiniloraError if there is none."""
    if source == BASE:
        return base_folder()
    if source in CATALOG:
        return find(source)
    path = Path(source)
    if path.suffix == ".gguf":
        return path
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    is_path = source.startswith(("./", "../", "/")) or len(path.parts) > 1 and Path(path.parts[0]).is_dir()
    if hub.is_hub_name(source):
        try:
            return hub.cached(source)
        except MiniloraError:
            if not is_path:
                raise
    if is_path and not path.exists():
        raise MiniloraError(f"{show_path(source)}: there is no such folder")
    hint = did_you_mean(source, names := [BASE, *CATALOG], after=" Else ")
    raise MiniloraError(
        f"{show_path(source)} is not a model: {hint}give {', '.join(names)}, ORG/NAME of the Hub, a .gguf file, or a "
        "folder with config.json and model.safetensors"
    )


def tokenizer_of(path: Path) -> Tokenizer:
    """Read the tokenizer in a model's folder or GGUF file. Raises FormatError."""
    if path.suffix == ".gguf":
        return Tokenizer.from_gguf(read_gguf(path).metadata, show_path(path))
    if not (path / "tokenizer.json").is_file():
        raise FormatError(f"{show_path(path)} has no tokenizer.json, without which the model cannot read text")
    return folder_tokenizer(path)


def count_parameters(model) -> tuple[int, int]:
    """Return the numbers of (trainable, all) parameters; a weight in 4 bits counts as one."""
    sizes = [(p.size, p.requires_grad) for p in model.parameters()]
    stored = sum(module.num_quantized for _, module in model.named_modules())
    return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes) + stored
