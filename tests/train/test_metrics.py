"""Scores of answers in words, and how sure a share is: `pytest tests/train/test_metrics.py`."""

import pytest

from minilora.train.metrics import contains, exact_match, json_score, normalise, token_f1, wilson

pytestmark = pytest.mark.host


def test_normalise():
    assert normalise(' The  cat,\n a "Tom"! ') == "cat tom"
    assert normalise("An answer: then, another thesis") == "answer then another thesis"
    assert normalise("It's a well-known U.S. port") == "its wellknown us port"
    assert normalise("The a an.") == normalise("?!") == normalise("") == ""


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("a cabin whose heating has failed", "A cabin whose heating has failed.", True, 1),
        ("Cabin has failed.", "A cabin whose heating has failed.", False, 2 * 3 / (3 + 5)),
        ("It is a cabin, whose heating has failed!", "A cabin whose heating has failed.", False, 2 * 5 / (7 + 5)),
        ("failed has heating whose cabin", "A cabin whose heating has failed.", False, 1),  # a bag of words
        ("soup soup soup", "Soup from yesterday.", False, 2 * 1 / (3 + 3)),  # a word counts once if gold has it once
        ("cold cold soup", "Cold, cold cold fish", False, 2 * 2 / (3 + 4)),
        ("a dog", "The owner of the dog.", False, 2 * 1 / (1 + 3)),  # articles do not count
        ("A ferry.", "A lorry.", False, 0),
        ("", "A lorry.", False, 0),
        ("the", "A lorry.", False, 0),
        ("The!", "a", True, 0),  # nothing is shared where nothing is left, as in SQuAD's script
    ],
)
def test_exact_match_and_token_f1(answer, gold, exact, f1):
    assert exact_match(answer, gold) is exact_match(gold, answer) is exact
    assert token_f1(answer, gold) == token_f1(gold, answer) == pytest.approx(f1)


def test_contains_looks_for_whole_words():
    assert contains("The capital of France is **Paris**.", ["Lyon", "Paris"])
    assert contains("5 plus 3 equals 8.", ["eight", "8"])
    assert contains("It lived in New\nYork!", ["the new york"])
    assert not contains("In comparison, none. Parisian?", ["Paris"])
    assert not contains("It is 18, or 80.", ["8"])
    assert not contains("York is new.", ["New York"])
    assert not contains("Paris", ["", "the"])  # what normalises to nothing is found nowhere


def test_the_interval_is_wilsons():
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(10, 10)[1] == 1 and wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_json_answers_are_compared_by_field():
    gold = ['{"name": "Ann", "seats": 2}', '{"name": "Bob", "seats": 1, "paid": true}', '{"name": "-1"}']
    answers = [
        '{"seats": 2,\n "name": "Ann"}',
        '{"name": "Bob", "seats": "1", "paid": 1, "more": 0}',
        'So: {"name": "-1"}',
    ]
    score = json_score(answers, gold)
    assert score["parsed"] == score["fields"]["name"] == pytest.approx(2 / 3) and score["equal"] == pytest.approx(1 / 3)
    assert score["fields"] == {"name": pytest.approx(2 / 3), "seats": 1 / 2, "paid": 0}
    assert (
        json_score(gold[:1], ['{"name": "Ann", "seats": 2, "paid": null}'])["fields"]["paid"] == 0
    )  # left out is wrong
    assert json_score(['{"name": "Ann"}'], ['{"name": "Ann"}, and more']) is None
    assert json_score(["{}"], ["[1]"]) is None and json_score(["[" * 9999], ["{}"])["parsed"] == 0
