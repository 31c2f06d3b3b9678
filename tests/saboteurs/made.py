"""The saboteurs of a lesson, from its solution's signatures and docstrings."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilora.classroom.lessons.checking import promise
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.lessons.source import functions
from tests.saboteurs import kit, properties

# Properties on which every function must be right, unless `promise(outside=…)` says that it need not
ALWAYS = "one row, size 1, square, oblong, ties, zeros, large, tiny, float64, float32".split(", ")
LATER = ("second call", "another length")
NUMBERS = re.compile(r"\b(int|float|bool|str)\b")
ARRAYS = re.compile(r"ndarray|Tensor|list|dict|Sequence|Iterable")
DTYPE = re.compile(r"float(32|64)|u?int(8|16|32|64)|dtype|boolean")


@dataclass(frozen=True)
class Saboteur:
    """A way to make one function wrong.

    where: a gap of the solution; kind: a function of kit.py; what: its argument, an attribute or a property.
    """

    where: str
    task: int
    kind: str
    what: Any
    is_promised: bool  # whether a check must notice it

    def __str__(self) -> str:
        return f"{self.where}: {self.kind.replace('_', ' ')}" + (f" {self.what}" if self.what not in ("", None) else "")

    def text(self, lesson: Lesson) -> str:
        """Return the solution, sabotaged."""
        call = f"({self.where!r}, {self.kind!r}, {self.what!r})"
        return lesson.source.text + PRELUDE + f"_kit['sabotage'](globals(), *{call}, _properties)\n"


PRELUDE = "\n_kit, _properties = {}, {}\nexec(%r, _kit)\nexec(%r, _properties)\n" % tuple(  # noqa: UP031
    Path(str(module.__file__)).read_text(encoding="utf-8") for module in (kit, properties)
)


Seen = set[tuple[str, str, str, int]]  # (argument, "array" or "Tensor" or "DeviceArray", its dtype's kind, axes)


def saboteurs(lesson: Lesson, seen: dict[str, Seen]) -> Iterator[Saboteur]:
    """Make all saboteurs of a lesson. seen: the arrays that the checks pass to each gap."""
    nodes = dict(functions(lesson.source.tree))
    for where, task in {gap.where: gap.task for gap in lesson.source.gaps}.items():
        node, observed = nodes[where], seen.get(where, set())
        promised = lesson.promises.get(where, promise())
        outside = _words(promised.outside)
        docstring = (ast.get_docstring(node) or "") + _class_doc(lesson, where)
        kinds = [*_of_arguments(node, observed), *_of_modules(where, node, docstring)]
        if not where.endswith("__init__"):
            kinds += [*_of_results(node, docstring), *_of_properties(observed, promised)]
        for kind, what, is_promised in kinds:
            is_out = {kind, str(what), f"{kind} {what}"} & set(outside)
            yield Saboteur(where, task, kind, what, is_promised and not is_out)


Kinds = Iterator[tuple[str, Any, bool]]


def _of_arguments(node: ast.FunctionDef, observed: Seen) -> Kinds:
    for argument in node.args.args:
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        kinds = {kind for name, kind, *_ in observed if name == argument.arg}
        if NUMBERS.search(annotation) and not ARRAYS.search(annotation):
            yield "keeps", argument.arg, True
        if "Tensor" in annotation or "Tensor" in kinds:
            yield "cuts_gradient", argument.arg, True


def _of_modules(where: str, node: ast.FunctionDef, docstring: str) -> Kinds:
    if where.endswith("__init__"):
        yield from (("lacks", name, True) for name in _attributes(node) if re.search(rf"\b{name}\b", docstring))
    if where.endswith("__init__") or "Module" in ast.unparse(node.args):
        yield from (("trains", flag, True) for flag in (True, False))


def _of_results(node: ast.FunctionDef, docstring: str) -> Kinds:
    returns = ast.unparse(node.returns) if node.returns else ""
    yield "remembers", None, not all(map(_is_whole, node.args.args))  # of whole numbers and words, memory is right
    if "ndarray" in returns:
        yield "another_dtype", None, bool(DTYPE.search(docstring))


def _is_whole(argument: ast.arg) -> bool:
    """Return True if `kit.shapes` tells all values of this argument apart."""
    return argument.annotation is not None and ast.unparse(argument.annotation) in ("int", "str", "bool")


def _of_properties(observed: Seen, promised: promise) -> Kinds:
    yield from (("wrong_later", what, True) for what in LATER if what == LATER[0] or observed)
    within = _words(promised.within)
    for name in properties.PROPERTIES:
        if _can_have(name, observed) or name in within:
            yield "wrong_where", name, name in ALWAYS or name in within


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _can_have(name: str, observed: Seen) -> bool:
    """Return True if arguments of these kinds can have a property."""
    if name in ("zeros", "large", "tiny", "float64", "float32", "integers"):
        return any(dtype == "f" for _, _, dtype, _ in observed)
    # of one axis, "size 1" says no more than "one row"
    least = {"square": 2, "oblong": 2, "padding": 2, "size 1": 2, "empty": 0}.get(name, 1)
    return any(axes >= least for *_, axes in observed)


def _attributes(node: ast.AST) -> list[str]:
    """Return the public names that an __init__ gives to self."""
    assigned = [x.attr for x in ast.walk(node) if isinstance(x, ast.Attribute) and isinstance(x.ctx, ast.Store)]
    return [name for name in dict.fromkeys(assigned) if not name.startswith("_")]


def _class_doc(lesson: Lesson, where: str) -> str:
    owner = where.partition(".")[0]
    node = next((x for x in lesson.source.tree.body if isinstance(x, ast.ClassDef) and x.name == owner), None)
    return (ast.get_docstring(node) or "") if node else ""
