"""pytest tests/data/test_bpe.py: byte-pair encoding in plain Python, for the browser, gives what the library gives."""

import json
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minilora.data import corpora
from minilora.data.tokenizer import END_OF_TEXT, Tokenizer, train_tokenizer
from minilora.errors import FormatError
from minilora.train import load
from notebooks.browser import tokenizers

pytestmark = pytest.mark.host

FILE = (load.base_folder() / "tokenizer.json").read_text("utf-8")
THEIRS = Tokenizer.from_json(FILE)._inner
OURS = tokenizers.Tokenizer.from_str(FILE)
DOCUMENTS = [document.text for document in corpora.load("numpy-docs").documents]
# Characters that this Python's Unicode has; the library's may be newer.
KNOWN = st.characters(exclude_categories=["Cs", "Cn"])
TEXTS = st.text(KNOWN | st.sampled_from("  \n\t'stremdlv10!A\x1c\x85\xa0\u2028"))


@pytest.fixture
def without_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", tokenizers)


def assert_same_encoding(text: str) -> None:
    assert OURS.encode(text).ids == THEIRS.encode(text).ids, text


@given(TEXTS)
@example("it's we'll 'S ''t \x1c\x1d x\x85y  \u3000 z")
@example("日本語 עברית ²½Ⅷ 👩‍👩‍👧 é e\u0301 \0 \ufeff \U0010ffff")
@example(f"a{END_OF_TEXT} 12a_b\r\n\n  end  ")
@example("a" * 500)
@example("\n".join(DOCUMENTS[::4]))
def test_random_text_has_equal_ids(text):
    assert_same_encoding(text)


def test_every_character_is_of_the_same_kind():
    """Each character is tried alone and after a letter, a digit and a sign: the one it joins to a word is its kind."""
    known = (c for c in map(chr, range(0x3400)) if unicodedata.category(c) not in ("Cs", "Cn"))
    assert_same_encoding("".join(f"\na{c}\n1{c}\n!{c}" for c in known))


@given(st.lists(st.integers(0, 2100)), st.booleans())
def test_ids_have_equal_texts(ids, skip):
    assert OURS.decode(ids, skip) == THEIRS.decode(ids, skip_special_tokens=skip)


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("aab 'sé日"), max_size=40), max_size=6), st.integers(257, 300))
@example(["aaaa aaa aaaaa"] * 2, 300)
@example(["ab cd ab cd ba dc"], 260)  # ties
@example(DOCUMENTS[:60], 400)
def test_texts_give_equal_merges(texts, size):
    theirs = train_tokenizer(texts, size).to_json()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tokenizers", tokenizers)
        assert train_tokenizer(texts, size).to_json() == theirs


def test_the_tokenizer_is_the_same_without_the_library(without_library):
    tokenizer = Tokenizer.from_json(FILE)
    assert isinstance(tokenizer._inner, tokenizers.Tokenizer)
    assert tokenizer.to_json() == FILE and tokenizer.vocab_size == 2048
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.add_bos_token) == (0, None, False)
    ids = tokenizer.encode("an é, 日本")
    assert ids.dtype == np.int64 and tokenizer.decode([0, *ids]) == "an é, 日本"
    assert train_tokenizer(["ab"], 5000).vocab_size == 258 and train_tokenizer([], 257).vocab_size == 257


@pytest.mark.parametrize(
    "path, value",
    [
        (["normalizer"], {"type": "NFC"}),
        (["pre_tokenizer", "add_prefix_space"], True),
        (["model", "ignore_merges"], True),
        (["added_tokens", 0, "special"], False),
        (["added_tokens", 0, "id"], 7),
        (["model", "merges", 3], ["Ġ", "Ġ"]),  # twice
        (["model", "merges", 3], ["xyz", "Ġ"]),  # of a token that no merge has made
        (["model", "vocab", "another"], 2048),
    ],
    ids=str,
)
def test_other_rules_are_refused_in_one_line(path, value, without_library):
    content = json.loads(FILE)
    inside = content
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    words = "^a.json holds no tokenizer: its rules need the library tokenizers: pip install tokenizers$"
    with pytest.raises(FormatError, match=words):
        Tokenizer.from_json(json.dumps(content), where="a.json")
