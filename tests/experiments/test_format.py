"""Orders in free text, the judge of their JSON, and the table of prompts and trainings."""

import json

import numpy as np
import pytest

from experiments import format as formats
from experiments.orders import WRITTEN, judge, written
from experiments.prompts import answers_after
from minilora.measure.records import Records
from minilora.train import load
from minilora.train.answers import answers
from tests.helpers import tiny_chat

ORDER = {"customer": "Ada", "city": "Bonn", "items": [{"product": "mug", "colour": None, "quantity": 3}], "due": None}


def test_parts_share_no_sentence_and_only_some_words():
    words = {part: [json.loads(one[-1]["content"]) for one in written(part)] for part in WRITTEN}
    customers = {part: {order["customer"] for order in orders} for part, orders in words.items()}
    test, train = customers["test"], customers["train"]
    assert test & train and test - train and train - test
    texts = {part: {one[1]["content"] for one in written(part)} for part in WRITTEN}
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["validation"]
    assert written("test") == written("test")


def test_an_order_says_all_that_its_json_has():
    for _, user, assistant in written("train"):
        order = json.loads(assistant["content"])
        wanted = [order["customer"], order["city"], order["due"] or "", *(item["product"] for item in order["items"])]
        assert all(word in user["content"] for word in wanted)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, (True, True, 1.0)),
        ({"city": "Rome"}, (True, False, 5 / 6)),
        ({"items": [{"product": "mug", "colour": None, "quantity": "3"}]}, (True, False, 5 / 6)),
        ({"items": [*ORDER["items"], *ORDER["items"]]}, (True, False, 1.0)),
        ({"items": [{"product": "mug", "quantity": 3}]}, (False, False, 0.0)),
        ({"note": "thanks"}, (False, False, 0.0)),
        ({"items": "mug"}, (False, False, 0.0)),
    ],
)
def test_the_judge(change, verdict):
    assert judge(json.dumps(ORDER | change), json.dumps(ORDER)) == verdict


def test_what_is_no_json_is_not_valid():
    assert judge(f"Sure! {json.dumps(ORDER)}", json.dumps(ORDER)) == (False, False, 0.0)


def _records(tmp_path, exact: dict) -> Records:
    records = Records.open(tmp_path / "records.jsonl", formats.KIND, {})
    for key, share in exact.items():
        right = np.arange(WRITTEN["test"]) < share * WRITTEN["test"]
        bits = np.packbits(right).tobytes().hex()
        records.add(key, valid=1.0, exact=share, fields=share, exact_items=bits)
    return records


def test_verdicts_follow_the_margins(tmp_path):
    exact = {("validation", k): k / 100 for k in formats.SHOTS} | {("prompt", 0, 0): 0.0}
    exact |= {("prompt", 64, seed): 0.5 for seed in formats.SEEDS}
    exact |= {("trained", "lora", 32, seed): 0.5 for seed in formats.SEEDS}
    exact |= {("trained", "lora", 128, seed): 0.9 for seed in formats.SEEDS}
    result = formats.FormatResult(_records(tmp_path, exact))
    assert [row[-1] for row in result.grid().rows] == ["worse", "–", "near", "better"]
    assert result.reference == ("prompt", 64)


def test_without_items_or_seeds_there_is_no_verdict(tmp_path):
    records = _records(tmp_path, {("prompt", 4, seed): 0.5 for seed in formats.SEEDS})
    records.add(("trained", "lora", 32, 0), valid=1.0, exact=0.9, fields=0.9, exact_items="ff" * 13)
    records.add(("trained", "lora", 128, 0), valid=1.0, exact=0.9, fields=0.9)
    grid = formats.FormatResult(records).grid()
    assert {row[0]: row[-1] for row in grid.rows} == dict.fromkeys((row[0] for row in grid.rows), "–")


def test_what_prompts_share_is_read_once_with_the_same_answers(tmp_path):
    tiny_chat.save(tmp_path, ["Say mug.", "mug", "Say a much longer word, please."])
    model, tokenizer = load.load_model(str(tmp_path))
    shared = [{"role": "user", "content": "Say mug."}, {"role": "assistant", "content": "mug"}]
    conversations = [
        [*shared, {"role": "user", "content": text}] for text in ("Say lamp.", "Say a much longer word.", "Hm?")
    ]
    assert answers_after(model, tokenizer, conversations, 6) == answers(model, tokenizer, conversations, 6) != [""] * 3
