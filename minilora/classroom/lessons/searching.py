"""Checks by search: call the student's function and the solution on many inputs, and compare.

    def forward_inputs(d):
        n, d_in, d_out, r = d.size(), d.size(), d.size(), d.size()
        return d.array(n, d_in), d.array(d_out, d_in), d.array(r, d_in), d.array(d_out, r), d.number(1.0, 3.0, 16.0), r

    search(student.lora_forward, forward_inputs)

If the two differ, the search looks for small inputs on which they do, and reports those. Each example makes three calls
with the same shapes: with some values, with others, and with the first again, which exposes a function that keeps
something between calls.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from minilora.classroom.lessons.checking import (
    TOLERANCE,
    UNEXPECTED_VALUE_ERRORS,
    Answer,
    Failure,
    Function,
    Known,
    difference,
    fine,
    is_like,
    raised,
)
from minilora.classroom.lessons.draws import Draws
from minilora.classroom.sandbox.runner import Raised
from minilora.errors import MiniloraError

SEED = 8  # seed of the inputs that searches draw
EXAMPLES = 60
SHRINKS = 200  # limit of the attempts to find smaller inputs
REPEATS = 12  # of a call, before the report says that it gives the same each time

Inputs = Callable[["Draws"], Sequence[object]]
Example = tuple[Sequence[Any], Sequence[Any]]  # arguments, and others of the same shapes


def search(function: Function, inputs: Inputs, examples: int = EXAMPLES, **options: Any) -> None:
    """Search for small inputs on which the function and the solution differ, and note the failure in the run.

    The check continues, since it may know the mistake by name (see `Run.worst`). inputs: draws the arguments of a call
    from a Draws. options: fields of `Search`.
    """
    run = function.run
    if run.searched is None and run.breach is None:
        run.searched = Search(function, inputs, examples, **options).result()


class _Choices:
    """A source of indices below a given bound: first those in `first`, then random ones (0 without an rng)."""

    def __init__(self, first: Sequence[int] = (), rng: np.random.Generator | None = None):
        self.first, self.rng = first, rng
        self.indices: list[int] = []

    def __call__(self, bound: int) -> int:
        i = len(self.indices)
        if i < len(self.first):
            index = min(self.first[i], bound - 1)
        else:
            index = int(self.rng.integers(bound)) if self.rng is not None else 0
        self.indices.append(index)
        return index


def _numbered(examples: int) -> Iterator[_Choices]:
    """Yield the choices of each example, the simplest example first."""
    for i in range(examples):
        yield _Choices(rng=np.random.default_rng([SEED, i]) if i else None)


@dataclass
class Search:
    """A search for inputs on which a function and the solution differ."""

    function: Function
    inputs: Inputs
    examples: int
    parts: Sequence[str] | None = None  # keys of a driver's result to compare, in this order (None: all)
    hints: Mapping[str, str] = field(default_factory=dict)  # part -> hint if it is the first wrong one, or a `fine` one
    tolerance: float = TOLERANCE
    dtypes: bool = False  # True if another dtype than the solution's, or a list for an array, is worth a remark
    instead: Callable[..., Known] | None = None  # maps the arguments to known mistakes, as in Answer.equals
    facts: Callable[[Any], Any] | None = None  # maps a result to what is compared instead (bounds, if it is random)
    is_answered: bool = False  # True once the solution has answered an input without raising
    waived: set[str] = field(default_factory=set)  # remarks made already (see `Draws.fine`)

    def result(self) -> Failure | None:
        """Return the failure on the smallest inputs found, or None."""
        for choices in _numbered(self.examples):
            while wrong := self.wrong_call(choices):
                smallest, call, failure = self.smaller(choices, wrong)
                draws = Draws(_Choices(smallest.indices), waived=self.waived)
                self.inputs(draws)
                failure = self.explained(smallest, call, failure)
                if not draws.clauses or failure.is_state or self.function.run.breach is not None:
                    return failure
                self.function.run.remark(draws.clauses[0])
                self.waived.add(draws.clauses[0])
                choices = _Choices(choices.indices)
        if not self.is_answered and self.function.run.breach is None:
            name = self.function.name
            raise MiniloraError(f"the search of {name} compares nothing: the solution raises on every input it draws")
        return None

    def drawn(self, choices: _Choices) -> Example:
        """Draw an example: arguments, and other arguments of the same shapes."""
        draws = Draws(choices, waived=self.waived)
        return tuple(self.inputs(draws)), tuple(self.inputs(Draws(choices, draws, self.waived)))

    def wrong_call(self, choices: _Choices) -> tuple[int, Failure] | None:
        """Make the three calls of an example, and return (index, failure) of the first that is wrong, or None."""
        arguments, other = self.drawn(choices)
        for call, values in enumerate((arguments, other, arguments)):
            if failure := self.failure(values):
                return call, failure
        return None

    def smaller(self, choices: _Choices, wrong: tuple[int, Failure]) -> tuple[_Choices, int, Failure]:
        """Shrink an example: lower one choice after the other while it still fails. The first, a seed, stays."""
        left, before = SHRINKS, None
        while choices.indices != before:
            before, place = choices.indices, 1
            while place < len(choices.indices):
                indices, value = choices.indices, choices.indices[place]
                for lower in [k for k in dict.fromkeys((0, value // 2, value - 1)) if 0 <= k < value]:
                    smaller = _Choices([*indices[:place], lower, *indices[place + 1 :]])
                    if left and (still_wrong := self.wrong_call(smaller)):
                        choices, wrong = smaller, still_wrong
                        break
                    left -= left > 0
                place += 1
        return choices, *wrong

    def failure(self, arguments: Sequence[Any]) -> Failure | None:
        """Compare the function's answer with the solution's, and return the failure; None if they agree."""
        expected, answer = self.expected(arguments), self.answer(arguments)
        if self.function.run.breach is not None:
            return self.function.run.breach
        hint = part = ""
        if isinstance(expected, dict) and isinstance(answer.raw, dict):
            wrong = [key for key in expected if difference(expected[key], answer.raw.get(key), self.tolerance)]
            for key in [key for key in wrong if key in answer.raw and isinstance(self.hints.get(key), fine)]:
                self.function.run.remark(self.hints[key])
                wrong.remove(key)
                expected, answer.raw = ({k: v for k, v in of.items() if k != key} for of in (expected, answer.raw))
            if wrong and wrong[0] in answer.raw:
                hint, part = self.hints.get(wrong[0], ""), f"Part [{wrong[0]!r}]:"
                expected, answer = expected[wrong[0]], answer[wrong[0]]
        if self.dtypes and (problem := _form(expected, answer.raw)):
            self.function.run.remark(problem)
            self.dtypes = False  # one remark is enough
        try:
            answer.equals(expected, tolerance=self.tolerance)
        except Failure as failure:
            return replace(failure, hint=hint or f"{part} {failure.hint}".strip(), is_known=bool(hint))
        return None

    def expected(self, arguments: Sequence[Any]) -> Any:
        function = self.function
        value = function.run.reference.call(function.name, *arguments, driver=function.is_driver)
        if isinstance(value, Raised):
            return raised(value.types[0])
        self.is_answered = True
        return self.compared(value)

    def answer(self, arguments: Sequence[Any]) -> Answer:
        answer = self.function(*arguments)
        answer.raw = self.compared(answer.raw)
        return answer

    def compared(self, value: Any) -> Any:
        if self.facts is not None and not isinstance(value, Raised):
            with suppress(*UNEXPECTED_VALUE_ERRORS):
                return self.facts(value)
        if self.parts is None or not isinstance(value, dict):
            return value
        return {key: value[key] for key in self.parts if key in value}

    # What a report says of a difference

    def explained(self, choices: _Choices, call: int, failure: Failure) -> Failure:
        """Return the failure of call number `call` of an example, with a hint if its mistake is known by name."""
        if self.function.run.breach is not None:
            return failure
        arguments, twin = self.drawn(_Choices(choices.indices))
        shown = twin if call == 1 else arguments
        self.fresh()
        if first := self.failure(shown):
            failure = first
        else:
            hint = f"{self.state(arguments, twin)} {failure.hint if failure.is_known else ''}".strip()
            return replace(failure, hint=hint, is_known=True, is_state=True)
        name = self.name()
        return replace(failure, hint=name, is_known=True) if name else failure

    def name(self) -> str:
        """Return the hint of the one mistake in `instead` that explains all answers to the examples, or ""."""
        fitting, others = None, set()
        for arguments, _ in map(self.drawn, _numbered(self.examples)):
            known = self.instead(*arguments) or {} if self.instead else {}
            if known:
                is_wrong, raw = self.failure(arguments) is not None, self.answer(arguments).raw
                fit = {hint for hint, wrong in known.items() if is_like(wrong, raw, self.tolerance)}
                fitting = fitting if not is_wrong else fit if fitting is None else fitting & fit
                others |= known.keys() - fit
        hints = (fitting or set()) - others
        return hints.pop() if len(hints) == 1 else ""

    def fresh(self) -> None:
        """Start a new session, in which nothing has been called yet."""
        self.function.run.session = self.function.run.session.again()

    def state(self, arguments: Sequence[Any], twin: Sequence[Any]) -> str:
        """Describe what is kept between calls, for a call that is right when it comes first."""
        self.fresh()
        if any(self.failure(arguments) for _ in range(REPEATS)):
            return "A second, equal call returns something else: is something drawn at random, or kept between calls?"
        for i, name in enumerate(self.function.parameters[: len(arguments)]):
            other = [*arguments[:i], twin[i], *arguments[i + 1 :]]
            self.fresh()
            if not self.failure(arguments) and self.failure(other):
                return (
                    f"After a call with another {name}, this one goes wrong: something that depends on {name} is kept."
                )
        return "This is right in a first call and wrong in a later one: something is kept from one call to the next."


def _form(expected: Any, got: Any) -> str:
    """Describe a list instead of an array, or another dtype, whatever the values; "" if the form is right."""
    if isinstance(expected, np.ndarray) and expected.ndim and isinstance(got, (list, tuple)):
        return f"It should be an array, not a {type(got).__name__}."
    if isinstance(expected, np.ndarray) and isinstance(got, np.ndarray) and expected.dtype != got.dtype:
        return f"The dtype is {got.dtype}, not {expected.dtype}."
    if isinstance(expected, tuple) and isinstance(got, (list, tuple)) and len(got) == len(expected):
        return next((problem for e, g in zip(expected, got, strict=True) if (problem := _form(e, g))), "")
    if isinstance(expected, dict) and isinstance(got, dict):
        return next((problem for key in expected if (problem := _form(expected[key], got.get(key)))), "")
    return ""
