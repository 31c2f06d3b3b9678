"""Which parts of minilora a submission may import: those that its lesson uses."""

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType

from minilora.classroom.sandbox.audit import ANSWERS


def covers(uses: Iterable[str], name: str) -> bool:
    """Whether `name` is one of the dotted names `uses`, or stands in one of them."""
    return any(name == use or name.startswith(f"{use}.") for use in uses)


def close_library(uses: list[str], note: Callable[[str], None]) -> None:
    """Leave of minilora what the lesson may use; importing anything else of it fails.

    note: called where one of ANSWERS is imported, with the file's name.
    """
    found = {name: _resolve(name) for name in uses}
    for name in [name for name in sys.modules if covers(["minilora"], name)]:
        module = sys.modules.pop(name)
        if covers(uses, name):
            sys.modules[name] = _without_closed(module, uses)
    for name, module in sys.modules.items():
        parent, _, last = name.rpartition(".")
        if covers(uses, parent) and parent in sys.modules:
            setattr(sys.modules[parent], last, module)
    for name, thing in found.items():
        thing = sys.modules.get(name, thing)
        parts = name.split(".")
        for i in range(len(parts) - 1, 0, -1):
            parent = ".".join(parts[:i])
            if parent in found:
                break
            if parent not in sys.modules:
                sys.modules[parent] = ModuleType(parent)
                sys.modules[parent].__path__ = []
            setattr(sys.modules[parent], parts[i], thing)
            thing = sys.modules[parent]
    sys.meta_path.insert(0, _Refuse(note))


def _without_closed(module: ModuleType, uses: list[str]) -> ModuleType:
    """A module with the names of another, but for modules of minilora that it imports and the lesson does not use."""
    view = ModuleType(module.__name__)
    for name, value in vars(module).items():
        is_closed = isinstance(value, ModuleType) and covers(["minilora"], value.__name__)
        if not is_closed or covers(uses, value.__name__):
            setattr(view, name, value)
    return view


def _resolve(name: str) -> object:
    """What a dotted name means: a module, or something in one."""
    parts = name.split(".")
    thing = import_module(parts[0])
    for i, part in enumerate(parts[1:], start=1):
        try:
            thing = getattr(thing, part)
        except AttributeError:
            thing = import_module(".".join(parts[: i + 1]))
    return thing


class _Refuse:
    """An importer that stands first in line and says no to the rest of minilora and to a lesson's other files."""

    def __init__(self, note: Callable[[str], None]):
        self.note = note

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        first = name.partition(".")[0]
        if first in ANSWERS:
            self.note(f"{first}.py")
        if first in ("minilora", *ANSWERS):
            raise ImportError(f"this lesson may not use {name}: what it teaches is written here, not imported")
