"""pytest tests/experiments/test_page.py: measured numbers in the project's texts are what the committed records say."""

import copy
import json
import re

import pytest

from experiments.results import jargon as jargon_record
from experiments.results import page as results
from experiments.studies import STUDIES
from minilora.demo import teach_report
from minilora.errors import MiniloraError
from tests.helpers.copies import copy_folder

pytestmark = pytest.mark.host
JARGON = results.ROOT / results.PACKAGED / jargon_record.FILE
KNOWN = {"comparison.lora.share": "5.9 %"}


def test_the_page_is_what_the_records_say():
    assert (results.ROOT / results.PAGE).read_text("utf-8") == results.page()
    assert {path.stem for path in (results.ROOT / results.FIGURES).glob("*.png")} == results.figures().keys()
    page = results.page()
    assert all(f"## {study.question}\n" in page for study in STUDIES.values())  # what is not measured says so
    assert results.measured_studies().keys() == STUDIES.keys()


def test_findings_and_contents_link_to_sections_and_texts_to_sections_of_the_page():
    page = results.page()
    anchors = {results.anchor(line[3:]) for line in page.splitlines() if line.startswith("## ")}
    links = set(re.findall(r"\]\((#[^)]+)\)", page))
    assert len(links) > 20 and links <= anchors
    for path in results.texts():
        linked = set(re.findall(r"results\.md(#[^)\s]+)\)", path.read_text("utf-8")))
        assert linked <= anchors, path


@pytest.mark.parametrize("path", results.texts(), ids=lambda path: str(path.relative_to(results.ROOT)))
def test_marked_numbers_are_what_the_records_say(path):
    text = path.read_text("utf-8")
    assert text == results.fill(text, results.values())


@pytest.mark.parametrize("path", results.texts(), ids=lambda path: str(path.relative_to(results.ROOT)))
def test_no_line_within_a_paragraph_begins_with_a_marked_number(path):
    """For Markdown, a line that begins with a comment ends the paragraph; what fills a line may."""
    begins = re.compile(r"^[ \t]*<!-- measured: [^>]*-->[^\n]+<!-- / -->[ \t]*[^\s]", re.MULTILINE)
    assert not begins.findall(path.read_text("utf-8"))


def test_a_number_is_replaced_where_it_is_marked_and_nowhere_else():
    text = "5 % and <!-- measured: comparison.lora.share -->5 %<!-- / -->, 5 %"
    filled = "5 % and <!-- measured: comparison.lora.share -->5.9 %<!-- / -->, 5 %"
    assert results.fill(text, KNOWN) == filled == results.fill(filled, KNOWN)


def test_a_name_that_was_not_measured_is_an_error():
    with pytest.raises(MiniloraError, match=r"README.md: nothing measured is called comparison\.lorra\.share"):
        results.fill("<!-- measured: comparison.lorra.share -->1<!-- / -->", KNOWN, "README.md")


# The record of the jargon


@pytest.fixture
def runs():
    """Two runs, of which some round numbers are known."""
    one = copy.deepcopy(jargon_record.read(JARGON)[0])
    one |= {"replay": 50, "f1": {"phrasings": [0.6, 1.0, 1.0] * 2, "uses": [0.0]}, "seconds": 400.0}
    one["training"]["seconds"] = 100.0
    times = {"before": 0.5, "few-shot": 0.6, "open book": 0.3, "after": 0.4}
    for number, (name, seconds) in enumerate(times.items(), start=1):
        scores = {
            "phrasings": {"f1": number / 5, "exact": 0.1, "count": 80},
            "uses": one["rows"][name]["scores"]["uses"],
        }
        one["rows"][name] |= {"seconds": seconds, "prompt_tokens": 10.2 * number, "scores": scores}
    one["rows"]["after"]["quiz"] = 27
    one["samples"][0] |= dict.fromkeys(teach_report.ROWS, "a | *b*\n<i>")
    other = copy.deepcopy(one) | {"seconds": 500.0, "f1": {"phrasings": [0.8, 1.0, 1.0] * 2, "uses": [0.0]}}
    other["rows"]["after"]["scores"]["phrasings"]["f1"] = 0.9
    other["rows"]["after"]["quiz"] = 28
    return [one, other | {"key": ["taught", 1]}]


