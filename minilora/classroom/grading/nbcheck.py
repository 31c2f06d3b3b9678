"""Checks a task from inside a notebook. The test cells of a course (see `course.py`) say:

    from minilora.classroom.grading import nbcheck

    nbcheck.task("08", 3)

It raises NotPassed, with the report, where the task is not passed, and nbgrader gives no points then. What is checked
is the text of the code cells that this kernel has run, in a process of its own behind the limits of the sandbox. A cell
that is no Python, or that was interrupted (as nbgrader does to one that runs too long), counts as not there.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minilora.classroom.grading.grade import FAILED, PASSED, Result, grade_task
from minilora.classroom.grading.submission import RunCells
from minilora.classroom.grading.text_report import task_report
from minilora.classroom.lessons.checking import Task
from minilora.classroom.lessons.lesson import Lesson, find_lesson
from minilora.classroom.sandbox.runner import Sandbox
from minilora.errors import MiniloraError

CONFIG, HIDDEN = "nbgrader_config.py", "hidden"  # in a course: what marks its folder, and where private checks lie


class NotPassed(Exception):
    """A task is not passed. The message is the report, and it is all that a notebook shows."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def task(lesson: str, number: int) -> None:
    """Check a task by the lesson's own check."""
    _check(lesson, number, lambda found: found.tasks)


def hidden(lesson: str, number: int) -> None:
    """Check a task by the teacher's private check, from the folder of the course that the notebook lies in."""
    here = Path.cwd()
    course = next((folder for folder in (here, *here.parents) if (folder / CONFIG).is_file()), here)
    _check(lesson, number, lambda found: found.private_tasks(course / HIDDEN / f"{found.name}.py"))


def _check(word: str, number: int, tasks_of: Callable[[Lesson], list[Task]]) -> None:
    try:
        lesson = find_lesson(word)
        task = next(task for task in tasks_of(lesson) if task.number == number)
    except MiniloraError as error:
        raise NotPassed(str(error)) from None
    with Sandbox() as sandbox:
        try:
            cells = RunCells(_cells_run(), lesson, number)
            result = grade_task(lesson, task, cells, sandbox)
            if cells.missing(number):
                result.hint += f" A cell is no Python: {cells.unreadable}." if cells.unreadable else ""
                result.hint += " A cell that was interrupted does not count." if _was_one_interrupted() else ""
        except MiniloraError as error:
            result = Result(number, lesson.source.titles[number], FAILED, hint=str(error))
        report = task_report(result, sandbox.held)
    if result.verdict != PASSED:
        raise NotPassed(report)
    print(report)


_notes: dict[int, tuple[str | None, bool]] = {}  # number of a run -> (the cell's id where it has one, interrupted?)


def _note(result: Any) -> None:
    """IPython calls this after each cell that was run."""
    _notes[result.execution_count] = (result.info.cell_id, isinstance(result.error_in_exec, KeyboardInterrupt))


def _was_one_interrupted() -> bool:
    return any(interrupted for _, interrupted in _notes.values())


def _cells_run() -> list[tuple[int, str]]:
    """(number, text) of the cells that this kernel has run: of one that was run again, the last text."""
    latest: dict[int | str, tuple[int, str]] = {}
    shell = _shell()
    for number, text in enumerate(shell.history_manager.input_hist_raw if shell else ()):
        cell, was_interrupted = _notes.get(number, (None, False))
        latest.pop(cell or number, None)
        if not was_interrupted:
            latest[cell or number] = (number, text)
    return list(latest.values())


def _shell() -> Any:
    """IPython's shell; None outside a notebook."""
    ipython = sys.modules.get("IPython")  # a kernel has it
    return None if ipython is None else ipython.get_ipython()


if (shell := _shell()) is not None:
    shell.events.register("post_run_cell", _note)
