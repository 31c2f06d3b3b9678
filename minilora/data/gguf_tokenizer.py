"""The tokenizer that a GGUF file describes in its metadata, and back: the vocabulary, the merges, a name for the rest.

A GGUF file has no tokenizer.json. It holds the tokens in the order of their ids, and `tokenizer.ggml.model` says how
they are used: "gpt2" is byte-level byte-pair encoding with its merges listed, where `tokenizer.ggml.pre` names how a
text is cut into words before; "llama" is SentencePiece's byte-pair encoding, where a token's score says how early it is
merged. The ids are those of the tokenizer.json that the models' makers publish. Everything in the metadata is checked
before the `tokenizers` library, which can panic, sees it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from minilora.data import bpe
from minilora.data.pretokenization import PRETOKENIZATIONS, WRITTEN, Pretokenization
from minilora.errors import FormatError, MiniloraError, escape, unknown

TEMPLATE_LIMIT = 200_000  # characters of a chat template; long ones have 10,000
LARGEST = 2_000_000  # tokens; the largest vocabularies in use have 262,144
_MERGE_WORK = 100_000_000  # characters looked at while merges are derived from scores; 256,000 tokens take 20 million

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type


def build(metadata: dict[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """Make the tokenizers.Tokenizer of a GGUF file; second, what `Tokenizer` is to know of it: `eos_token` and
    `bos_token` (ids, bos None if there is none), `add_bos_token` and `chat_template`. FormatError, with `where` the
    file's name, for metadata that describes no tokenizer that is known here.
    """
    read = _Reader(metadata, where)
    if (kind := read.get("model", str, "text")) not in KINDS:
        known = ", ".join(KINDS)
        raise FormatError(f"{where}: a tokenizer of the kind {escape(repr(kind))} is not supported; there are {known}")
    make, usual_bos, usual_eos = KINDS[kind]
    tokens, types = _vocabulary(read)
    inner, add_bos = make(read, tokens, types)
    _add_special(inner, tokens, types)

    add_bos = read.get("add_bos_token", bool, "true or false", add_bos)
    bos = read.token("bos_token_id", len(tokens), usual_bos)
    eos = read.token("eos_token_id", len(tokens), usual_eos)
    if eos is None:
        raise FormatError(f"{where}: tokenizer.ggml.eos_token_id is missing, the token that ends a text")
    if add_bos:
        if bos is None:
            raise FormatError(f"{where}: a text begins with a token that tokenizer.ggml.bos_token_id does not name")
        _begin_with(inner, tokens[bos], bos)
    template = metadata.get("tokenizer.chat_template")
    if template is not None and (not isinstance(template, str) or len(template) > TEMPLATE_LIMIT):
        raise FormatError(f"{where}: tokenizer.chat_template must be text of up to {TEMPLATE_LIMIT:,} characters")
    return inner, {"eos_token": eos, "bos_token": bos, "add_bos_token": add_bos, "chat_template": template}


class _Reader:
    """Values of `tokenizer.ggml.…` by type. FormatError for what is missing or of another type."""

    def __init__(self, metadata: dict[str, Any], where: str):
        self.metadata, self.where = metadata, where

    def get(self, name: str, kind: type, words: str, default: Any = None) -> Any:
        value = self.metadata.get(f"tokenizer.ggml.{name}")
        value = default if value is None else value
        if value is None:
            raise FormatError(f"{self.where}: tokenizer.ggml.{name} is missing")
        self.check(name, type(value) is kind, words, value)  # a bool is no int here
        return value

    def check(self, name: str, is_right: bool, words: str, value: object) -> None:
        if not is_right:
            shown = type(value).__name__ if isinstance(value, list | dict) else escape(repr(value))
            raise FormatError(f"{self.where}: tokenizer.ggml.{name} must be {words}, not {shown}")

    def token(self, name: str, size: int, default: int | None) -> int | None:
        """Read a token id. A default outside of the vocabulary counts as none."""
        value = self.metadata.get(f"tokenizer.ggml.{name}")
        if value is None:
            return default if default is not None and default < size else None
        self.check(name, type(value) is int and 0 <= value < size, f"the id of one of {size:,} tokens", value)
        return value

    def values(self, name: str, kinds: tuple[type, ...], words: str, count: int | None = None) -> list[Any]:
        """Read a list of values of `kinds`; count: one for each of so many tokens."""
        values = self.get(name, list, f"a list of {words}")
        for index, value in enumerate(values):
            self.check(f"{name}[{index}]", type(value) in kinds, f"one of the list's {words}", value)
        if count is not None and len(values) != count:
            raise FormatError(f"{self.where}: {count:,} tokens, but {len(values):,} in tokenizer.ggml.{name}")
        return values


def _vocabulary(read: _Reader) -> tuple[list[str], list[int]]:
    """Read the tokens by id, and the type of each."""
    tokens = read.values("tokens", (str,), "texts")
    if not 0 < len(tokens) <= LARGEST:
        raise FormatError(f"{read.where}: a vocabulary of {len(tokens):,} tokens; from 1 to {LARGEST:,} are possible")
    if len(set(tokens)) < len(tokens):
        token = next(token for token, count in Counter(tokens).items() if count > 1)
        raise FormatError(f"{read.where}: the token {escape(token)} appears twice")
    if read.metadata.get("tokenizer.ggml.token_type") is None:
        return tokens, [NORMAL] * len(tokens)
    return tokens, read.values("token_type", (int,), "whole numbers", len(tokens))


def _byte_level(read: _Reader, tokens: list[str], types: list[int]) -> tuple[Any, bool]:
    """Make byte-pair encoding on bytes; second, whether a text begins with the token for that unless the file says."""
    from tokenizers import Tokenizer, models

    name = read.get("pre", str, "text", "default")
    if name not in PRETOKENIZATIONS:
        raise FormatError(f"{read.where}: {unknown('pre-tokenizer', name, PRETOKENIZATIONS)}")
    cut, vocab = PRETOKENIZATIONS[name], _ids(tokens)
    rules = bpe.RULES | {"pre_tokenizer": cut.pre_tokenizer, "normalizer": cut.normalizer}
    inner = Tokenizer.from_str(json.dumps(rules))
    inner.model = models.BPE(vocab=vocab, merges=_merges(read, vocab), ignore_merges=cut.ignore_merges)
    return inner, cut.begins_with_bos


def _merges(read: _Reader, vocab: dict[str, int]) -> list[tuple[str, str]]:
    """Read the merges that the file lists, each two tokens whose text end to end is a third."""
    merges = []
    for index, merge in enumerate(read.values("merges", (str,), "texts")):
        left, _, right = merge.partition(" ")
        strangers = [part for part in (left, right, left + right) if part not in vocab]
        if not left or not right or strangers:
            why = (
                f"{escape(strangers[0])} is no token" if left and right else "it is not two tokens with a space between"
            )
            raise FormatError(f"{read.where}: merge {index} is {escape(repr(merge))}: {why}")
        merges.append((left, right))
    return merges


def _sentencepiece(read: _Reader, tokens: list[str], types: list[int]) -> tuple[Any, bool]:
    """Make SentencePiece's byte-pair encoding as the published tokenizer.json of Llama 2 has it: "▁" stands for a space
    and goes before a text, and a character that is no token is spelled in bytes. Second, whether a text begins with
    bos."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    unk, vocab = read.token("unknown_token_id", len(tokens), 0) or 0, _ids(tokens)
    listed = read.metadata.get("tokenizer.ggml.merges") is not None
    merges = _merges(read, vocab) if listed else _merges_by_score(read, tokens, types, vocab)
    model = models.BPE(vocab=vocab, merges=merges, unk_token=tokens[unk], fuse_unk=True, byte_fallback=True)
    inner = Tokenizer(model)
    prefix = read.get("add_space_prefix", bool, "true or false", True)
    space = [normalizers.Prepend("▁")] if prefix else []
    inner.normalizer = normalizers.Sequence([*space, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return inner, True


def _merges_by_score(
    read: _Reader, tokens: list[str], types: list[int], vocab: dict[str, int]
) -> list[tuple[str, str]]:
    """Return every two tokens that make up a third, the highest score of the third first. Control tokens, the unknown
    one and the spelled bytes are not made of text."""
    scores = read.values("scores", (float, int), "numbers", len(tokens))
    for index, score in enumerate(scores):
        read.check(f"scores[{index}]", math.isfinite(score), "a finite number", score)
    if sum(len(token) ** 2 for token in tokens) > _MERGE_WORK:
        raise FormatError(f"{read.where}: tokens of up to {max(map(len, tokens)):,} characters are too long to merge")
    of_text = {token: index for token, index in vocab.items() if types[index] in (NORMAL, UNUSED)}
    merges = []
    for token, index in of_text.items():
        halves = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        pairs = [(left, right) for left, right in halves if left in of_text and right in of_text]
        pairs.sort(key=lambda pair: (of_text[pair[0]], of_text[pair[1]]))
        merges += [(scores[index], len(left), len(right), left, right) for left, right in pairs]
    merges.sort(key=lambda merge: merge[:3], reverse=True)
    return [merge[3:] for merge in merges]


# tokenizer.ggml.model -> what makes the tokenizer, and its usual tokens that begin and end a text
KINDS = {"gpt2": (_byte_level, None, None), "llama": (_sentencepiece, 1, 2)}


def _ids(tokens: list[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


def _add_special(inner: Any, tokens: list[str], types: list[int]) -> None:
    """Tell the library which tokens stand for no text (control tokens), and which are found whole in any text."""
    from tokenizers import AddedToken

    by_type = {kind: [t for t, own in zip(tokens, types, strict=True) if own == kind and t] for kind in set(types)}
    for kind in (CONTROL, UNKNOWN):
        inner.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in by_type.get(kind, [])])
    inner.add_tokens([AddedToken(t, normalized=False, special=False) for t in by_type.get(USER_DEFINED, [])])


def _begin_with(inner: Any, bos_token: str, bos: int) -> None:
    from tokenizers import processors

    # Two texts, where a reader of the saved file has a use for that, begin with it each.
    single, pair = f"{bos_token}:0 $A:0", f"{bos_token}:0 $A:0 {bos_token}:1 $B:1"
    try:
        inner.post_processor = processors.TemplateProcessing(single, pair, special_tokens=[(bos_token, bos)])
    except ValueError:  # a name that the template cannot spell; `Tokenizer` knows the id all the same
        inner.post_processor = None


def describe(inner: Any, size: int) -> dict[str, object]:
    """Return the metadata, but for the roles of tokens and the chat template, from which `build` makes `inner`, a
    tokenizers.Tokenizer of byte-level byte-pair encoding, again.

    size: the number of tokens that the model knows; ids that mean none are filled up. MiniloraError for a tokenizer
    that such metadata cannot describe, or that cuts a text into words in a way that has no name here.
    """
    state = json.loads(inner.to_str())
    model = state["model"]
    pre = next((pre for pre in WRITTEN if _cuts_as(state, PRETOKENIZATIONS[pre])), None)
    if pre is None:
        raise MiniloraError(
            "the tokenizer cannot be written as GGUF: it is no byte-level byte-pair encoding that cuts a text into "
            f"words as one of {', '.join(WRITTEN)} does"
        )
    if model.get("unk_token") is not None and not model["vocab"].keys() >= set(bpe.CHARACTERS.values()):
        raise MiniloraError("the tokenizer cannot be written as GGUF: some bytes are no token, and unknown")
    vocab = inner.get_vocab(with_added_tokens=True)
    names = {index: name for name, index in vocab.items()}
    if max(names, default=-1) >= size:
        raise MiniloraError(f"the tokenizer has {max(names) + 1:,} tokens, the model {size:,}")
    if len(names) < len(vocab):
        raise MiniloraError("the tokenizer cannot be written as GGUF: one id stands for several tokens")
    types = [NORMAL if index in names else UNUSED for index in range(size)]
    for index, token in inner.get_added_tokens_decoder().items():
        types[index] = CONTROL if token.special else USER_DEFINED
        if not token.special and (token.lstrip or token.rstrip or token.single_word):
            why = f"its token {escape(token.content)} depends on the text around it"
            raise MiniloraError(f"the tokenizer cannot be written as GGUF: {why}")
    described = {
        "model": "gpt2",
        "pre": pre,
        "tokens": [names.get(index, f"[PAD{index}]") for index in range(size)],
        "token_type": types,
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
    }
    return {f"tokenizer.ggml.{name}": value for name, value in described.items()}


def _cuts_as(state: dict[str, Any], cut: Pretokenization) -> bool:
    """True if a tokenizer.json gives the ids that byte-pair encoding on bytes gives, with words cut in this way."""
    rules = bpe.RULES["model"] | {"ignore_merges": cut.ignore_merges}
    names = ("type", "dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
    return (
        all((state["model"].get(name) or None) == (rules[name] or None) for name in names)
        and state["normalizer"] == cut.normalizer
        and _words(state["pre_tokenizer"]) == _words(cut.pre_tokenizer)
    )


def _words(rule: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps by which a text is cut into words, in order, without what only moves their places."""
    if rule is None:
        return []
    if rule.get("type") == "Sequence":
        return [step for part in rule["pretokenizers"] for step in _words(part)]
    return [{name: value for name, value in rule.items() if name != "trim_offsets"}]
