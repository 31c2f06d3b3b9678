"""What commands, demo and measurements do alike: load a model, read and split a text, make batches, evaluate, save."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from minilora import __version__
from minilora.data import corpora
from minilora.data.batches import LanguageModelBatches, evaluation_windows
from minilora.data.chat import ChatTokens
from minilora.data.chat_batches import ChatBatches, chat_windows
from minilora.data.tokenizer import (
    Tokenizer,
    TokenStream,
    encode_documents,
    folder_tokenizer,
    train_tokenizer,
)
from minilora.errors import FormatError, MiniloraError, did_you_mean, escape
from minilora.formats.atomic import read_json, show_path, to_utf8, write_atomic, write_json
from minilora.formats.gguf import GGUF, read_gguf
from minilora.formats.gguf_writer import write_gguf
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.models.llama_gguf import gguf_of
from minilora.models.registry import family_of
from minilora.peft import PeftModel, adapter_quantization, base_fingerprint, load_adapters
from minilora.peft.files import named_base
from minilora.peft.lora_gguf import lora_gguf
from minilora.quant import load_4bit
from minilora.train.answers import Chats, is_chat_data, read_chats
from minilora.train.catalog import BASE, CATALOG, find, in_cache
from minilora.train.evaluate import bits_per_character
from minilora.train.model_card import model_card
from minilora.train.progress import progress_bar
from minilora.train.run import RECORD
from minilora.train.world import World

LINE = 20  # characters: shorter lines recur by chance
Adapters = str | os.PathLike | Sequence[tuple[str | os.PathLike, float]]  # a folder, or several with their weights
PADDING = 0  # any token will do: the attention mask hides it, and it has no label


@dataclass(frozen=True)
class Text:
    """A corpus as streams of tokens, split by document."""

    name: str
    sha256: str
    train: TokenStream
    validation: TokenStream
    test: TokenStream
    notes: tuple[str, ...] = ()  # for the reader, of what the files hold

    unit: ClassVar[str] = "bits/character"


def read_data(
    source: str, tokenizer: Tokenizer, validation: str | None = None, test: str | None = None
) -> Text | Chats:
    """What `--data` names, split and tokenized: conversations in a .jsonl file, otherwise a corpus.

    validation, test: as `source`, and of its kind: for these parts, for which the first is not split then.
    """
    if strange := [path for path in (validation, test) if path and is_chat_data(path) != is_chat_data(source)]:
        raise MiniloraError(f"{show_path(strange[0])} and {show_path(source)}: give .jsonl files only, or texts only")
    if is_chat_data(source):
        return read_chats(source, tokenizer, validation, test)
    own = {name: corpora.load(path) for name, path in (("validation", validation), ("test", test)) if path}
    return read_text(corpora.load(source), tokenizer, **own)


def read_text(corpus: corpora.Corpus, tokenizer: Tokenizer, **own: corpora.Corpus) -> Text:
    """The corpus, split and tokenized. own: corpora for "validation" and "test", for which it is not split then."""
    parts = corpora.Splits(list(corpus.documents), [], []) if len(own) == 2 else corpora.split(corpus)
    train = parts.train + [document for name in own for document in getattr(parts, name)]
    held_out = {name: list(part.documents) for name, part in own.items()}
    parts = corpora.Splits(**parts._asdict() | {"train": train} | held_out)
    digest, notes = corpus.sha256, [note for one in (corpus, *own.values()) for note in one.notes]
    if own:
        digest = sha256("".join([digest, *(part.sha256 for part in own.values())]).encode()).hexdigest()
    known = {line for document in train for line in document.text.splitlines()} if own else set()
    for part in own.values():
        lines = [line for document in part.documents for line in document.text.splitlines() if len(line) >= LINE]
        if shared := sum(line in known for line in lines):
            notes.append(f"{shared:,} of {len(lines):,} lines of {show_path(part.name)} are in the training part, too")
    streams = {name: encode_documents(tokenizer, part) for name, part in parts._asdict().items()}
    return Text(corpus.name, digest, notes=tuple(notes), **streams)


def tokenizer_for(corpus: corpora.Corpus, vocab_size: int) -> Tokenizer:
    """A tokenizer learned from the training documents of the corpus."""
    documents = corpora.split(corpus).train
    return train_tokenizer((document.text for document in documents), vocab_size)


def new_model(tokenizer: Tokenizer, seed: int, **sizes: Any) -> LlamaForCausalLM:
    """An untrained model for the tokenizer; `sizes` are fields of LlamaConfig."""
    end = tokenizer.eos_token_id
    tokens: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    return LlamaForCausalLM(LlamaConfig(**tokens, **sizes), seed=seed)


def evaluator(
    model,
    stream: TokenStream | ChatTokens,
    seq_len: int,
    batch_size: int,
    bar: str | None = None,
    world: World | None = None,
):
    """A function that gives the bits per character of `stream` under the model as it then is.

    Of conversations, the assistant's answers alone count. bar: the words of a progress bar to show; None shows none.
    world: the ranks that share the work.
    """

    def evaluate() -> float:
        if isinstance(stream, ChatTokens):
            batches = list(chat_windows(stream, seq_len, batch_size, PADDING))
        else:
            batches = list(evaluation_windows(stream.ids, seq_len, batch_size))
        with progress_bar(bar or "", len(batches), show=bar is not None) as advance:
            return bits_per_character(model, _counted(batches, advance), stream.characters, world)

    return evaluate


def _counted(batches: Iterable[dict[str, Any]], advance: Callable[[], None]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield batch
        advance()


def sample(stream: TokenStream | ChatTokens, examples: int, seq_len: int) -> TokenStream | ChatTokens:
    """About so many conversations, or sequences of `seq_len` tokens of a text, drawn once and for all."""
    return stream.sample(examples) if isinstance(stream, ChatTokens) else stream.sample(examples * seq_len)


def num_examples(stream: TokenStream | ChatTokens, seq_len: int) -> int:
    """How many conversations, or sequences of `seq_len` tokens."""
    return len(stream.rows) if isinstance(stream, ChatTokens) else -(-len(stream.ids) // seq_len)


def training_batches(
    stream: TokenStream | ChatTokens, batch_size: int, seq_len: int, seed: int, pack: bool = False
) -> LanguageModelBatches | ChatBatches:
    """pack: conversations end to end, in place of one a row."""
    if isinstance(stream, ChatTokens):
        return ChatBatches(stream, batch_size, seq_len, seed, PADDING, pack)
    if pack:
        raise MiniloraError("only conversations are packed, which a .jsonl file holds: a text is packed as it is")
    return LanguageModelBatches(stream.ids, batch_size, seq_len, seed)


def longest(data: Text | Chats, seq_len: int, pack: bool = False) -> int:
    """The length of the longest sequence of a batch: `seq_len`, or less where conversations are not so long."""
    if isinstance(data, Chats) and not pack:
        parts = (data.train, data.validation, data.test)
        return min(seq_len, max(len(ids) for part in parts for ids, _ in part.rows))
    return seq_len


def check_length(model, data: Text | Chats, seq_len: int, pack: bool = False) -> None:
    """MiniloraError where sequences of `seq_len` tokens of the data would pass the model's positions."""
    seq_len = longest(data, seq_len, pack)
    limit, virtual = model.config.max_position_embeddings, model.body.virtual_tokens
    if virtual + seq_len > limit:
        words = f"{virtual} virtual tokens and " if virtual else ""
        raise MiniloraError(
            f"{words}{seq_len:,} tokens per sequence pass the model's {limit:,} positions; give a smaller --seq-len"
        )


