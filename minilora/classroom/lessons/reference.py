"""A lesson's solution, as what an answer is compared with. It runs in the checker's own process.

A kit for students has no solution. In its place is what the solution gave when the kit was made: for each search its
examples, smallest first, and the result of each call.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from minilora.classroom.properties import arrays
from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.runner import Raised
from minilora.errors import MiniloraError
from minilora.tensor import Tensor

Example = tuple[str, Sequence[Any], Sequence[Any]]  # the layout of arrays, arguments, and others of the same shapes


@dataclass
class Recording:
    """Examples by search (see `Run.name_of_search`), and packed results by the hash of the call."""

    examples: dict[str, list[Example]] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)

    def values(self) -> Iterable[dict[str, Any]]:
        """What `read` puts together."""
        for search, examples in self.examples.items():
            for layout, arguments, twin in sorted(examples, key=_size):
                yield {"search": search, "layout": layout, "arguments": list(arguments), "twin": list(twin)}
        for call, result in self.results.items():
            yield {"call": call, "result": np.frombuffer(result, "uint8")}

    @classmethod
    def read(cls, values: Iterable[Any]) -> "Recording":
        found = cls()
        for value in values:
            if "call" in value:
                found.results[value["call"]] = value["result"].tobytes()
            else:
                example = value["layout"], tuple(value["arguments"]), tuple(value["twin"])
                found.examples.setdefault(value["search"], []).append(example)
        return found


def _size(example: Example) -> tuple[int, str]:
    layout, *both = example
    return sum(array.size for array in arrays(both)), layout


class Reference:
    """The functions of solution.py, and a driver's on them.

    recording: notes what they are asked, and give; replay: has what they gave before, and the examples of searches.
    What was asked once is not computed again: the same checks ask the same.
    """

    def __init__(self, solution: str, driver: str, recording: Recording | None = None, replay: Recording | None = None):
        self.recording, self.replay = recording, replay
        self._known = {} if replay is None else replay.results
        self.solution, self.driver = ModuleType("solution"), ModuleType("driver")
        exec(compile(solution, "solution.py", "exec"), vars(self.solution))
        exec(compile(driver, "driver.py", "exec"), vars(self.driver))

    def call(self, name: str, *arguments: object, driver: bool = False) -> object:
        """As `Session.call`: plain values, or what was raised."""
        packed = wire.pack(list(arguments))
        call = hashlib.sha256(f"{name} {driver} ".encode() + packed).hexdigest()[:32]
        result = self._known.get(call)
        if result is None:
            result = self._known[call] = self._computed(name, packed, driver)
        if self.recording is not None:
            self.recording.results[call] = result
        found = wire.unpack(result)
        return found["value"] if "value" in found else Raised(found["raised"], found["message"], None)

    def _computed(self, name: str, packed: bytes, driver: bool) -> bytes:
        arguments = wire.unpack(packed)
        try:
            if driver:
                return wire.pack({"value": getattr(self.driver, name)(self.solution, *arguments)}, Tensor)
            return wire.pack({"value": getattr(self.solution, name)(*arguments)}, Tensor)
        except Exception as error:  # noqa: BLE001 (what the solution raises is its answer)
            return wire.pack({"raised": [kind.__name__ for kind in type(error).__mro__], "message": str(error)})


class Recorded(Reference):
    """What a solution gave, without the solution."""

    def __init__(self, replay: Recording):
        self.recording, self.replay, self._known = None, replay, replay.results

    def _computed(self, name: str, packed: bytes, driver: bool) -> bytes:
        raise MiniloraError(f"this kit has no result of {name} for what the checks ask; unpack it again")
