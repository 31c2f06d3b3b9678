"""Checks a task from inside a notebook. The test cells of a course (see `course.py`) say:

    from minilora.classroom.grading import nbcheck

    nbcheck.task("08", 3)

It raises NotPassed, with the report, where the task is not passed. What is checked is the text of the code cells that
this kernel has run, in a process of its own behind the limits of the sandbox. A cell that is no Python, or that was
interrupted, counts as not there. This is for the student: the marks are given by `by_text.py`, where no cell runs.
"""

import sys
from typing import Any

from minilora.classroom.grading.grade import PASSED, grade_task, task_report
from minilora.classroom.grading.submission import Cells
from minilora.classroom.lessons.lesson import Lesson, find_lesson
from minilora.classroom.sandbox.in_process import sandbox_here
from minilora.classroom.sandbox.runner import Sandbox
from minilora.errors import MiniloraError


class NotPassed(Exception):
    """A task is not passed. The message is the report, and it is all that a notebook shows."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def task(lesson: str, number: int) -> None:
    """Check a task by the lesson's own check."""
    try:
        known = find_lesson(lesson)
        with sandbox_here() as sandbox:
            passed, report = judge(known, number, [*_cells.values()], sandbox)
    except MiniloraError as error:
        raise NotPassed(str(error)) from None
    if not passed:
        raise NotPassed(report)
    print(report)


def judge(lesson: Lesson, number: int, cells: list[tuple[int, str]], sandbox: Sandbox) -> tuple[bool, str]:
    """Say if the code cells, (number, text) each, pass a task's check; and report. Raises MiniloraError."""
    tasks = {check.number: check for check in lesson.tasks}
    if number not in tasks:
        raise MiniloraError(f"no check of task {number}, but of {', '.join(map(str, tasks))}")
    result = grade_task(lesson, tasks[number], Cells(cells, lesson), sandbox)
    return result.verdict == PASSED, task_report(result, sandbox.held)


_cells: dict[
    int | str, tuple[int, str]
] = {}  # that this kernel has run, in their order; of a repeated one the last text


def _note(result: Any) -> None:
    """Note a cell that was run, by its id where it has one; IPython calls this."""
    number, name = result.execution_count, result.info.cell_id
    for key in (number, name):
        _cells.pop(key, None)
    if number is not None and not isinstance(result.error_in_exec, KeyboardInterrupt):
        _cells[name or number] = number, result.info.raw_cell


ipython = sys.modules.get("IPython")  # a kernel has it
if ipython is not None and (shell := ipython.get_ipython()) is not None:
    _cells.update((number, (number, text)) for number, text in enumerate(shell.history_manager.input_hist_raw))
    shell.events.register("post_run_cell", _note)