def base_folder() -> Path:
    """The folder of the pretrained model that comes with the package."""
    return Path(str(resources.files("minilora"))) / "assets" / "base"


def load_model(
    source: str | None, adapter: Adapters | None = None, quantization: dict | None = None, strength: float = 1.0
):
    """The language model of that name or in a folder or GGUF file, and its tokenizer.

    source: "base" (comes with the package), a name of `minilora models list`, a .gguf file, a Hugging Face folder, or a
    run folder, which stands for the `model` folder in it (as `adapter`: the `adapter` folder); None: `base_of` the
    adapter. quantization: arguments of `quantize_model`, to have the model in 4 bits without ever holding all of it in
    float32. With `adapter`, the adapter in that folder is on top of it, or the sum of several, times `strength`
    (`peft.load_adapters`), and the model in 4 bits where the first was trained so. Raises MiniloraError where there is
    none, FormatError for files that are damaged.
    """
    if adapter is None and strength != 1:
        raise MiniloraError(f"--strength {strength:g} is that of an adapter: give one by --adapter")
    source = base_of(adapter) if source is None else source
    path = path_of_model(source)
    family = family_of(path)
    tokenizer = tokenizer_of(path)
    quantization = quantization if adapter is None else adapter_quantization(adapter_folder(adapter))
    model: Any = load_4bit(family, path, **quantization) if quantization else family.from_pretrained(path)
    tokenizer.check_fit(model.config.vocab_size, escape(source))
    return (model if adapter is None else load_adapters(model, weighted(adapter), strength)), tokenizer


