"""Text to numbers and back: byte-level byte-pair encoding, learned from the text that the model will see.

A text is a sequence of UTF-8 bytes. Training repeatedly merges the most frequent pair of neighbours into a new token
(Sennrich et al. 2016, arXiv 1508.07909; on bytes as in GPT-2). Because all 256 bytes are in the vocabulary, decoding
restores any text exactly. The `tokenizers` library does the merging, and writes the tokenizer.json that transformers
opens.
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

from minilora import backend
from minilora.data import bpe, gguf_tokenizer
from minilora.data.corpora import Document
from minilora.errors import FormatError, MiniloraError, escape, unknown
from minilora.formats.atomic import parse_json, read_bytes, read_json, show_path, to_utf8, write_atomic, write_json
from minilora.tensor import Tensor

END_OF_TEXT = "<|endoftext|>"  # ends each document; also starts a text (bos) and pads a batch
SMALLEST = 257  # END_OF_TEXT and the 256 bytes
TEMPLATE_LIMIT = 200_000  # characters of a chat template; long ones have 10,000
FILE_LIMIT = 100_000_000  # bytes; a tokenizer.json with 256,000 tokens has about 35 million
_PORTION = 1000  # texts encoded at a time, because the library's results take much memory


class Inputs(dict[str, Any]):
    """The arguments of a model by name, returned by a call of the tokenizer: `model.generate(**tokenizer(text))`."""

    def to(self, device: object) -> Inputs:
        return backend.on_device(self, device)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)


class Tokenizer:
    """A vocabulary with its merges, and the special tokens.

    eos_token, eos_token_id      the token that ends a text
    pad_token, pad_token_id      the token that pads a batch, on the `padding_side`; by default eos_token
    bos_token_id                 the token that begins a text, or None
    special_ids                  {name: id} of the tokens that `encode` never produces from a text
    add_bos_token                True if the model was trained on texts that begin with bos: see `encode_prompt`
    chat_template                the model's template, or None. It is read, never run: see `data.chat_format`
    """

    def __init__(
        self,
        inner: Any,
        eos_token: str | int = END_OF_TEXT,
        bos_token: str | int | None = None,
        add_bos_token: bool | None = None,
        chat_template: str | None = None,
    ):
        """Take over `inner`, a tokenizers.Tokenizer. Raises MiniloraError if it does not have one of the tokens.

        eos_token, bos_token: a name or an id. add_bos_token: None takes it from the rules of `inner`, which may also
        name the token.
        """
        self._inner = inner
        inner.encode_special_tokens = True  # "<|endoftext|>" in a text is these 13 characters, not the end of it
        inner.no_truncation()  # files from elsewhere may set truncation and padding
        inner.no_padding()
        self.vocab_size: int = max(inner.get_vocab().values(), default=-1) + 1  # ids may have gaps
        self.eos_token_id, self.eos_token = self._find(eos_token)
        self.pad_token_id, self.padding_side = self.eos_token_id, "right"
        self.chat_template = chat_template
        if chat_template is not None and (not isinstance(chat_template, str) or len(chat_template) > TEMPLATE_LIMIT):
            raise MiniloraError(f"the chat template must be text of up to {TEMPLATE_LIMIT:,} characters")
        self.bos_token_id = None if bos_token is None else self._find(bos_token)[0]
        begins = [i for i in inner.encode("").ids[:1] if i != self.eos_token_id or i == self.bos_token_id]
        if self.bos_token_id is None and begins:
            self.bos_token_id = begins[0]
        self.add_bos_token = begins == [self.bos_token_id] if add_bos_token is None else add_bos_token
        self.add_bos_token = self.add_bos_token and self.bos_token_id is not None
        self.special_ids = {t.content: i for i, t in inner.get_added_tokens_decoder().items() if t.special}
        # Rules for bos and for pairs of texts. They are not used here, and would shift the offsets of tokens.
        self._post_processor, inner.post_processor = inner.post_processor, None
        # False if a space is added only at the beginning of a text, so that parts of it cannot be encoded separately.
        self.encodes_parts = getattr(inner.pre_tokenizer, "prepend_scheme", None) != "first"

    def _find(self, token: str | int) -> tuple[int, str]:
        """Return the id and the name of a token, given either."""
        if isinstance(token, str):
            index, name = self._inner.token_to_id(token), token
        elif type(token) is int and 0 <= token < self.vocab_size:
            index, name = token, self._inner.id_to_token(token)
        else:
            index = name = None
        if index is not None and name is not None:
            return index, name
        raise MiniloraError(f"the tokenizer has no token {escape(token)}")

    def encode(self, text: str) -> np.ndarray:
        """Return the token ids of `text`, int64 (N,). Special tokens are neither added nor recognised in the text."""
        return self.encode_many([text])[0]

    def encode_prompt(self, text: str) -> np.ndarray:
        """Encode `text` after the beginning-of-text token, if the model was trained with it."""
        ids = self.encode(text)
        return np.concatenate([[self.bos_token_id], ids]) if self.add_bos_token else ids

    def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encode several texts at once, on all cores."""
        return [np.array(encoding.ids, dtype=np.int64) for encoding in self._encodings(texts)]

    def encode_placed(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return each text's token ids, and the offset in characters at which each token begins; both int64 (N,)."""
        return [
            (np.array(encoding.ids, np.int64), np.array([start for start, _ in encoding.offsets], np.int64))
            for encoding in self._encodings(texts)
        ]

    def _encodings(self, texts: Sequence[str], reads_special: bool = False) -> Iterator[Any]:
        texts = list(texts)
        self._inner.encode_special_tokens = not reads_special
        for text in texts:
            to_utf8(text)  # raises for half a surrogate pair
        with format_errors("the tokenizer fails"):
            for start in range(0, len(texts), _PORTION):
                yield from self._inner.encode_batch(texts[start : start + _PORTION], add_special_tokens=False)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Return the text of `ids`. An incomplete character becomes U+FFFD."""
        return self._inner.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens)

    def to_json(self) -> str:
        """Return the content of a tokenizer.json."""
        self._inner.post_processor = self._post_processor
        try:
            return self._inner.to_str(pretty=True)
        finally:
            self._inner.post_processor = None

    def config(self) -> dict[str, Any]:
        """Return the content of a tokenizer_config.json, for `folder_tokenizer` and transformers."""
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self.eos_token}
        if self.bos_token_id is not None:
            config |= {"bos_token": self._inner.id_to_token(self.bos_token_id), "add_bos_token": self.add_bos_token}
        return config if self.chat_template is None else config | {"chat_template": self.chat_template}

    def gguf_metadata(self, size: int) -> dict[str, object]:
        """Return GGUF metadata that describes this tokenizer, for a model with `size` tokens.

        Raises MiniloraError if GGUF cannot describe it.
        """
        metadata = gguf_tokenizer.describe(self._inner, size)
        roles = {"eos_token_id": self.eos_token_id, "bos_token_id": self.bos_token_id}
        metadata |= {gguf_tokenizer.PREFIX + role: i for role, i in roles.items() if i is not None}
        metadata[f"{gguf_tokenizer.PREFIX}add_bos_token"] = self.add_bos_token
        return metadata if self.chat_template is None else metadata | {"tokenizer.chat_template": self.chat_template}

    @classmethod
    def from_json(
        cls, content: str | bytes, eos_token: str | int = END_OF_TEXT, where: str = "the tokenizer", **settings: Any
    ) -> Tokenizer:
        """Read the tokenizer whose tokenizer.json has this content. where: its name in errors; settings: those of
        `Tokenizer`. Raises FormatError if it does not describe a byte-pair encoding.
        """
        raw = content.encode() if isinstance(content, str) else content
        model = parse_json(raw, where).get("model")
        if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("continuing_subword_prefix"):
            raise FormatError(f"{where} holds no byte-pair encoding")  # with such a prefix the library can panic
        import tokenizers

        with format_errors(f"{where} holds no tokenizer"):
            return cls(tokenizers.Tokenizer.from_str(raw.decode()), eos_token, **settings)

    @classmethod
    def from_gguf(cls, metadata: dict[str, Any], where: str) -> Tokenizer:
        """Read the tokenizer that the metadata of a GGUF file describes. where: the file's name.

        Raises FormatError if it describes none, or one that is not supported.
        """
        with format_errors(f"{where} holds no tokenizer"):
            inner, settings = gguf_tokenizer.build(metadata, where)
            return cls(inner, **settings)

    # As in transformers

    def batch_decode(self, rows: Iterable[Iterable[int]], skip_special_tokens: bool = True) -> list[str]:
        return [self.decode(row, skip_special_tokens) for row in rows]

    @property
    def pad_token(self) -> str:
        return self._find(self.pad_token_id)[1]

    @pad_token.setter
    def pad_token(self, token: str) -> None:
        self.pad_token_id, _ = self._find(token)

    def __call__(
        self, text, padding=False, truncation=False, max_length=None, return_tensors=None, add_special_tokens=True
    ) -> Inputs:
        """Encode one text or several as arguments of a model: input_ids and attention_mask.

        They are lists, arrays (B, T) (return_tensors "np") or Tensors ("pt"). Unlike `encode`, this recognises special
        tokens by name in the text, so pass untrusted texts to `encode` or `apply_chat_template` instead. padding: True
        pads to the longest row, "max_length" to max_length. truncation: cut rows to max_length. Raises MiniloraError if
        rows of different lengths should become an array.
        """
        alone = isinstance(text, str)
        rows = [encoding.ids for encoding in self._encodings([text] if alone else text, reads_special=True)]
        if add_special_tokens and self.add_bos_token:
            rows = [row if row[:1] == [self.bos_token_id] else [self.bos_token_id, *row] for row in rows]
        rows = [row[:max_length] for row in rows] if truncation else rows
        return self._inputs(rows, alone, return_tensors, padding, max_length)

    def apply_chat_template(
        self, conversation, tokenize=True, add_generation_prompt=False, return_tensors=None, return_dict=False
    ):
        """Write a conversation in the model's chat format (see `chat_format`).

        Returns token ids; with return_dict=True, arguments of a model; with tokenize=False, text for calling this
        tokenizer. Raises MiniloraError if the model has no chat format.
        """
        from minilora.data.chat_format import find_format

        chat_format = find_format(self)
        if not tokenize:
            return chat_format.write(self, conversation, add_generation_prompt)
        ids, _ = chat_format.encode(self, conversation, add_generation_prompt)
        inputs = self._inputs([ids.tolist()], True, return_tensors)
        return inputs if return_dict else inputs["input_ids"]

    def _inputs(self, rows, alone, return_tensors, padding=False, max_length=None) -> Inputs:
        from minilora.data.batches import pad_rows

        make: Any = {"np": np.asarray, "pt": Tensor, None: np.ndarray.tolist}
        if return_tensors not in make:
            raise MiniloraError(unknown("return_tensors", return_tensors, ("np", "pt")))
        if return_tensors and not padding and len({len(row) for row in rows}) > 1:
            raise MiniloraError("texts of different lengths do not fit into an array: pass padding=True")
        both: Any = rows, [[1] * len(row) for row in rows]  # ids and mask
        if return_tensors or padding:
            widest = [[0] * (max_length or 0)] if padding == "max_length" else []  # sets the width, then is dropped
            arrays = pad_rows(rows + widest, self.pad_token_id, self.padding_side == "left")
            both = [make[return_tensors](array[: len(rows)]) for array in arrays]
        ids, mask = (values[0] for values in both) if alone and not return_tensors else both
        return Inputs(input_ids=ids, attention_mask=mask)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write tokenizer.json and tokenizer_config.json."""
        write_atomic(Path(folder) / "tokenizer.json", self.to_json())
        write_json(Path(folder) / "tokenizer_config.json", self.config())


@contextmanager
def format_errors(message: str) -> Iterator[None]:
    """Turn the errors of reading a damaged file into a FormatError that begins with `message`.

    The `tokenizers` library raises plain Exceptions, and PanicExceptions, which are BaseExceptions that cannot be
    imported. A MemoryError or an exception from a signal is not the file's fault, and passes through.
    """
    try:
        yield
    except FormatError:
        raise
    except BaseException as error:
        by_library = type(error) is Exception or type(error).__name__ == "PanicException"
        if by_library or isinstance(error, (AttributeError, LookupError, OverflowError, TypeError, ValueError)):
            raise FormatError(f"{message}: {escape(str(error), 160)}") from error
        raise


def folder_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """Read the tokenizer of a Hugging Face folder, which may come from an untrusted source.

    A tokenizer.json does not say which token ends a text. tokenizer_config.json does, else special_tokens_map.json,
    else config.json, by id; if none of them does, it is END_OF_TEXT. Raises FormatError for damaged files.
    """
    folder = Path(folder)
    names = ("tokenizer_config.json", "special_tokens_map.json", "config.json")
    settings, special, config = (read_json(folder / n) if os.path.lexists(folder / n) else {} for n in names)

    def named(role: str) -> Any:
        """Return the name or id of the token for `role`; files may wrap it in settings, or list several."""
        values = (settings.get(role), special.get(role), config.get(f"{role}_id"))
        value = next((value for value in values if value is not None), None)
        if isinstance(value, dict):
            return value.get("content")
        return value[0] if isinstance(value, list) and value else value

    template = settings.get("chat_template")
    if os.path.lexists(path := folder / "chat_template.jinja"):
        with format_errors(f"{show_path(path)} is not UTF-8"):
            template = read_bytes(path, 4 * TEMPLATE_LIMIT).decode()  # a character has up to four bytes
    elif isinstance(template, list):  # several, by name
        template = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}.get("default")
    eos_token = END_OF_TEXT if (eos := named("eos_token")) is None else eos
    content, where = read_bytes(folder / "tokenizer.json", FILE_LIMIT), show_path(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_json(content, eos_token, where, chat_template=template)
    if (bos_token := named("bos_token")) is not None and tokenizer.bos_token_id is None:
        with suppress(MiniloraError):  # some configurations name a token that the tokenizer does not have
            tokenizer.bos_token_id = tokenizer._find(bos_token)[0]
    if isinstance(begins := settings.get("add_bos_token"), bool):  # overrules tokenizer.json, as in transformers
        tokenizer.add_bos_token = begins and tokenizer.bos_token_id is not None
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a vocabulary of `vocab_size` tokens from `texts`: END_OF_TEXT is 0, then come the bytes, then the merges.

    A small text gives fewer tokens, when it has no more pairs to merge. Raises MiniloraError if `vocab_size` is below
    257.
    """
    if vocab_size < SMALLEST:
        raise MiniloraError(
            f"the vocabulary size must be at least {SMALLEST}, for the 256 bytes and {END_OF_TEXT}, not {vocab_size}"
        )
    import tokenizers

    inner, alphabet = tokenizers.Tokenizer.from_str(json.dumps(bpe.RULES)), list(bpe.CHARACTERS.values())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    return Tokenizer(inner)


@dataclass(frozen=True)
class TokenStream:
    """Concatenated documents. Bits per character = loss in nats x predicted tokens / (ln 2 x `characters`)."""

    ids: np.ndarray  # (N,) int64, eos_token_id after each document
    characters: int  # characters of the documents' text; end tokens count none
    documents: tuple[tuple[int, int], ...] = ()  # (tokens including the end token, characters) of each document

    def sample(self, tokens: int) -> TokenStream:
        """Draw random documents with about `tokens` tokens in total, always the same; all if there are not more."""
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
    texts = [document.text for document in documents]
    parts = [np.append(ids, tokenizer.eos_token_id) for ids in tokenizer.encode_many(texts)]
    sizes = tuple((len(part), len(text)) for part, text in zip(parts, texts, strict=True))
    ids = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return TokenStream(ids, sum(map(len, texts)), sizes)
