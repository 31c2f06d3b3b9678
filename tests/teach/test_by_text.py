"""pytest tests/teach/test_by_text.py: what is read of a notebook, and which cells count. Needs the teach extra."""

import json

import pytest

from minilora.classroom.grading.by_text import cells_of, find_endless
from minilora.classroom.grading.submission import CELLS_LIMIT, TEXT_LIMIT, calls_of
from minilora.classroom.lessons.lesson import find_lesson
from minilora.classroom.sandbox.runner import Sandbox

pytestmark = pytest.mark.host

SLACK = 3  # seconds of processor time, which the system cuts into whole ones


@pytest.mark.parametrize(
    "text, calls",
    [
        ('# Task 3\nfrom minilora.classroom.grading import nbcheck\n\nnbcheck.task("08", 3)', [("08", 3)]),
        ('nbcheck.task("08", 3)\nnbcheck.task("02", 1)', [("08", 3), ("02", 1)]),
        ("from minilora.classroom.grading import nbcheck", []),
        ('nbcheck.task("08", 3)\nassert f() == 3', None),
        ('nbcheck.task("08", f())', None),
        ("assert f() == 3", None),
        ('nbcheck.hidden("08", 3)', None),
        ("", None),
    ],
)
def test_what_a_test_cell_asks(text, calls):
    assert calls_of(text) == calls


@pytest.mark.parametrize(
    "cells", [[{}] * (CELLS_LIMIT + 1), [{"source": "x" * (TEXT_LIMIT + 1)}], 3], ids=["cells", "text", "none"]
)
def test_what_nobody_writes_is_not_read(tmp_path, cells):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.ipynb").write_text(json.dumps({"cells": cells}))
    (tmp_path / "b").symlink_to("a")
    for folder, says in (
        ("a", "as a notebook" if cells == 3 else "more than"),
        ("b", "is a link, or in a linked folder"),
    ):
        ((kind, text, name),) = cells_of(tmp_path / folder / "a.ipynb")
        assert (
            (kind, name) == ("markdown", "")
            and text.startswith("**This notebook was not graded:** a.ipynb")
            and says in text
        )


def test_endless_cells_share_the_time():
    loop = "while True: pass"
    cells = [(1, "x = 1"), (2, loop), (3, "def f():\n    while True: pass"), (4, "f()"), (5, "y = ("), (6, "z = 1")]
    with Sandbox(seconds=4, patience=60) as sandbox:
        out = find_endless(cells, find_lesson("08"), sandbox)
        assert list(out) == [2, 4, 5]
        assert out[2].startswith("still running after 2 s") and out[4].startswith("still running after ")
        used = sandbox.used
        out = find_endless([(n, loop) for n in range(9)], find_lesson("08"), sandbox)
        assert sandbox.used - used < 4 + SLACK
    assert list(out) == list(range(9)) and out[8] == "cells above it used up the time"
