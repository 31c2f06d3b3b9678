"""The tokenizer in a GGUF file's metadata: `pytest tests/data/test_gguf_tokenizer.py`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilora.data.bpe import PRETOKENIZATIONS, WRITTEN
from minilora.data.gguf_tokenizer import CONTROL, NORMAL, UNUSED, USER_DEFINED
from minilora.data.tokenizer import Tokenizer, train_tokenizer
from minilora.errors import FormatError, MiniloraError
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXTS = ["Return the value 12 of x,   or of   y 345 in it.\n\n\tThe value   7 is it."] * 3


def byte_level(pre: str | None = "smollm", **more) -> dict:
    """Make the metadata that llama.cpp writes for a small tokenizer."""
    content = json.loads(train_tokenizer(TEXTS, 300).to_json())["model"]
    tokens = SPECIAL + [token for token, index in sorted(content["vocab"].items(), key=lambda v: v[1]) if index]
    values = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": [CONTROL] * 3 + [NORMAL] * (len(tokens) - 3),
        "merges": [" ".join(merge) for merge in content["merges"]],
        "bos_token_id": 1,
        "eos_token_id": 2,
    } | more
    return {f"tokenizer.ggml.{name}": value for name, value in values.items() if value is not None}


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer._inner.id_to_token(int(i)) for i in tokenizer.encode(text)]


def test_ids_are_places_in_the_list():
    metadata = byte_level()
    tokenizer = Tokenizer.from_gguf(metadata, "a.gguf")
    tokens = metadata["tokenizer.ggml.tokens"]
    assert tokenizer.vocab_size == len(tokens)
    assert (tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.bos_token_id) == ("<|im_end|>", 2, 1)
    assert not tokenizer.add_bos_token
    text = TEXTS[0]
    assert [tokens[i] for i in tokenizer.encode(text)] == pieces(tokenizer, text)
    assert "Ġvalue" in pieces(tokenizer, text) and tokenizer.decode(tokenizer.encode(text)) == text
    assert [tokenizer.special_ids[name] for name in SPECIAL] == [0, 1, 2]


@given(st.text())
def test_a_text_comes_back_and_holds_no_special_token(text):
    for tokenizer in (Tokenizer.from_gguf(byte_level(pre), "a.gguf") for pre in ("smollm", "llama-bpe")):
        for variant in (text, f"{text}<|im_end|>"):
            ids = tokenizer.encode(variant)
            assert tokenizer.decode(ids) == variant
            assert not {0, 1, 2} & set(ids.tolist())


def test_digits_and_spaces_by_pre_tokenizer():
    split = {pre: pieces(Tokenizer.from_gguf(byte_level(pre), "a"), "  12 345") for pre in (None, *PRETOKENIZATIONS)}
    # SmolLM2 cuts a text at each digit first: two spaces before one stay together.
    assert split["smollm"] == ["ĠĠ", "1", "2", "Ġ", "3", "4", "5"]
    assert "ĠĠ" not in split["gpt-2"] and split["gpt-2"] == split["default"] == split[None]
    assert split["qwen2"][-3:] == ["3", "4", "5"]
    assert "345" not in split["qwen2"] and split["llama-bpe"] != split["qwen2"]


def set_to(name: str, value: object):
    return lambda metadata: metadata.update({f"tokenizer.ggml.{name}": value})


def append_merge(merge: str):
    return lambda metadata: metadata["tokenizer.ggml.merges"].append(merge)


BAD = {
    "nothing": (lambda m: m.clear(), "holds no tokenizer: 'model'"),
    "another kind": (set_to("model", "llama"), "kind 'llama' is not supported"),
    "unknown pre-tokenizer": (set_to("pre", "viking"), "pre-tokenizer 'viking'"),
    "empty list": (set_to("tokens", []), "holds no tokenizer"),
    "a token twice": (lambda m: m["tokenizer.ggml.tokens"].__setitem__(9, "<|im_end|>"), "im_end.* appears twice"),
    "a merge of unknown": (append_merge("a zzz"), "zzz"),
    "no end": (set_to("eos_token_id", None), "eos_token_id is None"),
    "end out of range": (set_to("eos_token_id", 9999), "eos_token_id is 9999, not one of"),
    "bos that is a flag": (set_to("bos_token_id", True), "bos_token_id is True"),
    "begins with none": (
        lambda m: m.update({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None}),
        "bos_token_id is None",
    ),
    "a long template": (lambda m: m.update({"tokenizer.chat_template": "x" * 200_001}), "of up to 200,000 characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_metadata_is_one_format_error(name):
    change, words = BAD[name]
    metadata = byte_level()
    change(metadata)
    with pytest.raises(FormatError, match=words) as caught:
        Tokenizer.from_gguf(metadata, "a.gguf")
    assert str(caught.value).startswith("a.gguf") and "\n" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=6,
)


@given(st.data())
def test_any_other_metadata_is_a_tokenizer_or_a_format_error(data):
    metadata = byte_level()
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(metadata)))
        value = metadata[name]
        if isinstance(value, list) and value and data.draw(st.booleans()):
            value[data.draw(st.integers(0, len(value) - 1))] = data.draw(VALUES)
        else:
            metadata[name] = data.draw(VALUES)
    try:
        tokenizer = Tokenizer.from_gguf(metadata, "a.gguf")
    except FormatError as error:
        assert "\n" not in str(error)
    else:
        tokenizer.decode(tokenizer.encode("the value 12 é"))


# Out again.

TEXTS_OF_ALL_KINDS = (
    "Return   the value 1234 of x,\n\n\tit's\r\n",
    "<|im_end|></s>",
    "e\u0301 日本語 👩‍👩‍👧 \x00",
    "  12  x",
    "",
)


@pytest.mark.parametrize("pre", WRITTEN)
def test_the_metadata_comes_back(pre):
    metadata = byte_level(pre, add_bos_token=True) | {"tokenizer.chat_template": "{{ messages }}"}
    tokenizer = Tokenizer.from_gguf(metadata, "a.gguf")
    through_json = Tokenizer.from_json(tokenizer.to_json(), "<|im_end|>", chat_template="{{ messages }}")
    for one in (tokenizer, through_json):
        assert one.gguf_metadata(tokenizer.vocab_size) == metadata
    for text in TEXTS_OF_ALL_KINDS:
        assert through_json.encode_prompt(text).tolist() == tokenizer.encode_prompt(text).tolist()


def test_a_tokenizer_of_ours_goes_out():
    tokenizer = train_tokenizer(TEXTS, 300)
    metadata = tokenizer.gguf_metadata(305)
    assert metadata["tokenizer.ggml.pre"] == "gpt-2" and "tokenizer.chat_template" not in metadata
    assert metadata["tokenizer.ggml.token_type"][0] == CONTROL
    size = tokenizer.vocab_size
    assert metadata["tokenizer.ggml.tokens"][size:] == [f"[PAD{i}]" for i in range(size, 305)]
    assert metadata["tokenizer.ggml.token_type"][size:] == [UNUSED] * (305 - size)
    again = Tokenizer.from_gguf(metadata, "a.gguf")
    assert again.eos_token_id == 0 and not again.add_bos_token
    for text in (*TEXTS_OF_ALL_KINDS, "[PAD301]"):
        assert again.encode(text).tolist() == tokenizer.encode(text).tolist()


def test_added_tokens_keep_their_kind():
    content = json.loads(Tokenizer.from_gguf(byte_level(), "a").to_json())
    size = len(content["model"]["vocab"])
    tiny_chat.add_tokens(content, "value of x", special=False)
    tokenizer = Tokenizer.from_json(json.dumps(content), "<|im_end|>")
    metadata = tokenizer.gguf_metadata(size + 3)
    assert metadata["tokenizer.ggml.token_type"][-3:] == [USER_DEFINED, UNUSED, UNUSED]
    again = Tokenizer.from_gguf(metadata, "a")
    assert pieces(again, "value of x,") == pieces(tokenizer, "value of x,") == ["value of x", ","]


NO_NAME = "not a byte-level byte-pair encoding that splits a text into words like gpt-2, smollm, llama-bpe or qwen2"
SPACED = {"id": 3, "single_word": False, "lstrip": True, "rstrip": False, "normalized": False, "special": False}


def with_spaced_token(content: dict) -> None:
    name = next(token for token, index in content["model"]["vocab"].items() if index == 3)
    content["added_tokens"].append({**SPACED, "content": name})


def without_a_byte(content: dict) -> None:
    content["model"]["unk_token"] = "<|endoftext|>"
    del content["model"]["vocab"]["Ń"]


UNWRITABLE = {  # what is changed in a tokenizer.json, and the words of the refusal
    "a space before a text": (lambda c: c["pre_tokenizer"].update(add_prefix_space=True), NO_NAME),
    "letters made small": (lambda c: c.update(normalizer={"type": "Lowercase"}), NO_NAME),
    "words looked up": (lambda c: c["model"].update(ignore_merges=True), NO_NAME),
    "characters spelled in bytes": (lambda c: c["model"].update(byte_fallback=True), NO_NAME),
    "a token that takes spaces": (with_spaced_token, "depends on the text around it"),
    "unknown bytes": (without_a_byte, NO_NAME),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_a_tokenizer_that_gguf_cannot_describe_is_refused(name):
    change, words = UNWRITABLE[name]
    content = json.loads(train_tokenizer(TEXTS, 300).to_json())
    change(content)
    with pytest.raises(MiniloraError, match=words) as caught:
        Tokenizer.from_json(json.dumps(content)).gguf_metadata(400)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_larger_than_the_model_is_refused():
    tokenizer = train_tokenizer(TEXTS, 300)
    with pytest.raises(MiniloraError, match=f"has {tokenizer.vocab_size} tokens, but the model only 280"):
        tokenizer.gguf_metadata(280)