def weighted(adapters: Adapters) -> list[tuple[Path, float]]:
    """(folder, weight) of each; of a lone folder, with a weight of 1."""
    given = [(adapters, 1.0)] if isinstance(adapters, str | os.PathLike) else adapters
    return [(adapter_folder(folder), weight) for folder, weight in given]


def adapter_folder(source: Adapters) -> Path:
    """The folder of an adapter: `source`, or `adapter` in it where that is a run folder; of several, the first's."""
    source = source if isinstance(source, str | os.PathLike) else source[0][0]
    inside = Path(source) / "adapter"
    return inside if (inside / "adapter_config.json").is_file() else Path(source)


def base_of(adapter: Adapters | None) -> str:
    """The base of the adapter in a folder or run folder, as `load_model` takes it; of None, what comes with minilora.

    Of several adapters, that of the first: whether it is also the others' is seen when they are loaded.
    Raises MiniloraError, which says what the adapter was trained on, where that is not here.
    """
    if adapter is None:
        return BASE
    folder = adapter_folder(adapter)
    name, fingerprint = named_base(folder)
    found = _found_base(name, fingerprint)
    if found in CATALOG and not in_cache(found):
        raise MiniloraError(f"{show_path(folder)} belongs to {found}; get it first: minilora models get {found}")
    if found is None:
        what = show_path(name) if name else "a base without a name"
        what += f" (fingerprint {escape(fingerprint, 13)})" if fingerprint else ""
        raise MiniloraError(f"{show_path(folder)} belongs to {what}, not found here: give the base as --model")
    return found


def _found_base(name: str | None, fingerprint: str | None) -> str | None:
    """By the catalog's fingerprints; by name, which may be a path, or the Hub's for a model of the catalog; or as the
    package's base, which is small. No other model is read.
    """
    for known, entry in CATALOG.items():
        if known == name or (fingerprint and entry.fingerprint == fingerprint):
            return known
    if name:
        with suppress(MiniloraError, OSError):
            if path_of_model(name).exists():
                return name
    if fingerprint is None:  # PEFT writes none
        return next((known for known, entry in CATALOG.items() if name and entry.hub_name == name), None)
    return BASE if fingerprint == base_fingerprint(load_model(BASE)[0]) else None


def path_of_model(source: str) -> Path:
    """The folder or GGUF file that `source` means, for a model. Raises MiniloraError where there is none."""
    if source == BASE:
        return base_folder()
    if source in CATALOG:
        return find(source)
    path = Path(source)
    if path.suffix == ".gguf":
        return path
    if not (path / "config.json").is_file() and (path / "model" / "config.json").is_file():
        path = path / "model"
    if not (path / "config.json").is_file():
        names = [BASE, *CATALOG]
        hint = did_you_mean(source, names, after=" Else ")
        raise MiniloraError(
            f"{show_path(source)} is no model: {hint}give {', '.join(names)}, a .gguf file, or a folder with "
            "config.json and model.safetensors"
        )
    return path


def tokenizer_of(path: Path) -> Tokenizer:
    """The tokenizer in a model's folder or GGUF file. Raises FormatError."""
    if path.suffix == ".gguf":
        return Tokenizer.from_gguf(read_gguf(path).metadata, show_path(path))
    if not (path / "tokenizer.json").is_file():
        raise FormatError(f"{show_path(path)} has no tokenizer.json, without which text cannot be read")
    return folder_tokenizer(path)


def save_model(model, tokenizer: Tokenizer, folder: Path) -> Path:
    """Write the model and its tokenizer, with what `load_model` and transformers are to know of the latter."""
    model.save_pretrained(folder, tokenizer.to_json())
    write_json(folder / "tokenizer_config.json", tokenizer.config())
    return folder


TRAINING = "training.json"


def training_record(data: Text | Chats, settings: dict, figures: dict) -> dict:
    """How a model or an adapter came to be: the settings of its training, what it learned from, and what it reached."""
    learned = {"data": data.name, "data_sha256": data.sha256, "unit": data.unit}
    learned |= {f"{part}_data": settings[part] for part in ("validation", "test") if part in settings}  # files
    return settings | learned | figures | {"minilora": __version__}


