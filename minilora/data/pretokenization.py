"""How a text is cut into words, before a tokenizer merges pairs within each: every way once, as tokenizer.json has it.

The regular expressions are those of the published tokenizers, under the names that GGUF gives them. GPT-2's way, by
which minilora trains, is also here in plain Python, for `data.bpe`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple


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


def gpt2_words(text: str) -> Iterator[tuple[int, str]]:
    """Cut a text into words, which together are the text; each comes after the place where it begins."""
    for match in _WORD.finditer(text.translate(_STAND_INS)):
        yield match.start(), text[match.start() : match.end()]
