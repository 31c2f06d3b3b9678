"""What the lines of the package's glossary and quiz must be; FormatError names the first that is not."""

import re

from minilora.data.jargon import normalise
from minilora.errors import FormatError, escape
from minilora.formats.atomic import parse_json

WORDS = {str: "a text", list: "a list", dict: "an object"}


def check_terms(raw, where):
    """A glossary.jsonl: each term once, and in the question that puts it to work."""
    places = {}
    for line, entry in lines_of(raw, where, {"term": str, "meaning": str, "use": dict}):
        check(entry["use"], {"question": str, "answer": str}, f"{line}, use")
        term, question = entry["term"], entry["use"]["question"]
        if not re.search(rf"(?<!\w){re.escape(term)}(?!\w)", question):
            raise FormatError(f"{line}: the question does not use {escape(term)!r}: {escape(question)}")
        check_once(term, line, places)


def check_quiz(quiz, quiz_name, general, general_name):
    """A quiz.jsonl and a general.jsonl: answers that can be found, and each question once, in one file or both."""
    places = {}
    for line, entry in lines_of(quiz, quiz_name, {"question": str, "answers": list}):
        answers = entry["answers"]
        if not answers or not all(isinstance(one, str) and normalise(one) for one in answers):
            raise FormatError(f"{line}: answers must be a list of words to look for, not {escape(answers)}")
        check_once(entry["question"], line, places)
    for line, entry in lines_of(general, general_name, {"question": str}):
        check_once(entry["question"], line, places)


def lines_of(raw, where, fields):
    """(where it stands, the object) for each line, which must have these fields and no others."""
    for number, line in enumerate(raw.splitlines(), start=1):
        place = f"{where}, line {number}"
        entry = parse_json(line, place)
        check(entry, fields, place)
        yield place, entry


def check(entry, fields, place):
    if set(entry) != set(fields):
        raise FormatError(f"{place} must have {', '.join(fields)}; it has {escape(', '.join(entry) or 'nothing')}")
    for name, kind in fields.items():
        value = entry[name]
        if type(value) is not kind or (isinstance(value, str) and not value.strip()):
            raise FormatError(f"{place}: {name} must be {WORDS[kind]}, not {escape(repr(value))}")


def check_once(text, place, places):
    if (first := places.setdefault(normalise(text), place)) != place:
        raise FormatError(f"{place}: {escape(text)!r} is already in {first}")