def save_adapter(model: PeftModel, tokenizer: Tokenizer, folder: Path, training: dict) -> Path:
    """Write the adapter, its base's tokenizer, training.json, and a model card: README.md.

    training: of `training_record`, or at least model, method, data, data_sha256 and minilora. Its "model", the base as
    the reader named it, is what PEFT calls base_model_name_or_path.
    """
    model.save_pretrained(folder, training["model"])
    write_atomic(folder / "tokenizer.json", tokenizer.to_json().encode())
    write_json(folder / "tokenizer_config.json", tokenizer.config())
    write_json(folder / TRAINING, training)
    write_atomic(folder / "README.md", to_utf8(model_card(training, model.peft_config.in_peft)))
    return folder


def training_of(folder: str | os.PathLike) -> dict | None:
    """How the model or adapter in that folder or run folder came to be, as `training_record` says it, without figures
    where only the run's record is there. None where nothing is known. FormatError for damaged files.

    A file of conversations is looked for as it was typed, then from each folder above: it may have been typed there.
    """
    folder = adapter_folder(folder)
    if os.path.lexists(folder / TRAINING):
        training = read_json(folder / TRAINING)
    else:
        run = read_json(folder.parent / RECORD) if os.path.lexists(folder.parent / RECORD) else {}
        if not isinstance(config := run.get("config"), dict):
            return None
        files = {f"{part}_data": config.pop(part, None) for part in ("validation", "test")}
        training = config | files | {"data_sha256": run.get("text_sha256")}
    for part in ("data", "validation_data", "test_data"):
        if is_chat_data(path := str(training.get(part))):
            places = (path, *(os.path.join(parent, path) for parent in folder.resolve().parents))
            training[part] = next(filter(os.path.exists, places), path)
    return training


LICENCES = ("general.license", "general.license.name", "general.license.link", "general.author", "general.organization")


def save_gguf(model, tokenizer: Tokenizer, path: Path, source: str | None = None, matrices: str = "F16") -> Path:
    """Write the model and its tokenizer as a GGUF file for llama.cpp's tools: matrices in F16 or Q8_0, vectors in F32.

    source: what the model was loaded from, as of `load_model`. From a GGUF file the tokenizer and the licence are
    carried over as they are there; else the tokenizer must be a byte-level byte-pair encoding. MiniloraError for a
    model or a tokenizer that GGUF cannot hold; there is no file then.
    """
    content = gguf_of(model, matrices)
    origin = None if source is None else path_of_model(source)
    metadata: dict[str, object] = {"general.name": path.stem}
    if origin is not None and origin.suffix == ".gguf":
        found = read_gguf(origin).metadata
        metadata |= {name: value for name, value in found.items() if name in LICENCES and isinstance(value, str)}
        if isinstance(name := found.get("general.name"), str):
            metadata |= {"general.base_model.count": 1, "general.base_model.0.name": name}
        metadata |= {name: value for name, value in found.items() if name.startswith("tokenizer.")}
    else:
        metadata |= tokenizer.gguf_metadata(model.config.vocab_size)
        if model.config.pad_token_id is not None:
            metadata["tokenizer.ggml.padding_token_id"] = model.config.pad_token_id
    write_gguf(path, GGUF(content.metadata | metadata, content.tensors))
    return path


def save_lora_gguf(adapted: PeftModel, path: Path, source: str) -> Path:
    """Write the LoRA adapter alone as a GGUF file, which llama.cpp's tools take as --lora. source: its base."""
    content = lora_gguf(adapted)
    names = {"general.name": path.stem, "general.base_model.count": 1, "general.base_model.0.name": source}
    write_gguf(path, GGUF(content.metadata | names, content.tensors))
    return path


def fingerprints(model, data: Text | Chats, settings: dict) -> dict[str, str]:
    """What two processes must have alike to train one model together: the SHA-256 of each, by its name.

    Where a text or a model lies may differ.
    """
    told = {name: value for name, value in settings.items() if name not in ("data", "model")}
    return {
        "text": data.sha256,
        "settings": sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(),
        "weights": base_fingerprint(model),
    }


def count_parameters(model) -> tuple[int, int]:
    """(trainable, all) parameters; a weight in 4 bits counts as one."""
    sizes = [(p.size, p.requires_grad) for p in model.parameters()]
    stored = sum(module.num_quantized for _, module in model.named_modules())
    return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes) + stored
