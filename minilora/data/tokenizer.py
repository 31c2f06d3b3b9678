"""Text to numbers and back: byte-level byte-pair encoding, learned from the text that the model will see.

A text is UTF-8 bytes; training merges the most frequent neighbouring pair into a new token, again and again (Sennrich
et al. 2016, arXiv 1508.07909; on bytes as in GPT-2). With all 256 bytes in the vocabulary nothing is unknown: any text
comes back as it was. The merging is done by the `tokenizers` library, which writes the tokenizer.json that
transformers opens.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from minilora.data.corpora import Document
from minilora.errors import FormatError, MiniloraError, show
from minilora.formats.atomic import open_regular, parse_json, show_path, write_atomic

END_OF_TEXT = "<|endoftext|>"  # between documents; also what a model starts from (bos) and what pads a batch
SMALLEST = 257  # END_OF_TEXT and the 256 bytes
FILE_LIMIT = 100_000_000  # bytes; the tokenizer.json with 256,000 tokens has about 35 million
_PORTION = 1000  # texts encoded at a time


class Tokenizer:
    """A vocabulary with its merges. `eos_token_id` is END_OF_TEXT, or the token named instead."""

    def __init__(self, inner, eos_token: str = END_OF_TEXT):
        """`inner` is a tokenizers.Tokenizer. MiniloraError where it lacks `eos_token`."""
        self._inner = inner
        inner.encode_special_tokens = True  # "<|endoftext|>" in a text is these 13 characters, not the end of it
        inner.no_truncation()  # both may be set in files from elsewhere
        inner.no_padding()
        self.eos_token = eos_token
        self.eos_token_id: int = inner.token_to_id(eos_token)
        if self.eos_token_id is None:
            raise MiniloraError(f"the tokenizer has no token {show(eos_token)}")

    @property
    def vocab_size(self) -> int:
        return self._inner.get_vocab_size()

    def encode(self, text: str) -> np.ndarray:
        """The token ids of `text`, int64 (N,); no special token is added, and none is read out of the text."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As `encode`, for several texts at once, on all cores."""
        try:
            encodings = self._inner.encode_batch(list(texts), add_special_tokens=False)
        except (TypeError, UnicodeEncodeError) as error:  # half a surrogate pair: bytes of the command line, mostly
            raise MiniloraError(f"not a text that UTF-8 can hold: {show(_without_utf8(texts))}") from error
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`. END_OF_TEXT gives nothing; a character that is cut in two gives U+FFFD."""
        return self._inner.decode([int(i) for i in ids], skip_special_tokens=True)

    def to_json(self) -> str:
        """The content of a tokenizer.json."""
        return self._inner.to_str(pretty=True)

    @classmethod
    def from_json(cls, content: str | bytes, eos_token: str = END_OF_TEXT, where: str = "the tokenizer") -> Tokenizer:
        """The tokenizer whose tokenizer.json has this content; `where` names it in errors. FormatError otherwise."""
        import tokenizers

        raw = content.encode() if isinstance(content, str) else content
        model = parse_json(raw, where).get("model")
        if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("continuing_subword_prefix"):
            raise FormatError(f"{where} holds no byte-level BPE")  # on such a prefix the library can panic
        try:
            return cls(tokenizers.Tokenizer.from_str(raw.decode()), eos_token)
        except Exception as error:  # the library raises plain Exception
            raise FormatError(f"{where} is no tokenizer.json: {show(str(error), 160)}") from error

    def save(self, path: str | os.PathLike) -> None:
        write_atomic(path, self.to_json().encode())

    @classmethod
    def from_file(cls, path: str | os.PathLike, eos_token: str = END_OF_TEXT) -> Tokenizer:
        """The tokenizer in the tokenizer.json at `path`. FormatError where it is missing or not one."""
        with open_regular(path) as file:
            raw = file.read(FILE_LIMIT + 1)
        if len(raw) > FILE_LIMIT:
            raise FormatError(f"{show_path(path)} is larger than the {FILE_LIMIT:,} bytes that a tokenizer may have")
        return cls.from_json(raw, eos_token, show_path(path))


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a vocabulary of `vocab_size` tokens from `texts`: END_OF_TEXT is 0, the bytes follow, then the merges.

    The same texts give the same tokenizer. A small text has fewer pairs to merge than asked for: the tokenizer's own
    `vocab_size` is what counts. MiniloraError where `vocab_size` is below 257.
    """
    if vocab_size < SMALLEST:
        raise MiniloraError(f"vocabulary size {vocab_size}: at least {SMALLEST}, for the 256 bytes and {END_OF_TEXT}")
    from tokenizers import Tokenizer as Inner
    from tokenizers import decoders, models, pre_tokenizers, trainers

    inner = Inner(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return Tokenizer(inner)


@dataclass(frozen=True)
class TokenStream:
    """Documents end to end. Bits a character = loss in nats x predicted tokens / (ln 2 x `characters`)."""

    ids: np.ndarray  # (N,) int64, eos_token_id after each document
    characters: int  # of the documents' text; the ends add tokens but no characters


def encode_documents(tokenizer: Tokenizer, documents: Sequence[Document]) -> TokenStream:
    """`documents` as one stream of tokens."""
    end = np.array([tokenizer.eos_token_id])
    parts = []
    for start in range(0, len(documents), _PORTION):
        for ids in tokenizer.encode_many([document.text for document in documents[start : start + _PORTION]]):
            parts += [ids, end]
    ids = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return TokenStream(ids, sum(len(document.text) for document in documents))


def _without_utf8(texts: Sequence[str]) -> str:
    """The first of `texts` that UTF-8 cannot hold."""
    return next((json.dumps(text) for text in texts if any("\ud800" <= c <= "\udfff" for c in text)), "")
