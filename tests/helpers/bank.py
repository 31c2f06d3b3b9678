"""The bank: answers that a lesson's checks are tried on, in tests/bank/08_lora.md and so on.

## Wrong                            what must fail, then what must pass
### lora_forward: no scale          the function whose gap it fills, and a name
> not scaled                        a part of the hint that it must get
a fenced block of Python            in place of what stands between the solution's markers
#### LoraLayer.__init__             the same for another function, where an answer needs it
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "bank"


@dataclass
class Answer:
    """An answer to one task; `codes` has the code for each function, that of `where` first."""

    where: str
    name: str
    hint: str
    codes: dict[str, str]


def wrong(lesson) -> list[Answer]:
    """Return the lesson's wrong answers, as people really make them."""
    return _read(lesson.name)["Wrong"]


def right(lesson) -> list[Answer]:
    """Return the lesson's odd but right answers."""
    return _read(lesson.name)["Right"]


def answers(lesson) -> list[Answer]:
    return wrong(lesson) + right(lesson)


@cache
def _read(name: str) -> dict[str, list[Answer]]:
    sections: dict[str, list[Answer]] = {}
    section: list[Answer] = []
    where, block = "", None  # block: the lines of code since the fence that is open
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
