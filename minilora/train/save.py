"""Writing models and adapters to disk with the record of their training, and reading that record back."""

import json
import os
import re
import shlex
from pathlib import Path

from minilora import __version__
from minilora.data.tokenizer import Tokenizer
from minilora.errors import escape
from minilora.formats.atomic import read_json, to_utf8, write_atomic, write_json
from minilora.formats.gguf import GGUF, write_gguf
from minilora.models.llama_gguf import gguf_of
from minilora.peft import METHODS, PeftModel
from minilora.train.catalog import CATALOG, hub_name_of
from minilora.train.forgetting import learned_and_forgot
from minilora.train.load import TRAINING, adapter_folder
from minilora.train.run import RECORD
from minilora.train.text import Chats, Text


def save_model(model, tokenizer: Tokenizer, folder: Path, dtype: str = "float32") -> Path:
    """Write the model and its tokenizer to a folder for `load_model` and transformers; returns the folder."""
    tokenizer.save_pretrained(folder)  # first, because a folder without the model's config.json is incomplete
    model.save_pretrained(folder, dtype)
    return folder


CARD = """---
{front}
---

# {label} adapter

{label}: {description}.

{facts}

`training.json`, in the same folder, has all settings and results.

    minilora generate --model {model} --adapter adapter {chat}--prompt "…"
"""
OF_COPY = """
It was trained on a 4-bit copy (Q4_1) of {hub_name}, whose weights `minilora merge --model {model} --out FOLDER` writes.
"""
IN_PEFT = """
It is in PEFT's format: load it with `PeftModel.from_pretrained(base, "adapter")`, on the same weights.
"""


def training_record(data: Text | Chats, settings: dict, figures: dict) -> dict:
    """Return the record of how a model or an adapter was trained: its settings, its data, and its results."""
    data_facts = {"data": data.name, "data_sha256": data.sha256, "unit": data.unit}
    data_facts |= {f"{part}_data": settings[part] for part in ("validation", "test") if part in settings}  # files
    return settings | data_facts | figures | {"minilora": __version__}


def save_adapter(model: PeftModel, tokenizer: Tokenizer, folder: Path, training: dict) -> Path:
    """Write the adapter, its base's tokenizer, training.json and a model card.

    training: the result of `training_record`, or at least model, method, data, data_sha256 and minilora. Its "model",
    the user's name for the base, becomes PEFT's base_model_name_or_path; a quantized copy gets the name of its original
    on the Hub.
    """
    model.save_pretrained(folder, hub_name_of(training["model"]))
    tokenizer.save_pretrained(folder)
    write_json(folder / TRAINING, training)
    write_atomic(folder / "README.md", to_utf8(model_card(training, model.peft_config.in_peft)))
    return folder


def model_card(training: dict, in_peft: bool) -> str:
    """Return an adapter's README.md, with the front matter that the Hugging Face Hub reads.

    training: the result of `training_record`; in_peft: True if PEFT has the method.
    """
    method, model = METHODS[training["method"]], training["model"]
    front = {
        "base_model": hub_name_of(model),
        "library_name": "peft" if in_peft else "minilora",
        "pipeline_tag": "text-generation",
        "tags": ["minilora", method.name],
    }
    data = escape(Path(training["data"]).name or training["data"], 400)  # without its folder
    data = re.sub(r"([\\`*_|<>\[\]])", r"\\\1", data)  # escaped for Markdown
    facts = f"Data: {data}, SHA-256 {training['data_sha256']}. Made with minilora {training['minilora']}."
    if "test" in training:
        facts += f" Test: {training['test']:.4f} {training['unit']}."
        facts += "".join(f"\n\n{line.capitalize()}." for line in learned_and_forgot(training, training["unit"]))
    card = CARD.format(
        front="\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items()),  # JSON is YAML
        label=method.label,
        description=method.description,
        facts=facts,
        model=shlex.quote(escape(model, 400)),
        chat="--chat " if training.get("unit") == Chats.unit else "",
    )
    card += OF_COPY.format(hub_name=hub_name_of(model), model=model) if model in CATALOG else ""
    return card + in_peft * IN_PEFT


def training_of(folder: str | Path) -> dict | None:
    """Read the `training_record` of the model or adapter in a folder or run folder; None if there is no record.

    If only the run's own record is there, it has no results. Raises FormatError for damaged files.
    """
    folder = adapter_folder(folder)
    if os.path.lexists(folder / TRAINING):
        return read_json(folder / TRAINING)
    run = read_json(folder.parent / RECORD) if os.path.lexists(folder.parent / RECORD) else {}
    if not isinstance(config := run.get("config"), dict):
        return None
    files = {f"{part}_data": config.pop(part, None) for part in ("validation", "test")}
    return config | files | {"data_sha256": run.get("text_sha256")}


def save_gguf(model, tokenizer: Tokenizer, path: Path, matrices: str = "F16") -> Path:
    """Write the model and its tokenizer as a GGUF file for llama.cpp's tools: matrices in F16 or Q8_0, vectors in F32.

    Raises MiniloraError, and writes nothing, if GGUF cannot hold the model, or its tokenizer, which must be a
    byte-level byte-pair encoding.
    """
    content = gguf_of(model, matrices)
    metadata = content.metadata | {"general.name": path.stem} | tokenizer.gguf_metadata(model.config.vocab_size)
    write_gguf(path, GGUF(metadata, content.tensors))
    return path
