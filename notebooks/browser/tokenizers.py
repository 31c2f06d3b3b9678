"""A stand-in for the library `tokenizers`, which has no build for the browser: byte-level BPE in plain Python.

It lies beside the notebooks of the site (`notebooks.lite`), where `import tokenizers` finds it. It follows the rules by
which minilora trains (`minilora.data.bpe.RULES`), with the library's ids, and has the names that minilora calls.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from minilora.data.bpe import CHARACTERS, RULES

_BYTE_OF = {character: byte for byte, character in CHARACTERS.items()}
trainers = SimpleNamespace(BpeTrainer=SimpleNamespace)


# GPT-2's words: an English ending; letters, digits or signs, with the space before them; white space.
_WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII)


class _StandIns(dict[int, str]):
    """Map each character to an ASCII one of its kind, so that _WORD need not list the letters and digits of Unicode."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if code < 128:
            self[code] = "!" if 0x1C <= code <= 0x1F else character  # these four are white space in Python alone
        else:
            signs = "\t" if character.isspace() else "!"
            self[code] = {"L": "A", "N": "0"}.get(unicodedata.category(character)[0], signs)
        return self[code]


_STAND_INS = _StandIns()


def gpt2_words(text: str) -> Iterator[str]:
    """Cut a text into words, which together are the text."""
    for match in _WORD.finditer(text.translate(_STAND_INS)):
        yield text[match.start() : match.end()]


def merged(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Join each occurrence of the pair in the parts of a word, from the left."""
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result


def learn(texts: Iterable[str], vocab: dict[str, int], vocab_size: int) -> list[tuple[str, str]]:
    """Return the merges that the texts give, in order, until `vocab`, {token: id}, has grown to so many tokens.

    Of pairs that are as frequent, the one with the smaller ids comes first.
    """
    frequency = Counter(word for text in texts for word in gpt2_words(text))
    parts_of = {word: [CHARACTERS[byte] for byte in word.encode()] for word in frequency}
    counts: Counter[tuple[str, str]] = Counter()
    found_in: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def count(word: str, sign: int) -> None:
        for pair in pairwise(parts_of[word]):
            counts[pair] += sign * frequency[word]
            found_in[pair].add(word)

    for word in frequency:
        count(word, 1)
    merges: list[tuple[str, str]] = []
    while len(vocab) < vocab_size and counts:
        best = max(counts, key=lambda pair: (counts[pair], -vocab[pair[0]], -vocab[pair[1]]))
        if not counts[best]:
            break
        merges.append(best)
        vocab["".join(best)] = len(vocab)
        for word in found_in.pop(best):
            count(word, -1)
            parts_of[word] = merged(parts_of[word], best)
            count(word, 1)
    return merges


_SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def follows_rules(content: dict[str, Any]) -> bool:
    """Return True if a tokenizer.json has RULES, and all its tokens are special ones, bytes or made by its merges."""
    special, model = content["added_tokens"], content["model"]
    vocab, made = model["vocab"], [left + right for left, right in model["merges"]]
    return (
        content | {"added_tokens": [], "model": model | {"vocab": {}, "merges": []}} == RULES
        and special == [{"id": vocab.get(t["content"]), "content": t["content"]} | _SPECIAL for t in special]
        and sorted(vocab) == sorted([*(token["content"] for token in special), *_BYTE_OF, *made])
        and sorted(vocab.values()) == list(range(len(vocab)))
        and vocab.keys() >= {token for merge in model["merges"] for token in merge}
    )


class Tokenizer:
    """The methods of the library's Tokenizer that minilora uses. Text is never encoded as a special token."""

    pre_tokenizer = SimpleNamespace(prepend_scheme="first")  # where tokens lie in a text is not known
    post_processor = None

    def __init__(self, content: dict[str, Any]):
        """Make a tokenizer from the content of a tokenizer.json."""
        self._content, self._vocab = content, content["model"]["vocab"]
        self._names = {index: token for token, index in self._vocab.items()}
        self._special = {token["id"]: SimpleNamespace(**token) for token in content["added_tokens"]}
        self._ranks = {(left, right): rank for rank, (left, right) in enumerate(content["model"]["merges"])}
        self._ids = lru_cache(2**16)(self._ids_of)  # of a word
        self.get_added_tokens_decoder = lambda: self._special
        self.get_vocab, self.token_to_id, self.id_to_token = lambda: self._vocab, self._vocab.get, self._names.get
        self.no_truncation = self.no_padding = lambda: None  # there is none

    @classmethod
    def from_str(cls, text: str) -> Tokenizer:
        """Read a tokenizer.json. ValueError for one with other rules."""
        content = json.loads(text)
        if content != RULES and not follows_rules(content):
            raise ValueError("its rules need the library tokenizers: pip install tokenizers")
        return cls(content)

    def train_from_iterator(self, texts: Iterable[str], trainer: SimpleNamespace) -> None:
        """Learn a tokenizer: the special token is 0, the bytes follow, then the merges."""
        (special,) = trainer.special_tokens
        vocab = {token: index for index, token in enumerate([special, *sorted(_BYTE_OF)])}
        model = RULES["model"] | {"merges": learn(texts, vocab, trainer.vocab_size), "vocab": vocab}
        self.__init__(RULES | {"added_tokens": [{"id": 0, "content": special} | _SPECIAL], "model": model})  # type: ignore[misc]

    def _ids_of(self, word: str) -> list[int]:
        parts = [CHARACTERS[byte] for byte in word.encode()]
        while known := [pair for pair in pairwise(parts) if pair in self._ranks]:
            parts = merged(parts, min(known, key=self._ranks.__getitem__))
        return [self._vocab[part] for part in parts]

    def encode(self, text: str) -> SimpleNamespace:
        """Return the `ids` of a text."""
        return SimpleNamespace(ids=[i for word in gpt2_words(text) for i in self._ids(word)])

    def encode_batch(self, texts: Iterable[str], add_special_tokens: bool = False) -> list[SimpleNamespace]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        names = (self._names[i] for i in ids if i in self._names and not (skip_special_tokens and i in self._special))
        return bytes(_BYTE_OF[character] for name in names for character in name).decode(errors="replace")

    def to_str(self, pretty: bool = False) -> str:
        return json.dumps(self._content, ensure_ascii=False, indent=2 if pretty else None)
