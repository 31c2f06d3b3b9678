"""Verdicts of a lesson's checks on its saboteurs."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from minilora.classroom.grading.grade import PASSED, Result, grade_task
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.sandbox.runner import Sandbox
from tests.saboteurs.kit import ACTED, SEEN
from tests.saboteurs.made import Saboteur, Seen, saboteurs

NOTICED, SURVIVED, IDLE = "noticed", "survived", "idle"
# Where one of these is idle, the checks lack an input: with that property, with another value of that argument
ASKED = ("wrong_where", "wrong_later", "keeps", "cuts_gradient", "remembers")


@dataclass(frozen=True)
class Trial:
    """One saboteur, and whether the check noticed it."""

    saboteur: Saboteur
    verdict: str

    @property
    def counts(self) -> bool:
        """Return True if the saboteur breaks a promise and could be noticed."""
        return self.saboteur.is_promised and (self.verdict != IDLE or self.saboteur.kind in ASKED)


def try_all(lesson: Lesson, sandbox: Sandbox, part: slice = slice(None), only: str = "") -> list[Trial]:
    """Try all saboteurs of a lesson, or a part of them; only: those of one function."""
    with TemporaryDirectory(prefix="minilora-saboteurs-") as folder:
        path = Path(folder) / "sabotaged.py"
        seen = _seen(lesson, sandbox, path)
        chosen = [made for made in saboteurs(lesson, seen) if only in ("", made.where)][part]
        return [_try(lesson, saboteur, sandbox, path) for saboteur in chosen]


def _grade(lesson: Lesson, text: str, task: int, sandbox: Sandbox, path: Path) -> Result:
    path.write_text(text, encoding="utf-8")
    check = next(one for one in lesson.tasks if one.number == task)
    return grade_task(lesson, check, Submission(path, lesson), sandbox)


def _seen(lesson: Lesson, sandbox: Sandbox, path: Path) -> dict[str, Seen]:
    """Return the kinds of arrays that the checks pass to each gap."""
    seen: dict[str, Seen] = defaultdict(set)
    for gap in lesson.source.gaps:
        result = _grade(
            lesson, Saboteur(gap.where, gap.task, "observe", None, False).text(lesson), gap.task, sandbox, path
        )
        for line in result.printed.splitlines():
            if line.startswith(SEEN):
                name, kind, dtype, axes = line.removeprefix(SEEN).split()
                seen[gap.where].add((name, kind, dtype, int(axes)))
    return seen


def _try(lesson: Lesson, saboteur: Saboteur, sandbox: Sandbox, path: Path) -> Trial:
    result = _grade(lesson, saboteur.text(lesson), saboteur.task, sandbox, path)
    verdict = NOTICED if result.verdict != PASSED or result.remarks else SURVIVED if ACTED in result.printed else IDLE
    return Trial(saboteur, verdict)
