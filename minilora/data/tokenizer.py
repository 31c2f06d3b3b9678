"""Text to numbers and back: byte-level byte-pair encoding, learned from the text that the model will see.

A text is UTF-8 bytes; training merges the most frequent neighbouring pair into a new token, again and again (Sennrich
et al. 2016, arXiv 1508.07909; on bytes as in GPT-2). With all 256 bytes in the vocabulary any text comes back as it
was. The `tokenizers` library does the merging, and writes the tokenizer.json that transformers opens. Where there is no
build of it, in the browser, `data.bpe` does the same, slower.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minilora.data import bpe, gguf_tokenizer
from minilora.data.corpora import Document
from minilora.data.gguf_tokenizer import TEMPLATE_LIMIT
from minilora.errors import FormatError, MiniloraError, escape
from minilora.formats.atomic import parse_json, read_bytes, read_json, show_path, to_utf8, write_atomic

END_OF_TEXT = "<|endoftext|>"  # between documents; also what a model starts from (bos) and what pads a batch
SMALLEST = 257  # END_OF_TEXT and the 256 bytes
FILE_LIMIT = 100_000_000  # bytes; the tokenizer.json with 256,000 tokens has about 35 million
_PORTION = 1000  # texts encoded at a time


class Tokenizer:
    """A vocabulary with its merges, and the tokens that are no text.

    eos_token, eos_token_id      what ends a text (and pads a batch)
    bos_token_id                 what begins one, or None
    add_bos_token                whether the model was trained on texts that begin with it: see `encode_prompt`
    chat_template                the template that came with the model, or None. It is read, never run: see `data.chat`
    """

    def __init__(
        self,
        inner: Any,
        eos_token: str | int = END_OF_TEXT,
        bos_token: str | int | None = None,
        add_bos_token: bool | None = None,
        chat_template: str | None = None,
    ):
        """`inner` is a tokenizers.Tokenizer or a ByteLevelBPE. eos_token, bos_token: a name or an id. add_bos_token:
        None asks the rules of `inner` itself, which may also name the token. MiniloraError for a token that it lacks.
        """
        self._inner = inner
        inner.encode_special_tokens = True  # "<|endoftext|>" in a text is these 13 characters, not the end of it
        inner.no_truncation()  # both may be set in files from elsewhere
        inner.no_padding()
        self.vocab_size: int = max(inner.get_vocab().values(), default=-1) + 1  # ids may have gaps
        self.eos_token_id, self.eos_token = self._find(eos_token)
        self.chat_template = chat_template
        self.bos_token_id = None if bos_token is None else self._find(bos_token)[0]
        begins = [i for i in inner.encode("").ids[:1] if i != self.eos_token_id or i == self.bos_token_id]
        if self.bos_token_id is None and begins:
            self.bos_token_id = begins[0]
        self.add_bos_token = begins == [self.bos_token_id] if add_bos_token is None else add_bos_token
        self.add_bos_token = self.add_bos_token and self.bos_token_id is not None
        self._special = {t.content: i for i, t in inner.get_added_tokens_decoder().items()}
        # Rules for pairs and for bos, which no text here needs, and which move the places of tokens in their text.
        self._post_processor, inner.post_processor = inner.post_processor, None
        self._inside = _without_prefix(inner)

    def _find(self, token: str | int) -> tuple[int, str]:
        """Find the id and the name of a token, given either."""
        if isinstance(token, str):
            if (token_id := self._inner.token_to_id(token)) is not None:
                return token_id, token
        elif (
            type(token) is int and 0 <= token < self.vocab_size and (name := self._inner.id_to_token(token)) is not None
        ):
            return token, name
        raise MiniloraError(f"the tokenizer has no token {escape(token)}")

    @property
    def kind(self) -> str:
        """Describe what a text is cut into."""
        has_bytes = self._inner.model.byte_fallback  # SentencePiece's: a character that is no token is its bytes
        return "BPE on characters, with bytes for rare ones" if has_bytes else "BPE on bytes"

    def special_id(self, name: str) -> int:
        """Return the id of the special token of this name, which no text gives. MiniloraError if there is none."""
        if name not in self._special:
            raise MiniloraError(f"the tokenizer has no special token {escape(name)}")
        return self._special[name]

    def has_special(self, name: str) -> bool:
        return name in self._special

    def keep_out_of_text(self, names: Iterable[str]) -> None:
        """See to it that no text gives the special tokens of these names, also where the tokenizer's maker allowed it
        (a chat's text must not be able to end its own message)."""
        for inner in {id(t): t for t in (self._inner, self._inside)}.values():
            added = inner.get_added_tokens_decoder().values()
            if tokens := [t for t in added if t.content in names and not t.special]:
                from tokenizers import AddedToken

                inner.add_special_tokens([AddedToken(t.content, normalized=False, special=True) for t in tokens])

    def encode(self, text: str) -> np.ndarray:
        """Return the token ids of `text`, int64 (N,); no special token is added, and none is read out of the text."""
        return self.encode_many([text])[0]

    def encode_prompt(self, text: str) -> np.ndarray:
        """Encode `text` after the beginning-of-text token, if the model was trained with it."""
        ids = self.encode(text)
        return np.concatenate([[self.bos_token_id], ids]) if self.add_bos_token else ids

    def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encode several texts at once, on all cores."""
        return [np.array(encoding.ids, dtype=np.int64) for encoding in self._encodings(texts, self._inner)]

    def encode_placed(self, texts: Sequence[str], is_first: bool = True) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the token ids of each text, and where in it each one begins, in characters; both int64 (N,).

        is_first: False for texts that follow a special token: some tokenizers put a space before the first only.
        """
        encodings = self._encodings(texts, self._inner if is_first else self._inside)
        return [
            (np.array(encoding.ids, np.int64), np.array([start for start, _ in encoding.offsets], np.int64))
            for encoding in encodings
        ]

    def _encodings(self, texts: Sequence[str], inner: Any) -> list[Any]:
        try:
            with format_errors("the tokenizer fails"):
                return inner.encode_batch(list(texts), add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):  # half a surrogate pair, as broken JSON may hold one
            for text in texts:
                to_utf8(text)  # names it
            raise

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`. Special tokens give nothing; a character that is cut in two gives U+FFFD."""
        return self._inner.decode([int(i) for i in ids], skip_special_tokens=True)

    def to_json(self) -> str:
        """Return the content of a tokenizer.json."""
        self._inner.post_processor = self._post_processor
        try:
            return self._inner.to_str(pretty=True)
        finally:
            self._inner.post_processor = None

    def config(self) -> dict[str, Any]:
        """Return the content of a tokenizer_config.json, which says what `folder_tokenizer` and transformers are to
        know.
        """
        config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self.eos_token}
        if self.bos_token_id is not None:
            config["bos_token"] = self._inner.id_to_token(self.bos_token_id)
            config["add_bos_token"] = self.add_bos_token
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        return config

    def gguf_metadata(self, size: int) -> dict[str, object]:
        """Return the metadata of a GGUF file that describes this tokenizer, for a model of `size` tokens. MiniloraError
        if there is none."""
        metadata = gguf_tokenizer.describe(self._inner, size)
        metadata["tokenizer.ggml.eos_token_id"] = self.eos_token_id
        if self.bos_token_id is not None:
            metadata["tokenizer.ggml.bos_token_id"] = self.bos_token_id
        metadata["tokenizer.ggml.add_bos_token"] = self.add_bos_token
        if self.chat_template is not None:
            metadata["tokenizer.chat_template"] = self.chat_template
        return metadata

    @classmethod
    def from_json(
        cls, content: str | bytes, eos_token: str | int = END_OF_TEXT, where: str = "the tokenizer", **settings: Any
    ) -> Tokenizer:
        """Read the tokenizer whose tokenizer.json has this content; `where` names it in errors. FormatError otherwise.
        settings: as of `Tokenizer`."""
        raw = content.encode() if isinstance(content, str) else content
        model = (parsed := parse_json(raw, where)).get("model")
        if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("continuing_subword_prefix"):
            raise FormatError(f"{where} holds no byte-pair encoding")  # on such a prefix the library can panic
        with format_errors(f"{where} is no tokenizer.json", *_OF_DAMAGED_FILES):
            library = _library()
            inner = library.Tokenizer.from_str(raw.decode()) if library else bpe.ByteLevelBPE(parsed, where)
            return cls(inner, eos_token, **settings)

    def save(self, path: str | os.PathLike[str]) -> None:
        write_atomic(path, self.to_json())

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], eos_token: str | int = END_OF_TEXT, **settings: Any) -> Tokenizer:
        """Read the tokenizer in the tokenizer.json at `path`. FormatError if it is missing or not one."""
        return cls.from_json(read_bytes(path, FILE_LIMIT), eos_token, show_path(path), **settings)

    @classmethod
    def from_gguf(cls, metadata: dict[str, Any], where: str) -> Tokenizer:
        """Read the tokenizer that the metadata of a GGUF file describes; `where` is the file's name. FormatError if it
        describes none, or one that is not known here."""
        with format_errors(f"{where} holds no tokenizer", *_OF_DAMAGED_FILES):
            inner, settings = gguf_tokenizer.build(metadata, where)
            return cls(inner, **settings)

    def check_fit(self, vocab_size: int, where: str) -> None:
        """Raise FormatError if a model of `vocab_size` tokens, in the file `where`, has no place for all of this
        one's.
        """
        if self.vocab_size > vocab_size:
            raise FormatError(f"{where}: the tokenizer has {self.vocab_size} tokens, the model {vocab_size}")


# What reading a damaged file raises. Neither MemoryError nor what a signal raises is the file's fault.
_OF_DAMAGED_FILES = (AttributeError, LookupError, OverflowError, TypeError, ValueError)


@contextmanager
def format_errors(message: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of `kinds`, and those of the `tokenizers` library, into a FormatError that begins with `message`.

    The library raises plain Exceptions, and PanicExceptions, which are BaseExceptions that cannot be imported.
    """
    try:
        yield
    except FormatError:
        raise
    except BaseException as error:
        by_library = type(error) is Exception or type(error).__name__ == "PanicException"
        if not by_library and not isinstance(error, kinds):
            raise
        raise FormatError(f"{message}: {escape(str(error), 160)}") from error


def _library() -> Any:
    """Import the tokenizers library; None if it is not installed."""
    try:
        import tokenizers
    except ModuleNotFoundError:
        return None
    return tokenizers


def _without_prefix(inner: Any) -> Any:
    """Return `inner` for a text that is not the first: the same, or, if it puts a space before the first alone, a copy
    that puts none."""
    content = json.loads(inner.pre_tokenizer.__getstate__()) if inner.pre_tokenizer is not None else {}
    if content.get("type") != "Metaspace" or content.get("prepend_scheme") != "first":
        return inner
    copy = type(inner).from_str(inner.to_str())
    copy.encode_special_tokens = True
    copy.pre_tokenizer.prepend_scheme = "never"
    return copy


def folder_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """Read the tokenizer of a Hugging Face folder, which need not be trusted.

    Its tokenizer.json says nothing of what ends a text. That is named in tokenizer_config.json, else in
    special_tokens_map.json, else by id in config.json; failing all, it is END_OF_TEXT. FormatError for what is damaged.
    """
    folder = Path(folder)
    maps, ids = [
        [read_json(folder / name) for name in names if os.path.lexists(folder / name)]
        for names in (("tokenizer_config.json", "special_tokens_map.json"), ("config.json",))
    ]
    named: dict[str, Any] = {}
    for role in ("eos_token", "bos_token"):
        values = [content.get(role) for content in maps] + [content.get(f"{role}_id") for content in ids]
        named[role] = next((_token_of(value) for value in values if value is not None), None)
    eos_token = END_OF_TEXT if named["eos_token"] is None else named["eos_token"]
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json", eos_token)
    if named["bos_token"] is not None and tokenizer.bos_token_id is None:
        with suppress(MiniloraError):  # some configurations name one that no text has
            tokenizer.bos_token_id = tokenizer._find(named["bos_token"])[0]
    begins = next((content["add_bos_token"] for content in maps if "add_bos_token" in content), None)
    if isinstance(begins, bool):  # overrules tokenizer.json, as in transformers' Llama tokenizers
        tokenizer.add_bos_token = begins and tokenizer.bos_token_id is not None
    tokenizer.chat_template = _chat_template(folder, maps)
    return tokenizer


def _token_of(value: Any) -> Any:
    """Return the name or the id of a token, which may be wrapped in its settings or the first of several."""
    if isinstance(value, dict):
        return value.get("content")
    return value[0] if isinstance(value, list) and value else value


def _chat_template(folder: Path, maps: list[dict[str, Any]]) -> str | None:
    """Read the chat template of a folder: its own file, else the default one of tokenizer_config.json."""
    if os.path.lexists(path := folder / "chat_template.jinja"):
        try:
            template: object = read_bytes(path, 4 * TEMPLATE_LIMIT).decode()  # a character has up to four bytes
        except UnicodeDecodeError as error:
            raise FormatError(f"{show_path(path)} is not UTF-8") from error
    else:
        template = next((content["chat_template"] for content in maps if "chat_template" in content), None)
        if isinstance(template, list):  # several, by name
            named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
            template = named.get("default")
    if template is not None and (not isinstance(template, str) or len(template) > TEMPLATE_LIMIT):
        raise FormatError(f"{show_path(folder)}: the chat template must be text of up to {TEMPLATE_LIMIT:,} characters")
    return template


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a vocabulary of `vocab_size` tokens from `texts`: END_OF_TEXT is 0, the bytes follow, then the merges.

    A small text has fewer pairs to merge than asked for. MiniloraError if `vocab_size` is below 257.
    """
    if vocab_size < SMALLEST:
        raise MiniloraError(f"vocabulary size {vocab_size}: at least {SMALLEST}, for the 256 bytes and {END_OF_TEXT}")
    if not (library := _library()):
        return Tokenizer(bpe.ByteLevelBPE.trained(texts, vocab_size, END_OF_TEXT))
    inner = library.Tokenizer.from_str(json.dumps(bpe.RULES))
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=list(bpe.CHARACTERS.values()),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return Tokenizer(inner)


@dataclass(frozen=True)
class TokenStream:
    """Documents end to end. Bits per character = loss in nats x predicted tokens / (ln 2 x `characters`)."""

    ids: np.ndarray  # (N,) int64, eos_token_id after each document
    characters: int  # of the documents' text; the ends add tokens but no characters
    documents: tuple[tuple[int, int], ...] = ()  # tokens, its end included, and characters of each

    def sample(self, tokens: int) -> TokenStream:
        """Draw documents of about so many tokens together, once and for all; all if there are no more."""
        if tokens >= len(self.ids) or not self.documents:
            return self
        lengths, characters = np.array(self.documents).T
        order = np.random.default_rng(0).permutation(len(lengths))
        chosen = np.sort(order[: max(1, np.searchsorted(np.cumsum(lengths[order]), tokens, side="right"))])
        starts = np.cumsum(lengths) - lengths
        ids = np.concatenate([self.ids[starts[i] : starts[i] + lengths[i]] for i in chosen])
        return TokenStream(ids, int(characters[chosen].sum()), tuple(self.documents[i] for i in chosen))


def encode_documents(tokenizer: Tokenizer, documents: Sequence[Document]) -> TokenStream:
    """Encode `documents` as one stream of tokens."""
    end = np.array([tokenizer.eos_token_id])
    parts = []
    for start in range(0, len(documents), _PORTION):
        for ids in tokenizer.encode_many([document.text for document in documents[start : start + _PORTION]]):
            parts += [ids, end]
    ids = np.concatenate(parts) if parts else np.empty(0, np.int64)
    sizes = tuple((len(part) + 1, len(document.text)) for part, document in zip(parts[::2], documents, strict=True))
    return TokenStream(ids, sum(characters for _, characters in sizes), sizes)
