"""A lesson's solution, as what an answer is compared with. It runs in the checker's own process."""

from pathlib import Path
from types import ModuleType

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.runner import Raised
from minilora.tensor import Tensor


class Reference:
    """The functions of solution.py, and a driver's on them."""

    def __init__(self, solution: Path, driver: str):
        self.solution, self.driver = ModuleType("solution"), ModuleType("driver")
        exec(compile(solution.read_text(encoding="utf-8"), str(solution), "exec"), vars(self.solution))
        exec(compile(driver, "driver.py", "exec"), vars(self.driver))

    def call(self, name: str, *arguments: object, driver: bool = False) -> object:
        """As `Session.call`: plain values, or what was raised."""
        arguments = wire.plain(list(arguments))  # its own copy
        try:
            if driver:
                return wire.plain(getattr(self.driver, name)(self.solution, *arguments), Tensor)
            return wire.plain(getattr(self.solution, name)(*arguments), Tensor)
        except Exception as error:
            return Raised([kind.__name__ for kind in type(error).__mro__], str(error), None)
