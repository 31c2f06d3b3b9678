"""The demo with a student's own code: `pytest tests/classroom/test_demo_parts.py`."""

import json
from dataclasses import replace

import pytest

from minilora.classroom.grading import demo_parts
from minilora.classroom.lessons.lesson import find_lesson
from minilora.cli import main
from minilora.demo import story
from tests.demo.test_story import TINY
from tests.helpers.answers import with_answers

pytestmark = pytest.mark.host

LESSON = find_lesson("08")
INJECT = """
print("my own inject")
found = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)]
chosen = [(path, module) for path, module in found if path.split(".")[-1] in targets]
if set(targets) - {path.split(".")[-1] for path, _ in found}:
    raise ValueError(targets)
model.requires_grad_(False)
for path, linear in chosen:
    model.replace(path, LoraLayer(linear, r, alpha, seed))
return [path for path, _ in chosen]
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys, cache):
    """run(text of a file, its name, …): exit code, standard output and standard error of the demo with it."""
    monkeypatch.setattr(story, "QUICK", replace(TINY, seeds=(0,), label_curve=()))
    monkeypatch.setenv("MINILORA_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)

    def run(text, name="mine.py", *options):
        if text is not None:
            (tmp_path / name).write_text(text, encoding="utf-8")
        code = main(["demo", "--quick", "--with", name, "--out", str(tmp_path / "out"), *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(result) -> str:
    """The one line of a refusal, before anything was trained."""
    code, told, line = result
    assert code == 2 and not told and line.count("\n") == 1 and line.startswith("minilora: ")
    return line


@pytest.mark.slow
def test_the_demo_runs_on_it_and_says_so(run, tmp_path):
    code, told, errors = run(
        with_answers(LESSON.source, {"inject": INJECT}) + "\nprint('at the top')\nexit()\n", "mine.py", "--json"
    )
    assert code == 0
    results = json.loads(told)  # what the student's code prints goes elsewhere
    assert "my own inject" in errors and "at the top" in errors
    assert "your own code" in errors and "without the limits" in " ".join(errors.split())
    settings, cells = results["header"]["settings"], {tuple(cell["key"]): cell for cell in results["cells"]}
    assert settings["own"]["file"] == "mine.py" and settings["command"] == "minilora demo --quick --with mine.py"
    lora = cells["text", "lora", 0]
    assert lora["trainable"] == lora["total"] - cells["text", "base", 0]["total"] > 0
    merged = cells["merged", "lora"]
    assert merged["before"] == lora["domain"] == pytest.approx(merged["after"], abs=1e-4)
    heads = {key[1]: cell["trainable"] for key, cell in cells.items() if key[0] == "task"}
    assert heads["lora"] == lora["trainable"] + heads["feature-extraction"]  # the head trains as well
    page = (tmp_path / "out" / "report.html").read_text()
    assert "LoRA is LoraLayer, inject and merge of mine.py" in page
    assert settings["own"]["sha256"] in page and "Merged by it, LoRA reads the domain" in page


@pytest.mark.slow
def test_an_error_in_the_demo_names_the_students_line(run):
    forward = """
    if x.ndim > 2 and x.shape[1] > 6:
        raise IndexError("rows only")
    return self.base(x) + F.linear(F.linear(x, self.A), self.B) * self.scaling
    """
    text = with_answers(LESSON.source, {"LoraLayer.forward": forward})
    code, _, errors = run(text)
    number = next(i for i, line in enumerate(text.splitlines(), 1) if "rows only" in line)
    last = errors.splitlines()[-1]
    assert (
        code == 2
        and last.startswith(f"minilora: mine.py, line {number}: IndexError: rows only")
        and "positions × channels" in last
    )


def test_an_open_task_is_named(run):
    assert "task 1 of lesson 08 is not started" in refused(run(LESSON.source.exercise()))
    unscaled = with_answers(LESSON.source, {"lora_forward": "return x @ W.T + x @ A.T @ B.T"})
    line = refused(run(unscaled))
    assert "task 3 of lesson 08 fails (The update is not scaled" in line and "minilora check 08 --file mine.py" in line


@pytest.mark.parametrize(
    "name, text, says",
    [
        ("none.py", None, "no file none.py"),
        ("mine.txt", "x = 1", "neither a .py file nor a notebook"),
        ("mine.py", "x = (", "line 1"),
        ("mine.py", "x = 1\n", "mine.py is no exercise of lesson 08: it defines none of count_parameters"),
        ("mine.ipynb", "{}", "not a notebook that can be read"),
        ("mine.py", "def inject(model): pass\n", "task 1 of lesson 08 is not started"),
    ],
)
def test_bad_files_give_one_line(run, tmp_path, name, text, says):
    assert says in refused(run(text, name))


def test_a_notebook_will_do(tmp_path):
    code = LESSON.source.text.replace("import numpy as np", "%matplotlib inline\nimport numpy as np", 1)
    cells = [
        {"cell_type": "code", "source": code.splitlines(keepends=True)},
        {"cell_type": "markdown", "source": ["no"]},
    ]
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    mine = demo_parts.load_student_code(str(path))
    assert list(mine.adapts) == ["lora"] and mine.file.endswith("mine.ipynb")
