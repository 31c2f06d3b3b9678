"""pytest tests/experiments/test_check.py: records that today's code does not give are found, and marked on the page."""

import copy

import pytest

from experiments import again, check, compare_model
from experiments.__main__ import main
from experiments.results import page
from minilora.errors import MiniloraError
from minilora.formats.atomic import read_json, write_json

pytestmark = pytest.mark.host
NAME, CELL = "study-merge-trap.jsonl", "merged 0.0 0"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a project with the searches of a study and one of its trainings, which has a fingerprint."""
    lines = (check.ROOT / check.FOLDERS[0] / NAME).read_text().splitlines()
    lines = [line for line in lines if '["merged"' not in line or '["merged", 0.0, 0]' in line]
    (tmp_path / check.FOLDERS[0]).mkdir(parents=True)
    (tmp_path / check.FOLDERS[0] / NAME).write_text("\n".join(lines) + "\n")
    write_json(tmp_path / check.STALE, {})
    fingerprint = read_json(check.ROOT / check.FINGERPRINTS)[NAME]
    fingerprint["trainings"] = {CELL: fingerprint["trainings"][CELL]}
    write_json(tmp_path / check.FINGERPRINTS, {NAME: fingerprint})
    monkeypatch.setattr(check, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def retrained(root, monkeypatch):
    """Return today's fingerprint of the training, all that are recorded, and the path of the records.

    Today's fingerprint is what `check` will see: a test that changes it changes the training.
    """
    known = read_json(root / check.FINGERPRINTS)
    known[NAME]["machine"] = {part: check.machine()[part] for part in ("processor", "blas", *check.LIBRARIES)}
    now = copy.deepcopy(known[NAME]["trainings"][CELL])
    monkeypatch.setattr(check, "begin", lambda *arguments: now)
    return now, known, root / check.FOLDERS[0] / NAME


def test_a_record_whose_training_begins_as_it_did_agrees(root, capsys):
    machine = read_json(root / check.FINGERPRINTS)[NAME]["machine"]
    assert main(["check", NAME]) == 0
    out = capsys.readouterr().out
    if all(check.machine()[part] == machine[part] for part in check.LIBRARIES):
        assert out == f"{NAME}: agrees (1 training)\n"
    else:  # another NumPy has another documentation to learn from
        assert out.startswith(f"{NAME}: not checked: with ") and "another text" in out


def test_a_changed_loss_is_found_once_and_then_no_news(root, retrained):
    _, known, _ = retrained
    known[NAME]["trainings"][CELL]["losses"][3] *= 1.01
    write_json(root / check.FINGERPRINTS, known)
    assert [main(["check", NAME]), main(["check", NAME])] == [1, 0]
    assert read_json(root / check.STALE) == {NAME: f"{CELL} has another loss from step 4 on"}


def test_the_page_marks_what_is_stale(root, monkeypatch):
    paragraphs = page.page().split("\n\n")
    reason = {NAME: f"{CELL} has another loss", "curve-r8.jsonl": "so", "jargon.jsonl": "it was luck"}
    monkeypatch.setattr(page, "read_json", lambda path: reason if path.name == "stale.json" else read_json(path))
    marked = page.page().split("\n\n")
    for name, command in (
        (NAME, "study merge-trap`"),
        ("curve-r8.jsonl", "--data r8"),
        ("jargon.jsonl", "jargon"),
    ):
        mark = f"**Stale:** measured with other code ({reason[name]})."
        before = marked[marked.index(mark) - 1]
        assert command in before and mark not in paragraphs and marked.count(mark) == 1


@pytest.mark.parametrize(
    "change, words",
    [
        ({}, ""),
        ({"losses": [1.000002]}, "another loss from step 1 on"),
        ({"losses": [1.0000005]}, ""),
        ({"model": "other"}, "trains with other model"),
        ({"model": "other", "rows": "other"}, "trains with other model and rows"),
    ],
)
def test_on_the_same_processor_all_must_be_equal(retrained, change, words):
    now, known, path = retrained
    known[NAME]["trainings"][CELL]["losses"] = now["losses"] = [1.0]
    now |= change
    if words:
        with pytest.raises(check.Stale, match=words):
            check.check(path, known)
    else:
        assert check.check(path, known) == 1


def test_on_another_processor_losses_may_differ_a_little_and_not_much(retrained):
    now, known, path = retrained
    known[NAME]["machine"] |= {"processor": "another", "blas": "another"}
    known[NAME]["trainings"][CELL]["losses"] = [1.0]
    now |= {"losses": [1.00005], "model": "rounded otherwise"}
    assert check.check(path, known) == 1
    now["losses"] = [1.0005]
    with pytest.raises(check.Stale, match="another loss"):
        check.check(path, known)


def test_a_training_that_ended_elsewhere_is_no_reference(retrained):
    now, known, path = retrained
    now["worst"] = 0.05
    for update in (True, False):
        with pytest.raises(check.Stale, match=r"ends 5.0 % from the record"):
            check.check(path, known, update)


def test_settings_and_searches_of_today_are_those_of_the_record(retrained):
    _, known, path = retrained
    lines = path.read_text()
    path.write_text(lines.replace('"steps": 50', '"steps": 51').replace('"characters": 40000', '"characters": 4'))
    with pytest.raises(check.Stale, match=r"other settings today: adapt\.steps, characters"):
        check.check(path, known)
    path.write_text(lines.replace('"rate", "qlora", 0.003', '"rate", "qlora", 0.004'))
    records = check.Kept.read(path, "study merge-trap")
    with pytest.raises(check.Stale, match="also measures rate qlora 0.003 today"):
        check.today(records)[1]("merged", 0.0, 0)


def test_cells_of_one_training_are_trained_each_by_itself(monkeypatch):
    """A study trains once for all strengths of an adapter; a check that did so would see no losses of the second."""
    count = iter(range(2))
    numbers = staticmethod(lambda bench, *key: {"trainings": bench.once("the same", lambda: next(count))})
    monkeypatch.setattr(again.STUDIES["strength"], "measure", numbers)
    path = check.ROOT / check.FOLDERS[0] / "study-strength.jsonl"
    measure = check.today(check.Kept.read(path, "study strength"))[1]
    assert [measure("strength", strength, 2)["trainings"] for strength in (1.25, 1.5)] == [0, 1]


def test_a_search_that_chooses_another_rate_is_stale(tmp_path, monkeypatch):
    class Comparison:
        def __init__(self, settings):
            self.facts = dict

        rate, measure = staticmethod(lambda row: 0.003), staticmethod(lambda *key: {"lr": 0.003})

    monkeypatch.setattr(again.compare_model, "ModelComparison", Comparison)
    header = {"minilora": compare_model.KIND, "settings": {}}
    records = check.Kept(tmp_path, header, {("trained", row, 0): {"lr": lr} for row, lr in (("a", 1e-3), ("b", 3e-3))})
    measure = check.today(records)[1]
    assert measure("trained", "b", 0) == {"lr": 0.003}
    with pytest.raises(check.Stale, match="a was trained at 0.001, and its search chooses 0.003 today"):
        measure("trained", "a", 0)


def test_a_training_that_fails_is_stale_and_a_model_that_is_not_here_is_told(retrained, monkeypatch, capsys):
    _, known, path = retrained

    def diverged(*arguments):
        raise MiniloraError("the loss became nan at step 3")

    monkeypatch.setattr(check, "begin", diverged)
    with pytest.raises(check.Stale, match="does not train: the loss became nan"):
        check.check(path, known)
    monkeypatch.setattr(check, "today", diverged)
    assert main(["check", NAME]) == 0 and "not checked: the loss became nan" in capsys.readouterr().out


def test_a_file_without_fingerprints_is_not_checked_and_one_that_lacks_some_is_stale(retrained):
    _, known, path = retrained
    with pytest.raises(check.Stale, match=f"no fingerprint of {CELL}"):
        check.check(path, {NAME: known[NAME] | {"trainings": {}}})
    with pytest.raises(MiniloraError, match=f"check --update {NAME}"):
        check.check(path, {})


def test_records_of_times_have_no_training_and_those_of_another_kind_are_told(tmp_path):
    assert check.today(check.Kept(tmp_path, {"minilora": "scaling", "settings": {}}, {})) is None
    with pytest.raises(MiniloraError, match="nothing here measures cells of 'juggling'"):
        check.today(check.Kept(tmp_path, {"minilora": "juggling", "settings": {}}, {}))
