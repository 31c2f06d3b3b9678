"""Errors that follow from earlier ones: a task that fails is tried with the solution's parts of the tasks that it uses.

Where it then passes, and one of those tasks is wrong by its own check, it is "right, given task 2". In the student's
process the parts come in place of the student's functions once the file has run; of that run nothing is reported but
whether it passed. Lessons that came without solutions have no parts.
"""

import ast

from minilora.classroom.grading.grade import PASSED, PASSED_GIVEN, SHARE, Result, grade_task
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.checking import Task
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.lessons.source import stub_start
from minilora.classroom.sandbox.runner import Sandbox


def grade_all(lesson: Lesson, submission: Submission, sandbox: Sandbox, only: int | None = None) -> list[Result]:
    """A result a task, each given the earlier ones. only: the number of one task."""
    return [grade_given(lesson, t, submission, sandbox) for t in lesson.tasks if only in (None, t.number)]


def grade_given(
    lesson: Lesson, task: Task, submission: Submission, sandbox: Sandbox, closed: tuple[str, ...] = ()
) -> Result:
    """As `grade_task`, and PASSED_GIVEN where an earlier task is what is wrong. Verdicts are kept in the submission."""
    tasks = {one.number: one for one in lesson.tasks}
    result, verdicts = grade_task(lesson, task, submission, sandbox, closed), submission.verdicts
    if task == tasks[task.number]:  # and not a teacher's private check
        verdicts[task.number] = result.verdict
    if result.verdict == PASSED or lesson.kit or _is_blank(lesson, task, submission):
        return result
    doubtful = [n for n in _used(lesson, task, submission) if verdicts.get(n) not in SHARE]
    parts = "".join(lesson.source.parts(number) for number in doubtful)
    if not parts or grade_task(lesson, task, submission, sandbox, closed, parts).verdict != PASSED:
        return result
    for number in doubtful:
        if number not in verdicts:
            grade_given(lesson, tasks[number], submission, sandbox, closed)
    wrong = tuple(number for number in doubtful if verdicts[number] not in SHARE)
    if not wrong:
        return result
    if task == tasks[task.number]:
        verdicts[task.number] = PASSED_GIVEN
    return Result(task.number, result.title, PASSED_GIVEN, given=wrong)


def numbered(tasks: tuple[int, ...]) -> str:
    """ "task 2", "tasks 2 and 3"."""
    *first, last = map(str, tasks)
    return f"tasks {', '.join(first)} and {last}" if first else f"task {last}"


def _is_blank(lesson: Lesson, task: Task, submission: Submission) -> bool:
    """Whether a function of the task's is missing, or has the stub of its gap."""
    stub, names = stub_start(lesson.number, task.number) + ":", lesson.source.names(task.number)
    return any(name not in submission.defined or stub in ast.unparse(submission.defined[name]) for name in names)


def _used(lesson: Lesson, task: Task, submission: Submission) -> list[int]:
    """Earlier tasks whose functions or classes are named in the student's code for this one, in its check or in the
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
