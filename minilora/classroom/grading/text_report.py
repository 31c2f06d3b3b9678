"""Results as text of at most 80 columns."""

import textwrap
from collections.abc import Sequence

from minilora.classroom.grading.grade import FAILED, NOT_STARTED, PASSED, Result
from minilora.classroom.lessons.lesson import Lesson

WIDTH = 80
MARGIN = 12  # where the text of a row begins


def lesson_report(
    lesson: Lesson,
    shown: str,
    results: list[Result],
    held: Sequence[str],
    hint_steps: int = 0,
    file: str = "",
    chosen: int | None = None,
) -> str:
    """Report a lesson: a line a task, what went wrong, and so many hints; for which task, see `hints_for`.

    file: what the command for the next hint ends in (" --file answer.py") where that is not the lesson's exercise.
    """
    colon = "" if lesson.title.endswith("?") else ":"
    says = summary(results) if chosen is None else f"task {chosen} {results[0].verdict}"
    first = f"Lesson {lesson.number:02}, {lesson.title}{colon} {says}"
    lines = [*_wrapped("", first, 0), *_wrapped("", shown, 0), ""]
    for result in results:
        lines += _task_lines(result)
        if result.verdict == FAILED:
            lines.append("")
    if lines[-1]:
        lines.append("")
    number, hints = hints_for(lesson, results, chosen if hint_steps else None)
    if hints:
        for step, hint in enumerate(hints[:hint_steps], start=1):
            lines += _wrapped(f"hint {step}", hint, 9)
        more = f"minilora check {lesson.number:02}" + (f" --task {number}" if chosen else "") + " --hint"
        more += f" {hint_steps + 1}" if hint_steps else ""
        text = f"{'Next hint' if hint_steps else 'A hint'} for task {number}: {more}"
        if hint_steps < len(hints):
            lines += _wrapped("", text + file if len(text + file) <= WIDTH else text, 0)
    return "\n".join([*lines, limits_line(held)])


def hints_for(lesson: Lesson, results: list[Result], chosen: int | None) -> tuple[int, tuple[str, ...]]:
    """Return the chosen task, else the first that is not right, and its hints; (0, ()) if all are."""
    number = chosen or next((result.task for result in results if result.verdict != PASSED), 0)
    return number, next((task.hints for task in lesson.tasks if task.number == number), ())


def task_report(result: Result, held: Sequence[str]) -> str:
    """Report one task alone."""
    return "\n".join([*_task_lines(result), limits_line(held)])


def _task_lines(result: Result) -> list[str]:
    lines = _wrapped(f"task {result.task}", f"{result.verdict:<12}{result.title}", 9)
    if result.verdict == PASSED:
        return lines
    for name in ("call", "expected", "got", "hint"):
        text = getattr(result, name)
        if name == "got" and result.place:
            text = f"{text} ({result.place})" if text else result.place
        lines += _wrapped(f"    {name}", text, MARGIN + 2) if text else []
    printed = result.printed.strip()[-300:] if result.verdict == FAILED else ""
    return lines + (_wrapped("    printed", printed, MARGIN + 2) if printed else [])


def limits_line(held: Sequence[str]) -> str:
    """Say what kept the code in."""
    return f"(ran with {', '.join(held)})" if held else "(ran in this process, without limits)"


def summary(results: list[Result]) -> str:
    """Say "passed 3 of 6: task 2 failed"."""
    text = f"passed {sum(result.verdict == PASSED for result in results)} of {len(results)}"
    if all(result.verdict == NOT_STARTED for result in results):
        return NOT_STARTED
    first = next((result for result in results if result.verdict != PASSED), None)
    return text if first is None else f"{text}: task {first.task} {first.verdict}"


def _wrapped(label: str, text: str, margin: int) -> list[str]:
    """Fold `text` behind a label at the width of the page; control characters are made visible."""
    text = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text.expandtabs(4))
    out = []
    for line in text.split("\n"):
        out += textwrap.wrap(line, WIDTH - margin, replace_whitespace=False) or [""]
    first = f"{label:<{margin}}{out[0]}".rstrip()
    return [first, *(f"{'':<{margin}}{line}".rstrip() for line in out[1:])]
