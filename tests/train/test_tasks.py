"""pytest tests/train/test_tasks.py

A task's score: the likelihood of labels against each prompt alone, the counts, and the errors."""

import numpy as np
import pytest

from minilora import threads
from minilora.data import chat
from minilora.errors import MiniloraError
from minilora.models.cache import KVCache
from minilora.peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from minilora.tensor import no_grad
from minilora.train import answers, load, metrics
from minilora.train.answers import answered, label_scores
from minilora.train.metrics import after, measure_task
from tests.helpers import tiny_chat

WORDS = ("good", "bad", "dull", "a joy", "long", "worth your while, and not too long")
ROWS = [[{"role": "user", "content": f"Rate it: {a}, {b}"}, {"role": "assistant", "content": label}]
    for i, a in enumerate(WORDS) for b in WORDS[:i] for label in ["positive" if i % 2 else "negative"]]  # fmt: skip
LABELS = ["negative", "positive", "neither one nor the other"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory, backend_name):
    texts = [message["content"] for row in ROWS for message in row] + LABELS
    folder = tiny_chat.save(tmp_path_factory.mktemp("task") / "model", texts, num_hidden_layers=2)
    model, tokenizer = load.load_model(str(folder))
    for p in model.parameters():
        p.data = p.data * 5  # an untrained model thinks all words alike
    return model, tokenizer


def adapted(model, method: str):
    if method == "none":
        return model
    configs = {
        "lora": lambda: LoraConfig(r=2, init_lora_weights=False),
        "prefix": lambda: PrefixTuningConfig(num_virtual_tokens=3),
        "prompt": lambda: PromptTuningConfig(num_virtual_tokens=3),
    }
    return get_peft_model(model, configs[method]())


def plain_scores(model, tokenizer, prompts, labels) -> np.ndarray:
    """Score each prompt with each label by a separate pass through the model."""
    chat_format = chat.find_format(tokenizer)
    scores = np.empty((len(prompts), len(labels)))
    for i, messages in enumerate(prompts):
        start = len(chat_format.encode(tokenizer, messages, add_generation_prompt=True)[0])
        for j, label in enumerate(labels):
            ids, _ = chat_format.encode(tokenizer, answered(messages, label))
            end = len(ids) - ids[::-1].tolist().index(tokenizer.special_ids["<|im_end|>"])
            with no_grad():
                logits = model(ids[None, :end]).logits.numpy()[0, -end:].astype(np.float64)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            scores[i, j] = sum(logits[t - 1, ids[t]] for t in range(start, end))
    return scores


@pytest.mark.parametrize("method", ["none", "lora", "prefix", "prompt"])
@pytest.mark.parametrize("shots", [0, 2])
def test_scores_are_those_of_each_prompt_and_label_alone(taught, method, shots):
    model, tokenizer = taught
    model = adapted(model, method)
    prompts = [after(ROWS[:shots], row[:-1]) for row in ROWS[shots::3]]
    try:
        with threads.using(2):
            scores, lengths = label_scores(model, tokenizer, prompts, LABELS, batch_size=3)
        expected = plain_scores(model, tokenizer, prompts, LABELS)
    finally:
        if method != "none":
            model.unload()
    assert len(set(lengths)) > 1  # so that rows are padded
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).min() > 1e-2  # and the question matters


def chats(*responses: str) -> list:
    return [answered([{"role": "user", "content": f"{i}?"}], text) for i, text in enumerate(responses)]


def test_labels_are_few_and_recur():
    assert chat.labels_of(chats("b", "a", " a", "b", "b", "a")) == ["a", "b"]
    assert chat.labels_of(chats("b", "a", "a", "b", "b")) is None  # 2.5 times each
    assert chat.labels_of(chats(*[str(i % 20) for i in range(60)])) == sorted(map(str, range(20)))
    assert chat.labels_of(chats(*[str(i % 21) for i in range(84)])) is None


def test_a_score_of_labels_counts_the_likeliest(taught, monkeypatch):
    scores = np.array([[-1, -2], [-1, -3], [-1, -1.5], [-2, -1]] * 3, dtype=float)
    monkeypatch.setattr(metrics, "label_scores", lambda *_: (scores, [4, 6] * 6))
    score = measure_task(*taught, chats(*["a", "a", "b", "b"] * 3), labels=["a", "b"])
    assert score.accuracy == 9 / 12 and score.confusion == [[6, 0], [3, 3]] and score.majority == 0.5
    assert score.predicted == ["a", "a", "a", "b"] * 3 and score.prompt_tokens == 5
    assert score.calibrated == 1.0  # less their means, -1.25 and -1.875, "b" is the likelier of the third as well
    assert score.facts()["accuracy_interval"] == pytest.approx((0.4677, 0.9111), abs=1e-4)
    assert score.probabilities[:2] == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2))])
    assert "exact" not in score.facts()


def test_free_answers_are_scored_as_squads(taught, monkeypatch):
    monkeypatch.setattr(metrics, "answers", lambda *_: ["The blue boat.", "a boat", "rope"])
    score = measure_task(*taught, chats("blue boat", "blue boat", "blue boat"))
    assert score.exact == pytest.approx(1 / 3) and score.f1 == pytest.approx((1 + 2 / 3) / 3)
    assert score.f1_error == pytest.approx(np.std([1, 2 / 3, 0], ddof=1) / np.sqrt(3))


def test_a_learned_task_is_measured_end_to_end(taught):
    score = measure_task(*taught, ROWS, labels=LABELS, shots=ROWS[:1], batch_size=4)
    assert score.count == len(ROWS) and sum(map(sum, score.confusion)) == len(ROWS)
    assert score.confusion[2] == [0, 0, 0] and score.seconds > 0
    assert measure_task(*taught, ROWS[:9], labels=LABELS).calibrated is None  # too few for a mean
    free = measure_task(*taught, ROWS[:3], max_new_tokens=2)
    assert free.kind == "answers" and len(free.predicted) == 3 and 0 <= free.f1 <= 1


@pytest.mark.parametrize(
    "conversations, options, message",
    [
        ([], {}, "no conversation"),
        (ROWS, {"labels": ["positive", "bad"]}, "'negative' is not one of the labels positive, bad"),
        (ROWS, {"labels": LABELS, "shots": ROWS[:12]}, "give fewer shots"),
        (ROWS, {"max_new_tokens": 250}, "an answer of 250 exceed the model's 256 positions"),
    ],
)
def test_what_cannot_be_measured_is_refused(taught, conversations, options, message):
    with pytest.raises(MiniloraError, match=message):
        measure_task(*taught, conversations, **options)


def test_one_prompt_and_labels_that_are_not_tokenized_alike_in_all_rows(taught):
    model, tokenizer = taught
    prompts = [row[:-1] for row in ROWS[:2]]
    alone = [plain_scores(model, tokenizer, [messages], LABELS) for messages in prompts]
    with threads.using(1):  # alone, all of a prompt is the common beginning
        scores = [label_scores(model, tokenizer, [messages], LABELS)[0] for messages in prompts]
    np.testing.assert_allclose(scores, alone, atol=1e-4)
    encoded = chat.find_format(tokenizer).encode_many(tokenizer, [answered(m, x) for m in prompts for x in LABELS])
    first, second = answers._row(encoded[:3]), answers._row(encoded[3:])
    rows = [first, second._replace(answers=second.answers[::-1])]  # the labels of one row from the last to the first
    mixed = answers._batch_scores(model, KVCache(0), 0, rows)
    np.testing.assert_allclose(mixed, [alone[0][0], alone[1][0][::-1]], atol=1e-4)
