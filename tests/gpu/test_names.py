"""pytest tests/gpu/test_names.py: all that the package asks of CuPy is in CuPy, by its own list; no card is needed.

The package's source is read: what stands after `xp.`, the keywords in calls of it, methods of arrays, and in backend.py
what is asked of `cupy` itself.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cupy
import numpy as np
import pytest

from tests.helpers import strict

pytestmark = pytest.mark.host

PACKAGE = Path(__file__).parents[2] / "minilora"
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if re.search(r"\bxp\b", path.read_text(encoding="utf-8"))]
ROOTS = ("xp", "backend.xp", "cupy", "_active.namespace")  # what a name of CuPy's stands after
ELSEWHERE = ("np", "ops", "backend", "json")  # modules, whose functions are no methods of arrays


class Use(NamedTuple):
    name: str  # dotted, from CuPy on
    places: int = 0  # arguments by place
    keywords: tuple[str, ...] = ()
    starred: bool = False  # the number of arguments is not in the source


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is one; "" of any other."""
    if isinstance(node, ast.Name):
        return node.id
    inner = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner else ""


def from_cupy(node: ast.expr) -> str:
    """The name after `xp.` and its like; "" of any other expression."""
    name = dotted(node)
    return next((name.removeprefix(f"{root}.") for root in ROOTS if name.startswith(f"{root}.")), "")


def call_of(node: ast.Call, name: str) -> Use:
    starred = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
    return Use(name, len(node.args), tuple(k.arg for k in node.keywords if k.arg), starred)


def functions(source: str) -> Iterator[Use]:
    """What a source asks of CuPy's modules."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and from_cupy(node.func):
            yield call_of(node, from_cupy(node.func))
        elif isinstance(node, ast.Attribute) and from_cupy(node):
            yield Use(from_cupy(node))


def methods(source: str) -> Iterator[Use]:
    """What a source may ask of arrays: the calls of attributes that NumPy's arrays have."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and hasattr(np.ndarray, node.func.attr):
            home = dotted(node.func.value)
            if not from_cupy(node.func) and home not in ELSEWHERE:
                yield call_of(node, node.func.attr)


def find(name: str, home: object = cupy) -> object:
    for part in name.split("."):
        home = getattr(home, part)
    return home


def parameters(thing: object) -> list[str] | None:
    """Names of the parameters, by the documented signature or the one that Python knows; None where there is none."""
    head = (getattr(thing, "__doc__", None) or "").partition("\n")[0]
    embedded = re.fullmatch(r"[\w.]+\((.*)\)(?: -> .*)?", head)
    try:
        signature = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        signature = None
    if embedded and (signature is None or any(p.kind is p.VAR_KEYWORD for p in signature)):
        parts = (part.strip().partition("=")[0].split(" ")[-1] for part in embedded[1].split(","))
        return [part for part in parts if part not in ("self", "")]
    if signature is None:
        return None
    return [str(p.replace(default=p.empty, annotation=p.empty)) for p in signature if p.name != "self"]


def takes(ufunc: cupy.ufunc, keyword: str) -> bool:
    """Whether a ufunc has the keyword, which it looks at before it asks for a card."""
    try:
        ufunc(*[1] * ufunc.nin, **{keyword: None})
    except TypeError as error:
        return "Wrong arguments" not in str(error)
    except Exception:  # noqa: BLE001 (what it says where there is no card)
        return True
    return True


def wrong(use: Use, home: object = cupy) -> str:
    """What is wrong with it, or ""."""
    try:
        thing = find(use.name, home)
    except AttributeError:
        return f"CuPy has no {use.name}"
    if isinstance(thing, cupy.ufunc):
        unknown = [keyword for keyword in use.keywords if not takes(thing, keyword)]
        return f"CuPy's {use.name} has no parameter {', '.join(unknown)}" if unknown else ""
    known = parameters(thing) if use.places or use.keywords else None
    if known is None or any(p.startswith("**") for p in known):
        return ""
    unknown = [keyword for keyword in use.keywords if keyword not in known]
    if unknown:
        return f"CuPy's {use.name} has no parameter {', '.join(unknown)}"
    variadic = use.starred or any(p.startswith("*") for p in known)
    return f"CuPy's {use.name} takes {len(known)} arguments" if use.places > len(known) and not variadic else ""


def test_what_is_searched():
    asked = {use.name for path in FILES for use in functions(path.read_text(encoding="utf-8"))}
    assert len(asked) > 50 and {"exp", "add.at", "add.reduceat", "ElementwiseKernel"} - asked == {"add.reduceat"}
    called = {use.name for path in FILES for use in methods(path.read_text(encoding="utf-8"))}
    assert {"astype", "reshape", "sum", "max", "copy"} <= called


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_the_package_asks_for_what_cupy_has(path):
    source = path.read_text(encoding="utf-8")
    found = [wrong(use) for use in functions(source)] + [wrong(use, cupy.ndarray) for use in methods(source)]
    assert [problem for problem in found if problem] == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("xp.erf(a)", "CuPy has no erf"),
        ("f = backend.xp.linalg.expm", "CuPy has no linalg.expm"),
        ("xp.add(a, b, where=c)", "CuPy's add has no parameter where"),
        ("xp.sum(a, axis=0, initial=1)", "CuPy's sum has no parameter initial"),
        ("xp.triu(a, 1, 2)", "CuPy's triu takes 2 arguments"),
        ("xp.add.at(a, i, b, 1)", "CuPy's add.at takes 3 arguments"),
        ("a.setflags(write=False)", "CuPy has no setflags"),
        ("a[0].max(axis=1, where=b)", "CuPy's max has no parameter where"),
        ("cupy.cuda.runtime.deviceCount()", "CuPy has no cuda.runtime.deviceCount"),
    ],
)
def test_what_cupy_lacks_is_found(source, problem):
    found = [wrong(use) for use in functions(source)] + [wrong(use, cupy.ndarray) for use in methods(source)]
    assert set(found) - {""} == {problem}


@pytest.mark.parametrize("name", strict._names)
def test_the_stand_in_offers_what_cupy_has(name):
    thing, listed = find(name), strict._names[name]
    if listed == "ufunc":
        assert isinstance(thing, cupy.ufunc)
        of_stand_in = inspect.signature(strict.StrictUfunc.__call__).parameters.values()
        assert all(takes(thing, p.name) for p in of_stand_in if p.kind is p.KEYWORD_ONLY)
    elif listed is not None:
        assert parameters(thing) == listed


def test_the_stand_ins_arrays_have_what_cupys_have():
    own = {"advice"}
    assert {name for name in dir(strict.StrictArray) if not name.startswith("_")} - own <= set(dir(cupy.ndarray))
