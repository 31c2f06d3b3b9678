"""pytest tests/test_words.py: the words of CONTRIBUTING.md, "How it should read", as far as a program can see them.

Ruff checks that functions begin with a verb (D401); here are the words that it does not know.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[1]
ROOMS = ("benchmarks", "docs", "experiments", "lessons", "minilora", "notebooks", "tests")
BEGINNING = re.compile(r"(What|Whether|Of|How|Which|That|Those|Where|As)\b")
QUESTION = re.compile(r"[^.!?]*\?")  # a hint to a student
PHRASES = {
    re.compile(
        r"(?<!here )\b(is|are|was|were) no (?!(longer|more|less|better|worse|larger|smaller|faster|slower)\b)"
    ): ('"is not a", or "NaN" for a number that is none'),
    re.compile(r"\b(is|are|was|were) refused\b"): '"raises", with the error',
}
NAMES = {"asked", "found", "given", "kept", "said", "taken", "told"}  # what was found? matches, rows, a path


def names_of(node: ast.AST) -> list[str]:
    """Return the name that a node binds, of a variable or an argument, in a list."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    return [node.arg] if isinstance(node, ast.arg) else []


def problems(text: str, has_hints: bool = False, has_tasks: bool = False) -> Iterator[tuple[int, str]]:
    """Yield (line, problem) for a module. has_hints: docstrings may be questions. has_tasks: they are a student's."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not has_tasks:
            docstring = ast.get_docstring(node) or ""
            if BEGINNING.match(docstring) and not (has_hints and QUESTION.match(docstring)):
                yield (
                    getattr(node, "lineno", 1),
                    f"a docstring begins with {docstring.split()[0]!r}: use a verb or a noun",
                )
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not has_tasks:
            for phrase, better in PHRASES.items():
                if match := phrase.search(node.value):
                    yield node.lineno, f"{match[0].strip()!r}: write {better}"
        for name in NAMES.intersection(names_of(node)):
            yield node.lineno, f"the name {name!r} does not say what it is"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_written_in_plain_words(room):
    wrong = []
    for path in sorted((ROOT / room).rglob("*.py")):
        is_lesson, is_task = room == "lessons", room == "lessons" and path.name in ("exercise.py", "solution.py")
        for line, problem in problems(path.read_text("utf-8"), is_lesson, is_task):
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {problem}")
    assert wrong == [], "\n".join(wrong)


@pytest.mark.parametrize(
    "text, word",
    [
        ('"""What a file holds."""', "What"),
        ('def f():\n    """Whether it is there."""', "Whether"),
        ('class A:\n    """Of a training."""', "Of"),
        ('"""A file that is_no model."""', "is_no"),
        ('raise ValueError(f"{name} is_refused")', "is_refused"),
        ("found = 1", "found"),
        ("def f(said): ...", "said"),
        ("x = [kept for kept in y]", "kept"),
    ],
)
def test_each_word_is_seen(text, word):
    ((_, problem),) = problems(text.replace("_", " "))
    assert word.replace("_", " ") in problem


def test_plain_words_pass():
    docstring, hint = '"""Whatever there is no room for is no longer here."""', '"""Which of the two?"""'
    assert [*problems(docstring), *problems(hint, has_hints=True), *problems("matches = found")] == []
