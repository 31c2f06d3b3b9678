"""`minilora check`: check a lesson's exercise, or show the progress over all lessons."""

import json
import sys
import time
from argparse import Namespace
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten

from minilora.classroom.grading.grade import PASSED, Result, grade, hints_for, lesson_report, summary
from minilora.classroom.grading.submission import SIZES, Submission
from minilora.classroom.lessons.lesson import Lesson, all_lessons, find_lesson
from minilora.classroom.sandbox.in_process import sandbox_here
from minilora.commands.common import Parser, add_flag, whole
from minilora.errors import MiniloraError, escape, line_width
from minilora.formats.atomic import read_bytes


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora check 08 --hint"
    parser.add_argument("lesson", nargs="?", help="number or name of a lesson (default: show progress in all lessons)")
    parser.add_argument("--file", help=".py file or notebook with the answers (default: the lesson's exercise.py)")
    hints = "show the first N of three hints; --hint alone shows one"
    parser.add_argument("--hint", nargs="?", type=whole(1, 3), const=1, metavar="N", help=hints)
    words = "check only this task (hints are for the first that is not passed)"
    parser.add_argument("--task", type=whole(1), metavar="N", help=words)
    parser.add_argument("--watch", action="store_true", help="check again whenever the file changes, until Ctrl-C")
    add_flag(parser, "--json")


def run(arguments: Namespace) -> int:
    """Print the report. Returns 0 if every task passed, else 1. Raises MiniloraError for a file that cannot be read."""
    if arguments.lesson is None:
        flags = ("file", "hint", "watch", "task")
        if typed := next((f"--{name}" for name in flags if getattr(arguments, name)), ""):
            raise MiniloraError(f"{typed} needs a lesson, as in: minilora check 08 {typed}")
        return _progress(arguments.json)
    lesson, task = find_lesson(arguments.lesson), arguments.task
    if task is not None and task not in lesson.source.titles:
        raise MiniloraError(f"--task {task}: lesson {lesson.number:02} has only {len(lesson.source.titles)} tasks")
    path = Path(arguments.file) if arguments.file else lesson.exercise
    if arguments.watch:
        _watch(lesson, path, arguments)
    return _check_once(lesson, path, arguments)


def _check_once(lesson: Lesson, path: Path, arguments: Namespace) -> int:
    submission, task, steps = Submission(path, lesson), arguments.task, arguments.hint or 0
    with sandbox_here() as sandbox:
        results = grade(lesson, submission, sandbox, task)
    if arguments.json:
        number, hints = hints_for(lesson, results, task)
        hinted = {"hints": {"task": number, "texts": hints[:steps]}} if steps and hints else {}
        print(json.dumps(_facts(submission, results) | hinted), flush=True)
    else:
        print(lesson_report(submission, results, steps, task), flush=True)
    return int(any(result.verdict != PASSED for result in results))


def _watch(lesson: Lesson, path: Path, arguments: Namespace) -> None:
    """Check the file whenever it changes, until Ctrl-C."""
    current, checked = read_bytes(path, SIZES[".ipynb"]), None
    while True:
        if current != checked:
            checked = current
            try:
                _check_once(lesson, path, arguments)
            except MiniloraError as error:  # the file may be half edited: keep watching
                print(f"minilora: {error}", file=sys.stderr)
            print(flush=True)
        time.sleep(0.3)
        with suppress(OSError):  # an editor may be replacing the file just now
            current = path.read_bytes()


def _progress(as_json: bool) -> int:
    """Print one line per lesson. Returns as `run`; raises the first error after all lines are printed."""
    facts, first_error = [], None
    with sandbox_here() as sandbox:
        for lesson in all_lessons():
            try:
                submission = Submission(lesson.exercise, lesson)
                results = grade(lesson, submission, sandbox)
                facts.append(_facts(submission, results))
                state = summary(results)
            except MiniloraError as error:
                first_error, state = first_error or error, "cannot be read"
            if not as_json:
                width = line_width() - 39  # beside the longest state, "passed 3 of 6: task 4 not started"
                title = shorten(escape(lesson.title), width, placeholder=" …")
                print(f"{lesson.number:02}  {title:<{width}}  {state}", flush=True)
    if first_error:
        raise first_error
    unfinished = [fact["lesson"][:2] for fact in facts if fact["passed"] < fact["of"]]
    following = f"next: minilora check {unfinished[0]}" if unfinished else "all passed"
    print(json.dumps({"lessons": facts}) if as_json else following)
    return int(bool(unfinished))


def _facts(submission: Submission, results: list[Result]) -> dict:
    return {
        "lesson": submission.lesson.name,
        "title": submission.lesson.title,
        "file": submission.shown,
        "passed": sum(result.verdict == PASSED for result in results),
        "of": len(results),
        "tasks": [{name: value for name, value in asdict(result).items() if value != ""} for result in results],
    }
