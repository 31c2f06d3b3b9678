"""A student's file against the checks of a lesson.

Errors that follow from earlier ones are told apart: a task that fails is tried with the solution's parts of the tasks
that it uses. If it then passes, and one of those tasks is wrong by its own check, it is "right, given task 2". In the
student's process the parts come in place of the student's functions once the file has run; of that run nothing is
reported but whether it passed.
"""

import ast
from dataclasses import asdict, dataclass

import numpy as np

from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.checking import UNEXPECTED_VALUE_ERRORS, Failure, NotStarted, Run, Student, Task
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.lessons.source import stub_start
from minilora.classroom.sandbox.runner import Job, Raised, RunFailed, Sandbox
from minilora.errors import MiniloraError

PASSED, FAILED, NOT_STARTED = "passed", "failed", "not started"
PASSED_GIVEN = "passed given"  # with the solution's parts of earlier tasks, which are wrong: see `grade_given`
SHARE = {PASSED: 1.0, PASSED_GIVEN: 0.5}  # of a task's points


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
    given: tuple[int, ...] = ()  # of PASSED_GIVEN, the tasks that are wrong

    def to_dict(self) -> dict:
        return {name: value for name, value in asdict(self).items() if value not in ("", ())}


def grade(lesson: Lesson, submission: Submission, sandbox: Sandbox, only: int | None = None) -> list[Result]:
    """Return a result a task, each from a process of its own and by itself. only: the number of one task."""
    return [grade_task(lesson, task, submission, sandbox) for task in lesson.tasks if only in (None, task.number)]


def grade_all(lesson: Lesson, submission: Submission, sandbox: Sandbox, only: int | None = None) -> list[Result]:
    """Return a result a task, each given the earlier ones. only: the number of one task."""
    return [grade_given(lesson, t, submission, sandbox) for t in lesson.tasks if only in (None, t.number)]


def grade_given(lesson: Lesson, task: Task, submission: Submission, sandbox: Sandbox) -> Result:
    """As `grade_task`, and PASSED_GIVEN if an earlier task is what is wrong. Verdicts are kept in the submission."""
    tasks = {one.number: one for one in lesson.tasks}
    result, verdicts = grade_task(lesson, task, submission, sandbox), submission.verdicts
    if task == tasks[task.number]:  # and not a teacher's private check
        verdicts[task.number] = result.verdict
    if result.verdict == PASSED or _is_blank(lesson, task, submission):
        return result
    doubtful = [n for n in _used(lesson, task, submission) if verdicts.get(n) not in SHARE]
    parts = "".join(lesson.source.parts(number) for number in doubtful)
    if not parts or grade_task(lesson, task, submission, sandbox, parts).verdict != PASSED:
        return result
    for number in doubtful:
        if number not in verdicts:
            grade_given(lesson, tasks[number], submission, sandbox)
    wrong = tuple(number for number in doubtful if verdicts[number] not in SHARE)
    if not wrong:
        return result
    if task == tasks[task.number]:
        verdicts[task.number] = PASSED_GIVEN
    return Result(task.number, result.title, PASSED_GIVEN, given=wrong)


def _is_blank(lesson: Lesson, task: Task, submission: Submission) -> bool:
    """True if a function of the task's is missing, or has the stub of its gap."""
    stub, names = stub_start(lesson.number, task.number) + ":", lesson.source.names(task.number)
    return any(name not in submission.defined or stub in ast.unparse(submission.defined[name]) for name in names)


def _used(lesson: Lesson, task: Task, submission: Submission) -> list[int]:
    """Return the earlier tasks that a task builds on.

    They are those whose functions or classes are named in the student's code for this one, in its check or in the
    driver's functions that it calls, or in what those name, and so on.
    """
    nodes: dict[str, list[ast.stmt]] = {}
    for tree in (ast.parse((lesson.folder / "checks.py").read_text("utf-8")), ast.parse(lesson.driver)):
        for node in tree.body:
            nodes.setdefault(getattr(node, "name", ""), []).append(node)
    for name, node in submission.defined.items():
        nodes.setdefault(name, []).append(node)
    reached, todo = set[str](), {*lesson.source.names(task.number), task.check.__name__}
    while todo:
        reached |= todo
        named = [part for name in todo for node in nodes.get(name, ()) for part in ast.walk(node)]
        todo = {getattr(part, "id", getattr(part, "attr", "")) for part in named} - reached
    return sorted(
        {gap.task for gap in lesson.source.gaps if gap.where.partition(".")[0] in reached and gap.task < task.number}
    )


def grade_task(lesson: Lesson, task: Task, submission: Submission, sandbox: Sandbox, given: str = "") -> Result:
    """Return one task's result; the check need not be one of the lesson's own. given: see `job_of`."""
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
        session = sandbox.start(job_of(lesson, submission, given))
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


def job_of(lesson: Lesson, submission: Submission, given: str = "") -> Job:
    """Return what the sandbox runs. given: text of functions that come in place of the student's."""
    return Job(
        source=submission.source,
        file=str(submission.path),
        uses=lesson.uses,
        driver=lesson.driver,
        given=given,
        names=tuple(dict.fromkeys(gap.where for gap in lesson.source.gaps)),
        changes=tuple(name for name, promised in lesson.promises.items() if promised.changes),
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
