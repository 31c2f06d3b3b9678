"""`minilora models`: which pretrained models and labelled tasks there are, fetching one, and what its files say.

What comes out of a file is text from elsewhere: it is shown by `errors.escape` alone.
"""

import os
from argparse import Namespace
from collections import Counter
from contextlib import suppress
from pathlib import Path
from textwrap import wrap
from typing import Any

from minilora.commands.common import Parser, add_flag, choice, print_result
from minilora.data import chat
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import show_path
from minilora.formats.gguf import read_gguf
from minilora.formats.huggingface import WEIGHTS, open_folder
from minilora.formats.safetensors import open_file
from minilora.models.llama_gguf import llama_of
from minilora.models.registry import family_of
from minilora.peft.files import CONFIG, SavedAdapter
from minilora.show.grids import show_size
from minilora.train import catalog, hub
from minilora.train.load import adapter_folder, base_folder, count_parameters, load_model, path_of_model, tokenizer_of
from minilora.train.save import save_model

BASE = "Llama architecture, F16, trained from nothing on the documentation of Python; comes with minilora"
WIDTH, WHOLE = 79, 10_000  # of a line, and of a path that is to be copied from the screen


def add(parser: Parser) -> None:
    parser.description = (
        "list: the models and labelled tasks that have a name, and which are here\n"
        "get NAME: fetch a model, or a task: a --data of finetune, evaluate and curve; ORG/NAME is a model of the "
        "Hugging Face Hub\n"
        "info NAME: what is in the files of a model or an adapter; no weight is read\n"
        "export NAME FOLDER: write a model, in float32, as a new folder that transformers opens"
    )
    parser.epilog = "examples: minilora models get smollm2; minilora models info runs/base"
    actions = ("list", "get", "info", "export")
    parser.add_argument("action", type=choice(actions), help=", ".join(actions))
    parser.add_argument("name", nargs="?", help="of the list; for info, export also a model's folder or .gguf file, …")
    parser.add_argument("folder", nargs="?", help="of export")
    add_flag(parser, "--revision", "of a model of the Hub: branch, tag or commit (default: main)", metavar="NAME")
    add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    action, name, folder, revision = (getattr(arguments, n) for n in ("action", "name", "folder", "revision"))
    if (action == "export") != (folder is not None) or (revision and (action != "get" or "/" not in (name or ""))):
        raise MiniloraError("a folder belongs to models export NAME FOLDER, --revision to models get ORG/NAME")
    if action == "list":
        facts = known_names()
        print_result(arguments, facts, list_text(facts))
    elif name is None:
        raise MiniloraError(f"models {action} needs a name: minilora models list has those that there are")
    elif action == "info":
        facts = describe(name)
        print_result(arguments, facts, info_text(facts))
    elif action == "export":
        export(name, Path(folder))
    elif "/" in name:
        path = hub.get(name, revision, lambda line: print(line, flush=True))
        print(f"{name} is here: {'--model ' if revision else ''}{show_path(path, WHOLE)}", flush=True)
    elif name == catalog.BASE:
        print(f"base comes with minilora: {show_path(base_folder(), WHOLE)}", flush=True)
    else:
        print(f"{name}: licence {catalog.entry(name).licence}", flush=True)
        catalog.get(name)
        for path in catalog.paths_of(name):
            print(f"{name} is here: {show_path(path, WHOLE)}", flush=True)


def known_names() -> dict:
    """The models and tasks that have a name, each with its licence, its size, and its files if they are here."""
    base: dict = {"name": catalog.BASE, "description": BASE, "licence": "MIT", "paths": [str(base_folder())]}
    base["bytes"] = (base_folder() / WEIGHTS).stat().st_size
    facts: dict = {"cache": str(catalog.cache_folder()), "models": [base], "tasks": []}
    for kind, names in (("models", catalog.CATALOG), ("tasks", catalog.TASKS)):
        for name, entry in names.items():
            one: dict = {"name": name, "description": entry.description, "licence": entry.licence}
            one["paths"] = [str(path) for path in catalog.paths_of(name) if catalog.in_cache(name)]
            facts[kind].append(one | {"bytes": sum(entry.files.values())})
    return facts


def list_text(facts: dict) -> str:
    lines = []
    for kind in ("models", "tasks"):
        lines.append(kind)
        for one in facts[kind]:
            here = [f"here: {show_path(path, WHOLE)}" for path in one["paths"]]
            here = here or [f"not here yet: minilora models get {one['name']}"]
            about = (f"{one['description']}; {show_size(one['bytes'])}", f"licence: {one['licence']}")
            told = [line for text in about for line in wrap(text, WIDTH - 11)] + here
            lines += [f"  {'' if i else one['name']:<9}{line}" for i, line in enumerate(told)]
    return "\n".join([*lines, f"the cache, which MINILORA_CACHE names: {show_path(facts['cache'], WHOLE)}"])


def export(source: str, folder: Path) -> None:
    """Write a model as a folder. MiniloraError if there is one already."""
    if os.path.lexists(folder):
        raise MiniloraError(f"{show_path(folder)} exists; choose another folder")
    model, tokenizer = load_model(source)
    save_model(model, tokenizer, folder)
    print(f"saved {show_path(folder, WHOLE)}: {count_parameters(model)[1]:,} parameters in float32", flush=True)


def describe(source: str) -> dict:
    """Return what the configuration of a model or an adapter says, and the numbers in its files, none of which is read.

    MiniloraError if there is none, FormatError for damage.
    """
    if ((path := adapter_folder(source)) / CONFIG).is_file():
        saved = SavedAdapter.read(path, open_file)
        content, tensors = saved.content, dict[str, Any](saved.tensors)
    else:
        path = path_of_model(source)
        family_of(path)  # refuses one that minilora does not read
        content, tensors = llama_of(read_gguf(path), show_path(path)) if path.suffix == ".gguf" else open_folder(path)
        if content.get("tie_word_embeddings"):
            tensors.pop("lm_head.weight", None)
    stored: Counter[str] = Counter()
    for tensor in tensors.values():
        stored[tensor.kind] += tensor.size
    facts: dict[str, Any] = content | {"path": str(path), "parameters": sum(stored.values()), "stored": dict(stored)}
    with suppress(MiniloraError):  # it has no tokenizer, or one that is not for conversations
        facts["chat_format"] = chat.find_format(tokenizer_of(path)).label
    return facts


def info_text(facts: dict) -> str:
    """A line for each fact that is known."""
    lines = [show_path(facts["path"], WHOLE)]
    for name, value in facts.items():
        words = f"{value:,}" if type(value) is int else value if isinstance(value, str) else str(value)
        if name != "path" and value not in (None, [], {}):
            lines.append(f"  {escape(name, 30):<25} {escape(words, WIDTH - 28)}")
    return "\n".join(lines)
