"""pytest tests/results/test_page.py: measured numbers in the project's texts are what the committed records say."""

import copy
import json
import re

import pytest

from experiments.results import jargon as jargon_record
from experiments.results import page as results
from experiments.studies import STUDIES
from minilora.data.jargon import HELD_OUT_PHRASINGS
from minilora.demo import teach_report
from minilora.errors import FormatError, MiniloraError
from minilora.formats.atomic import to_json, write_json
from minilora.show import grids
from tests.helpers.copies import copy_folder

pytestmark = pytest.mark.host
JARGON = results.ROOT / results.PACKAGED / jargon_record.FILE
KNOWN = {"comparison.lora.share": "5.9 %"}


def test_the_page_is_what_the_records_say():
    assert (results.ROOT / results.PAGE).read_text("utf-8") == results.page()
    assert {path.stem for path in (results.ROOT / results.FIGURES).glob("*.png")} == results.figures().keys()
    assert set(results.measured_studies()) == set(STUDIES)


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
def jargon():
    """The results of a full run, of which some round numbers are known."""
    run = copy.deepcopy(jargon_record.read(JARGON)["runs"][0])
    run |= {"quick": False, "command": "minilora demo --model smollm2", "adapter": "/tmp/here", "replay": 50}
    run["training"] |= {"losses": [3.0, 2.0], "seconds": 100.0}
    del run["by_wording"]
    times = {"before": 0.5, "few-shot": 0.6, "open book": 0.3, "after": 0.4}
    for number, (name, seconds) in enumerate(times.items(), start=1):
        row = run["rows"][name]
        row |= {"seconds": seconds, "prompt_tokens": 10.2 * number}
        row["scores"] = {"phrasings": {"f1": number / 5, "exact": 0.1, "count": 80}, "uses": row["scores"]["uses"]}
    run["rows"]["after"] |= {"quiz": 27}
    run["samples"] = [
        {
            "test": test,
            "question": HELD_OUT_PHRASINGS[i % 3].format(term=f"{test} {i}"),
            "expected": "It.",
            **dict.fromkeys(teach_report.ROWS, "a | *b*\n<i>"),
            "after": "It." if i % 3 else "It is.",
        }
        for test in ("phrasings", "uses")
        for i in range(9)
    ]
    return run


@pytest.fixture
def a_root(tmp_path, jargon):
    """A project with the committed records but for that of the jargon, and a text."""
    for folder in (results.RECORDS, results.PACKAGED):
        copy_folder(results.ROOT / folder, tmp_path / folder)
    (tmp_path / results.PAGE).parent.mkdir()
    (tmp_path / "README.md").write_text("<!-- measured: jargon.after.phrasings.f1 -->1 %<!-- / -->")
    (tmp_path / "results.json").write_bytes(to_json(jargon))
    return tmp_path


def test_the_committed_record_is_what_is_kept_of_a_run():
    """If this fails: python -m experiments.results.page"""
    assert JARGON.read_bytes() == to_json(jargon_record.read(JARGON))


def test_a_lesson_and_a_notebook_show_it():
    page = (results.ROOT / "lessons" / "13_choosing" / "giant.md").read_text("utf-8")
    named = {match["name"] for match in results.MARKED.finditer(page)}
    assert {"jargon.caution", "jargon.table", "jargon.after.phrasings.f1", "jargon.few-shot.pays_off"} <= named
    notebook = json.loads((results.ROOT / "notebooks" / "13_choosing.ipynb").read_text("utf-8"))
    printed = "".join("".join(out.get("text", "")) for cell in notebook["cells"] for out in cell.get("outputs", []))
    for sentence in teach_report.claims(jargon_record.read(JARGON)["runs"]):
        assert sentence in printed, "python -m notebooks.make 13"


def other_seed(run: dict) -> dict:
    """Return the results of another seed, with other scores after training."""
    other = copy.deepcopy(run)
    other["rows"]["after"]["scores"]["phrasings"]["f1"] = 0.9
    other["rows"]["after"]["quiz"], other["seconds"] = 28, run["seconds"] + 100
    return other


@pytest.mark.slow
def test_new_runs_are_kept_and_the_texts_follow(a_root, jargon):
    write_json(a_root / "other.json", other_seed(jargon))
    files = [a_root / "results.json", a_root / "other.json"]
    write_json(a_root / results.PACKAGED / jargon_record.FILE, jargon_record.record_of(files))
    results.write(a_root)
    record = jargon_record.read(a_root / results.PACKAGED / jargon_record.FILE)
    run = record["runs"][0]
    assert len(record["runs"]) == 2 and "losses" not in run["training"] and "adapter" not in run
    asked = [sample["question"] for sample in run["samples"]]
    assert len(asked) == 2 * jargon_record.SAMPLES and run["by_wording"] == pytest.approx([2 / 3, 1, 1])
    assert "/tmp/here" not in (a_root / results.PACKAGED / jargon_record.FILE).read_text()
    assert "-->85 ± " in (a_root / "README.md").read_text()
    page = (a_root / results.PAGE).read_text()
    assert "| fine-tuned | 85 ± " in page and jargon_record.CAUTION not in page
    assert r"| a \| \*b\* \<i\> |" in page and "67 % in “A colleague said" in page
    assert (a_root / results.FIGURES / "jargon.png").is_file()


def test_values_of_the_jargon(jargon):
    runs = [jargon | {"by_wording": [0.6, 1, 1]}, other_seed(jargon) | {"by_wording": [0.8, 1, 1]}]
    known = jargon_record.values({"runs": runs})
    expected = {
        "before.phrasings.f1": "20 %",
        "after.quiz": teach_report.mean([27, 28]),
        "few-shot.pays_off": "after 500 questions",  # 100 s / (0.6 s - 0.4 s)
        "open-book.pays_off": "never (a question by prompt took no longer)",
        "trainable": "1,221,120",
        "replay": "50",
        "time": grids.show_seconds(jargon["seconds"] + 50),
    }
    assert {name: known[f"jargon.{name}"] for name in expected} == expected
    assert known["jargon.after.phrasings.f1"].startswith("85 ± ") and "; 85 ± " in teach_report.claims(runs)[1]
    assert known["jargon.wordings"].startswith("Wording by wording: 70 ± ")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"rows": {"before": {}, "after": {}}}, "results of minilora demo"),
        ({"rows": 3}, "no record of the jargon"),
        ({"samples": [{}]}, "no record of the jargon"),
        ({"training": {}}, "trainable"),
    ],
)
def test_other_results_are_no_record(change, words, jargon, tmp_path):
    (tmp_path / "r.json").write_bytes(to_json(jargon | change))
    with pytest.raises(FormatError, match=words):
        jargon_record.record_of([tmp_path / "r.json"])
    (tmp_path / "record.json").write_bytes(to_json({"runs": [jargon | change]}))
    with pytest.raises(FormatError, match=words):
        jargon_record.read(tmp_path / "record.json")
    with pytest.raises(FormatError, match="it has no runs"):
        jargon_record.read(tmp_path / "r.json")
