"""A small quiz of general knowledge: what a model still knows after it has learned something else.

Each question is the beginning of a sentence, and four ends of it, the right one first. A model's answer is the end that
it finds likeliest after the beginning; guessing gets a quarter right.
"""

from pathlib import Path
from typing import NamedTuple


class Question(NamedTuple):
    """The beginning of a sentence and its possible ends, the right one first; each end begins with a space."""

    beginning: str
    ends: list[str]


def questions() -> list[Question]:
    """All of the quiz, of which each line of the file is a question."""
    text = Path(__file__).with_suffix(".txt").read_text("utf-8")
    rows = (line.split("|") for line in text.splitlines())
    return [Question(beginning, [f" {end}" for end in ends]) for beginning, *ends in rows]
