"""The labelled task: `pytest tests/show/test_topics.py`."""

from collections import Counter

import pytest

from minilora.data.corpora import Document, every_document, load, split
from minilora.errors import MiniloraError
from minilora.train.forgetting import first_sentence
from notebooks.figures.labelled import Example
from notebooks.figures.topics import build_task, load_task

pytestmark = pytest.mark.host

TOPICS = {"birds": "owl wren", "fish": "cod"}
DOCUMENTS = [
    Document(f"{module}.C{i}.m{j}", f"Say what number {module} {i} {j} is.\n\nMore.", f"{module}.C{i}")
    for module in ("owl", "wren", "cod", "other")
    for i in range(60)
    for j in range(3)
]


def make(documents=DOCUMENTS, pretraining=()):
    return build_task("toy", documents, TOPICS, pretraining)


def parts(task):
    return task.train, task.validation, task.test


def home(example):
    """Return the group that an example of DOCUMENTS comes from."""
    module, number = example.text.split()[3:5]
    return f"{module}.C{number}"


def test_classes_are_balanced_in_each_part_and_nothing_appears_twice():
    task = make()
    assert task.classes == ("birds", "fish")
    for part in parts(task):
        counts = Counter(example.label for example in part)
        assert counts[0] == counts[1] > 10
        assert part[: counts[0]] != sorted(part, key=lambda example: example.label)[: counts[0]]  # mixed
    texts = [example.text for part in parts(task) for example in part]
    assert len(set(texts)) == len(texts)
    groups = [{home(example) for example in part} for part in parts(task)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    for text, label in task.train:
        assert (" cod " in text) == (label == 1) and " other " not in text


def test_what_is_ambiguous_already_read_or_no_prose_is_left_out():
    first, second = make().test[:2]
    ambiguous = [Document(f"{module}.D", "Return the Next Item.\n\nMore.") for module in ("owl", "cod")]
    others = [Document("owl.E", ">>> call(a) with more words"), Document("owl.F", "Too short.")]
    others.append(Document("owl.G", "word " * 60))
    task = make([*DOCUMENTS, *ambiguous, *others], pretraining=[Document("x", f"Before: {first.text}\nAfter.")])
    texts = {example.text for part in parts(task) for example in part}
    assert texts <= {first_sentence(document.text) for document in DOCUMENTS}
    assert first.text not in texts
    assert second.text in texts


def test_a_sentence_of_train_and_test_stays_in_train_alone():
    in_train, in_test = ({home(example) for example in part} for part in (make().train, make().test))
    copies = [Document("owl.x", "The very same sentence.", group) for group in (*in_train, *in_test)]
    task = make(DOCUMENTS + copies)
    assert "The very same sentence." not in {example.text for example in task.validation + task.test}


def test_few_is_balanced_and_nested():
    task = make()
    small, large = task.few(4, seed=3), task.few(16, seed=3)
    assert [example.label for example in small] == [0, 1] * 4
    assert large[:8] == small and len(set(large)) == 32
    assert set(large) <= set(task.train)
    assert task.few(4, seed=4) != small
    for count in (0, 1000):
        with pytest.raises(MiniloraError, match=f"labels per class must be 1 to .* for toy, not {count}"):
            task.few(count, seed=0)


def test_first_sentences():
    assert first_sentence("Open a file, e.g. one\n   of text.  Then close it.") == "Open a file, e.g. one of text."
    assert first_sentence("\n    No stop\n\n    Another paragraph.") == "No stop"
    assert first_sentence("Is it? Yes.") == "Is it?"
    assert first_sentence("") == ""


def test_the_task_on_the_standard_library():
    task = load_task()
    assert len(task.classes) == 8
    assert len(task.few(128, seed=0)) == 8 * 128
    assert len(task.test) >= 8 * 50 and len(task.validation) >= 8 * 20
    assert Example("Return a list of user-defined labels in the mailbox.", task.classes.index("mail")) in task.train
    # What a model pretrained on the train part has read holds no test sentence, nor others of a test sentence's group.
    read = split(load("python-docs")).train
    text = "\n".join(" ".join(document.text.split()) for document in read)
    assert not [example for example in task.test if example.text in text]
    groups_read = {document.group for document in read}
    tested = {example.text for example in task.test}
    homes = [d.group for d in every_document("python-docs") if first_sentence(d.text) in tested]
    assert homes and not groups_read & set(homes)
