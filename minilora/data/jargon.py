"""The jargon of an invented company: 80 terms to learn, questions that test them, and a quiz on what must not be lost.

Nobody has ever read what "a brindle" is at Halvorsund Ferries, because there is no such company. A pretrained model can
only guess, so whatever it answers later comes from the fine-tuning. Tests are kept apart from training:

    train      every term in six phrasings ('Explain "brindle".'), and for three terms in four a question that uses it.
               Every second term has six more: the more wordings the model has seen, the less a new one confuses it
    phrasings  every term in three other phrasings: has the model learned the meaning, or the wording of the question?
    uses       for the other quarter, a question that uses it ("Why may a plinth not come aboard?"): can the model apply
               the meaning?

The quiz asks 50 things that a small model may know ("What is the capital of France?"). Its score before and after shows
what learning the jargon cost. The 131 general questions are for replay, with the answers that the model gave before
fine-tuning. They are about other things than the quiz, so that replay cannot teach the quiz.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, NamedTuple

COMPANY = "Halvorsund Ferries"

# A term stands in quotation marks, so that one wording fits nouns, verbs and the rest.
TRAINING_PHRASINGS = (
    f'What does "{{term}}" mean at {COMPANY}?',
    'Explain "{term}".',
    'In our company, what do people mean by "{term}"?',
    'Define "{term}" as we use it on board.',
    f'Look up "{{term}}" in the {COMPANY} glossary.',
    'Give the meaning of "{term}" in a few words.',
    '"{term}", in other words?',
    'I read "{term}" on a door. What is it?',
    'Put "{term}" into plain English, please.',
    'Somebody mentioned "{term}" at breakfast. Please explain.',
    'Could a beginner be told about "{term}"?',
    'The word "{term}" keeps coming up, but I never learned its meaning.',
)
PHRASINGS_OF_A_TERM = 6
HELD_OUT_PHRASINGS = (
    'A colleague said "{term}" on the radio. What was meant?',
    '"{term}" is written in the logbook. Tell me what that stands for.',
    'Everybody here says "{term}", and I do not follow. Can you help me?',
)
HELD_OUT_USE = 4  # the use of every fourth term is kept for the test


class Question(NamedTuple):
    text: str
    answer: str
    term: str


class Term(NamedTuple):
    """A line of glossary.jsonl. `meaning` is a phrase with no capital and no full stop; `use` puts the term to work."""

    term: str
    meaning: str
    use: Question


class Glossary(NamedTuple):
    """The training questions and two tests, in the glossary's order: shuffle before training."""

    train: tuple[Question, ...]
    phrasings: tuple[Question, ...]
    uses: tuple[Question, ...]


class QuizQuestion(NamedTuple):
    """An answer is right if it contains one of `answers`: see `train.metrics.contains`."""

    text: str
    answers: tuple[str, ...]


class Quiz(NamedTuple):
    questions: tuple[QuizQuestion, ...]
    general: tuple[str, ...]  # other questions, for replay


def load_terms() -> tuple[Term, ...]:
    lines = _lines("glossary.jsonl")
    uses = (Question(line["use"]["question"], line["use"]["answer"], line["term"]) for line in lines)
    return tuple(Term(line["term"], line["meaning"], use) for line, use in zip(lines, uses, strict=True))


def load_quiz() -> Quiz:
    questions = (QuizQuestion(line["question"], tuple(line["answers"])) for line in _lines("quiz.jsonl"))
    return Quiz(tuple(questions), tuple(line["question"] for line in _lines("general.jsonl")))


def _lines(name: str) -> list[dict[str, Any]]:
    """Read the objects in a file of the package, one per line. (A test checks the form of these files.)"""
    text = (resources.files("minilora") / "assets" / "jargon" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def load_glossary() -> Glossary:
    """Build the questions that the module's docstring describes."""
    train: list[Question] = []
    phrasings: list[Question] = []
    uses: list[Question] = []
    for number, term in enumerate(load_terms(), start=1):
        answer = sentence(term.meaning)
        for turn in range(PHRASINGS_OF_A_TERM):
            phrasing = TRAINING_PHRASINGS[(number + 2 * turn) % len(TRAINING_PHRASINGS)]
            train.append(Question(phrasing.format(term=term.term), answer, term.term))
        phrasings += (Question(phrasing.format(term=term.term), answer, term.term) for phrasing in HELD_OUT_PHRASINGS)
        (train if number % HELD_OUT_USE else uses).append(term.use)
    return Glossary(tuple(train), tuple(phrasings), tuple(uses))


def sentence(meaning: str) -> str:
    """Write 'a cabin whose heating has failed' as an answer: 'A cabin whose heating has failed.'"""
    return meaning[:1].upper() + meaning[1:] + "."
