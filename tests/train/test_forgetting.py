"""pytest tests/train/test_forgetting.py: the quiz before and after, and rows of the base's own kind."""

import numpy as np
import pytest

from minilora.data.batches import ChatBatches
from minilora.data.jargon import load_quiz
from minilora.errors import MiniloraError
from minilora.train import forgetting, load, methods
from minilora.train.metrics import answered
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with an untrained chat model, and one without a chat format."""
    folder = tmp_path_factory.mktemp("forgetting")
    tiny_chat.save(folder / "chat", ["What is it? It is a text."])
    tiny_chat.save(folder / "plain", ["What is it? It is a text."], template=None)
    return folder


def loaded(place, name: str):
    return load.load_model(str(place / name))


def answers_of(monkeypatch, own: dict[str, str]) -> None:
    """Have every model give the answers of `own`, by question."""

    def scripted(model, tokenizer, conversations, *_, **__):
        return [own.get(messages[-1]["content"], "Perhaps.") for messages in conversations]

    monkeypatch.setattr(forgetting, "answers", scripted)


def test_own_answers_are_first_sentences_that_come_to_an_end(monkeypatch):
    own = {"a": "It is so. And then", "b": "It goes on and", "c": "", "d": "Listed\n\n1. One.", "e": "Yes! No."}
    answers_of(monkeypatch, own)
    pairs = (("a", "It is so."), ("e", "Yes!"))
    assert forgetting.own_answers(None, None, list(own)) == [answered(forgetting.question(q), a) for q, a in pairs]


def test_the_quiz_is_counted_right(monkeypatch):
    questions = load_quiz().questions[:7]
    answers_of(monkeypatch, {q.text: f"It is {q.answers[-1]}." for q in questions[::2]})
    assert forgetting.answer_quiz(None, None, questions, "x") == [True, False] * 3 + [True]


def test_both_askings_cost_less_than_a_tenth_of_the_training(place):
    chat, plain = (loaded(place, name)[1] for name in ("chat", "plain"))
    few, every = (2 * size * forgetting.COST * 10 / 3 for size in (forgetting.FEW, 50))
    sizes = [forgetting.quiz_size("auto", chat, tokens) for tokens in (few - 1, few + 1, every - 1, every + 1)]
    assert sizes == [0, forgetting.FEW, forgetting.FEW, 50]
    assert forgetting.quiz_size("on", chat, 1) == 50 and forgetting.quiz_size("off", chat, 1e9) == 0
    assert forgetting.quiz_size("auto", plain, 1e9) == 0
    with pytest.raises(MiniloraError, match="no chat format"):
        forgetting.quiz_size("on", plain, 1e9)


@pytest.mark.parametrize(
    "lost, gained, p, words",
    [
        (7, 0, 2 / 128, "7 of the 13 quiz answers that it knew: 13 → 6 of 20, more than chance explains (p = 0.016)"),
        (3, 1, 0.625, "3 of the 13 quiz answers that it knew (and 1 new right): 13 → 11 of 20, which may be chance (p"),
        (0, 0, 1.0, "none of the 13 quiz answers that it knew: 13 → 13 of 20"),
    ],
)
def test_what_was_forgotten_is_told_with_how_likely_chance_makes_it(lost, gained, p, words):
    before = [True] * 13 + [False] * 7
    after = [False] * lost + [True] * (13 - lost + gained) + [False] * (7 - gained)
    facts = forgetting.quiz_facts(before, after)
    assert facts["quiz_p"] == pytest.approx(p)
    (line,) = forgetting.learned_and_forgot(facts, "bits")
    assert line.startswith(f"forgot: {words}")


def test_a_chat_model_replays_its_own_answers_whole(place, monkeypatch):
    answers_of(monkeypatch, dict.fromkeys(load_quiz().general, "It is so."))
    model, tokenizer = loaded(place, "chat")
    source, words = forgetting.replayed(model, tokenizer, "x", 5, seq_len=8, seed=0)
    assert isinstance(source, ChatBatches) and words.startswith("5 of its own answers")
    row = source.next_batch()
    text = tokenizer.decode(row["input_ids"][0])
    assert any(question in text for question in load_quiz().general[:5]) and text.strip().endswith("It is so.")
    assert tokenizer.decode(row["labels"][row["labels"] >= 0]).strip() == "It is so."  # the question is not learned
    answers_of(monkeypatch, dict.fromkeys(load_quiz().general, "It goes on"))
    with pytest.raises(MiniloraError, match="leave --replay out"):
        forgetting.replayed(model, tokenizer, "x", 5, seq_len=8, seed=0)


def test_another_model_replays_text_that_it_writes_as_the_base(place):
    """The adapter, which has learned nonsense, is disabled for it."""
    model, tokenizer = loaded(place, "plain")
    alone = forgetting.replayed(model, tokenizer, "x", 3, seq_len=8, seed=0)[0]
    model = methods.adapt(model, "lora")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = np.ones_like(parameter.data)
    source, words = forgetting.replayed(model, tokenizer, "x", 3, seq_len=8, seed=0)
    assert np.array_equal(source.ids, alone.ids) and words == "3 windows of its own text"
    assert source.ids.shape == (24,) and (source.ids[::8] == source.ids[0]).all() and len(set(source.ids)) > 8
    other = forgetting.replayed(model, tokenizer, "x", 3, seq_len=8, seed=9)[0]
    assert not np.array_equal(other.ids, source.ids)
