"""Byte-level byte-pair encoding: the alphabet, the ways to split a text into words, and the rules of a tokenizer.json.

A text is split into words, and a word into its UTF-8 bytes. To encode a word, the learned merges are applied to it in
the order in which they were learned. `data.tokenizer` learns the merges.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# A token is written with one visible character per byte. Bytes without one get a character from 256 on (a space: Ġ).
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _VISIBLE]
CHARACTERS = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}


# The known ways to split a text into words (pretokenization), in the form of tokenizer.json. The regular expressions
# are those of the published tokenizers, under GGUF's names for them. Tokenizers trained by minilora use GPT-2's.


class Pretokenization(NamedTuple):
    """The parts of a tokenizer.json that define words, and other settings that depend on the family."""

    pre_tokenizer: dict[str, Any]
    normalizer: dict[str, Any] | None = None
    ignore_merges: bool = False  # look up the whole word before merging its pieces
    begins_with_bos: bool = False  # begin a text with the bos token, unless the file says otherwise


def _byte_level(use_regex: bool) -> dict[str, Any]:
    """Return the step that spells words in bytes. use_regex: split the text by GPT-2's expression first."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _in_turn(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def _split(digits: str) -> dict[str, Any]:
    """Return the step that splits by Llama 3's expression. digits: the pattern of a number."""
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
WRITTEN = ("gpt-2", "smollm", "llama-bpe", "qwen2")  # the names that written files use, one per way to split


# A tokenizer.json without tokens, from which training starts.
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
