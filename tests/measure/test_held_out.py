"""pytest tests/measure/test_held_out.py"""

import json

import pytest

from minilora.data import chat, load_examples
from minilora.errors import MiniloraError
from minilora.measure.held_out import draw_shots, learned_from, select
from minilora.train.text import split_chats

pytestmark = pytest.mark.host

LABELS = ("good", "bad")


def write(path, rows) -> str:
    lines = [json.dumps({"prompt": prompt, "response": response}) for prompt, response in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def seen(tmp_path) -> tuple[str, dict]:
    """Make a file that a model was trained on, and the record of the training."""
    path = write(tmp_path / "seen.jsonl", [(f"Film {i}?", LABELS[i % 2]) for i in range(60)])
    return path, {"data": path, "data_sha256": chat.split_sha256(load_examples(path)), "seq_len": 64}


@pytest.fixture
def fresh(tmp_path) -> str:
    """Make a file half of which is in the other one, of which 80 % was trained on; the label "so so" is new."""
    rows = [(f"Film {i}?", LABELS[i % 2]) for i in range(20)]
    return write(tmp_path / "fresh.jsonl", [*rows, *[(f"Play {i}?", ("good", "so so")[i % 2]) for i in range(20)]])


def test_all_of_a_file_is_measured_unless_the_model_was_trained_on_it(seen, fresh):
    path, training = seen
    parts = chat.split(load_examples(path), path)
    assert select(path).split == "all" and select(path).conversations == load_examples(path)
    own = select(path, trainings=[training])
    assert own.split == "test" and own.conversations == parts.test and own.of == len(parts.test)
    assert own.trained_on == 0 and own.notes == []
    assert select(path, "train", [training]).trained_on == len(parts.train)
    assert select(fresh, trainings=[training]).split == "all"
    assert select(path, "validation").conversations == parts.validation


def test_what_was_trained_on_is_counted(seen, fresh):
    path, training = seen
    parts = chat.split(load_examples(path), path)
    trained = [json.dumps(messages) for messages in [*parts.train, *parts.validation]]  # 6 could choose nothing
    shared = sum(json.dumps(messages) in trained for messages in load_examples(fresh))
    selection = select(fresh, trainings=[training])
    assert 0 < shared < 20 and selection.trained_on == shared
    assert selection.notes == [f"{shared} of the 40 conversations measured were trained on"]
    assert selection.labels == ["bad", "good", "so so"]


def test_labels_that_were_not_trained_on_are_a_note(seen, tmp_path):
    training = seen[1] | {"labels": ["billing", "cancellation", "returns"]}

    def labels_and_notes(*labels: str):
        test = write(tmp_path / "test.jsonl", [(f"Is {label} {i}?", label) for i in range(9) for label in labels])
        selection = select(test, trainings=[training])
        return selection.labels, selection.notes

    labels, notes = labels_and_notes("billing", "cancelation", "Billing")
    words = "'cancelation' and 'Billing' were not among the labels trained on: did you mean 'cancellation', 'billing'?"
    assert notes[1:] == [words] and "count as different labels" in notes[0]
    assert labels == ["Billing", "bad", "billing", "cancelation", "good"]  # with those of the rows trained on
    assert labels_and_notes("returns", "xyz")[1] == ["'xyz' was not among the labels trained on"]
    assert labels_and_notes("returns", "billing") == (training["labels"], [])
    many = labels_and_notes("returns", *"abcdef")[1]
    assert many == ["'a' and 'b' and 'c' and 3 more were not among the labels trained on"]
    free = write(tmp_path / "free.jsonl", [(f"New {i}?", f"Answer {i}") for i in range(30)])
    assert select(free, trainings=[training]).notes == []


def test_a_training_file_that_changed_or_is_gone_is_a_note(seen, fresh, tmp_path):
    path, training = seen
    assert learned_from(training | {"data": str(tmp_path / "none.jsonl")}) is None
    assert learned_from({"data": "python-docs", "data_sha256": "x"}) is None
    write(tmp_path / "seen.jsonl", [("Other?", "good")] * 3)
    assert learned_from(training) is None
    selection = select(fresh, trainings=[training])
    assert selection.trained_on is None
    assert selection.notes == [f"cannot check for overlap with the training data: {path} is missing or has changed"]
    assert select(fresh, trainings=[{"data": "python-docs", "data_sha256": "x"}]).notes == []


def test_all_adapters_count(seen, fresh, tmp_path):
    """The first adapter learned the films of the file, the second its plays, and a third the file itself."""
    plays = write(tmp_path / "plays.jsonl", [(f"Play {i}?", ("good", "so so")[i % 2]) for i in range(20)])
    hashes = {path: chat.split_sha256(load_examples(path)) for path in (plays, fresh)}
    first, second, own = seen[1], *({"data": path, "data_sha256": digest} for path, digest in hashes.items())
    alone = [select(fresh, trainings=[one]).trained_on for one in (first, second)]
    both = select(fresh, trainings=[first, second])
    assert both.trained_on == sum(alone) > max(alone) > 0 and len(both.notes) == 1
    assert select(fresh, trainings=[first, own]).split == "test"
    selection = select(fresh, trainings=[first | {"data": "gone.jsonl"}, second])
    assert selection.trained_on == alone[1] and "gone.jsonl is missing" in selection.notes[0]


def test_a_sample_is_drawn_by_its_seed_in_the_order_of_the_file(seen):
    one, again, other = (select(seen[0], examples=20, seed=seed).conversations for seed in (0, 0, 1))
    places = list(map(load_examples(seen[0]).index, one))
    assert one == again != other and places == sorted(set(places)) and len(one) == 20
    assert select(seen[0], examples=99).of == len(select(seen[0], examples=99).conversations) == 60


def test_shots_take_the_labels_in_turn_and_none_that_is_measured(tmp_path):
    rows = [(f"{i}?", "bad" if i % 10 == 0 else "good") for i in range(30)]
    pool = load_examples(write(tmp_path / "rare.jsonl", rows))
    for seed in range(3):
        drawn = [messages[-1]["content"] for messages in draw_shots(pool, 6, seed)]
        assert sorted(drawn) == ["bad"] * 3 + ["good"] * 3
    assert draw_shots(pool, 6, 0) == draw_shots(pool, 6, 0) != draw_shots(pool, 6, 1)
    assert draw_shots(pool, 2, 0) == draw_shots(pool, 6, 0)[:2]
    assert all(messages in pool[20:] for messages in draw_shots(pool, 10, 0, pool[:20]))
    with pytest.raises(MiniloraError, match="11 shots are more than the 10 conversations .* by --split test or --ex"):
        draw_shots(pool, 11, 0, pool[:20])


def test_files_of_their_own_for_the_parts_are_known(seen, tmp_path):
    path, record = seen
    test = write(tmp_path / "test.jsonl", [("New?", "good"), ("Film 3?", "bad")])
    parts, digest, _ = split_chats(path, test=test)
    training = record | {"test_data": test, "data_sha256": digest}
    assert learned_from(training) == parts.train
    selection = select(test, trainings=[training])
    assert selection.split == "all" and selection.trained_on == 1
    assert select(test, trainings=[record | {"data_sha256": digest}]).trained_on is None  # files are missing
