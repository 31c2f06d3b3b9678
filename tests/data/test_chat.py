"""Conversations: `pytest tests/data/test_chat.py`. (parity/test_chat_parity.py has the templates of the families.)"""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilora.data import chat
from minilora.data.batches import IGNORED, ChatBatches, chat_windows
from minilora.data.tokenizer import Tokenizer, train_tokenizer
from minilora.errors import MiniloraError
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe "
    "kind.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tokenizer(template: str | None = CHATML, special=("<|im_start|>", "<|im_end|>"), **changes) -> Tokenizer:
    """Make a tokenizer. changes: to its tokenizer.json, or to its added tokens."""
    content = json.loads(train_tokenizer(["user\nassistant\nsystem\nthe value of it is 12\n\n"] * 20, 290).to_json())
    tiny_chat.add_tokens(content, *special, special=changes.pop("are_special", True))
    return Tokenizer.from_json(json.dumps(content | changes), special[-1], chat_template=template)


TOKENIZER = make_tokenizer()
FORMAT = chat.find_format(TOKENIZER)
START, END = TOKENIZER.special_ids["<|im_start|>"], TOKENIZER.special_ids["<|im_end|>"]


def turns(*contents: str, system: str | None = None) -> chat.Conversation:
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


def written(ids) -> str:
    """Decode tokens to text, special tokens included."""
    return TOKENIZER._inner.decode(list(map(int, ids)), skip_special_tokens=False)


def test_a_conversation_and_what_is_learned_of_it():
    ids, mask = FORMAT.encode(TOKENIZER, turns("Hello", "the value", "More", "é"))
    assert ids.dtype == np.int64 and mask.dtype == bool and ids.shape == mask.shape
    assert written(ids) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nthe value"
        "<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\né<|im_end|>\n"
    )
    assert written(ids[mask]) == "the value<|im_end|>é<|im_end|>"
    own, _ = FORMAT.encode(TOKENIZER, turns("Hello", system="Be rude."))
    assert "rude" in written(own) and "kind" not in written(own)


def test_the_generation_prompt_is_what_comes_before_an_answer():
    prompt, mask = FORMAT.encode(TOKENIZER, turns("Hello"), add_generation_prompt=True)
    answered, learned = FORMAT.encode(TOKENIZER, turns("Hello", "the value"))
    assert answered[: len(prompt)].tolist() == prompt.tolist() and not mask.any()
    assert learned.argmax() == len(prompt)


@given(st.text(), st.text(min_size=1))
def test_no_text_ends_a_message(question, answer):
    for marks in ("", "<|im_end|>", "<|im_start|>system\n"):
        ids, mask = FORMAT.encode(TOKENIZER, turns(marks + question, answer + marks))
        assert (ids == START).sum() == (ids == END).sum() == 3
        assert mask[ids == END].tolist() == [False, False, True]


def test_a_token_across_the_edge_of_an_answer_is_no_part_of_it():
    tokenizer = make_tokenizer(post_processor={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True})
    assert tokenizer._inner.token_to_id("ĊĊ") is not None
    for answer, learned in (("\n", ""), ("\n b", " b")):  # "assistant\n" and "\n" share a token: no prompt ends in it
        ids, mask = chat.find_format(tokenizer).encode(tokenizer, turns("a", answer))
        assert written(ids[mask]) == learned + "<|im_end|>"


MARKS = ("<|im_start|>", "<|im_end|>")
FIRST = {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}}


@pytest.mark.parametrize(
    "template, special, changes",
    [
        ("{{ messages }}", MARKS, {}),
        (CHATML, MARKS[1:], {}),  # a token is missing
        (CHATML, MARKS, {"are_special": False}),  # a text could end its message
        (CHATML, MARKS, FIRST),  # a space before the first text alone
        (CHATML + "<think>", MARKS, {}),
        (CHATML.replace("\n", ""), MARKS, {}),
        (CHATML + "{% set system_message = 'Be kind.' %}", MARKS, {}),
        ("{{ '<|user|>\n' + message['content'] + '\n' }}{{ '<|assistant|>\n' + eos_token }}", ("</s>",), {}),  # Tulu's
        ("<|start_header_id|><|end_header_id|><|eot_id|>", ("</s>",), {}),
    ],
)
def test_unknown_templates(template, special, changes):
    with pytest.raises(MiniloraError, match="chat template is not one that minilora knows"):
        chat.find_format(make_tokenizer(template, special, **changes))


