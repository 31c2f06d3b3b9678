"""The tokenizer: `pytest tests/data/test_tokenizer.py`."""

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minilora.data.corpora import Document
from minilora.data.tokenizer import END_OF_TEXT, Tokenizer, encode_documents, folder_tokenizer, train_tokenizer
from minilora.errors import FormatError, MiniloraError, Stopped
from minilora.train import load
from tests.helpers import tiny_chat

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
        with pytest.raises(MiniloraError, match=f"vocabulary size must be at least 257, .* not {size}"):
            train_tokenizer(TEXTS, size)


@given(st.text())
@example("tabs\tand  spaces \r\n\n end ")
@example("日本語 עברית 👩‍👩‍👧 é e\u0301 \0 \ufeff \U0010ffff")
@example(f"{END_OF_TEXT}{END_OF_TEXT} a{END_OF_TEXT}")
def test_any_text_comes_back_and_holds_no_end(text):
    ids = TOKENIZER.encode(text)
    assert ids.dtype == np.int64 and ids.ndim == 1
    assert TOKENIZER.decode([0, *ids, 0]) == text
    assert TOKENIZER.eos_token_id not in ids
    assert TOKENIZER.decode(TOKENIZER.encode("é")[:1]) == "\ufffd"


def test_called_it_gives_the_arguments_of_a_model():
    tokenizer = train_tokenizer(TEXTS, 320)
    short, long = tokenizer.encode("The").tolist(), tokenizer.encode(TEXTS[1]).tolist()
    assert tokenizer("The") == {"input_ids": short, "attention_mask": [1] * len(short)}
    assert tokenizer(["The", TEXTS[1]]).input_ids == [short, long]
    assert tokenizer(TEXTS[1], truncation=True, max_length=4).input_ids == long[:4]
    gap = len(long) - len(short)
    for side, row, mask in (("right", short + [0] * gap, [1] * len(short) + [0] * gap),) + (
        ("left", [0] * gap + short, [0] * gap + [1] * len(short)),
    ):
        tokenizer.padding_side = side
        for kind in ("np", "pt", None):
            batch = tokenizer(["The", TEXTS[1]], padding=True, return_tensors=kind).to("cpu")
            assert np.array_equal(batch["input_ids"], [row, long]) and np.array_equal(batch.attention_mask[0], mask)
            assert kind is None or batch.input_ids.shape == (2, len(long)) and batch.input_ids.dtype == np.int64
    tokenizer.pad_token = "e"
    (padded,) = tokenizer(["The"], padding="max_length", max_length=len(short) + 2).input_ids
    assert tokenizer.pad_token_id == padded[0] == tokenizer.encode("e")[0] and padded[2:] == short
    with pytest.raises(MiniloraError, match="different lengths do not fit into an array: pass padding=True"):
        tokenizer(["The", TEXTS[1]], return_tensors="np")
    with pytest.raises(MiniloraError, match="unknown return_tensors 'tf': choose from np, pt"):
        tokenizer("The", return_tensors="tf")
    with pytest.raises(AttributeError):
        _ = tokenizer("The").token_type_ids


def test_a_call_reads_special_tokens_by_name_and_encode_does_not():
    text = f"a{END_OF_TEXT} The"
    ids = TOKENIZER(text).input_ids
    assert ids == [*TOKENIZER.encode("a"), 0, *TOKENIZER.encode(" The")]
    assert 0 not in TOKENIZER.encode(text) and TOKENIZER.decode(ids) == "a The"
    assert TOKENIZER.batch_decode([ids], skip_special_tokens=False) == [text]


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(MiniloraError, match="is not UTF-8"):
        TOKENIZER.encode(b"caf\xe9".decode(errors="surrogateescape"))


def test_settings_of_a_file_from_elsewhere_do_not_cut_or_pad():
    content = json.loads(TOKENIZER.to_json())
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None}
    content["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": END_OF_TEXT}
    again = Tokenizer.from_json(json.dumps(content))
    assert again.encode(TEXTS[0]).tolist() == TOKENIZER.encode(TEXTS[0]).tolist()


CONTENT = json.loads(TOKENIZER.to_json())


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"{}",
        b'{"model": 3}',
        json.dumps(CONTENT | {"model": CONTENT["model"] | {"continuing_subword_prefix": "((((("}}).encode(),
        json.dumps(CONTENT | {"decoder": 7}).encode(),
        json.dumps(CONTENT).encode()[:-30],
    ],
    ids=range(6),
)
def test_broken_files(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(FormatError, match="tokenizer.json") as caught:
        folder_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_stream_of_documents():
    documents = [Document("a", "The function é"), Document("b", ""), Document("c", "returns")]
    stream = encode_documents(TOKENIZER, documents)
    parts = [[*TOKENIZER.encode(document.text), 0] for document in documents]
    assert stream.ids.tolist() == sum(parts, [])
    assert stream.ids.dtype == np.int64
    assert stream.characters == 14 + 7
    assert encode_documents(TOKENIZER, []).ids.shape == (0,)


def folder(path, **files):
    """Make a folder with a tokenizer whose tokens are <|endoftext|>, the bytes, and two more special ones."""
    content = tiny_chat.add_tokens(json.loads(TOKENIZER.to_json()), "<s>", "</s>") | files.pop("change", {})
    path.mkdir(exist_ok=True)
    (path / "tokenizer.json").write_text(json.dumps(content))
    for name, value in files.items():
        (path / f"{name}.json").write_text(json.dumps(value))
    return path


BEGIN = {
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [320], "tokens": ["<s>"]}},
    }
}


