"""Which answers of a class are alike: pairs of students, with what they have in common side by side.

Answers are compared as syntax trees, cut into all of their parts, statements and expressions, wherever they stand. In a
part, names are numbered in the order in which they come; constants, docstrings and annotations are left out. What the
lesson gives, its solution and the other right answers that it knows count nothing. Of the rest, a part counts 1 where
two have it, less where more do, and 0 where everybody does. A short answer has hardly any, and so is like nobody's.
"""

import ast
import builtins
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import log
from pathlib import Path

from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.teaching.collecting import HandedIn, why_unreadable
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic
from minilora.show.html import beside, page, step, text

LEAST_NODES = 6  # of a part; a smaller one says nothing
NODES_LIMIT = 20_000  # of a file; more is no exercise
DOUBT = 15  # parts that count as different in every pair: little in common is no likeness
SAYS = """This page decides nothing. What few have in common may come from a book, a tutor, a language model or a pair
that learns together, and two people may think alike. It says where to look: ask each of them, alone, to explain the
marked lines and to change them. It names students, and is for teachers only."""
STYLE = "<style>mark { display: block; color: inherit; background: #ffd54a66; } main { max-width: 76rem; }</style>"


@dataclass(frozen=True)
class Pair:
    """Answers of two students. common: what both have; share: of what the one with less has; panels: HTML."""

    names: tuple[str, str]
    share: float
    common: float
    panels: list[str]


def find_pairs(handed_in: HandedIn, lesson: Lesson, least: float) -> tuple[list[Pair], dict[str, str]]:
    """Pairs with a share of `least` or more, the largest first; and why a file was left out, by student."""
    found: dict[str, tuple[str, dict[str, ast.stmt | ast.expr]]] = {}  # student -> source, parts
    left_out: dict[str, str] = {}
    for (student, name), path in handed_in.path.items():
        if name == lesson.name:
            try:
                if why := why_unreadable(path):
                    raise MiniloraError(why)
                submission = Submission(path, lesson, escape(path.name), by_task=True)
                found[student] = submission.source, parts_of(submission.tree)
            except (MiniloraError, OSError, RecursionError) as error:
                left_out[student] = str(error)
    known = {form for text in (lesson.source.text, lesson.source.exercise()) for form in parts_of(ast.parse(text))}
    having = Counter(form for _, parts in found.values() for form in parts if form not in known)
    most = log(max(2, len(found) - 1))
    weight = {form: 1 - log(max(1, times - 1)) / most for form, times in having.items()}
    own = {student: parts.keys() & weight.keys() for student, (_, parts) in found.items()}
    total = {student: sum(weight[form] for form in forms) for student, forms in own.items()}
    pairs = []
    for a, b in combinations(found, 2):
        common = own[a] & own[b]
        shared = sum(weight[form] for form in common)
        if (share := shared / (min(total[a], total[b]) + DOUBT)) >= least:
            pairs.append(Pair((a, b), share, shared, [_panel(name, *found[name], common) for name in (a, b)]))
    return sorted(pairs, key=lambda pair: -pair.share), left_out


def parts_of(tree: ast.AST) -> dict[str, ast.stmt | ast.expr]:
    """form -> the first statement or expression that has it."""
    nodes = list(ast.walk(tree))
    if len(nodes) > NODES_LIMIT:
        raise MiniloraError(f"its syntax tree has {len(nodes):,} nodes, more than any exercise")
    found: dict[str, ast.stmt | ast.expr] = {}
    for node in nodes:
        if isinstance(node, (ast.stmt, ast.expr)):
            words = list(_form(node, {}))
            if words.count("(") >= LEAST_NODES:
                found.setdefault(" ".join(words), node)
    return found


def _form(node: object, names: dict[str, str]) -> Iterator[str]:
    """The words of a tree, in order. names: of those that came before, the numbers."""
    if isinstance(node, ast.Constant):
        yield "constant"
    elif isinstance(node, list):
        for part in node:
            if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)):
                yield from _form(part, names)
    elif isinstance(node, ast.AST):
        is_of_self = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        is_public = isinstance(node, (ast.Attribute, ast.keyword)) and not is_of_self
        yield from ("(", type(node).__name__)
        for field, value in ast.iter_fields(node):
            if isinstance(value, str):
                yield value if is_public or hasattr(builtins, value) else names.setdefault(value, str(len(names)))
            elif field not in ("annotation", "returns", "ctx"):
                yield from _form(value, names)
        yield ")"


def _panel(student: str, source: str, parts: dict[str, ast.stmt | ast.expr], common: set[str]) -> str:
    """The definitions in which a common part stands, by name, its lines marked."""
    places = [node for form, node in parts.items() if form in common and not hasattr(node, "body")]
    marked = {line for node in places for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    shown: list[int] = []
    for node in sorted(ast.parse(source).body, key=lambda node: getattr(node, "name", "")):
        numbers = range(node.lineno, (node.end_lineno or 0) + 1)
        shown += numbers if marked & set(numbers) else ()
    lines = [(number, text(source.splitlines()[number - 1])) for number in shown]
    code = "".join(f"<mark>{line}</mark>" if number in marked else f"{line}\n" for number, line in lines)
    return f'<div><p class="soft">{text(student)}</p><pre>{code}</pre></div>'


def write_similar(out: Path, pairs: dict[str, list[Pair]]) -> None:
    """The page. pairs: by the lesson's name."""
    sections = [
        step(
            f"{lesson}: {pair.names[0]} and {pair.names[1]}, {pair.share:.2f}",
            f'<p class="soft">{pair.common:.0f} parts in common that few others have.</p>',
            beside(pair.panels),
        )
        for lesson, found in pairs.items()
        for pair in found
    ]
    nothing = "" if sections else "<p>No pair is that much alike.</p>"
    html = page(
        "answers that are alike", STYLE, "<h1>Answers that are alike</h1>", f"<p>{SAYS}</p>", nothing, *sections
    )
    write_atomic(out, html.encode())
