"""pytest tests/parity/test_tokenizer_parity.py: equal ids in transformers, for tokenizers of ours and of GGUF files.

The tokenizers of GGUF files are held to the tokenizer.json that the models' makers publish, written down here without
their vocabularies.
"""

import json
import random

import numpy as np
import pytest

from minilora.data.tokenizer import END_OF_TEXT, Tokenizer, train_tokenizer

transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.parity, pytest.mark.host]


PADDED = {"padding": "max_length", "truncation": True, "max_length": 5}


def test_transformers_opens_it(tmp_path):
    texts = [f"The function number {i} returns the value of its argument, see the other function." for i in range(200)]
    tokenizer = train_tokenizer(texts, 320)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    file = str(tmp_path / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=file, eos_token=END_OF_TEXT)
    assert theirs.eos_token_id == 0 and len(theirs) == tokenizer.vocab_size
    for text in (*texts[:3], "tabs\t \r\n日本語 👩‍👩‍👧 def f(x): return x"):
        ids = theirs(text)["input_ids"]
        assert ids == tokenizer.encode(text).tolist()
        assert theirs.decode(ids) == text
    tokenizer.save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [texts[0], f"a{END_OF_TEXT} b", "", "x"]
    theirs.pad_token = tokenizer.pad_token
    for side in ("left", "right"):
        tokenizer.padding_side = theirs.padding_side = side
        for how in ({}, {"padding": True}, {"truncation": True, "max_length": 3}, PADDED | {"return_tensors": "np"}):
            one, other = tokenizer(texts, **how), theirs(texts, **how)
            for name in ("input_ids", "attention_mask"):
                assert [list(row) for row in one[name]] == [list(row) for row in other[name]]
                assert np.array_equal(tokenizer("ab", **how)[name], theirs("ab", **how)[name])
    assert tokenizer.batch_decode(theirs(texts).input_ids, skip_special_tokens=False) == texts


HARD = [
    *["", " ", "  ", "   a", "a  b ", "\t\tx", " \n \n\n x", "x\r\ny\r\n", "1234567", "a 1234 5", "x  12   3"],
    "0.5e-10",
    *["½ ²³ ①", "٣٤٥ ३४", "👩‍👩‍👧 🇫🇷 👍🏽", "def f(x):\n\treturn x**2  # ok\r\n", "日本語 中文。", "مرحبا بالعالم"],
    *["Привет, мир", "e\u0301 a\u0308 \u0301", "<|im_start|>user<|im_end|>", "a</s>b<s>", "I'll don't WE'VE i'LL"],
    *["\u00a0x\u3000y", "\u200b\ufeff", "a\x00\x04b\U00040000c", "▁▁a", "<0x0A>"],
]
_rng = random.Random(0)
HARD += ["".join(_rng.choices("   \t\n\r123abcthe日👍½é\u0301'I.<>|_▁", k=_rng.randint(1, 40))) for _ in range(500)]


def metadata_and_json(pre: str) -> tuple[dict, dict]:
    """Return GGUF metadata of a small byte-level vocabulary, and the same as parts of a tokenizer.json."""
    texts = [f"the value {i} of  x\n\n\tis   {i * 7} at 日本語, isn't   it" for i in range(50)]
    model = json.loads(train_tokenizer(texts, 340).to_json())["model"]
    names = ["<|im_start|>", "<|im_end|>", *(t for t, i in sorted(model["vocab"].items(), key=lambda v: v[1]) if i)]
    vocab = {name: index for index, name in enumerate(names)}
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (len(names) - 2),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_bos_token": False,
    }
    settings = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None}
    content["added_tokens"] = [{"id": i, "content": names[i], **settings} for i in range(2)]
    content["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    content["model"] = model | {"vocab": vocab, "ignore_merges": False}
    return metadata, content


def byte_level(use_regex: bool) -> dict:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def split(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PUBLISHED = {  # what the tokenizer.json of a family says of cutting a text into words
    "gpt-2": (byte_level(True), None, False),
    "smollm": ([{"type": "Digits", "individual_digits": True}, byte_level(True)], None, False),
    "llama-bpe": (
        [split(rf"{CONTRACTIONS}|{WORDS}|\p{{N}}{{1,3}}|{OTHERS}"), byte_level(False)],
        None,
        True,
    ),
    "qwen2": ([split(rf"{CONTRACTIONS}|{WORDS}|\p{{N}}|{OTHERS}"), byte_level(False)], {"type": "NFC"}, False),
}


def differing(ours: Tokenizer, theirs, texts=HARD) -> list[str]:
    plain = {"add_special_tokens": False, "split_special_tokens": True}
    return [text for text in texts if theirs(text, **plain)["input_ids"] != ours.encode(text).tolist()]


@pytest.mark.parametrize("pre", PUBLISHED)
def test_gguf_metadata_gives_the_ids_of_the_published_file(pre, tmp_path):
    metadata, content = metadata_and_json(pre)
    words, content["normalizer"], content["model"]["ignore_merges"] = PUBLISHED[pre]
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": words} if isinstance(words, list) else words
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.from_gguf(metadata, "a.gguf")
    assert differing(ours, theirs) == []
    for text in HARD:
        ids = ours.encode(text).tolist()
        assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)
    assert differing(Tokenizer.from_json(json.dumps(content), "<|im_end|>"), theirs) == []


def test_a_saved_gguf_tokenizer_opens_in_transformers(tmp_path):
    metadata, _ = metadata_and_json("llama-bpe")
    ours = Tokenizer.from_gguf(metadata, "a.gguf")
    (tmp_path / "tokenizer.json").write_text(ours.to_json())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(ours.config()))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_token_id, ours.eos_token_id)
    for text in HARD:
        assert theirs(text, split_special_tokens=True)["input_ids"] == ours.encode_prompt(text).tolist()
