"""A page for the teacher of each lesson, and its open questions, from lessons/08_lora/teaching.md:

    ## Opener           what a class begins with
    ## Discussion       a question for everybody, and what a good answer says
    ## Question 1       what a student answers in writing
    ### Rubric          what deserves 2, 1 and 0 points
    ## Question 2       as the first

What students get wrong comes from the bank of answers in the clone's tests/bank, with words of the hint that each gets.
"""

import re

from minilora.classroom.lessons.lesson import Lesson

NAME, RUBRIC = "teaching.md", "### Rubric"
WRONG = re.compile(r"^### (\S+): (.+)\n\n> (.+)$", re.MULTILINE)  # in the bank: function, name, words of the hint
POINTS = 2  # of an open question, which a person marks


def sections_of(lesson: Lesson) -> dict[str, str]:
    """Return {title: text} of what the lesson has for teachers."""
    path = lesson.folder / NAME
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {title.strip(): body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def questions_of(lesson: Lesson) -> list[tuple[str, str]]:
    """Return (question, rubric) of each open question."""
    parts = [text.partition(RUBRIC) for title, text in sections_of(lesson).items() if title.startswith("Question ")]
    return [(question.strip(), rubric.strip()) for question, _, rubric in parts]


def teachers_page(lesson: Lesson) -> str:
    """Make the page, in Markdown."""
    sections = sections_of(lesson)
    first = (lesson.folder / "README.md").read_text(encoding="utf-8").partition("\n")[0].strip("*")
    lines = [
        f"# Teaching lesson {lesson.number:02}: {lesson.title}",
        f"{first}. With the opener, the discussion and the open questions, a class needs about half an hour more.",
    ]
    lines += [f"## {title}\n\n{sections[title]}" for title in ("Opener", "Discussion") if title in sections]
    for number, (question, rubric) in enumerate(questions_of(lesson), start=1):
        lines.append(f"## Open question {number}, {POINTS} points\n\n{question}\n\n{rubric}")
    lines.append("## What students get wrong\n\nIn brackets, words of the hint that each gets.")
    for task, title in lesson.source.titles.items():
        lines.append(f"### Task {task}: {title}\n\n{wrong_in(lesson, task)}".rstrip())
    return "\n\n".join(lines) + "\n"


def wrong_in(lesson: Lesson, task: int) -> str:
    """List the known mistakes in a task."""
    places = {gap.where for gap in lesson.source.gaps if gap.task == task}
    bank = lesson.folder.parents[1] / "tests" / "bank" / f"{lesson.name}.md"
    mistakes = WRONG.findall(bank.read_text(encoding="utf-8")) if bank.is_file() else []
    return "\n".join(f"- `{where}`: {name} (*{hint}*)" for where, name, hint in mistakes if where in places)
