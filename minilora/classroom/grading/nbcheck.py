"""Checks a task from inside a notebook. The test cells of a course (see `course.py`) say:

    from minilora.classroom.grading import nbcheck

    nbcheck.task("08", 3)

It raises NotPassed, with the report, where the task is not passed. What is checked is the text of the code cells that
this kernel has run, in a process of its own behind the limits of the sandbox. A cell that is no Python, or that was
interrupted, counts as not there. This is for the student: the marks are given by `by_text.py`, where no cell runs.
"""

import sys
from pathlib import Path
from typing import Any

from minilora.classroom.grading.grade import FAILED, PASSED, Result, grade_task
from minilora.classroom.grading.submission import Cells
from minilora.classroom.grading.text_report import task_report
from minilora.classroom.lessons.checking import Task
from minilora.classroom.lessons.lesson import Lesson, find_lesson
from minilora.classroom.sandbox.in_process import sandbox_here
from minilora.classroom.sandbox.runner import Sandbox
from minilora.errors import MiniloraError

CONFIG, HIDDEN = "nbgrader_config.py", "hidden"  # in a course: what marks its folder, and where private checks lie


class NotPassed(Exception):
    """A task is not passed. The message is the report, and it is all that a notebook shows."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def task(lesson: str, number: int) -> None:
    """Check a task by the lesson's own check."""
    _check(lesson, number)


def hidden(lesson: str, number: int) -> None:
    """Check a task by the teacher's private check, from the folder of the course that the notebook lies in."""
    here = Path.cwd()
    course = next((folder for folder in (here, *here.parents) if (folder / CONFIG).is_file()), here)
    _check(lesson, number, course)


def _check(word: str, number: int, course: Path | None = None) -> None:
    try:
        lesson = find_lesson(word)
        task = task_of(lesson, number, course)
    except MiniloraError as error:
        raise NotPassed(str(error)) from None
    with sandbox_here() as sandbox:
        result, report = judge(lesson, task, _cells_run(), sandbox)
    if result.verdict != PASSED:
        raise NotPassed(report)
    print(report)


def task_of(lesson: Lesson, number: int, course: Path | None = None) -> Task:
    """Find a lesson's own check of a task; of a course, the teacher's private one. Raises MiniloraError."""
    tasks = lesson.tasks if course is None else lesson.private_tasks(course / HIDDEN / f"{lesson.name}.py")
    for task in tasks:
        if task.number == number:
            return task
    raise MiniloraError(f"no {'private ' if course else ''}check of task {number} in lesson {lesson.number:02}")


def judge(lesson: Lesson, task: Task, cells: list[tuple[int, str]], sandbox: Sandbox) -> tuple[Result, str]:
    """Return a task's result for the code cells, (number, text) each, and the report."""
    try:
        answer = Cells(cells, lesson, task.number)
        result = grade_task(lesson, task, answer, sandbox)
        if answer.missing(task.number) and answer.unreadable:
            result.hint += f" A cell is no Python: {[*answer.unreadable.values()][-1]}."
    except MiniloraError as error:
        result = Result(task.number, lesson.source.titles[task.number], FAILED, hint=str(error))
    return result, task_report(result, sandbox.held)


_notes: dict[int, tuple[str | None, bool]] = {}  # number of a run -> (the cell's id where it has one, interrupted?)


def _note(result: Any) -> None:
    """Note a cell that was run; IPython calls this."""
    _notes[result.execution_count] = (result.info.cell_id, isinstance(result.error_in_exec, KeyboardInterrupt))


def _cells_run() -> list[tuple[int, str]]:
    """Return (number, text) of the cells that this kernel has run: of one that was run again, the last text."""
    latest: dict[int | str, tuple[int, str]] = {}
    shell = _shell()
    for number, text in enumerate(shell.history_manager.input_hist_raw if shell else ()):
        cell, was_interrupted = _notes.get(number, (None, False))
        latest.pop(cell or number, None)
        if not was_interrupted:
            latest[cell or number] = (number, text)
    return list(latest.values())


def _shell() -> Any:
    """Return IPython's shell; None outside a notebook."""
    ipython = sys.modules.get("IPython")  # a kernel has it
    return None if ipython is None else ipython.get_ipython()


if (shell := _shell()) is not None:
    shell.events.register("post_run_cell", _note)
