"""Byte-level byte-pair encoding in plain Python, with the ids of the `tokenizers` library, where that has no build.

A text is cut into words, and a word into its UTF-8 bytes. Training merges the most frequent pair of neighbours into a
new token, again and again (Sennrich et al. 2016, arXiv 1508.07909; on bytes as in GPT-2). Encoding repeats these merges
in each word, in the order in which they were learned.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import Any

from minilora.data.pretokenization import GPT2, gpt2_words
from minilora.errors import FormatError

# A token is written with one visible character per byte; the bytes that have none get one from 256 on (a space: Ġ).
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _VISIBLE]
CHARACTERS = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}
_BYTE_OF = {character: byte for byte, character in CHARACTERS.items()}


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
    frequency = Counter(word for text in texts for _, word in gpt2_words(text))
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
    """True if a tokenizer.json has RULES, each merge is of earlier tokens to a new one, and no id is left out."""
    special, model = content["added_tokens"], content["model"]
    vocab, tokens = model["vocab"], set(_BYTE_OF)
    for left, right in model["merges"]:
        if not {left, right} <= tokens or left + right in tokens:
            return False
        tokens.add(left + right)
    tokens |= {token["content"] for token in special}
    return (
        content | {"added_tokens": [], "model": model | {"vocab": {}, "merges": []}} == RULES
        and special == [{"id": vocab.get(t["content"]), "content": t["content"]} | _SPECIAL for t in special]
        and vocab.keys() == tokens
        and len(tokens) == 256 + len(model["merges"]) + len(special)
        and sorted(vocab.values()) == list(range(len(vocab)))
    )


class ByteLevelBPE:
    """The methods of a tokenizers.Tokenizer that `Tokenizer` calls. No text gives a special token."""

    model = SimpleNamespace(byte_fallback=False)
    pre_tokenizer = post_processor = None

    def __init__(self, content: dict[str, Any], where: str = "the tokenizer"):
        """content: of a tokenizer.json, which `where` names. FormatError for one with other rules."""
        if not follows_rules(content):
            raise FormatError(f"{where} needs the library tokenizers, for its rules: pip install tokenizers")
        self._content, self._vocab = content, content["model"]["vocab"]
        self._names = {index: token for token, index in self._vocab.items()}
        self._special = {token["id"]: SimpleNamespace(**token) for token in content["added_tokens"]}
        self._ranks = {(left, right): rank for rank, (left, right) in enumerate(content["model"]["merges"])}
        self._tokens = lru_cache(2**16)(self._tokens_of)

    @classmethod
    def trained(cls, texts: Iterable[str], vocab_size: int, special: str) -> ByteLevelBPE:
        """Learn a tokenizer: the special token is 0, the bytes follow, then the merges."""
        vocab = {token: index for index, token in enumerate([special, *sorted(_BYTE_OF)])}
        model = RULES["model"] | {"merges": learn(texts, vocab, vocab_size), "vocab": vocab}
        return cls(RULES | {"added_tokens": [{"id": 0, "content": special} | _SPECIAL], "model": model})

    def _tokens_of(self, word: str) -> list[tuple[int, int, int]]:
        """Return the id of each token, and which characters of the word, from and to, have its bytes."""
        parts = [CHARACTERS[byte] for byte in word.encode()]
        while known := [pair for pair in pairwise(parts) if pair in self._ranks]:
            parts = merged(parts, min(known, key=self._ranks.__getitem__))
        owner = [place for place, character in enumerate(word) for _ in character.encode()]
        ends = accumulate(map(len, parts))
        return [(self._vocab[p], owner[end - len(p)], owner[end - 1] + 1) for p, end in zip(parts, ends, strict=True)]

    def encode(self, text: str) -> SimpleNamespace:
        """Return `ids`, and `offsets`: which characters of the text each stands for, from and to."""
        tokens = [
            (i, (at + first, at + last)) for at, word in gpt2_words(text) for i, first, last in self._tokens(word)
        ]
        return SimpleNamespace(ids=[i for i, _ in tokens], offsets=[offset for _, offset in tokens])

    def encode_batch(self, texts: Iterable[str], add_special_tokens: bool = False) -> list[SimpleNamespace]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        names = (self._names[i] for i in ids if i in self._names and not (skip_special_tokens and i in self._special))
        return bytes(_BYTE_OF[character] for name in names for character in name).decode(errors="replace")

    def get_vocab(self) -> dict[str, int]:
        return self._vocab

    def token_to_id(self, token: str) -> int | None:
        return self._vocab.get(token)

    def id_to_token(self, index: int) -> str | None:
        return self._names.get(index)

    def get_added_tokens_decoder(self) -> dict[int, SimpleNamespace]:
        return self._special

    def to_str(self, pretty: bool = False) -> str:
        return json.dumps(self._content, ensure_ascii=False, indent=2 if pretty else None)

    def no_truncation(self) -> None:
        """Do nothing: there is none, and no padding either."""

    no_padding = no_truncation
