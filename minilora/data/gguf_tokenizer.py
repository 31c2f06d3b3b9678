"""The tokenizer that a GGUF file describes in its metadata, and back: the vocabulary, the merges, a name for the rest.

A GGUF file has no tokenizer.json. It holds the tokens in the order of their ids, and `tokenizer.ggml.model` says how
they are used: "gpt2" is byte-level byte-pair encoding with its merges listed, where `tokenizer.ggml.pre` names how a
text is cut into words before; "llama" is SentencePiece's byte-pair encoding, where a token's score says how early it is
merged. The ids are those of the tokenizer.json that the models' makers publish. What the `tokenizers` library refuses
(or panics on) is an error that names the file: see `Tokenizer.from_gguf`.
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

PREFIX = "tokenizer.ggml."
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type


def build(metadata: dict[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """Make the tokenizers.Tokenizer of a GGUF file; second, what `Tokenizer` is to know of it: `eos_token` and
    `bos_token` (ids, bos None if there is none), `add_bos_token` and `chat_template`. FormatError, with `where` the
    file's name, for metadata that describes no tokenizer that is known here; what is missing or of another type raises
    as it comes, and `Tokenizer.from_gguf` names the file.
    """
    values = {name.removeprefix(PREFIX): value for name, value in metadata.items() if value is not None}
    if (kind := values["model"]) not in KINDS:
        known = ", ".join(KINDS)
        raise FormatError(f"{where}: a tokenizer of the kind {escape(repr(kind))} is not supported; there are {known}")
    make, usual_bos, usual_eos = KINDS[kind]
    tokens = list(values["tokens"])
    if not 0 < len(tokens) <= LARGEST:
        raise FormatError(f"{where}: a vocabulary of {len(tokens):,} tokens; from 1 to {LARGEST:,} are possible")
    if len(set(tokens)) < len(tokens):
        token = next(token for token, count in Counter(tokens).items() if count > 1)
        raise FormatError(f"{where}: the token {escape(token)} appears twice")
    types = values.get("token_type", [NORMAL] * len(tokens))
    inner, add_bos = make(values, tokens, types, where)
    _add_special(inner, tokens, types)

    add_bos = bool(values.get("add_bos_token", add_bos))
    bos: Any = values.get("bos_token_id", usual_bos)
    eos = values.get("eos_token_id", usual_eos)
    for role, index in {"bos": bos, "eos": eos}.items():
        is_token = type(index) is int and 0 <= index < len(tokens)
        if not is_token and (index is not None or role == "eos" or add_bos):
            raise FormatError(f"{where}: {PREFIX}{role}_token_id is {escape(index)}, not one of {len(tokens):,} tokens")
    if add_bos:
        _begin_with(inner, tokens[bos], bos)
    template = metadata.get("tokenizer.chat_template")
    if template is not None and (not isinstance(template, str) or len(template) > TEMPLATE_LIMIT):
        raise FormatError(f"{where}: tokenizer.chat_template must be text of up to {TEMPLATE_LIMIT:,} characters")
    return inner, {"eos_token": eos, "bos_token": bos, "add_bos_token": add_bos, "chat_template": template}


def _byte_level(values: dict[str, Any], tokens: list[str], types: list[int], where: str) -> tuple[Any, bool]:
    """Make byte-pair encoding on bytes; second, whether a text begins with the token for that unless the file says."""
    from tokenizers import Tokenizer, models

    name = values.get("pre", "default")
    if name not in PRETOKENIZATIONS:
        raise FormatError(f"{where}: {unknown('pre-tokenizer', name, PRETOKENIZATIONS)}")
    cut = PRETOKENIZATIONS[name]
    rules = bpe.RULES | {"pre_tokenizer": cut.pre_tokenizer, "normalizer": cut.normalizer}
    inner = Tokenizer.from_str(json.dumps(rules))
    inner.model = models.BPE(vocab=_ids(tokens), merges=_merges(values), ignore_merges=cut.ignore_merges)
    return inner, cut.begins_with_bos


def _merges(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Read the merges that the file lists. The library checks that each is of two tokens, to a third."""
    return [(left, right) for left, right in (merge.split(" ", 1) for merge in values["merges"])]


def _sentencepiece(values: dict[str, Any], tokens: list[str], types: list[int], where: str) -> tuple[Any, bool]:
    """Make SentencePiece's byte-pair encoding as the published tokenizer.json of Llama 2 has it: "▁" stands for a space
    and goes before a text, and a character that is no token is spelled in bytes. Second, whether a text begins with
    bos."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocab, unk = _ids(tokens), tokens[values.get("unknown_token_id", 0)]
    merges = _merges(values) if "merges" in values else _merges_by_score(values["scores"], types, vocab, where)
    inner = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=unk, fuse_unk=True, byte_fallback=True))
    prefix = values.get("add_space_prefix", True)
    space = [normalizers.Prepend("▁")] if prefix else []
    inner.normalizer = normalizers.Sequence([*space, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return inner, True


def _merges_by_score(scores: list[float], types: list[int], vocab: dict[str, int], where: str) -> list[tuple[str, str]]:
    """Return every two tokens that make up a third, the highest score of the third first. Control tokens, the unknown
    one and the spelled bytes are not made of text."""
    if sum(len(token) ** 2 for token in vocab) > _MERGE_WORK:
        raise FormatError(f"{where}: tokens of up to {max(map(len, vocab)):,} characters are too long to merge")
    if not all(map(math.isfinite, scores)):
        raise FormatError(f"{where}: {PREFIX}scores holds a number that is not finite")
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
    return {PREFIX + name: value for name, value in described.items()}


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
