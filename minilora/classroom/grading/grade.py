"""A student's file against the checks of a lesson."""

import ast
from dataclasses import asdict, dataclass

import numpy as np

from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.checking import UNEXPECTED_VALUE_ERRORS, Failure, NotStarted, Run, Student, Task
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.sandbox.runner import Job, Raised, RunFailed, Sandbox
from minilora.errors import MiniloraError

PASSED, FAILED, NOT_STARTED = "passed", "failed", "not started"


@dataclass
class Result:
    """One task's verdict; for a failure, the call that shows it, what was expected and what came, and a hint."""

    task: int
    title: str
    verdict: str
    call: str = ""
    expected: str = ""
    got: str = ""
    hint: str = ""
    place: str = ""  # of the student's line that raised or was still running
    printed: str = ""

    def to_dict(self) -> dict:
        return {name: value for name, value in asdict(self).items() if value != ""}


def grade(lesson: Lesson, submission: Submission, sandbox: Sandbox, only: int | None = None) -> list[Result]:
    """Return a result a task, each from a process of its own and by itself. only: the number of one task."""
    return [grade_task(lesson, task, submission, sandbox) for task in lesson.tasks if only in (None, task.number)]


def grade_task(lesson: Lesson, task: Task, submission: Submission, sandbox: Sandbox) -> Result:
    """Return one task's result; the check need not be one of the lesson's own."""
    result = Result(task.number, lesson.source.titles[task.number], FAILED)
    line: int | None = None
    if use := submission.forbidden(task.number):
        line, name = use
        result.place = submission.place(line)
        result.hint = f"This uses {name}, which the lesson leaves for you to write."
        result.hint += f" Of minilora there is {', '.join(lesson.uses)}." if lesson.uses else " It needs NumPy alone."
        return result
    if missing := submission.missing(task.number):
        result.verdict, result.hint = NOT_STARTED, f"{submission.shown} does not define {', '.join(missing)}."
        return result
    run: Run | None = None
    try:
        if submission.failed is not None:  # it would take as long again
            raise submission.failed
        session = sandbox.start(job_of(lesson, submission))
        run = Run(session, lesson.number, _signatures(lesson), lesson.reference)
        line = _judge(task, run, session.error, result)
    except RunFailed as error:
        result.got, line, result.hint = str(error), error.line or error.statement, error.hint
        if error.statement:
            submission.failed = error
    finally:
        if run is not None:
            run.session.close()
            result.printed = run.session.printed.decode("utf-8", "replace")
    if line:
        result.place = submission.place(line)
    return result


def job_of(lesson: Lesson, submission: Submission) -> Job:
    """Return what the sandbox runs."""
    return Job(
        source=submission.source,
        file=str(submission.path),
        uses=lesson.uses,
        driver=lesson.driver,
        names=tuple(dict.fromkeys(gap.where for gap in lesson.source.gaps)),
        shares=tuple(name for name, promised in lesson.promises.items() if promised.shares),
        switches=tuple(name for name, promised in lesson.promises.items() if promised.switches),
    )


def _judge(task: Task, run: Run, error: Raised | None, result: Result) -> int | None:
    """Run the check, write its verdict into `result`, and return the line that failed. error: of the file's top."""
    is_explained = False  # by that error
    line = None
    try:
        of_check = surprise = None
        try:
            with np.errstate(all="ignore"):  # whatever it is compared with
                task.check(Student(run))
        except Failure as failure:
            of_check = failure
        except MiniloraError:  # of the lesson, whatever the answer
            raise
        except UNEXPECTED_VALUE_ERRORS as error_of_check:
            surprise = error_of_check
        if worst := run.worst(of_check):
            raise worst
        result.verdict = FAILED if surprise else PASSED
        if surprise:
            result.hint = f"A result has another form than was asked for ({surprise})."
    except NotStarted as gap:
        is_explained = error is not None and "ImportError" in error.types
        result.verdict = FAILED if is_explained else NOT_STARTED
        result.hint = f"Task {gap.task} comes first." if gap.task != task.number else ""
    except Failure as failure:
        result.call, result.expected, result.got = failure.call, failure.expected, failure.got
        result.hint, line = failure.hint, failure.line
        is_explained = "has no attribute" in failure.got or failure.got.startswith("NameError")
    if error is not None and is_explained:
        result.hint, line = f"A line at the top of the file failed: {error}", error.line
    return line


def _signatures(lesson: Lesson) -> dict[str, tuple[str, list[str]]]:
    """Return {function of the lesson or its driver: (how its call is shown, its parameters)}."""
    signatures = {
        node.name: (node.name, [a.arg for a in node.args.args])
        for node in lesson.source.tree.body
        if isinstance(node, ast.FunctionDef)
    }
    for node in ast.parse(lesson.driver).body:
        if isinstance(node, ast.FunctionDef):
            shown = (ast.get_docstring(node) or node.name).splitlines()[0]
            signatures[f"driver.{node.name}"] = (shown, [a.arg for a in node.args.args[1:]])
    return signatures
