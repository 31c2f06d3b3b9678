"""A check that searches: many inputs, each answered by the student's function and by the solution.

    def forward_inputs(d):
        n, d_in, d_out, r = d.size(), d.size(), d.size(), d.size()
        return d.array(n, d_in), d.array(d_out, d_in), d.array(r, d_in), d.array(d_out, r), d.number(1.0, 3.0, 16.0), r

    search(student.lora_forward, forward_inputs)

Of the inputs on which the two differ, small ones are shown. Each shape is asked three times: with some values, with
others, and with the first ones once more, so that what is kept from a call before does not go unnoticed.
The report says of a difference what it depends on, as far as that can be seen from the inputs that were tried.
"""

from collections import Counter
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
    difference,
    raised,
    show_value,
)
from minilora.classroom.properties import PROPERTIES, arrays
from minilora.classroom.sandbox.runner import Raised
from minilora.errors import MiniloraError

SEED = 8  # of the inputs that searches draw
EXAMPLES = 60
SEEDS = 1000  # of the values in an example
SHRINKS = 200  # calls of an example at most that look for smaller inputs
# A property of all wrong inputs is named where chance would hardly give it to all, or nearly no input with it is right
CHANCE, RARE = 0.001, 0.05
CONFIRMED = 12  # examples in which an argument is to make no difference
LAYOUTS = ("", "read-only", "strided")  # of the arguments' arrays in memory
NORMAL, TIES, ZEROS, LARGE, TINY = "normal", "ties", "zeros", "large", "tiny"
KINDS = (NORMAL, TIES, ZEROS, LARGE, TINY)  # of an array's values; a search shrinks to the first

Inputs = Callable[["Draws"], Sequence[object]]
Example = tuple[str, Sequence[Any], Sequence[Any]]  # the layout of arrays, arguments, and others of the same shapes


class Draws:
    """Source that `inputs` draws from. Sizes and choices shrink to the first; values are others in the second call."""

    def __init__(self, choose: Callable[[int], int], twin_of: "Draws | None" = None):
        self._choose, self._twin_of = choose, twin_of
        self._drawn: list[Any] = []
        self._seed: int = twin_of._seed if twin_of else choose(SEEDS)
        self._rng = np.random.default_rng([self._seed, twin_of is not None])
        self.dtype = self.choice("float64", "float32")  # of `array`, where it does not say another
        self.layout = self.choice(*LAYOUTS)

    def choice(self, *options: Any) -> Any:
        """Draw one of them, the same in both calls."""
        twin = self._twin_of
        self._drawn.append(twin._drawn[len(self._drawn)] if twin else options[self._choose(len(options))])
        return self._drawn[-1]

    def size(self, least: int = 1, most: int = 4) -> int:
        """Draw from least to most, the same in both calls."""
        return self.choice(*range(least, most + 1))

    def shape(self, axes: tuple[int, ...], least: int = 1, most: int = 3) -> tuple[int, ...]:
        """Draw leading axes: as many as one of `axes` says, each from least to most long."""
        return tuple([self.size(least, most) for _ in range(self.choice(*axes))])

    def number(self, *options: float) -> Any:
        """Draw one of them, another one in the second call."""
        chosen = self.choice(*options)
        others = [x for x in options if x != chosen]
        return chosen if self._twin_of is None or not others else others[self._rng.integers(len(others))]

    def array(self, *shape: int, kinds: Sequence[str] = KINDS, dtype: str | None = None) -> np.ndarray:
        """Draw numbers with one decimal; ties: two values; zeros: half of them; large: to ±1000; tiny: to ±1e-4."""
        kind = self.choice(*kinds)
        array = np.round(self._rng.standard_normal(shape), 1)
        array = np.where(array == 0, 0.1, array)
        if kind == TIES:
            array = self._rng.choice([-1.0, 0.5], size=shape)
        elif kind == ZEROS:
            array = array * self._rng.integers(0, 2, shape)
        elif kind in (LARGE, TINY):
            array = array * (1000 if kind == LARGE else 1e-4) / max(float(np.abs(array).max(initial=0)), 1)
        return np.asarray(array).astype(dtype or self.dtype)

    def whole(self, *shape: int, below: int, least: int = 0, dtype: str = "int64") -> np.ndarray:
        """Draw whole numbers from least to below - 1."""
        return self._rng.integers(least, below, shape).astype(dtype)

    def eighths(self, *shape: int) -> np.ndarray:
        """Draw multiples of 1/8 to ±1, of 128 or of 2⁻¹⁴: sums of a few are the same in any order, to the last bit."""
        scale = self.choice(0.125, 128.0, 2.0**-14)
        return (self._rng.integers(-8, 9, shape) * scale).astype(self.dtype)

    def mask(self, *shape: int) -> np.ndarray:
        """Draw booleans."""
        return self._rng.integers(0, 2, shape).astype(bool)

    def shuffled(self, items: Sequence[Any]) -> list[Any]:
        """Return the items in another order in each call."""
        return [items[i] for i in self._rng.permutation(len(items))]


