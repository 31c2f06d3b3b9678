"""A page for the teacher of each lesson, and its open questions, from lessons/08_lora/teaching.md:

    ## Opener           what a class begins with
    ## Discussion       a question for everybody, and what a good answer says
    ## Question 1       what a student answers in writing
    ### Rubric          what deserves 2, 1 and 0 points
    ## Question 2       as the first

What students get wrong comes from the bank of answers in the clone's tests/bank, with the hint that each gets.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from minilora.classroom.lessons.lesson import Lesson

NAME, RUBRIC = "teaching.md", "### Rubric"
WRONG = re.compile(r"^### (\S+): (.+)\n\n> (.+)$", re.MULTILINE)  # in the bank: function, name, hint
POINTS = 2  # of an open question, which a person marks
TABLE = "| in the code | what the checker says |\n|---|---|\n"


def sections_of(lesson: Lesson) -> dict[str, str]:
    """title -> text of what the lesson has for teachers; nothing where it has no such file."""
    path = lesson.folder / NAME
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {title.strip(): body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def questions_of(lesson: Lesson) -> list[tuple[str, str]]:
    """(question, rubric) of each open question."""
    found = [text.partition(RUBRIC) for title, text in sections_of(lesson).items() if title.startswith("Question ")]
    return [(question.strip(), rubric.strip()) for question, _, rubric in found]


def teachers_page(lesson: Lesson) -> str:
    """The page, in Markdown."""
    sections = sections_of(lesson)
    first = (lesson.folder / "README.md").read_text(encoding="utf-8").partition("\n")[0].strip("*")
    lines = [
        f"# Teaching lesson {lesson.number:02}: {lesson.title}",
        f"{first}. With the opener, the discussion and the open questions, a class needs about half an hour more.",
    ]
    lines += [f"## {title}\n\n{sections[title]}" for title in ("Opener", "Discussion") if title in sections]
    for number, (question, rubric) in enumerate(questions_of(lesson), start=1):
        lines.append(f"## Open question {number}, {POINTS} points\n\n{question}\n\n{rubric}")
    lines.append("## What students get wrong")
    for task, title in lesson.source.titles.items():
        rows = "".join(
            f"| {_cell('; '.join(names))} | {_cell(hint)} |\n" for hint, names in wrong_in(lesson, task).items()
        )
        lines.append(f"### Task {task}: {title}\n\n{TABLE}{rows}".rstrip())
    return "\n\n".join(lines) + "\n"


def wrong_in(lesson: Lesson, task: int) -> dict[str, list[str]]:
    """Return {what the checker says: the known mistakes in a task of which it says so}."""
    places = {gap.where for gap in lesson.source.gaps if gap.task == task}
    bank = lesson.folder.parents[1] / "tests" / "bank" / f"{lesson.name}.md"
    texts = _texts(lesson.folder / "checks.py", task)
    mistakes: dict[str, list[str]] = {}
    for where, name, hint in WRONG.findall(bank.read_text(encoding="utf-8") if bank.is_file() else ""):
        if where in places:
            message = next((text for text in texts if hint in text), f"… {hint} …")
            mistakes.setdefault(message, []).append(f"`{where}`: {name}")
    return mistakes


@cache
def _texts(checks: Path, task: int) -> list[str]:
    """The texts in checks.py, those of a task first; … where a value is put in."""

    def is_other(node: ast.stmt) -> bool:
        calls = [word for word in getattr(node, "decorator_list", ()) if isinstance(word, ast.Call)]
        return not any(call.args and ast.unparse(call.args[0]) == str(task) for call in calls)

    statements = sorted(ast.parse(checks.read_text(encoding="utf-8")).body, key=is_other)
    return [text for statement in statements for text in _texts_in(statement)]


def _texts_in(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
