"""Tokenizers in GGUF files: building one from a file's metadata, and describing one as metadata.

A GGUF file has no tokenizer.json. It holds the tokens in the order of their ids, the merges, and in
`tokenizer.ggml.pre` the name of the way to split a text into words. Byte-level tokenizers are supported
(`tokenizer.ggml.model` "gpt2") and give the same ids as the tokenizer.json that the models' makers publish;
SentencePiece ("llama") is not supported. If the `tokenizers` library rejects the metadata, or panics, the error names
the file: see `Tokenizer.from_gguf`.
"""

from __future__ import annotations

import json
from typing import Any

from minilora.data import bpe
from minilora.data.bpe import PRETOKENIZATIONS, WRITTEN, Pretokenization
from minilora.errors import FormatError, MiniloraError, escape, unknown

PREFIX = "tokenizer.ggml."
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = range(1, 6)  # tokenizer.ggml.token_type


def build(metadata: dict[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """Build the tokenizers.Tokenizer of a GGUF file. Also returns the other arguments of `Tokenizer`.

    These are `eos_token` and `bos_token` (ids; bos may be None), `add_bos_token` and `chat_template`. where: the file's
    name, for messages. Raises FormatError if the metadata describes a tokenizer that is not supported. Missing values
    and wrong types raise whatever Python raises; `Tokenizer.from_gguf` turns that into an error that names the file.
    """
    from tokenizers import AddedToken, Tokenizer, models, processors

    values = {name.removeprefix(PREFIX): value for name, value in metadata.items() if value is not None}
    if (kind := values["model"]) != "gpt2":
        raise FormatError(f"{where}: a tokenizer of the kind {escape(repr(kind))} is not supported, only gpt2 is")
    if (name := values.get("pre", "default")) not in PRETOKENIZATIONS:
        raise FormatError(f"{where}: {unknown('pre-tokenizer', name, PRETOKENIZATIONS)}")
    cut = PRETOKENIZATIONS[name]
    tokens = list(values["tokens"])
    vocab = {token: index for index, token in enumerate(tokens)}
    if len(vocab) < len(tokens):
        token = next(token for index, token in enumerate(tokens) if vocab[token] != index)
        raise FormatError(f"{where}: the token {escape(token)} appears twice")
    inner = Tokenizer.from_str(
        json.dumps(bpe.RULES | {"pre_tokenizer": cut.pre_tokenizer, "normalizer": cut.normalizer})
    )
    merges = [(left, right) for left, right in (merge.split(" ", 1) for merge in values.get("merges", []))]
    inner.model = models.BPE(vocab=vocab, merges=merges, ignore_merges=cut.ignore_merges)
    types = values.get("token_type", [NORMAL] * len(tokens))
    for kind in (CONTROL, UNKNOWN, USER_DEFINED):  # USER_DEFINED ones are found whole in any text, the others never
        special = kind != USER_DEFINED
        chosen = [token for token, own in zip(tokens, types, strict=True) if own == kind and token]
        add = inner.add_special_tokens if special else inner.add_tokens
        add([AddedToken(token, normalized=False, special=special) for token in chosen])

    add_bos = bool(values.get("add_bos_token", cut.begins_with_bos))
    bos: Any = values.get("bos_token_id")
    eos = values.get("eos_token_id")
    for role, index in {"bos": bos, "eos": eos}.items():
        is_token = type(index) is int and 0 <= index < len(tokens)
        if not is_token and (index is not None or role == "eos" or add_bos):
            raise FormatError(f"{where}: {PREFIX}{role}_token_id is {escape(index)}, not one of {len(tokens):,} tokens")
    if add_bos:  # the rule for a pair of texts is for other readers of the saved file; minilora encodes no pairs
        begin, single = tokens[bos], f"{tokens[bos]}:0 $A:0"
        pair = f"{single} {begin}:1 $B:1"
        inner.post_processor = processors.TemplateProcessing(single, pair, special_tokens=[(begin, bos)])
    template = metadata.get("tokenizer.chat_template")
    return inner, {"eos_token": eos, "bos_token": bos, "add_bos_token": add_bos, "chat_template": template}


def describe(inner: Any, size: int) -> dict[str, object]:
    """Return the metadata from which `build` can make `inner`, a byte-level tokenizers.Tokenizer, again.

    The roles of tokens and the chat template are not included. size: the number of tokens of the model; unused ids get
    placeholders. Raises MiniloraError if such metadata cannot describe the tokenizer, or if it splits a text into words
    in a way that has no name here.
    """
    state, added = json.loads(inner.to_str()), inner.get_added_tokens_decoder()
    names = {index: name for name, index in inner.get_vocab(with_added_tokens=True).items()}
    pre = next((pre for pre in WRITTEN if _cuts_as(state, PRETOKENIZATIONS[pre])), None)
    if pre is None:
        raise MiniloraError(
            "the tokenizer cannot be written as GGUF: it is not a byte-level byte-pair encoding that splits a text "
            f"into words like {', '.join(WRITTEN[:-1])} or {WRITTEN[-1]}"
        )
    if any(not token.special and (token.lstrip or token.rstrip or token.single_word) for token in added.values()):
        raise MiniloraError("the tokenizer cannot be written as GGUF: one of its tokens depends on the text around it")
    if max(names, default=-1) >= size:
        raise MiniloraError(f"the tokenizer has {max(names) + 1:,} tokens, but the model only {size:,}")
    types = [NORMAL if index in names else UNUSED for index in range(size)]
    for index, token in added.items():
        types[index] = CONTROL if token.special else USER_DEFINED
    described = {
        "model": "gpt2",
        "pre": pre,
        "tokens": [names.get(index, f"[PAD{index}]") for index in range(size)],
        "token_type": types,
        "merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]],
    }
    return {PREFIX + name: value for name, value in described.items()}


def _cuts_as(state: dict[str, Any], cut: Pretokenization) -> bool:
    """Return True if a tokenizer.json gives the same ids as byte-level byte-pair encoding with words split this way."""
    model = state["model"]
    others = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    return (
        model["type"] == "BPE"
        and not any(model.get(name) for name in others)
        and (model["unk_token"] is None or model["vocab"].keys() >= set(bpe.CHARACTERS.values()))
        and bool(model.get("ignore_merges")) == cut.ignore_merges
        and state["normalizer"] == cut.normalizer
        and _words(state["pre_tokenizer"]) == _words(cut.pre_tokenizer)
    )


def _words(rule: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps that split a text into words, in order, without the setting that only affects offsets."""
    if rule is not None and rule.get("type") == "Sequence":
        return [step for part in rule["pretokenizers"] for step in _words(part)]
    return [{name: value for name, value in (rule or {}).items() if name != "trim_offsets"}]
