"""Which task fails how often, and by which hint: overview.html, a page to show to a class, and overview.csv.

No student is named. Hints that differ in their numbers alone count as one.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from minilora.classroom.grading.grade import FAILED, NOT_STARTED, PASSED, PASSED_GIVEN
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.teaching.marking import Marks
from minilora.classroom.teaching.tables import write_csv
from minilora.formats.atomic import write_atomic
from minilora.show.html import page, step, text

VERDICTS = (PASSED, PASSED_GIVEN, FAILED, NOT_STARTED)
NUMBERS = re.compile(r"(?<![\w.])-?\d[\d.,e+-]*")
STYLE = """<style>
.task { margin: 1.4rem 0; } .task h3 { margin: 0 0 .3rem; }
.bar { display: flex; height: .8rem; border-radius: .4rem; overflow: hidden; background: var(--line); }
.bar span { display: block; } .passed { background: #2f7d5b; } .failed { background: #c8553d; }
.given { background: #8fc0a8; }
.task p { margin: .3rem 0; } .task ul { margin: .3rem 0; padding-left: 1.2rem; } .task li { overflow-wrap: anywhere; }
.times { font-weight: 600; white-space: nowrap; }
</style>"""


@dataclass
class TaskCount:
    """How a task went: how many have each verdict, and of the failed ones how often each hint."""

    number: int
    title: str
    verdicts: Counter = field(default_factory=Counter)
    hints: Counter = field(default_factory=Counter)
    example: dict[str, str] = field(default_factory=dict)  # hint without numbers -> the first with them


def count(lesson: Lesson, marks: Marks) -> list[TaskCount]:
    """Of each task, over the files that were graded."""
    counts = {number: TaskCount(number, title) for number, title in lesson.source.titles.items()}
    for (_, name), mark in marks.of.items():
        for result in mark.results if name == lesson.name else ():
            task = counts[result.task]
            task.verdicts[result.verdict] += 1
            if result.verdict == FAILED:
                got = f"{result.got}. " if result.got and not result.call else ""  # it came to no answer
                hint = f"{got}{result.hint}".strip() or f"It gave {result.got}."
                key = NUMBERS.sub("…", hint)
                task.hints[key] += 1
                task.example.setdefault(key, hint)
    return list(counts.values())


def write_overview(out: Path, marks: Marks, students: int) -> None:
    """Both files. students: how many are in the class."""
    counts = {lesson.name: count(lesson, marks) for lesson in marks.lessons}
    write_csv(out / "overview.csv", _rows(counts), for_people=True)
    parts = [_lesson_part(lesson, counts[lesson.name], marks, students) for lesson in marks.lessons]
    lead = "Green: passed. Red: failed, with what the checker said and how often. Grey: not started."
    html = page("how the class did", STYLE, "<h1>How the class did</h1>", f'<p class="soft">{lead}</p>', *parts)
    write_atomic(out / "overview.html", html.encode())


def _rows(counts: dict[str, list[TaskCount]]) -> Iterator[list[object]]:
    yield ["lesson", "task", "title", *VERDICTS, "hint", "times"]
    for name, tasks in counts.items():
        for task in tasks:
            facts = [name, task.number, task.title, *(task.verdicts[verdict] for verdict in VERDICTS)]
            for hint, times in task.hints.most_common() or [("", 0)]:
                yield [*facts, task.example.get(hint, ""), times]


def _lesson_part(lesson: Lesson, tasks: list[TaskCount], marks: Marks, students: int) -> str:
    found = [mark for (_, name), mark in marks.of.items() if name == lesson.name]
    graded = [mark.points for mark in found if not mark.reason]
    lead = f"{len(found)} of {students} handed in"
    lead += f", {len(found) - len(graded)} of them what cannot be graded" if len(graded) < len(found) else ""
    if graded:
        lead += f"; on average {sum(graded) / len(graded):.0f} of {marks.most(lesson)} points"
    title = f"Lesson {lesson.number:02}: {lesson.title}"
    return step(title, f'<p class="soft">{text(lead)}.</p>', *(_task_part(task) for task in tasks if graded))


def _task_part(task: TaskCount) -> str:
    total = task.verdicts.total()
    bar = "".join(
        f'<span class="{verdict}" style="width:{100 * task.verdicts[verdict] / total:.1f}%"></span>'
        for verdict in (PASSED, PASSED_GIVEN, FAILED)
    )
    said = ", ".join(f"{task.verdicts[verdict]} {verdict}" for verdict in VERDICTS if task.verdicts[verdict])
    hints = "".join(
        f'<li><span class="times">{times} ×</span> {text(task.example[hint])}</li>'
        for hint, times in task.hints.most_common()
    )
    bar = f'<div class="bar" role="img" aria-label="{said}">{bar}</div>\n<p class="soft">{said}</p>'
    hints = f"<ul>{hints}</ul>" if hints else ""
    return f'<div class="task"><h3>{task.number}. {text(task.title)}</h3>\n{bar}{hints}</div>'