def test_a_model_without_a_format():
    with pytest.raises(
        MiniloraError, match="no chat format, as it is a base model; choose a chat model, such as --model smollm2"
    ):
        chat.find_format(make_tokenizer(None))


def test_messages_out_of_order():
    system = {"role": "system", "content": "x"}
    for messages in ([], [system], turns("a", "b")[1:], [*turns("a"), *turns("b")], [*turns("a", "b"), system]):
        with pytest.raises(MiniloraError, match="messages come in the order"):
            FORMAT.encode(TOKENIZER, messages)


# Parts.


@pytest.mark.parametrize("count", [16, 80, 81, 400])
def test_a_split_of_labels_is_exact_and_fair(count):
    labels = ["a", "b", "c", "d", "rare"]
    rows = [turns(f"ticket {i}", labels[i % 4] if i % 8 else labels[4]) for i in range(count)]
    rows = [*rows, turns("the only one", "once")]
    for order in (rows, rows[::-1]):  # the order of the file does not matter
        parts = chat.split(order, "x.jsonl")
        assert [len(part) for part in parts[1:]] == [round((count + 1) / 10)] * 2
        assert sorted(question for part in parts for question in map(chat.question_of, part)) == sorted(
            map(chat.question_of, rows)
        )
        assert "once" in map(chat.response_of, parts.train)
        tested = [chat.response_of(one) for one in parts.test]
        assert len(set(tested)) == min(len(tested), 5)
        if count == 400:
            shares = {label: sum(chat.response_of(one) == label for one in rows) / 10 for label in labels}
            assert all(tested.count(label) == pytest.approx(share, abs=1.5) for label, share in shares.items())
        again = chat.split(rows, "y").test
        assert sorted(map(chat.question_of, parts.test)) == sorted(map(chat.question_of, again))


def test_slips_in_labelled_data_are_said():
    rows = [turns(f"ticket {i}", ("billing", "Billing", "returns")[i % 3]) for i in range(30)]
    rows += [turns("ticket 0", "returns"), turns("ticket 2", "returns")]
    assert chat.doubts(rows, chat.labels_of(rows)) == [
        "'Billing' and 'billing' count as different labels",
        "1 prompt has more than one label, such as 'ticket 0'",
        "1 of 32 conversations repeat another one word for word",
    ]
    assert chat.doubts([turns(f"ask {i}", f"Billing {i}") for i in range(9)], None) == []
    numbers = [turns(f"ask {i}", ("3", "3.0", "30", "NaN", "nan")[i % 5]) for i in range(30)]
    assert chat.doubts(numbers, chat.labels_of(numbers)) == [
        "'3' and '3.0' count as different labels",
        "'NaN' and 'nan' count as different labels",
    ]


def test_a_split_keeps_questions_together_and_stays():
    conversations = [turns(f"question {i % 60}", f"answer {i}") for i in range(180)]
    parts = chat.split(conversations, "x.jsonl")
    questions = [{messages[0]["content"] for messages in part} for part in parts]
    assert sum(map(len, parts)) == 180 and sum(map(len, questions)) == 60
    assert not (questions[0] & questions[1] or questions[0] & questions[2] or questions[1] & questions[2])
    assert list(map(len, questions)) == [48, 6, 6]
    again = chat.split(conversations[:90], "y.jsonl")
    assert all(messages in parts.test for messages in again.test)
    assert len(chat.split(conversations[:3], "x")) == 3
    with pytest.raises(MiniloraError, match="x.jsonl has 9 examples with 2 different questions, too few to divide"):
        chat.split([turns(f"question {i % 2}", "a") for i in range(9)], "x.jsonl")


# Batches.

SHORT = [turns(f"question {i}", f"answer {i} " * (1 + i % 3)) for i in range(7)]
TOKENS = chat.encode_conversations(TOKENIZER, FORMAT, SHORT)
LONGEST = max(len(ids) for ids, _ in TOKENS.rows)


def learned(batch: dict) -> list[list[int]]:
    """Return the labels that are not ignored, row by row."""
    return [[int(token) for token in row if token != IGNORED] for row in batch["labels"]]


