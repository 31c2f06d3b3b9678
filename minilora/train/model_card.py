"""An adapter's model card: a README.md with the front matter that the Hugging Face Hub reads."""

import json
import re
import shlex
from pathlib import Path

from minilora.errors import escape
from minilora.peft import METHODS
from minilora.train.answers import Chats
from minilora.train.catalog import BASE, CATALOG

FACTS = {  # row: what it says of a training
    "data": "{data}, SHA-256 {data_sha256}",
    "training": "{steps:,} steps of {batch_size:,} sequences of at most {seq_len:,} tokens, learning rate {lr:g}",
    "validation": "{validation:.4f} {unit}, at step {best_step:,}",
    "test": "{test:.4f} {unit}",
    "made with": "minilora {minilora}",
}
USE = """
## Use

From the folder above this one, called `adapter` here:

    minilora generate --model {model} --adapter adapter {chat}--prompt "…"

```python
from minilora.train import recipes

model, tokenizer = recipes.load_model({python}, "adapter")
```
"""
USE_IN_PEFT = """
In PEFT, on the same weights in Hugging Face's format:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({hub})
model = PeftModel.from_pretrained(base, "adapter")
```
"""


def model_card(training: dict, in_peft: bool) -> str:
    """The card of an adapter. training: of `save.training_record`; in_peft: whether PEFT has the method.

    Of a training without figures or sizes, the card is silent on these.
    """
    method, model = METHODS[training["method"]], training["model"]
    entry = CATALOG.get(model)
    hub = entry.hub_name if entry else model
    front = {
        "base_model": hub,
        "library_name": "peft" if in_peft else "minilora",
        "pipeline_tag": "text-generation",
        "tags": ["minilora", method.name],
    }
    rows = {
        "method": f"{method.label}: {method.description}",
        "base": f"{model} ({entry.description})" if entry else model,
    }
    known = training | {"data": Path(training["data"]).name or training["data"]}  # not where it lies
    for name, words in FACTS.items():
        try:
            rows[name] = words.format_map(known)
        except KeyError:  # not measured
            continue
    lines = [f"{key}: {json.dumps(value)}" for key, value in front.items()]  # JSON is YAML
    table = [f"| {name} | {_cell(words)} |" for name, words in rows.items()]
    names = {"model": shlex.quote(escape(model, 400)), "python": json.dumps(model)}
    names["chat"] = "--chat " if training.get("unit") == Chats.unit else ""
    names["hub"] = "recipes.base_folder()" if model == BASE else json.dumps(hub)
    use = (USE + in_peft * USE_IN_PEFT).format_map(names)
    return "\n".join(["---", *lines, "---", "", f"# {method.label} adapter", "", "| | |", "| --- | --- |", *table, use])


def _cell(words: str) -> str:
    """In a table of Markdown, as the characters that they are."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", escape(words, 400))