def search(function: Function, inputs: Inputs, examples: int = EXAMPLES, **options: Any) -> None:
    """Note, in the run, the smallest inputs found on which the function and the solution differ.

    The check goes on, since it may know the mistake by name: see `Run.worst`. inputs: of one call, drawn from a Draws;
    options: see `Search`.
    """
    run = function.run
    if run.searched is None and run.breach is None:
        run.searched = Search(function, inputs, examples, **options).result()


class _Choices:
    """Indices, each below some bound: those in `first`, then random ones (0 without an rng)."""

    def __init__(self, first: Sequence[int] = (), rng: np.random.Generator | None = None):
        self.first, self.rng = first, rng
        self.made: list[int] = []

    def __call__(self, bound: int) -> int:
        i = len(self.made)
        if i < len(self.first):
            index = min(self.first[i], bound - 1)
        else:
            index = int(self.rng.integers(bound)) if self.rng is not None else 0
        self.made.append(index)
        return index


def _numbered(examples: int) -> Iterator[_Choices]:
    """Yield the choices of each example, the simplest first."""
    for i in range(examples):
        yield _Choices(rng=np.random.default_rng([SEED, i]) if i else None)


@dataclass
class Search:
    """One search."""

    function: Function
    inputs: Inputs
    examples: int
    parts: Sequence[str] | None = None  # which keys of a driver's result are compared (None: all), in which order
    hints: Mapping[str, str] = field(default_factory=dict)  # what it means that a part is the first wrong one
    tolerance: float = TOLERANCE
    dtypes: bool = False  # whether arrays must have the solution's
    facts: Callable[[Any], Any] | None = None  # of a result, what is compared in its place (of random ones, bounds)
    is_answered: bool = False  # by the solution, on some input

    def result(self) -> Failure | None:
        """Return the smallest difference found, with what can be said about its cause."""
        for choices in _numbered(self.examples):
            if wrong := self.wrong_call(choices):
                return self.explained(*self.smaller(choices, wrong))
        if not self.is_answered and self.function.run.breach is None:
            name = self.function.name
            raise MiniloraError(f"the search of {name} compares nothing: the solution raises on every input it draws")
        return None

    def drawn(self, choices: _Choices) -> Example:
        """Draw a layout, arguments, and others of the same shapes."""
        draws = Draws(choices)
        return draws.layout, tuple(self.inputs(draws)), tuple(self.inputs(Draws(choices, draws)))

    def wrong_call(self, choices: _Choices) -> tuple[int, Failure] | None:
        """Make the three calls of one example; return the first that is wrong: which it is, and its failure."""
        layout, arguments, other = self.drawn(choices)
        for call, values in enumerate((arguments, other, arguments)):
            if failure := self.failure(values, layout):
                return call, failure
        return None

    def smaller(self, choices: _Choices, wrong: tuple[int, Failure]) -> tuple[_Choices, int, Failure]:
        """Lower one choice after the other while the example still fails. The first is a seed: none is simpler."""
        left, before = SHRINKS, None
        while choices.made != before:
            before, place = choices.made, 1
            while place < len(choices.made):
                made, value = choices.made, choices.made[place]
                for lower in [k for k in dict.fromkeys((0, value // 2, value - 1)) if 0 <= k < value]:
                    tried = _Choices([*made[:place], lower, *made[place + 1 :]])
                    if left and (now := self.wrong_call(tried)):
                        choices, wrong = tried, now
                        break
                    left -= left > 0
                place += 1
        return choices, *wrong

    def failure(self, arguments: Sequence[Any], layout: str) -> Failure | None:
        """Compare the function's answer with the solution's; None if they agree."""
        expected, answer = self.expected(arguments), self.answer(arguments, layout)
        if self.function.run.breach is not None:
            return self.function.run.breach
        hint = part = ""
        if isinstance(expected, dict) and isinstance(answer.raw, dict):
            wrong = [key for key in expected if difference(expected[key], answer.raw.get(key), self.tolerance)]
            if wrong and wrong[0] in answer.raw:
                hint, part = self.hints.get(wrong[0], ""), f"Part [{wrong[0]!r}]:"
                expected, answer = expected[wrong[0]], answer[wrong[0]]
        try:
            if problem := _form(expected, answer.raw, self.dtypes):
                answer.fail(show_value(expected), problem)
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

    def answer(self, arguments: Sequence[Any], layout: str) -> Answer:
        answer = self.function(*arguments, layout=layout)
        answer.raw = self.compared(answer.raw)
        return answer

    def compared(self, value: Any) -> Any:
        if self.facts is not None and not isinstance(value, Raised):
            with suppress(*UNEXPECTED_VALUE_ERRORS):
                return self.facts(value)
        if self.parts is None or not isinstance(value, dict):
            return value
        return {key: value[key] for key in self.parts if key in value}

    # What a difference depends on

    def explained(self, choices: _Choices, call: int, failure: Failure) -> Failure:
        """Return the failure of an example's call, with what can be said about its cause."""
        if self.function.run.breach is not None:
            return failure
        layout, arguments, twin = self.drawn(_Choices(choices.made))
        shown = twin if call == 1 else arguments
        self.fresh()
        if first := self.failure(shown, layout):
            failure = first
        else:
            hint = f"{self.state(layout, arguments, twin)} {failure.hint if failure.is_known else ''}".strip()
            return replace(failure, hint=hint, is_known=True, is_state=True)
        if cause := self.ignored(layout, arguments, twin) or self.property():
            texts = (failure.hint, cause) if failure.is_known else (cause, failure.hint)
            return replace(failure, hint=" ".join(texts), cause=cause)
        return failure

    def fresh(self) -> None:
        """Begin a session of its own for what follows, in which nothing has been called yet."""
        self.function.run.session = self.function.run.session.again()

    def others(self, arguments: Sequence[Any], twin: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yield (an argument's name, the arguments with another value of it)."""
        for i, name in enumerate(self.function.parameters[: len(arguments)]):
            if not _same(arguments[i], twin[i]):
                yield name, [*arguments[:i], twin[i], *arguments[i + 1 :]]

    def state(self, layout: str, arguments: Sequence[Any], twin: Sequence[Any]) -> str:
        """Say what is kept from an earlier call, if this one is answered right when it comes first."""
        for name, other in self.others(arguments, twin):
            self.fresh()
            if not self.failure(arguments, layout) and self.failure(other, layout):
                return f"After a call with another {name}, this one is answered wrong: something of {name} is kept."
        return "Right as the first call, wrong after others: something is kept from one call to the next."

    def ignored(self, layout: str, arguments: Sequence[Any], twin: Sequence[Any]) -> str:
        """Name an argument that makes no difference, and should; not one that small numbers hide here."""
        self.fresh()
        names = [name for name, has in self.effects(layout, arguments, twin).items() if not has]
        for choices in _numbered(CONFIRMED if names else 0):
            effects = self.effects(*self.drawn(choices))
            names = [name for name in names if not effects.get(name)]
        return f"Another value of {names[0]} makes no difference to the result, and it should." if names else ""

    def effects(self, layout: str, arguments: Sequence[Any], twin: Sequence[Any]) -> dict[str, bool]:
        """Tell for each argument that should make a difference if it does."""
        expected, got = self.expected(arguments), self.answer(arguments, layout).raw
        if isinstance(got, Raised) or isinstance(expected, raised) or _lacks(got, expected):
            return {}
        effects = {}
        for name, other in self.others(arguments, twin):
            should = self.expected(other)
            if not isinstance(should, raised) and not _same(should, expected):
                effects[name] = not _same(self.answer(other, layout).raw, got)
        return effects

    def property(self) -> str:
        """Name a property of all inputs that are answered wrong, and of few others."""
        calls: list[tuple[Sequence[Any], str]] = []  # of all examples, as in `wrong_call`
        tags: list[set[tuple[str, str]]] = []
        for layout, arguments, other in map(self.drawn, _numbered(self.examples)):
            calls += [(arguments, layout), (other, layout), (arguments, layout)]
            tags += [first := self.tags(arguments, layout), self.tags(other, layout), first]
        having = Counter(tag for of_call in tags for tag in of_call)
        shared = {tag for tag, count in having.items() if count < len(calls)}  # by all wrong calls so far
        wrong: list[int] = []
        for i, call in enumerate(calls):
            if self.failure(*call):
                wrong.append(i)
                shared &= tags[i]
                if not shared:
                    return ""
        examples_wrong = len({i // 3 for i in wrong})
        telling = {}
        for tag in shared if wrong else ():
            share = len(wrong) / having[tag]  # of the inputs with it, wrong ones
            is_chance = (having[tag] / len(calls)) ** examples_wrong > CHANCE
            if share >= 1 - RARE or not is_chance:
                telling[tag] = share
        if not telling:
            return ""
        order = list(PROPERTIES)
        who, name = min(
            telling, key=lambda tag: (-telling[tag], tag[0] not in ("", "the result"), order.index(tag[1]), tag[0])
        )
        return f"It goes wrong only where {PROPERTIES[name][1]}{f' in {who}' if who else ''}."

    def tags(self, arguments: Sequence[Any], layout: str) -> set[tuple[str, str]]:
        """Return (an argument, "" for any of them, or "the result"; a property that it has)."""
        is_plain = not (self.function.is_driver or self.facts)
        named = {"": arguments, "the result": [self.expected(arguments)] if is_plain else []}
        named |= {name: [value] for name, value in zip(self.function.parameters, arguments, strict=False)}
        tags = {(who, name) for who, values in named.items() for name, (has, _) in PROPERTIES.items() if has(values)}
        is_laid_out = layout and any(array.size > (layout == "strided") for array in arrays(arguments))
        return tags | ({("", layout)} if is_laid_out else set())


def _form(expected: Any, got: Any, dtypes: bool) -> str:
    """Say if a result is of the wrong kind, whatever its values."""
    if dtypes and isinstance(expected, np.ndarray) and expected.ndim and isinstance(got, (list, tuple)):
        return f"An array was asked for; this is a {type(got).__name__}."
    if dtypes and isinstance(expected, np.ndarray) and isinstance(got, np.ndarray) and expected.dtype != got.dtype:
        return f"The dtype is {got.dtype}, not {expected.dtype}."
    if isinstance(expected, tuple) and isinstance(got, (list, tuple)) and len(got) == len(expected):
        return next((problem for e, g in zip(expected, got, strict=True) if (problem := _form(e, g, dtypes))), "")
    if isinstance(expected, dict) and isinstance(got, dict):
        return next((problem for key in expected if (problem := _form(expected[key], got.get(key), dtypes))), "")
    return ""


def _lacks(got: Any, expected: Any) -> bool:
    """Return True if a result lacks a part, or has no numbers at all: then no argument makes a difference to it."""
    if isinstance(got, dict) and isinstance(expected, dict):
        return any(_lacks(value, expected.get(key)) for key, value in got.items())
    is_number = isinstance(got, (float, np.ndarray)) and np.size(got) > 0
    return got is None and expected is not None or is_number and not np.isfinite(got).any()


def _same(a: Any, b: Any) -> bool:
    return not isinstance(a, Raised) and difference(a, b, 1e-12) is None
