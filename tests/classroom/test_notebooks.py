"""pytest tests/classroom/test_notebooks.py

Each notebook is its source, run, with its pictures. Running them is a step of CI:
python -m notebooks.make --check
"""

import html
import json
import re
import shutil
from pathlib import Path

import pytest

from minilora.classroom.lessons.lesson import Lesson, all_lessons, find_lesson
from minilora.errors import MiniloraError
from notebooks import make
from notebooks.figures import yours
from tests.helpers.answers import solution_lines

pytestmark = pytest.mark.host

SOURCES = sorted(make.FOLDER.glob("[0-9][0-9]_*.py"))
WITH_NAMES = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def cells_of(source: Path) -> list[str]:
    """Return the cells of a py:percent file, as a notebook holds them."""
    cells = []
    for part in re.split(r"^# %%(.*)\n", source.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        cells.append(part)
    kinds, bodies = cells[::2], cells[1::2]
    as_text = lambda body: "\n".join(line[2:] for line in body.strip().splitlines())  # noqa: E731
    return [as_text(b) if "markdown" in k else b.strip() for k, b in zip(kinds, bodies, strict=True)]


@WITH_NAMES
def test_the_notebook_is_its_source_run_once_with_pictures(source):
    notebook = json.loads(source.with_suffix(".ipynb").read_text("utf-8"))
    assert ["".join(cell["source"]) for cell in notebook["cells"]] == cells_of(source)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(output["output_type"] != "error" for output in outputs)
    shown = {
        "".join(output["data"]["text/plain"]): "".join(output["data"]["text/html"])
        for output in outputs
        if "text/html" in output.get("data", {})
    }
    assert shown and not any("image/png" in output.get("data", {}) for output in outputs)
    for title, page in shown.items():
        assert f'alt="{html.escape(title)}: ' in page and re.search("<figcaption>[^<]+[.?]</figcaption>", page), title
    assert source.with_suffix(".ipynb").stat().st_size < 1_500_000
    lines = [line for cell in code for line in "".join(cell["source"]).splitlines()]
    assert [line for line in lines if len(line) > 88] == [], "shown without a scroll bar"
    assert not any(make.WIDGET in output.get("data", {}) for output in outputs)
    assert "widgets" not in notebook["metadata"] and not any(cell["metadata"] for cell in notebook["cells"])


@WITH_NAMES
def test_it_asks_first_and_closes_with_the_exercise_and_three_questions(source):
    first, idea, code, *_, turn, last, reward = cells_of(source)
    assert first.startswith(f"# {source.stem[:2]} ") and "?" in first
    assert turn.startswith("## Your turn") and turn.count("<details><summary>") == 3
    links = re.findall(r"\]\((\.\./[^)]+)\)", first + turn)
    assert f"../lessons/{source.stem}/exercise.py" in links
    assert all((make.FOLDER / link).exists() for link in links)
    assert idea.startswith("## The idea, in a few lines\n") and "import numpy as np" in code and "minilora" not in code
    assert last.startswith("## Your own functions at work\n")
    assert f'yours.functions("{source.stem[:2]}")' in reward and "pictures.show(" in reward and "mine." in reward


def test_the_last_cell_takes_the_readers_functions_once_all_tasks_are_done(tmp_path, monkeypatch, capsys):
    lesson = Lesson(shutil.copytree(find_lesson("08").folder, tmp_path / "08_lora"))
    monkeypatch.setattr(yours, "find_lesson", lambda number: lesson)
    assert yours.functions("08").count_parameters(192, 96, 8) == (2304, 18432)
    assert "Open in lessons/08_lora/exercise.py: task 1, 2, 3, 4, 5, 6." in capsys.readouterr().out
    text = lesson.source.text.replace("return r * (d_in + d_out), d_in * d_out", "return 'mine'")
    lesson.exercise.write_text(text, "utf-8")
    assert yours.functions("08").count_parameters(192, 96, 8) == "mine"
    assert capsys.readouterr().out == "With your functions of lessons/08_lora/exercise.py:\n"


def test_a_slider_that_fails_is_named(tmp_path):
    """A kernel shows the error in the slider's output, and the cell itself passes."""
    source = tmp_path / "01_small.py"
    source.write_text("# %%\nimport ipywidgets\n_ = ipywidgets.interact(lambda n: 1 // n, n=(-1, 1))\n")
    pytest.importorskip("nbclient")
    pytest.importorskip("jupytext")
    with pytest.raises(MiniloraError, match="a slider fails: ZeroDivisionError"):
        make.made(source)


def squeezed(code: str) -> str:
    """Return code without line breaks, blanks and trailing commas, so that its layout does not matter."""
    return re.sub(r",(?=[)\]}])", "", re.sub(r"\s+", "", code))


@WITH_NAMES
def test_no_line_of_a_solution_is_given_away_however_broken(source):
    text = squeezed("\n".join(cells_of(source)))
    for lesson in all_lessons():
        # In the notebooks of other lessons, short lines are those of any program: `optimizer.step()`, `for x in xs:`.
        shortest = 0 if lesson.name == source.stem else 32
        lines = [line for line in solution_lines(lesson.source) if len(line) >= shortest]
        revealed = [line for line in lines if squeezed(line.partition("  #")[0]) in text]
        assert revealed == [], f"the solution of lesson {lesson.name} has these lines"


def test_stale_is_another_text_or_number_but_not_another_rounding():
    text = "loss 2.31, 1,024 tokens"
    assert make.alike(text, "loss 2.30, 1,000 tokens")
    assert make.alike("off by 3e-07", "off by 8.1e-08") and not make.alike("off by 3e-07", "off by 0.003")
    assert not make.alike(text, "loss 2.31, 1,124 tokens") and not make.alike(text, "loss 2.31, 1,024 ids")


def test_an_unknown_number_lists_what_there_is():
    with pytest.raises(MiniloraError, match="08_lora"):
        make.sources(["99"])
    assert make.main(["99"]) == 2