def test_a_lesson_and_a_notebook_show_it():
    page = (results.ROOT / "lessons" / "13_choosing" / "giant.md").read_text("utf-8")
    named = {match["name"] for match in results.MARKED.finditer(page)}
    assert {"jargon.table", "jargon.after.phrasings.f1", "jargon.few-shot.pays_off"} <= named
    notebook = json.loads((results.ROOT / "notebooks" / "13_choosing.ipynb").read_text("utf-8"))
    printed = "".join("".join(out.get("text", "")) for cell in notebook["cells"] for out in cell.get("outputs", []))
    for sentence in teach_report.claims(jargon_record.read(JARGON)):
        assert sentence in printed, "python -m notebooks.make 13"


@pytest.mark.slow
def test_the_texts_follow_new_runs(tmp_path, runs):
    for folder in (results.RECORDS, results.PACKAGED):
        copy_folder(results.ROOT / folder, tmp_path / folder)
    (tmp_path / results.PAGE).parent.mkdir()
    marks = [f"<!-- measured: jargon.{name} -->1 %<!-- / -->" for name in ("after.phrasings.f1", "wordings")]
    (tmp_path / "README.md").write_text("\n".join(marks))
    path = tmp_path / results.PACKAGED / jargon_record.FILE
    header = path.read_text("utf-8").splitlines()[0]
    path.write_text("".join(f"{line}\n" for line in (header, *map(json.dumps, reversed(runs)))))
    results.write(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "-->85 ± " in text and "Wording by wording: 70 ± " in text
    page = (tmp_path / results.PAGE).read_text()
    assert "SmolLM2 scores 85 ± " in page and r"| a \| \*b\* \<i\> |" in page
    assert (tmp_path / results.FIGURES / "jargon.png").is_file()


def test_values_of_the_jargon(runs):
    known = jargon_record.values(runs)
    expected = {
        "before.phrasings.f1": "20 %",
        "after.quiz": teach_report.mean([27, 28]),
        "few-shot.pays_off": "after 500 questions",  # 100 s / (0.6 s - 0.4 s)
        "open-book.pays_off": "never (a question by prompt took no longer)",
        "trainable": "1,221,120",
        "replay": "50",
        "time": "450 s",
        "runs": "2",
    }
    assert {name: known[f"jargon.{name}"] for name in expected} == expected
    assert known["jargon.after.phrasings.f1"].startswith("85 ± ") and "; 85 ± " in teach_report.claims(runs)[1]
    assert known["jargon.wordings"].startswith("Wording by wording: 70 ± ")


def test_a_run_is_kept_without_most_of_its_answers(monkeypatch, tmp_path, runs):
    samples = [
        {"test": test, "question": f"{i}?", "expected": "It.", "after": "It." if i % 3 else "That."}
        for test in ("phrasings", "uses")
        for i in range(9)
    ]
    taught = runs[0] | {"samples": samples, "adapter": "/tmp/here"}
    taught["training"]["losses"] = [3.0, 2.0]
    calls = []
    monkeypatch.setattr(jargon_record.teach, "run", lambda folder, model, seed: calls.append((model, seed)) or taught)
    for resume in (False, True):
        jargon_record.run(tmp_path, "base", 1 + resume, resume)
    assert calls == [("base", 0), ("base", 1)]  # the first is not taught again
    first, second = jargon_record.read(tmp_path / jargon_record.RECORDS)
    assert first["key"] == ["taught", 0] and first["rows"] == second["rows"] == taught["rows"]
    assert first["f1"]["phrasings"] == [0, 1, 1] * 3 and len(first["samples"]) == 2 * jargon_record.SAMPLES
    assert "losses" not in first["training"] and "adapter" not in first
