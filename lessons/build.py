"""python -m lessons.build: writes every lesson's exercise.py from its solution.py.

With --check nothing is written; it lists the files that are out of date, and exits 1.
"""

import sys
from collections.abc import Callable

from minilora.classroom.lessons.lesson import all_lessons
from minilora.classroom.lessons.source import Gap, Source


def exercise_of(source: Source) -> str:
    """Make the text of exercise.py."""
    command = f"minilora check {source.number:02}"
    note = f"# Made from solution.py by `python -m lessons.build`. Write here, then: {command}\n"
    return note + filled(source, lambda gap: [f'{gap.indent}raise NotImplementedError("{source.stub(gap)}")'])


def filled(source: Source, lines: Callable[[Gap], list[str]]) -> str:
    """Make the text of solution.py with other lines in its gaps."""
    out, at = list[str](), 0
    for gap in source.gaps:
        out += source.lines[at : gap.first - 1] + lines(gap)
        at = gap.last + 1
    return "\n".join(out + source.lines[at:]) + "\n"


def build(check: bool = False) -> list[str]:
    """Write the exercises; return the paths that were (or, with `check`, would be) written."""
    stale = []
    for lesson in all_lessons():
        text = exercise_of(lesson.source)
        if not lesson.exercise.is_file() or lesson.exercise.read_text(encoding="utf-8") != text:
            stale.append(str(lesson.exercise))
            if not check:
                lesson.exercise.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    check = "--check" in sys.argv[1:]
    for path in (paths := build(check)):
        print(f"{'out of date' if check else 'wrote'}: {path}")
    sys.exit(1 if check and paths else 0)
