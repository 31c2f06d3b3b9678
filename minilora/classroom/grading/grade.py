"""A student's file against the checks of a lesson."""

import ast
from dataclasses import asdict, dataclass

from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.checking import Failure, NotStarted, Student, Task
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.sandbox.runner import Job, Raised, RunFailed, Sandbox, Session

REFUSALS = {"PermissionError", "ImportError"}  # what a submission gets that asks for what it may not have
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
    """A result a task, each from a process of its own. only: the number of one task."""
    return [grade_task(lesson, task, submission, sandbox) for task in lesson.tasks if only in (None, task.number)]


def grade_task(lesson: Lesson, task: Task, submission: Submission, sandbox: Sandbox) -> Result:
    """One task's result; the check need not be one of the lesson's own."""
    result = Result(task.number, lesson.source.titles[task.number], FAILED)
    if submission.forbidden:
        place, name = submission.forbidden
        result.place = submission.place(place)
        result.hint = f"This uses {name}, which the lesson leaves for you to write."
        result.hint += f" Of minilora there is {', '.join(lesson.uses)}." if lesson.uses else " It needs NumPy alone."
        return result
    if missing := submission.missing(task.number):
        result.verdict, result.hint = NOT_STARTED, f"{submission.shown} does not define {', '.join(missing)}."
        return result
    job = Job(submission.source, str(submission.path), lesson.uses, lesson.driver, str(lesson.folder.parent.resolve()))
    line: int | None = None
    session: Session | None = None
    try:
        session = sandbox.start(job)
        line = _judge(task, Student(session, lesson.number, _signatures(lesson)), session.error, result)
    except RunFailed as error:
        result.got, line, result.hint = str(error), error.line, error.hint
    finally:
        if session is not None:
            session.close()
            result.printed = session.printed.decode("utf-8", "replace")
    if line:
        result.place = submission.place(line)
    return result


def _judge(task: Task, student: Student, error: Raised | None, result: Result) -> int | None:
    """Run the check, write its verdict into `result`, and return the line that failed. error: of the file's top."""
    try:
        task.check(student)
        result.verdict = PASSED
    except NotStarted as gap:
        if error is not None and REFUSALS & set(error.types):
            result.hint = f"A line at the top of the file failed: {error}"
            return error.line
        result.verdict = NOT_STARTED
        result.hint = f"Task {gap.task} comes first." if gap.task != task.number else ""
    except Failure as failure:
        result.call, result.expected = failure.call, failure.expected
        result.got, result.hint = failure.got, failure.hint
        if error is not None and "has no attribute" in failure.got:
            result.hint = f"A line at the top of the file failed: {error}"
            return error.line
        return failure.line
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as surprise:  # of the check
        result.hint = f"A result has another form than was asked for ({surprise})."
    return None


def _signatures(lesson: Lesson) -> dict[str, tuple[str, list[str]]]:
    """How the calls of the lesson's functions and of its driver's are shown: what is called, and its parameters."""
    found = {
        node.name: (node.name, [a.arg for a in node.args.args])
        for node in lesson.source.tree.body
        if isinstance(node, ast.FunctionDef)
    }
    for node in ast.parse(lesson.driver).body:
        if isinstance(node, ast.FunctionDef):
            said = (ast.get_docstring(node) or node.name).splitlines()[0]
            found[f"driver.{node.name}"] = (said, [a.arg for a in node.args.args[1:]])
    return found
