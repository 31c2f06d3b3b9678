"""The functions of a reader's own exercise, for the last cell of a lesson's notebook."""

import runpy
from types import SimpleNamespace

from minilora.classroom.lessons.lesson import find_lesson


def functions(lesson_number: str) -> SimpleNamespace:
    """Return what the reader's exercise.py defines; while it has open tasks, what the solution defines."""
    lesson = find_lesson(lesson_number)
    text = lesson.exercise.read_text("utf-8")
    open_tasks = sorted({gap.task for gap in lesson.source.gaps if lesson.source.stub(gap) in text})
    if open_tasks:
        print(
            f"Open in lessons/{lesson.name}/exercise.py: task {', '.join(map(str, open_tasks))}.\n"
            "Until they are done, this cell runs the lesson's own functions."
        )
    else:
        print(f"With your functions of lessons/{lesson.name}/exercise.py:")
    return SimpleNamespace(**runpy.run_path(str(lesson.folder / "solution.py" if open_tasks else lesson.exercise)))
