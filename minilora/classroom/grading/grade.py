"""Grading a student's file by the checks of a lesson, and reporting the results."""

import ast
import shlex
import textwrap
from dataclasses import dataclass, field

import numpy as np

from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.checking import (
    UNEXPECTED_VALUE_ERRORS,
    Failure,
    NotStarted,
    Run,
    Student,
    Task,
    promise,
)
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.sandbox.runner import Job, Raised, RunFailed, Sandbox
from minilora.errors import MiniloraError, line_width

PASSED, FAILED, NOT_STARTED = "passed", "failed", "not started"


@dataclass
class Result:
    """The verdict on one task; for a failure also the call, its expected and actual result, and a hint.

    remarks: on the side conditions that an answer breaks although it passes.
    """

    task: int
    title: str
    verdict: str
    call: str = ""
    expected: str = ""
    got: str = ""
    hint: str = ""
    place: str = ""  # the student's line that raised or was still running
    printed: str = ""
    remarks: list[str] = field(default_factory=list)


def grade(lesson: Lesson, submission: Submission, sandbox: Sandbox, only: int | None = None) -> list[Result]:
    """Grade each task in a process of its own, with the student's other functions. only: grade this task alone."""
    tasks = [task for task in lesson.tasks if only in (None, task.number)]
    results = [grade_task(lesson, task, submission, sandbox) for task in tasks]
    failed = {result.task: result for result in results if result.verdict == FAILED}
    for number, result in failed.items():
        if earlier := failed.keys() & submission.builds_on(number):
            first = f"Task {min(earlier)} failed, and this builds on it: mend that first."
            result.hint = f"{first} {result.hint}".rstrip()
    return results


def grade_task(lesson: Lesson, task: Task, submission: Submission, sandbox: Sandbox) -> Result:
    """Grade one task. `task` may bring a check that is not the lesson's own."""
    result = Result(task.number, lesson.source.titles[task.number], FAILED)
    line: int | None = None
    if use := submission.forbidden(task.number):
        line, name = use
        result.place = submission.place(line)
        result.hint = f"This uses {name}, which the lesson leaves for you to write."
        allowed = f"you may use {', '.join(lesson.uses)}" if lesson.uses else "you need nothing"
        result.hint += f" From minilora {allowed}."
        return result
    if missing := [name for name in lesson.source.names(task.number) if name not in submission.defined]:
        result.verdict, result.hint = NOT_STARTED, f"{submission.shown} does not define {', '.join(missing)}."
        return result
    run: Run | None = None
    error: Raised | None = None  # the exception at the top level of the file
    is_explained = False  # True if that exception explains the failure
    try:
        if submission.failed is not None:  # running the file again would take as long
            raise submission.failed
        session = sandbox.start(job_of(lesson, submission))
        run, error = Run(session, lesson.number, _signatures(lesson), lesson.reference), session.error
        _check(task, run)
        result.verdict, result.remarks = PASSED, run.remarks
    except RunFailed as failure:
        result.got, line, result.hint = str(failure), failure.line or failure.statement, failure.hint
        submission.failed = failure if failure.statement else submission.failed
    except NotStarted as gap:
        is_explained = error is not None and "ImportError" in error.types
        result.verdict = FAILED if is_explained else NOT_STARTED
        result.hint = f"Task {gap.task} comes first." if gap.task != task.number else ""
    except Failure as failure:
        result.call, result.expected, result.got = failure.call, failure.expected, failure.got
        result.hint, line = failure.hint, failure.line
        is_explained = "has no attribute" in failure.got or failure.got.startswith("NameError")
    finally:
        if run is not None:
            run.session.close()
            submission.called[task.number] = run.called
            result.printed = run.session.printed.decode("utf-8", "replace")
    if error is not None and is_explained:
        result.hint, line = f"A line outside of all functions failed: {error}", error.line
    result.place = submission.place(line) if line else ""
    return result


def job_of(lesson: Lesson, submission: Submission) -> Job:
    """Return the job for the sandbox."""
    promises = {gap.where: lesson.promises.get(gap.where, promise()) for gap in lesson.source.gaps}
    watched = {name: ["shares"] * own.shares + ["mode"] * own.switches for name, own in promises.items()}
    return Job(submission.source, str(submission.path), lesson.modules, watched)


