"""A student's own code in the demo: `minilora demo --with lessons/08_lora/exercise.py`.

First the lesson's checks, as `minilora check` runs them: in a process of their own, behind limits. What passed them
then runs in this process, without limits, as any program of the reader's does: it is their file and their command.
"""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from minilora import nn
from minilora.classroom.grading.grade import NOT_STARTED, PASSED, Result, grade
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.lesson import Lesson, find_lesson
from minilora.classroom.sandbox.child import line_of, run_statements
from minilora.classroom.sandbox.runner import Sandbox
from minilora.demo.story import Own
from minilora.errors import MiniloraError, escape
from minilora.models.llama import LlamaForSequenceClassification
from minilora.quant import linears_of_blocks
from minilora.train import methods

LESSON = "08"


@dataclass(frozen=True, kw_only=True)
class StudentCode(Own):
    """Own code with its submission, so that errors can say where in it they arose."""

    submission: Submission


def load_student_code(file: str) -> StudentCode:
    """Return the file's own LoRA.

    Raises MiniloraError, in one line, for a file that cannot be read, that is no exercise of lesson 08, or whose tasks
    do not all pass.
    """
    path = Path(file)
    lesson = find_lesson(LESSON)
    submission = Submission(path, lesson)
    _check_tasks_pass(lesson, submission)
    module = ModuleType("exercise")
    module.__file__ = str(path)
    sys.modules["exercise"] = module
    with redirect_stdout(sys.stderr):
        run_statements(submission.source, module, str(path), caught=(Exception, SystemExit))
    return StudentCode(
        file=submission.shown,
        facts={"lesson": lesson.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        submission=submission,
        **_lora(module),
    )


@contextmanager
def errors_named(own: StudentCode) -> Iterator[None]:
    """Turn what the student's code raises into a MiniloraError that names its line."""
    try:
        yield
    except Exception as error:
        line = line_of(error, str(own.submission.path))
        if line is None:
            raise
        raise MiniloraError(
            f"{own.file}, {own.submission.place(line)}: {type(error).__name__}: {escape(str(error), 200)} (in the "
            "demo's model; there, x is batch × positions × channels)"
        ) from error


def _check_tasks_pass(lesson: Lesson, submission: Submission) -> None:
    with Sandbox() as sandbox:
        results = grade(lesson, submission, sandbox)
    bad: Result | None = next((result for result in results if result.verdict != PASSED), None)
    if bad is not None:
        says = "is not started" if bad.verdict == NOT_STARTED else f"fails ({bad.hint.rstrip('.') or bad.got})"
        raise MiniloraError(
            f"{submission.shown}: task {bad.task} of lesson {lesson.number:02} {says}; the demo runs what passes "
            f"minilora check {lesson.number:02} --file {submission.shown}"
        )


def _lora(module: ModuleType) -> dict:
    """Return fields of Own from the student's module."""

    def adapt(model: nn.Module, options: methods.Options, seed: int) -> None:
        names = list(dict.fromkeys(path.rpartition(".")[2] for path in linears_of_blocks(model)))
        alpha = 2 * options.rank if options.alpha is None else options.alpha
        module.inject(model, names, options.rank, float(alpha), seed)
        if isinstance(model, LlamaForSequenceClassification):
            model.score.requires_grad_(True)  # a classifier's new head trains with every method

    return {
        "what": "LoRA is LoraLayer, inject and merge",
        "adapts": {"lora": adapt},
        "merges": {"lora": module.merge},
    }
