"""Byte-level byte-pair encoding in plain Python, with the ids of the `tokenizers` library, where that has no build.

A text is cut into words, and a word into its UTF-8 bytes. Training merges the most frequent pair of neighbours into a
new token, again and again (Sennrich et al. 2016, arXiv 1508.07909; on bytes as in GPT-2). Encoding repeats these merges
in each word, in the order in which they were learned.
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
from typing import Any, NamedTuple

from minilora.errors import FormatError

# A token is written with one visible character per byte; the bytes that have none get one from 256 on (a space: Ġ).
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _VISIBLE]
CHARACTERS = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}
_BYTE_OF = {character: byte for byte, character in CHARACTERS.items()}


# How a text is cut into words: every way once, as tokenizer.json has it. The regular expressions are those of the
# published tokenizers, under the names that GGUF gives them. Here, in plain Python, is GPT-2's way, by which minilora
# trains.


class Pretokenization(NamedTuple):
    """The parts of a tokenizer.json that say how words are made, and what else depends on the family."""

    pre_tokenizer: dict[str, Any]
    normalizer: dict[str, Any] | None = None
    ignore_merges: bool = False  # a whole word is looked up before its pieces are merged
    begins_with_bos: bool = False  # a text begins with the token for that, unless the file says otherwise


def _byte_level(use_regex: bool) -> dict[str, Any]:
    """Spell words in bytes; use_regex: cut them by GPT-2's expression first."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _in_turn(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def _split(digits: str) -> dict[str, Any]:
    """Llama 3's expression, with so many digits to a word."""
    letters = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
    rest = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    pattern = {"Regex": rf"{letters}|{digits}|{rest}"}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


GPT2 = Pretokenization(_byte_level(use_regex=True))
_SMOLLM = Pretokenization(_in_turn({"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)))
_LLAMA3 = Pretokenization(
    _in_turn(_split(r"\p{N}{1,3}"), _byte_level(use_regex=False)), ignore_merges=True, begins_with_bos=True
)
_QWEN2 = Pretokenization(_in_turn(_split(r"\p{N}"), _byte_level(use_regex=False)), normalizer={"type": "NFC"})
PRETOKENIZATIONS = {  # by the name in GGUF's tokenizer.ggml.pre
    "default": GPT2,
    "gpt-2": GPT2,
    "smollm": _SMOLLM,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
}
WRITTEN = ("gpt-2", "smollm", "llama-bpe", "qwen2")  # the names that a file is given, one for each way to cut


# GPT-2's words: an English ending; letters, digits or signs, with the space before them; white space.
_WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII)


class _StandIns(dict[int, str]):
    """For each character an ASCII one of its kind, so that _WORD need not list the letters and digits of Unicode."""

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


# A tokenizer.json without its tokens. These are the only rules that are followed here.
RULES: dict[str, Any] = {
    **{"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None},
    "pre_tokenizer": GPT2.pre_tokenizer,
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {
        **{"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None},
        **{"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False},
        **{"vocab": {}, "merges": []},
    },
}
_SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def follows_rules(content: dict[str, Any]) -> bool:
    """True if a tokenizer.json has RULES, and its tokens are the special ones, the bytes and what its merges make."""
    special, model = content["added_tokens"], content["model"]
    vocab, made = model["vocab"], [left + right for left, right in model["merges"]]
    return (
        content | {"added_tokens": [], "model": model | {"vocab": {}, "merges": []}} == RULES
        and special == [{"id": vocab.get(t["content"]), "content": t["content"]} | _SPECIAL for t in special]
        and sorted(vocab) == sorted([*(token["content"] for token in special), *_BYTE_OF, *made])
        and sorted(vocab.values()) == list(range(len(vocab)))
        and vocab.keys() >= {token for merge in model["merges"] for token in merge}
    )


class ByteLevelBPE:
    """The methods of a tokenizers.Tokenizer that `Tokenizer` calls. No text gives a special token."""

    model = SimpleNamespace(byte_fallback=False)
    pre_tokenizer = SimpleNamespace(prepend_scheme="first")  # where tokens lie in a text is not known
    post_processor = None

    def __init__(self, content: dict[str, Any], where: str = "the tokenizer"):
        """content: of a tokenizer.json, which `where` names. FormatError for one with other rules."""
        if not follows_rules(content):
            raise FormatError(f"{where} needs the library tokenizers, for its rules: pip install tokenizers")
        self._content, self._vocab = content, content["model"]["vocab"]
        self._names = {index: token for token, index in self._vocab.items()}
        self._special = {token["id"]: SimpleNamespace(**token) for token in content["added_tokens"]}
        self._ranks = {(left, right): rank for rank, (left, right) in enumerate(content["model"]["merges"])}
        self._ids = lru_cache(2**16)(self._ids_of)  # of a word
        self.get_added_tokens_decoder = lambda: self._special
        self.get_vocab, self.token_to_id, self.id_to_token = lambda: self._vocab, self._vocab.get, self._names.get
        self.no_truncation = self.no_padding = lambda: None  # there is none

    @classmethod
    def trained(cls, texts: Iterable[str], vocab_size: int, special: str) -> ByteLevelBPE:
        """Learn a tokenizer: the special token is 0, the bytes follow, then the merges."""
        vocab = {token: index for index, token in enumerate([special, *sorted(_BYTE_OF)])}
        model = RULES["model"] | {"merges": learn(texts, vocab, vocab_size), "vocab": vocab}
        return cls(RULES | {"added_tokens": [{"id": 0, "content": special} | _SPECIAL], "model": model})

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