def _check(task: Task, run: Run) -> None:
    """Run the check. Raises the Failure that explains most."""
    own_failure = surprise = None
    try:
        with np.errstate(all="ignore"):  # comparisons with strange values must not warn
            task.check(Student(run))
    except Failure as failure:
        own_failure = failure
    except MiniloraError:  # an error of the lesson itself, whatever the answer is
        raise
    except UNEXPECTED_VALUE_ERRORS as error:
        surprise = Failure("", "", "", f"A result does not have the form that the task asks for ({error}).", None)
    if worst := run.worst(own_failure) or surprise:
        raise worst


def _signatures(lesson: Lesson) -> dict[str, tuple[str, list[str]]]:
    """Return the functions of the lesson and its driver: {name: (how a call is shown, parameters)}."""
    signatures = {}
    for is_driver, tree in ((False, lesson.source.tree), (True, ast.parse(lesson.modules.get("driver", "")))):
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                shown = (is_driver and ast.get_docstring(node) or node.name).splitlines()[0]
                name = f"driver.{node.name}" if is_driver else node.name
                signatures[name] = (shown, [a.arg for a in node.args.args[is_driver:]])
    return signatures


def lesson_report(submission: Submission, results: list[Result], hint_steps: int = 0, chosen: int | None = None) -> str:
    """Report on a lesson: a line for each task, details of failures, and `hint_steps` hints (see `hints_for`)."""
    lesson = submission.lesson
    title = lesson.title + ":" * (not lesson.title.endswith("?"))
    state = summary(results) if chosen is None else f"task {chosen} {results[0].verdict}"
    lines = _wrapped("", f"Lesson {lesson.number:02}, {title} {state}", 0)
    lines += [*_wrapped("", submission.shown, 0), ""]
    for result in results:
        lines += [*task_lines(result), *[""] * (result.verdict == FAILED)]
    lines += [""] * bool(lines[-1])
    number, hints = hints_for(lesson, results, chosen if hint_steps else None)
    for step, hint in enumerate(hints[:hint_steps], start=1):
        lines += _wrapped(f"hint {step}", hint, 9)
    if hint_steps < len(hints):
        text = f"{'Next hint' if hint_steps else 'A hint'} for task {number}: minilora check {lesson.number:02}"
        text += (f" --task {number}" if chosen else "") + " --hint" + (f" {hint_steps + 1}" if hint_steps else "")
        file = "" if submission.path == lesson.exercise else f" --file {shlex.quote(str(submission.path))}"
        lines.append(text + file if len(text + file) <= 80 else text)
    return "\n".join(lines).rstrip("\n")


def hints_for(lesson: Lesson, results: list[Result], chosen: int | None) -> tuple[int, tuple[str, ...]]:
    """Return the number and hints of the chosen task, or of the first that is not passed; (0, ()) if all are passed."""
    number = chosen or next((result.task for result in results if result.verdict != PASSED), 0)
    return number, next((task.hints for task in lesson.tasks if task.number == number), ())


def task_lines(result: Result) -> list[str]:
    """Report on one task."""
    lines = _wrapped(f"task {result.task}", f"{result.verdict:<13}{result.title}", 9)
    place = f"({result.place})" if result.got and result.place else result.place
    printed = result.printed.strip()[-300:] if result.verdict == FAILED else ""
    rows = {
        "call": result.call,
        "expected": result.expected,
        "got": f"{result.got} {place}".strip(),
        "hint": result.hint,
        "printed": printed and f"by all calls of the task:\n{printed}",
    }
    for name, text in rows.items() if result.verdict != PASSED else ():
        lines += _wrapped(f"    {name}", text, 14) if text else []
    for remark in result.remarks:
        lines += _wrapped("    remark", remark, 14)
    return lines


def summary(results: list[Result]) -> str:
    """Summarize the results: "passed 3 of 6: task 2 failed"."""
    text = f"passed {sum(result.verdict == PASSED for result in results)} of {len(results)}"
    if all(result.verdict == NOT_STARTED for result in results):
        return NOT_STARTED
    first = next((result for result in results if result.verdict != PASSED), None)
    return text if first is None else f"{text}: task {first.task} {first.verdict}"


def _wrapped(label: str, text: str, margin: int) -> list[str]:
    """Wrap `text` beside a label, to the width of the page, with control characters made visible."""
    text = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text.expandtabs(4))
    lines = []
    for line in text.split("\n"):
        lines += textwrap.wrap(line, line_width() - margin, replace_whitespace=False) or [""]
    labels = [label, *[""] * (len(lines) - 1)]
    return [f"{label:<{margin}}{line}".rstrip() for label, line in zip(labels, lines, strict=True)]
