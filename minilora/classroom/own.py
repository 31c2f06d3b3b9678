"""A student's own code in the demo: `minilora demo --with lessons/08_lora/exercise.py`.

First the lesson's checks, as `minilora check` runs them: in a process of their own, behind limits. What passed them
then runs in this process, without limits, as any program of the reader's does: it is their file and their command.
"""

import hashlib
import sys
from collections.abc import Callable
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ..errors import MiniloraError, show
from ..models.llama import LlamaForSequenceClassification
from ..quant import linears_of_blocks
from ..study.demo import Own
from .child import run_statements
from .grade import NOT_STARTED, PASSED, Result, grade
from .lessons import Lesson, all_lessons
from .runner import Keeper
from .submission import Submission


@dataclass(frozen=True, kw_only=True)
class Brought(Own):
    """With the submission, so that errors can say where in it they arose."""

    submission: Submission


def brought(file: str) -> Brought:
    """The parts of the demo that the file has an answer for.

    Raises MiniloraError, in one line, for a file that cannot be read, that is of no lesson with a part in the demo, or
    whose tasks do not all pass.
    """
    path = Path(file)
    lesson, submission = _read(path)
    _refuse_open_tasks(lesson, submission)
    module = ModuleType("exercise")
    module.__file__ = str(path)
    sys.modules["exercise"] = module
    with redirect_stdout(sys.stderr):
        run_statements(submission.source, module, str(path), caught=(Exception, SystemExit))
    what, adapts, merges = PARTS[lesson.number](module)
    return Brought(
        what=what,
        file=submission.shown,
        facts={"lesson": lesson.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        adapts=adapts,
        merges=merges,
        submission=submission,
    )


@contextmanager
def errors_named(own: Brought):
    """What the student's code raises becomes a MiniloraError that names its line."""
    try:
        yield
    except Exception as error:
        line = _line_in(error, str(own.submission.path))
        if line is None:
            raise
        raise MiniloraError(
            f"{own.file}, {own.submission.place(line)}: {type(error).__name__}: {show(str(error), 200)} (in the demo's "
            "model, x has three axes: batch, positions, channels)"
        ) from error


# Reading


def _read(path: Path) -> tuple[Lesson, Submission]:
    """The lesson that the file is an exercise of: by its folder, or else by the names that it defines."""
    lessons = {lesson.name: lesson for lesson in all_lessons()}
    taking_part = [lesson for lesson in lessons.values() if lesson.number in PARTS]
    folder = lessons.get(path.resolve().parent.name)
    if folder is not None and folder not in taking_part:
        names = ", ".join(lesson.name for lesson in taking_part)
        raise MiniloraError(f"{show(str(path))}: lesson {folder.name} has no part in the demo; there are {names}")
    problems = []
    for lesson in [folder] if folder else taking_part:
        try:
            return lesson, Submission(path, lesson)
        except MiniloraError as error:
            problems.append(error)
    raise problems[0]


def _refuse_open_tasks(lesson: Lesson, submission: Submission) -> None:
    with Keeper() as keeper:
        results = grade(lesson, submission, keeper)
    bad: Result | None = next((result for result in results if result.verdict != PASSED), None)
    if bad is not None:
        says = "is not started" if bad.verdict == NOT_STARTED else f"fails ({bad.hint.rstrip('.') or bad.got})"
        raise MiniloraError(
            f"{submission.shown}: task {bad.task} of lesson {lesson.number:02} {says}; the demo runs what passes "
            f"minilora check {lesson.number:02} --file {submission.shown}"
        )


def _line_in(error: BaseException, file: str) -> int | None:
    """The last line of the file on the way of the exception; None where it was not there."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


# Parts of the demo


def _lora(module: ModuleType) -> tuple[str, dict[str, Callable], dict[str, Callable]]:
    """Lesson 08: LoraLayer through inject, and merge."""

    def adapt(model, options, seed: int) -> None:
        names = list(dict.fromkeys(path.rpartition(".")[2] for path in linears_of_blocks(model)))
        alpha = 2 * options.rank if options.alpha is None else options.alpha
        module.inject(model, names, options.rank, float(alpha), seed)
        if isinstance(model, LlamaForSequenceClassification):
            model.score.requires_grad_(True)  # a classifier's new head trains with every method

    return "LoRA is LoraLayer, inject and merge", {"lora": adapt}, {"lora": module.merge}


PARTS = {8: _lora}  # number of a lesson -> its `what`, `adapts` and `merges`: see Own
