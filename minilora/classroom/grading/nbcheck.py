"""Checking a task from inside a notebook. The test cells of a course (see `course.py`) have these lines:

    from minilora.classroom.grading import nbcheck

    nbcheck.task("08", 3)

`task` raises NotPassed, with the report, if the task is not passed. It checks the text of the code cells that this
kernel has run, in a process with the limits of the sandbox. Cells that are not Python, or that were interrupted, are
left out. This is for the student's own use: marks are given by `by_text.py`, which does not run notebooks.
"""

import sys
from typing import Any

from minilora.classroom.grading.grade import PASSED, grade_task, task_lines
from minilora.classroom.grading.submission import Cells
from minilora.classroom.lessons.lesson import Lesson, find_lesson
from minilora.classroom.sandbox.in_process import sandbox_here
from minilora.classroom.sandbox.runner import Sandbox
from minilora.errors import MiniloraError


class NotPassed(Exception):
    """A task that is not passed. The message is the report; a notebook shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def task(lesson: str, number: int) -> None:
    """Check a task and print the report. Raises NotPassed."""
    try:
        this_lesson = find_lesson(lesson)
        with sandbox_here() as sandbox:
            passed, report = judge(this_lesson, number, [*_cells.values()], sandbox)
    except MiniloraError as error:
        raise NotPassed(str(error)) from None
    if not passed:
        raise NotPassed(report)
    print(report)


def judge(lesson: Lesson, number: int, cells: list[tuple[int, str]], sandbox: Sandbox) -> tuple[bool, str]:
    """Check code cells, pairs (number, text); returns (True if the task is passed, report). Raises MiniloraError."""
    tasks = {check.number: check for check in lesson.tasks}
    if number not in tasks:
        raise MiniloraError(f"lesson {lesson.number:02} has no task {number}; it has {', '.join(map(str, tasks))}")
    result = grade_task(lesson, tasks[number], Cells(cells, lesson), sandbox)
    return result.verdict == PASSED, "\n".join(task_lines(result))


# The cells that this kernel has run, in order; a cell that ran again is moved to the end.
_cells: dict[int | str, tuple[int, str]] = {}


def _note(result: Any) -> None:
    """Note a cell that was run, by its id if it has one. IPython calls this after each cell."""
    number, name = result.execution_count, result.info.cell_id
    for key in (number, name):
        _cells.pop(key, None)
    if number is not None and not isinstance(result.error_in_exec, KeyboardInterrupt):
        _cells[name or number] = number, result.info.raw_cell


ipython = sys.modules.get("IPython")  # always there in a kernel
if ipython is not None and (shell := ipython.get_ipython()) is not None:
    _cells.update((number, (number, text)) for number, text in enumerate(shell.history_manager.input_hist_raw))
    shell.events.register("post_run_cell", _note)
