"""pytest tests/gpu/test_names.py: the stand-in device offers what CuPy has, and no more; no card is needed.

So whatever the tests do on the stand-in asks CuPy for nothing that it lacks.
"""

import inspect
import re

import cupy
import pytest

from tests.helpers import strict

pytestmark = pytest.mark.host


def find(name: str) -> object:
    home = cupy
    for part in name.split("."):
        home = getattr(home, part)
    return home


def parameters(thing: object) -> list[str] | None:
    """Return the names of the parameters, from the documented signature or Python's own; None if there is neither."""
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
    """Return True if a ufunc has the keyword. It checks keywords before it needs a GPU."""
    try:
        ufunc(*[1] * ufunc.nin, **{keyword: None})
    except TypeError as error:
        return "Wrong arguments" not in str(error)
    except Exception:  # noqa: BLE001 (what it says where there is no card)
        return True
    return True


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
