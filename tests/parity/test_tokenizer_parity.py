"""pytest tests/parity/test_tokenizer_parity.py: a saved tokenizer.json opens in transformers, with equal ids."""

import pytest

from minilora.data.tokenizer import END_OF_TEXT, train_tokenizer

transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.parity, pytest.mark.host]


def test_transformers_opens_it(tmp_path):
    texts = [f"The function number {i} returns the value of its argument, see the other function." for i in range(200)]
    tokenizer = train_tokenizer(texts, 320)
    tokenizer.save(tmp_path / "tokenizer.json")
    file = str(tmp_path / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=file, eos_token=END_OF_TEXT)
    assert theirs.eos_token_id == 0 and len(theirs) == tokenizer.vocab_size
    for text in (*texts[:3], "tabs\t \r\n日本語 👩‍👩‍👧 def f(x): return x"):
        ids = theirs(text)["input_ids"]
        assert ids == tokenizer.encode(text).tolist()
        assert theirs.decode(ids) == text
