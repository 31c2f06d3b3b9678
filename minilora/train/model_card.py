"""An adapter's model card: a README.md with the front matter that the Hugging Face Hub reads."""

import json
import re
import shlex
from pathlib import Path

from minilora.errors import escape
from minilora.peft import METHODS
from minilora.train.answers import Chats
from minilora.train.catalog import CATALOG

CARD = """---
{front}
---

# {label} adapter

{label}: {description}.

{facts}

`training.json` beside this file has all settings and figures.

    minilora generate --model {model} --adapter adapter {chat}--prompt "…"
"""
IN_PEFT = """
It is in PEFT's format: `PeftModel.from_pretrained(base, "adapter")`, on the same weights.
"""


def model_card(training: dict, in_peft: bool) -> str:
    """The card of an adapter. training: of `save.training_record`; in_peft: whether PEFT has the method.

    The figures are in training.json; the card has what the Hub reads, and what one needs to use the adapter.
    """
    method, model = METHODS[training["method"]], training["model"]
    entry = CATALOG.get(model)
    front = {
        "base_model": entry.hub_name if entry else model,
        "library_name": "peft" if in_peft else "minilora",
        "pipeline_tag": "text-generation",
        "tags": ["minilora", method.name],
    }
    data = Path(training["data"]).name or training["data"]  # not where it lies
    facts = f"Data: {_plain(data)}, SHA-256 {training['data_sha256']}. Made with minilora {training['minilora']}."
    if "test" in training:
        facts += f" Test: {training['test']:.4f} {training['unit']}."
    card = CARD.format(
        front="\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items()),  # JSON is YAML
        label=method.label,
        description=method.description,
        facts=facts,
        model=shlex.quote(escape(model, 400)),
        chat="--chat " if training.get("unit") == Chats.unit else "",
    )
    return card + in_peft * IN_PEFT


def _plain(words: str) -> str:
    """In Markdown, as the characters that they are."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", escape(words, 400))
