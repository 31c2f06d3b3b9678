"""python -m lessons.build: writes every lesson's exercise.py from its solution.py.

With --check nothing is written; it says what is out of step, and exits 1.
"""

import sys

from minilora.classroom.lessons.lesson import all_lessons


def build(check: bool = False) -> list[str]:
    """Write the exercises; return the paths that were (or, with `check`, would be) written."""
    stale = []
    for lesson in all_lessons():
        text = lesson.source.exercise()
        if not lesson.exercise.is_file() or lesson.exercise.read_text(encoding="utf-8") != text:
            stale.append(str(lesson.exercise))
            if not check:
                lesson.exercise.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    check = "--check" in sys.argv[1:]
    for path in (paths := build(check)):
        print(f"{'out of step' if check else 'wrote'}: {path}")
    sys.exit(1 if check and paths else 0)
