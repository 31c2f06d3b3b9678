"""`minilora models`: list, download and inspect pretrained models and tasks of labelled examples.

Text from a file may hold anything, so it is only printed through `errors.escape`.
"""

import json
from argparse import Namespace
from collections import Counter
from contextlib import suppress
from textwrap import wrap
from typing import Any

from minilora.commands.common import Parser, add_flag, choice, print_result
from minilora.data import chat
from minilora.errors import MiniloraError, escape, line_width
from minilora.formats.atomic import show_path
from minilora.formats.gguf import read_gguf
from minilora.formats.huggingface import WEIGHTS, open_folder
from minilora.formats.safetensors import open_file
from minilora.models.llama_gguf import llama_of
from minilora.models.registry import family_of
from minilora.peft.files import CONFIG, SavedAdapter
from minilora.show.grids import show_size
from minilora.train import catalog, hub
from minilora.train.load import adapter_folder, base_folder, path_of_model, tokenizer_of

BASE = "Llama architecture, F16, pretrained from scratch on Python's documentation; comes with minilora"
WHOLE = 10_000  # characters of a path: so many that it is never cut, because it is to be copied


def add(parser: Parser) -> None:
    parser.description = (
        f"{parser.description}\n\n"
        "list          show the models and tasks, and which are here (default)\n"
        "get NAME      download a model, or a task's examples for --data\n"
        "get ORG/NAME  download a model from the Hugging Face Hub\n"
        "info NAME     show the settings and sizes of a model or an adapter"
    )
    parser.epilog = "examples:\n  minilora models get smollm2\n  minilora models info runs/base"
    actions = ("list", "get", "info")
    parser.add_argument("action", nargs="?", default="list", type=choice(actions), help=", ".join(actions))
    parser.add_argument("name", nargs="?", help="name in the list; info also takes a folder or .gguf file")
    add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    action, name = arguments.action, arguments.name
    if action == "list":
        facts = known_names()
        print_result(arguments, facts, list_text(facts))
    elif name is None:
        raise MiniloraError(f"models {action} needs a name; `minilora models list` shows the names")
    elif action == "info":
        facts = describe(name)
        print_result(arguments, facts, info_text(facts))
    elif "/" in name:
        path = hub.get(name, lambda line: print(line, flush=True))
        print(f"{name} is here: {show_path(path, WHOLE)}", flush=True)
    elif name == catalog.BASE:
        print(f"base comes with minilora: {show_path(base_folder(), WHOLE)}", flush=True)
    else:
        print(f"licence of {name}: {catalog.entry(name).licence}", flush=True)
        catalog.get(name)
        for path in catalog.paths_of(name):
            print(f"{name} is here: {show_path(path, WHOLE)}", flush=True)


def known_names() -> dict:
    """Return the models and tasks that have a name, each with its licence, size and, if downloaded, paths."""
    base: dict = {"name": catalog.BASE, "description": BASE, "licence": "MIT", "paths": [str(base_folder())]}
    base["bytes"] = (base_folder() / WEIGHTS).stat().st_size
    facts: dict = {"cache": str(catalog.cache_folder()), "models": [base], "tasks": []}
    for kind, names in (("models", catalog.CATALOG), ("tasks", catalog.TASKS)):
        for name, entry in names.items():
            row: dict = {"name": name, "description": entry.description, "licence": entry.licence}
            row["paths"] = [str(path) for path in catalog.paths_of(name) if catalog.in_cache(name)]
            facts[kind].append(row | {"bytes": sum(entry.files.values())})
    return facts


def list_text(facts: dict) -> str:
    """Format the list of models and tasks."""
    lines = []
    for kind, title in (("models", "models, for --model"), ("tasks", "tasks, for --data")):
        lines.append(title)
        for row in facts[kind]:
            here = [f"here: {show_path(path, WHOLE)}" for path in row["paths"]]
            here = here or [f"not here yet: minilora models get {row['name']}"]
            about = (f"{row['description']}; {show_size(row['bytes'])}", f"licence: {row['licence']}")
            details = [line for text in about for line in wrap(text, line_width() - 11)] + here
            lines += [f"  {'' if i else row['name']:<9}{line}" for i, line in enumerate(details)]
    cache = show_path(facts["cache"], WHOLE)
    return "\n".join([*lines, f"downloads go to {cache} (set MINILORA_CACHE to change it)"])


def describe(source: str) -> dict:
    """Return the configuration of a model or an adapter and its number of weights, without reading any weight.

    Raises MiniloraError if there is none, FormatError if a file is damaged.
    """
    if ((path := adapter_folder(source)) / CONFIG).is_file():
        saved = SavedAdapter.read(path, open_file)
        content, tensors = saved.content, dict[str, Any](saved.tensors)
    else:
        path = path_of_model(source)
        family_of(path)  # raises if minilora cannot read this kind of model
        content, tensors = llama_of(read_gguf(path), show_path(path)) if path.suffix == ".gguf" else open_folder(path)
        if content.get("tie_word_embeddings"):
            tensors.pop("lm_head.weight", None)
    stored: Counter[str] = Counter()
    for tensor in tensors.values():
        stored[tensor.kind] += tensor.size
    facts: dict[str, Any] = content | {"path": str(path), "parameters": sum(stored.values()), "stored": dict(stored)}
    with suppress(MiniloraError):  # no tokenizer, or none for conversations
        facts["chat_format"] = chat.find_format(tokenizer_of(path)).label
    return facts


def info_text(facts: dict) -> str:
    """Format the facts, one per line; empty ones are left out."""
    lines = [show_path(facts["path"], WHOLE)]
    for name, value in facts.items():
        if name != "path" and value not in (None, [], {}):
            words = f"{value:,}" if type(value) is int else value if isinstance(value, str) else json.dumps(value)
            lines.append(f"  {escape(name, 30):<25} {escape(words, line_width() - 28)}")
    return "\n".join(lines)
