"""A lesson's solution, as what an answer is compared with. It runs in the checker's own process."""

import hashlib
from types import ModuleType

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.runner import Raised
from minilora.tensor import Tensor


class Reference:
    """The functions of solution.py, and a driver's on them.

    What was asked once is not computed again: the same checks ask the same.
    """

    def __init__(self, solution: str, driver: str):
        self._known: dict[bytes, bytes] = {}
        self.solution, self.driver = ModuleType("solution"), ModuleType("driver")
        exec(compile(solution, "solution.py", "exec"), vars(self.solution))
        exec(compile(driver, "driver.py", "exec"), vars(self.driver))

    def call(self, name: str, *arguments: object, driver: bool = False) -> object:
        """As `Session.call`: plain values, or what was raised."""
        packed = wire.pack(list(arguments))
        call = hashlib.sha256(f"{name} {driver} ".encode() + packed).digest()
        result = self._known.get(call)
        if result is None:
            result = self._known[call] = self._computed(name, packed, driver)
        answer = wire.unpack(result)
        return answer["value"] if "value" in answer else Raised(answer["raised"], answer["message"], None)

    def _computed(self, name: str, packed: bytes, driver: bool) -> bytes:
        arguments = wire.unpack(packed)
        try:
            if driver:
                return wire.pack({"value": getattr(self.driver, name)(self.solution, *arguments)}, Tensor)
            return wire.pack({"value": getattr(self.solution, name)(*arguments)}, Tensor)
        except Exception as error:  # noqa: BLE001 (what the solution raises is its answer)
            return wire.pack({"raised": [kind.__name__ for kind in type(error).__mro__], "message": str(error)})
