"""Models and adapters written to disk, with what is known of their training, and that read back."""

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


def save_model(model, tokenizer: Tokenizer, folder: Path) -> Path:
    """Write the model and its tokenizer, with what `load_model` and transformers are to know of the latter."""
    model.save_pretrained(folder, tokenizer.to_json())
    write_json(folder / "tokenizer_config.json", tokenizer.config())
    return folder


CARD = """---
{front}
---

# {label} adapter

{label}: {description}.

{facts}

`training.json` beside this file has all settings and figures.

    minilora generate --model {model} --adapter adapter {chat}--prompt "…"
"""
OF_COPY = """
Trained on a copy of {hub_name} in 4 bits (Q4_1): `minilora models export {model} FOLDER` writes exactly its weights.
"""
IN_PEFT = """
It is in PEFT's format: `PeftModel.from_pretrained(base, "adapter")`, on the same weights.
"""


def training_record(data: Text | Chats, settings: dict, figures: dict) -> dict:
    """Tell how a model or an adapter came to be: the settings of its training, its data, and what it reached."""
    learned = {"data": data.name, "data_sha256": data.sha256, "unit": data.unit}
    learned |= {f"{part}_data": settings[part] for part in ("validation", "test") if part in settings}  # files
    return settings | learned | figures | {"minilora": __version__}


def save_adapter(model: PeftModel, tokenizer: Tokenizer, folder: Path, training: dict) -> Path:
    """Write the adapter, its base's tokenizer, training.json and a model card.

    training: of `training_record`, or at least model, method, data, data_sha256 and minilora. Its "model", the base as
    the reader named it, is what PEFT calls base_model_name_or_path; a copy has the name of its original on the Hub.
    """
    model.save_pretrained(folder, hub_name_of(training["model"]))
    write_atomic(folder / "tokenizer.json", tokenizer.to_json())
    write_json(folder / "tokenizer_config.json", tokenizer.config())
    write_json(folder / TRAINING, training)
    write_atomic(folder / "README.md", to_utf8(model_card(training, model.peft_config.in_peft)))
    return folder


def model_card(training: dict, in_peft: bool) -> str:
    """Write an adapter's README.md, with the front matter that the Hugging Face Hub reads. training: of
    `training_record`; in_peft: if PEFT has the method.
    """
    method, model = METHODS[training["method"]], training["model"]
    front = {
        "base_model": hub_name_of(model),
        "library_name": "peft" if in_peft else "minilora",
        "pipeline_tag": "text-generation",
        "tags": ["minilora", method.name],
    }
    data = escape(Path(training["data"]).name or training["data"], 400)  # not where it lies
    data = re.sub(r"([\\`*_|<>\[\]])", r"\\\1", data)  # in Markdown, as the characters that they are
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
    """Read how the model or adapter in that folder or run folder came to be, as `training_record` tells it.

    There are no figures if only the run's record is there. None if nothing is known. FormatError for damaged files.
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

    MiniloraError for a model or a tokenizer that GGUF cannot hold, of which the latter must be a byte-level byte-pair
    encoding; there is no file then.
    """
    content = gguf_of(model, matrices)
    metadata = content.metadata | {"general.name": path.stem} | tokenizer.gguf_metadata(model.config.vocab_size)
    write_gguf(path, GGUF(metadata, content.tensors))
    return path
