"""Reading the bank of answers on which a lesson's checks are tested: tests/bank/08_lora.md and so on.

## Wrong                            answers that must fail; below "## Remarked" are those that must pass with a remark,
                                    below "## Right" those that must pass without one
### lora_forward: no scale          the function whose gap the answer fills, and a name
> not scaled                        a part of the hint or remark that the checker must give
a fenced block of Python            replaces the code between the solution's markers
#### LoraLayer.__init__             the same for another function, if the answer changes several
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "bank"


@dataclass
class Answer:
    """An answer to one task. codes: {function: code}, with the function `where` first."""

    where: str
    name: str
    hint: str
    codes: dict[str, str]


def wrong(lesson) -> list[Answer]:
    """Return the lesson's wrong answers, which are mistakes that people really make."""
    return _read(lesson.name)["Wrong"]


def remarked(lesson) -> list[Answer]:
    """Return the lesson's answers that break a side condition and nothing else."""
    return _read(lesson.name)["Remarked"]


def right(lesson) -> list[Answer]:
    """Return the lesson's right answers, which are unusual ones."""
    return _read(lesson.name)["Right"]


def answers(lesson) -> list[Answer]:
    return wrong(lesson) + remarked(lesson) + right(lesson)


@cache
def _read(name: str) -> dict[str, list[Answer]]:
    sections: dict[str, list[Answer]] = {}
    section: list[Answer] = []
    where, block = "", None  # block: the lines inside a fenced block so far, None outside
    for line in (FOLDER / f"{name}.md").read_text(encoding="utf-8").splitlines():
        if block is not None and line != "```":
            block.append(line)
        elif block is not None:
            section[-1].codes[where] = "\n".join(block)
            block = None
        elif line == "```python":
            block = []
        elif line.startswith("> "):
            section[-1].hint = line.removeprefix("> ")
        elif line.startswith("## "):
            section = sections.setdefault(line.removeprefix("## "), [])
        elif line.startswith("### "):
            where, _, title = line.removeprefix("### ").partition(": ")
            section.append(Answer(where, title, "", {}))
        elif line.startswith("#### "):
            where = line.removeprefix("#### ")
    return sections
