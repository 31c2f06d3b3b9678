"""The tokenizer: `pytest tests/test_data_tokenizer.py`."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minilora.data.corpora import Document
from minilora.data.tokenizer import END_OF_TEXT, Tokenizer, encode_documents, train_tokenizer
from minilora.errors import FormatError, MiniloraError

pytestmark = pytest.mark.host

TEXTS = [f"The function number {i} returns the value of its argument, see also the other function." for i in range(200)]
TOKENIZER = train_tokenizer(TEXTS, 320)


def test_the_vocabulary():
    assert TOKENIZER.vocab_size == 320
    assert TOKENIZER.eos_token_id == 0
    assert len(TOKENIZER.encode(TEXTS[0])) < len(TEXTS[0]) / 3
    assert train_tokenizer(["ab"], 5000).vocab_size == 258  # one pair to merge, and that is all
    assert train_tokenizer([], 257).vocab_size == 257
    for size in (256, 0, -1):
        with pytest.raises(MiniloraError, match=f"vocabulary size {size}: at least 257"):
            train_tokenizer(TEXTS, size)


@given(st.text())
@example("tabs\tand  spaces \r\n\n end ")
@example("日本語 עברית 👩‍👩‍👧 é e\u0301 \0 \ufeff \U0010ffff")
@example(f"{END_OF_TEXT}{END_OF_TEXT} a{END_OF_TEXT}")
def test_any_text_comes_back_and_holds_no_end(text):
    ids = TOKENIZER.encode(text)
    assert ids.dtype == np.int64 and ids.ndim == 1
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.eos_token_id not in ids


def test_decode_drops_ends_and_marks_cut_characters():
    ids = TOKENIZER.encode("é")
    assert TOKENIZER.decode([0, *ids, 0]) == "é"
    assert TOKENIZER.decode(ids[:1]) == "\ufffd"


def test_half_a_surrogate_pair_is_refused():
    argument = b"caf\xe9".decode(errors="surrogateescape")  # as Python decodes a command line that is not UTF-8
    with pytest.raises(MiniloraError, match=r'UTF-8 can hold: "caf\\udce9"'):
        TOKENIZER.encode(argument)


def test_training_is_the_same_in_every_process():
    code = f"from minilora.data.tokenizer import train_tokenizer as t; print(t({TEXTS!r}, 320).to_json())"
    for seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        assert done.stdout == TOKENIZER.to_json() + "\n"


def test_files(tmp_path):
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    again = Tokenizer.from_file(path)
    assert again.to_json() == TOKENIZER.to_json() == path.read_text()
    text = f"The value {END_OF_TEXT} of é"
    assert again.encode(text).tolist() == TOKENIZER.encode(text).tolist()


def test_settings_of_a_file_from_elsewhere_do_not_cut_or_pad():
    content = json.loads(TOKENIZER.to_json())
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None}
    content["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": END_OF_TEXT}
    again = Tokenizer.from_json(json.dumps(content))
    assert again.encode(TEXTS[0]).tolist() == TOKENIZER.encode(TEXTS[0]).tolist()


def test_another_end_token():
    content = TOKENIZER.to_json().replace(END_OF_TEXT, "</s>")
    assert Tokenizer.from_json(content, "</s>").eos_token_id == 0
    with pytest.raises(FormatError, match="no token <|endoftext|>"):
        Tokenizer.from_json(content)


def test_broken_files(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(FormatError, match="tokenizer.json: No such file"):
        Tokenizer.from_file(path)
    content = json.loads(TOKENIZER.to_json())
    prefixed = {**content, "model": content["model"] | {"continuing_subword_prefix": "((((("}}
    for broken in (
        b"",
        b"\xff",
        b"{}",
        b"[1]",
        b'{"model": 3}',
        json.dumps(prefixed).encode(),
        json.dumps(content | {"decoder": 7}).encode(),
        json.dumps(content).encode()[:-30],
    ):
        path.write_bytes(broken)
        with pytest.raises(FormatError, match="tokenizer.json") as caught:
            Tokenizer.from_file(path)
        assert "\n" not in str(caught.value)


def test_a_stream_of_documents():
    documents = [Document("a", "The function é"), Document("b", ""), Document("c", "returns")]
    stream = encode_documents(TOKENIZER, documents)
    parts = [[*TOKENIZER.encode(document.text), 0] for document in documents]
    assert stream.ids.tolist() == sum(parts, [])
    assert stream.ids.dtype == np.int64
    assert stream.characters == 14 + 7
    assert encode_documents(TOKENIZER, []).ids.shape == (0,)


def test_a_long_stream_keeps_its_order():
    documents = [Document(str(i), f"number {i}") for i in range(2500)]
    ids = encode_documents(TOKENIZER, documents).ids
    texts = [TOKENIZER.decode(part) for part in np.split(ids, np.flatnonzero(ids == 0) + 1)]
    assert texts == [document.text for document in documents] + [""]
