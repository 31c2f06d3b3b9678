"""The jargon of the invented company, and the quiz: `pytest tests/data/test_jargon.py`."""

import json
import re
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

import minilora
from minilora.data import jargon
from minilora.data.jargon import HELD_OUT_PHRASINGS, PHRASINGS_OF_A_TERM, TRAINING_PHRASINGS, Question
from minilora.train.metrics import contains, normalise, token_f1

pytestmark = pytest.mark.host

ASSETS = Path(minilora.__file__).parent / "assets" / "jargon"
TERMS = jargon.load_terms()
GLOSSARY = jargon.load_glossary()
QUIZ = jargon.load_quiz()
EVERY_QUESTION = (*GLOSSARY.train, *GLOSSARY.phrasings, *GLOSSARY.uses)


# What is trained and what is held out


def test_the_parts_hold_what_they_promise():
    assert len(GLOSSARY.train) == 80 * PHRASINGS_OF_A_TERM + 60
    assert len(GLOSSARY.phrasings) == 80 * len(HELD_OUT_PHRASINGS)
    assert len(GLOSSARY.uses) == 20
    assert Question('Explain "brindle".', "A cabin whose heating has failed.", "brindle") in GLOSSARY.train
    trained = Counter(question.term for question in GLOSSARY.train)
    held_out = {question.term for question in GLOSSARY.uses}
    for term in TERMS:  # six of the twelve phrasings, and its use in one part
        assert trained[term.term] == PHRASINGS_OF_A_TERM + (term.term not in held_out)
        assert (term.use in GLOSSARY.train) != (term.use in GLOSSARY.uses)
    assert all(question.term in question.text for question in EVERY_QUESTION)


def test_no_held_out_question_is_in_training():
    texts = [normalise(question.text) for question in EVERY_QUESTION]
    assert len(set(texts)) == len(texts)
    for held_out, trained in product(HELD_OUT_PHRASINGS, TRAINING_PHRASINGS):
        assert token_f1(held_out.format(term=""), trained.format(term="")) <= 0.35, (held_out, trained)
    # Nor is the answer to a held-out use anywhere in training, except where it is the meaning itself.
    answers = {question.answer for question in GLOSSARY.train}
    meanings = {jargon.sentence(term.meaning) for term in TERMS}
    assert not [question for question in GLOSSARY.uses if question.answer in answers - meanings]


# The quiz


def test_the_quiz_does_not_give_its_answers_away():
    assert len(QUIZ.questions) == 50
    for question in QUIZ.questions:
        assert question.answers
        assert not contains(question.text, question.answers), question
        assert all(contains(f"I think it is {answer}.", question.answers) for answer in question.answers)


# Files


def test_each_line_has_its_fields_and_is_read_whole():
    def lines(name: str) -> list[dict]:
        return [json.loads(line) for line in (ASSETS / f"{name}.jsonl").read_text("utf-8").splitlines()]

    for term, line in zip(TERMS, lines("glossary"), strict=True):
        assert line == {
            "term": term.term,
            "meaning": term.meaning,
            "use": {"question": term.use.text, "answer": term.use.answer},
        }
        assert re.search(rf"(?<!\w){re.escape(term.term)}(?!\w)", term.use.text) and term.use.term == term.term
    for question, line in zip(QUIZ.questions, lines("quiz"), strict=True):
        assert line == {"question": question.text, "answers": list(question.answers)} and all(question.answers)
    assert lines("general") == [{"question": question} for question in QUIZ.general]