@pytest.mark.parametrize(
    ("files", "end"),
    [
        ({}, 0),
        ({"tokenizer_config": {"eos_token": "</s>"}}, 321),
        ({"tokenizer_config": {"eos_token": {"content": "</s>", "lstrip": False}}}, 321),
        ({"tokenizer_config": {"eos_token": None}, "special_tokens_map": {"eos_token": "</s>"}}, 321),
        ({"tokenizer_config": {"eos_token": "</s>"}, "special_tokens_map": {"eos_token": "<s>"}}, 321),
        ({"tokenizer_config": {}, "config": {"eos_token_id": 321}}, 321),
        ({"config": {"eos_token_id": [320, 321]}}, 320),
        ({"config": {"eos_token_id": None}}, 0),
    ],
)
def test_a_folder_says_what_ends_a_text(tmp_path, files, end):
    tokenizer = folder_tokenizer(folder(tmp_path, **files))
    assert tokenizer.eos_token_id == end and not tokenizer.add_bos_token and tokenizer.vocab_size == 322


@pytest.mark.parametrize(
    ("files", "bos", "adds"),
    [
        ({}, None, False),
        ({"config": {"bos_token_id": 320}}, 320, False),
        ({"change": BEGIN, "config": {"eos_token_id": 321}}, 320, True),
        ({"tokenizer_config": {"bos_token": "<s>", "add_bos_token": True}}, 320, True),  # said aloud, that counts
        ({"tokenizer_config": {"bos_token": "<s>", "add_bos_token": False}, "change": BEGIN}, 320, False),
        ({"tokenizer_config": {"bos_token": "<begin>"}}, None, False),  # unknown
    ],
)
def test_what_begins_a_text(tmp_path, files, bos, adds):
    tokenizer = folder_tokenizer(folder(tmp_path, **files))
    assert (tokenizer.bos_token_id, tokenizer.add_bos_token) == (bos, adds)
    assert tokenizer.encode_prompt("The").tolist() == [bos] * adds + tokenizer.encode("The").tolist()
    post_processor = json.loads(tokenizer.to_json())["post_processor"]  # for whoever reads the file
    assert post_processor == (BEGIN["post_processor"] if "change" in files else None)


def test_a_chat_template_is_read_from_where_folders_have_it(tmp_path):
    read = lambda name, value: folder_tokenizer(folder(tmp_path / name, tokenizer_config=value)).chat_template  # noqa: E731
    assert read("a", {}) is None
    assert read("b", {"chat_template": "x"}) == "x"
    several = [{"name": "tool_use", "template": "y"}, {"name": "default", "template": "z"}]
    assert read("c", {"chat_template": several}) == "z"
    (folder(tmp_path / "d") / "chat_template.jinja").write_text("{{ é }}", "utf-8")
    assert read("d", {"chat_template": "x"}) == "{{ é }}"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tokenizer_config": {"eos_token": 3.5}}, "no token 3.5"),
        ({"config": {"eos_token_id": 322}}, "no token 322"),
        ({"config": [1]}, "not an object"),
        ({"tokenizer_config": {"chat_template": 3}}, "the chat template must be text"),
        ({"tokenizer_config": {"chat_template": "x" * 200_001}}, "the chat template must be text"),
    ],
)
def test_broken_settings_of_a_folder(tmp_path, files, words):
    with pytest.raises(FormatError, match=words) as caught:
        folder_tokenizer(folder(tmp_path, **files))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_does_not_fit(tmp_path):
    file = tiny_chat.save(tmp_path, TEXTS) / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["zz"] = 5_000  # the largest id counts
    file.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=f"{tmp_path}: the tokenizer has 5001 tokens, but the model only 302"):
        load.load_model(str(tmp_path))


def test_a_panic_of_the_library_is_a_format_error(monkeypatch):
    import tokenizers

    panic = type("PanicException", (BaseException,), {})  # as Rust's panics arrive: no Exception

    def fail(*_):
        raise panic("index out of bounds\nat line 3")

    monkeypatch.setattr(tokenizers, "Tokenizer", type("Broken", (), {"from_str": staticmethod(fail)}))
    with pytest.raises(FormatError, match="the file holds no tokenizer: index out of bounds") as caught:
        Tokenizer.from_json(TOKENIZER.to_json(), where="the file")
    assert "\n" not in str(caught.value)


class Alarm(Exception):
    """Exception that a signal handler raises, as those of many programs do."""


@pytest.mark.parametrize("error", [Alarm, Stopped, KeyboardInterrupt, MemoryError])
def test_a_signal_while_a_tokenizer_loads_says_nothing_of_the_file(error, monkeypatch):
    metadata, content = TOKENIZER.gguf_metadata(320), TOKENIZER.to_json()

    def fail(*_):
        raise error(15, "terminated")

    monkeypatch.setattr(Tokenizer, "_find", fail)
    for read in (lambda: Tokenizer.from_json(content), lambda: Tokenizer.from_gguf(metadata, "the file")):
        with pytest.raises(error, match="terminated"):
            read()