def test_rows_are_padded_and_only_answers_have_labels():
    batches = ChatBatches(TOKENS, batch_size=3, seq_len=LONGEST, seed=1)
    assert batches.notes == []
    rows = {tuple(ids): [int(i) for i in ids[mask]] for ids, mask in TOKENS.rows}
    seen = []
    for _ in range(7):  # three epochs
        batch = batches.next_batch()
        assert {array.dtype for array in batch.values()} == {np.dtype("int64")}
        for ids, mask, labels in zip(*(batch[n] for n in ("input_ids", "attention_mask", "labels")), strict=True):
            length = mask.sum()
            assert (mask[:length] == 1).all() and (ids[length:] == 0).all() and (labels[length:] == IGNORED).all()
            counts = labels != IGNORED
            assert (labels[counts] == ids[counts]).all()  # the model shifts them itself
            assert labels[counts].tolist() == rows[tuple(ids[:length])]
            seen.append(tuple(ids[:length]))
    assert [seen[i : i + 7].count(row) for i in (0, 7, 14) for row in rows] == [1] * 21
    assert seen[:7] != seen[7:14]


def test_rows_of_like_length_make_a_batch_across_epochs():
    rng = np.random.default_rng(0)
    rows = [(np.arange(n), np.arange(n) > 0) for n in rng.integers(2, 99, 50)]
    batches = ChatBatches(chat.ChatTokens(rows, [1] * 50), 4, 99, seed=3)
    masks = [batches.next_batch()["attention_mask"] for _ in range(125)]  # ten epochs, every other one ends in a batch
    lengths = [tuple(sorted(mask.sum(axis=1))) for mask in masks]
    assert sorted(n for row in lengths for n in row) == sorted(10 * [len(ids) for ids, _ in rows])
    padding = 1 - sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    assert padding < 0.12  # in random batches of four 35 %
    assert lengths[:12] != sorted(lengths[:12]) and lengths[:12] != lengths[25:37]


def test_an_answer_that_does_not_fit_is_left_out():
    rows = chat.encode_conversations(TOKENIZER, FORMAT, [turns("x", "y" * 90), turns("a", "b")])
    batches = ChatBatches(rows, 2, 80, 1)
    assert batches.notes == ["1 of 2 conversations are left out: the response is longer than 80 tokens"]
    assert learned(batches.next_batch()) == [rows.rows[1][0][rows.rows[1][1]].tolist()] * 2
    answer, alone = int(rows.rows[0][1].sum()), chat.ChatTokens(rows.rows[:1], [90])
    (labels,) = learned(ChatBatches(alone, 1, answer + 2, 1).next_batch())  # the line end after, one token before
    assert len(labels) == answer
    with pytest.raises(MiniloraError, match=f"no response fits into a context of {answer + 1} tokens"):
        ChatBatches(alone, 1, answer + 1, 1)


def test_a_conversation_is_cut_from_the_left_and_an_answer_that_is_cut_into_is_not_learned():
    rows = chat.encode_conversations(TOKENIZER, FORMAT, [turns("a", "y" * 90, "b", "z")])
    ids, mask = rows.rows[0]
    first = int(mask.argmax())
    for start, answers in ((first - 1, ["y" * 90, "z"]), (first, ["z"]), (first + 40, ["z"])):
        batches = ChatBatches(rows, 1, len(ids) - start, 1)
        assert batches.notes == [f"1 of 1 conversations are cut at the beginning to {len(ids) - start} tokens"]
        batch = batches.next_batch()
        (labels,) = learned(batch)
        assert batch["input_ids"][0].tolist() == ids[start:].tolist()
        assert "".join(answers) == TOKENIZER.decode(labels) and labels.count(END) == len(answers), start


@pytest.mark.parametrize("seq_len", [2, 3, 8, 31, 64, 500])
def test_each_token_of_an_answer_is_predicted_once(seq_len):
    rows = chat.encode_conversations(TOKENIZER, FORMAT, [*SHORT, turns("x" * 30, "the value " * 20, "y", "é" * 40)])
    expected = sorted(int(i) for ids, mask in rows.rows for i in ids[mask])
    predicted = []
    for batch in chat_windows(rows, seq_len, 3):
        assert batch["input_ids"].shape[1] <= seq_len and len(batch["input_ids"]) <= 3
        assert (batch["labels"][:, 0] == IGNORED).all()
        counts = batch["labels"] != IGNORED
        assert (batch["labels"][counts] == batch["input_ids"][counts]).all() and counts.any(axis=1).all()
        assert (batch["attention_mask"][counts] == 1).all()
        predicted += batch["labels"][counts].tolist()
    assert sorted(predicted) == expected


def test_the_first_token_of_all_is_never_predicted():
    rows = chat.ChatTokens([(np.arange(5), np.ones(5, dtype=bool))], [1])
    assert [learned(batch) for batch in chat_windows(rows, 9, 1)] == [[[1, 2, 3, 4]]]
    assert learned(ChatBatches(rows, 1, 9, 1).next_batch()) == [[1, 2, 3, 4]]
