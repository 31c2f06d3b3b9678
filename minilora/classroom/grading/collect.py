"""pytest lessons/08_lora: each task of checks.py against exercise.py, as a test of its own.

lessons/conftest.py imports `pytest_collect_file` from here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minilora.classroom.grading.grade import FAILED, NOT_STARTED, grade
from minilora.classroom.grading.submission import Submission
from minilora.classroom.grading.text_report import limits_line
from minilora.classroom.lessons.lesson import NAME, Lesson
from minilora.classroom.sandbox.runner import Sandbox
from minilora.errors import MiniloraError


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "_LessonFile | None":
    if file_path.name == "checks.py" and NAME.fullmatch(file_path.parent.name):
        return _LessonFile.from_parent(parent, path=file_path)
    return None


class _LessonFile(pytest.File):
    def collect(self) -> Iterator["_TaskItem"]:
        lesson = Lesson(self.path.parent)
        for task in lesson.tasks:
            name = f"task {task.number}: {lesson.source.titles[task.number]}"
            yield _TaskItem.from_parent(self, name=name, lesson=lesson, number=task.number)


class _TaskItem(pytest.Item):
    def __init__(self, *, lesson: Lesson, number: int, **named: Any):
        super().__init__(**named)
        self.lesson, self.number = lesson, number

    def runtest(self) -> None:
        with Sandbox() as sandbox:
            (result,) = grade(self.lesson, Submission(self.lesson.exercise, self.lesson), sandbox, self.number)
        if result.verdict == NOT_STARTED:
            pytest.skip(" ".join(["not started.", result.hint]).strip())
        if result.verdict == FAILED:
            rows = [f"{name}: {value}" for name, value in result.to_dict().items() if name not in ("task", "verdict")]
            raise _Failed("\n".join([*rows, limits_line(sandbox.held)]))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        if isinstance(excinfo.value, (_Failed, MiniloraError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class _Failed(Exception):
    pass
