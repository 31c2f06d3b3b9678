"""The jargon of the invented company, and the quiz: `pytest tests/data/test_jargon.py`."""

import json
import re
from collections import Counter
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import combinations, product
from pathlib import Path

import pytest

import minilora
from minilora.data import jargon
from minilora.data.jargon import (
    HELD_OUT_PHRASINGS,
    TRAINING_PHRASINGS,
    Question,
)
from minilora.train.metrics import contains, normalise, token_f1

pytestmark = pytest.mark.host

ASSETS = Path(minilora.__file__).parent / "assets" / "jargon"
TERMS = jargon.load_terms()
GLOSSARY = jargon.load_glossary()
QUIZ = jargon.load_quiz()
EVERY_QUESTION = (*GLOSSARY.train, *GLOSSARY.phrasings, *GLOSSARY.uses)

# Words that say nothing about the matter.
FUNCTION_WORDS = set(
    "i me my we our us you he him his she her it its they them their who whom whose what which where when why how this "
    "that there here is are was were be been do does did has have had can may and or but not no as so than of in on at "
    "to for from by with over".split()
)


def content_words(text):
    return Counter(word for word in normalise(text).split() if word not in FUNCTION_WORDS)


def likeness(one, other):
    """F1 of two texts' content words."""
    one, other = content_words(one), content_words(other)
    return 2 * (one & other).total() / (one.total() + other.total())


# The glossary as it is written


def test_eighty_terms_that_sound_different():
    assert len(TERMS) == 80
    assert len({term.term.lower() for term in TERMS}) == 80
    for one, other in combinations([term.term for term in TERMS], 2):
        assert one[:4] != other[:4]
        assert SequenceMatcher(None, one, other).ratio() < 0.7, (one, other)


def test_a_meaning_is_a_short_answer_and_the_use_follows_from_it():
    for term in TERMS:
        answer, asked = term.use.answer, content_words(term.use.answer)
        assert 4 <= len(term.meaning.split()) <= 9, term
        assert 2 <= len(answer.split()) <= 8, term
        assert term.meaning[0].islower() and term.meaning[-1].isalpha(), term
        assert answer[0].isupper() and answer[-1] == "." and term.use.text[-1] == "?", term
        assert (asked & content_words(term.meaning)).total() > asked.total() / 2, term


def test_meanings_have_little_in_common():
    scores = [token_f1(one.meaning, other.meaning) for one, other in combinations(TERMS, 2)]
    assert sum(scores) / len(scores) < 0.05
    assert max(scores) <= 0.5
    for one, other in combinations(TERMS, 2):
        assert likeness(one.meaning, other.meaning) <= 0.5, (one.term, other.term)


def test_no_term_stands_in_a_text_of_another_or_in_its_own_meaning():
    for one, other in product(TERMS, TERMS):
        texts = [other.meaning, other.use.answer] + [other.use.text] * (one != other)
        assert not [text for text in texts if one.term.lower() in text.lower()], one.term
    for text in (
        *TRAINING_PHRASINGS,
        *HELD_OUT_PHRASINGS,
        *(question.text for question in QUIZ.questions),
        *QUIZ.general,
    ):
        assert not [term.term for term in TERMS if term.term.lower() in text.lower()]


def test_no_question_gives_its_answer_away():
    for question in EVERY_QUESTION:
        assert not content_words(question.answer) & content_words(question.text), question


# What is trained and what is held out


def test_the_parts_hold_what_they_promise():
    assert len(GLOSSARY.train) == 80 * len(TRAINING_PHRASINGS) + 60
    assert len(GLOSSARY.phrasings) == 80 * len(HELD_OUT_PHRASINGS)
    assert len(GLOSSARY.uses) == 20
    assert Question('Explain "brindle".', "A cabin whose heating has failed.", "brindle") in GLOSSARY.train
    trained = Counter(question.term for question in GLOSSARY.train)
    held_out = {question.term for question in GLOSSARY.uses}
    for term in TERMS:  # a term is learned in all training phrasings, and its use is in one part
        assert trained[term.term] == len(TRAINING_PHRASINGS) + (term.term not in held_out)
        assert (term.use in GLOSSARY.train) != (term.use in GLOSSARY.uses)
    assert all(question.term in question.text for question in EVERY_QUESTION)
    assert jargon.load_glossary() == GLOSSARY


def test_no_held_out_question_is_in_training():
    texts = [normalise(question.text) for question in EVERY_QUESTION]
    assert len(set(texts)) == len(texts)
    for held_out, trained in product(HELD_OUT_PHRASINGS, TRAINING_PHRASINGS):
        assert token_f1(held_out.format(term=""), trained.format(term="")) <= 0.35, (held_out, trained)
    # Nor is the answer to a held-out use anywhere in training, except where it is the meaning itself.
    answers = {question.answer for question in GLOSSARY.train}
    meanings = {jargon.sentence(term.meaning) for term in TERMS}
    assert not [question for question in GLOSSARY.uses if question.answer in answers - meanings]


def test_the_uses_of_every_fourth_term_are_held_out():
    terms = [replace(TERMS[0], term=str(i), use=Question(f"Is {i} so?", "Yes.", str(i))) for i in range(1, 9)]
    glossary = jargon.build_glossary(terms)
    assert [question.term for question in glossary.uses] == ["4", "8"]
    assert glossary.phrasings[: len(HELD_OUT_PHRASINGS)] == tuple(
        Question(text.format(term="1"), "A cabin whose heating has failed.", "1") for text in HELD_OUT_PHRASINGS
    )


# The quiz


def test_the_quiz_does_not_give_its_answers_away():
    assert len(QUIZ.questions) == 50
    for question in QUIZ.questions:
        assert question.answers
        assert not contains(question.text, question.answers), question
        assert all(contains(f"I think it is {answer}.", question.answers) for answer in question.answers)


def test_quiz_and_general_questions_are_apart():
    assert len(QUIZ.general) == 131
    questions = [*(question.text for question in QUIZ.questions), *QUIZ.general]
    assert len({normalise(text) for text in questions}) == 181
    for general, question in product(QUIZ.general, QUIZ.questions):
        assert not contains(general, question.answers), (general, question)
        assert likeness(general, question.text) <= 0.5, (general, question)


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


def test_the_files_are_plain_ascii_lines():
    for path in ASSETS.glob("*.jsonl"):
        raw = path.read_bytes()
        assert raw.endswith(b"}\n") and b"\r" not in raw and b"\n\n" not in raw
        assert raw.replace("°".encode(), b"").isascii(), path
