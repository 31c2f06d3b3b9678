"""Writing a check: call the student's functions, and compare the results with the right ones.

    @task(2)
    def forward(student):
        '''(three hints, a paragraph each)'''
        for n, d_in, d_out, r in [(1, 1, 1, 1), (1, 2, 3, 2), (4, 5, 3, 2)]:  # small first
            x, W, A, B = ...
            mistakes = {"The update is not scaled: multiply it by alpha / r.": x @ W.T + x @ A.T @ B.T}
            student.lora_forward(x, W, A, B, 16.0, r).equals(right, mistakes)

A check ends at the first wrong answer, so start with small inputs: the report then shows the smallest that fails.
`instead` maps hints to the wrong answers that deserve them: values, `raised("ValueError")`, or predicates on the value.
A hint in `fine(...)` is about a side condition: an answer that breaks nothing else passes, with the hint as a remark.
docs/lessons.md has more.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from minilora.classroom.lessons.comparing import TOLERANCE, difference, show_both, show_value
from minilora.classroom.lessons.source import stub_start
from minilora.classroom.sandbox.duties import FINE
from minilora.classroom.sandbox.runner import Raised, Session
from minilora.errors import escape

EXCEPTIONS = {
    "MemoryError": "Your code asked for more memory than an exercise may have.",
    "RecursionError": "A function calls itself without end.",
    "SystemExit": "Your code ends the program; return from the function instead.",
}
# Errors that a check raises by itself if the student's value has an unexpected type or size, such as int(np.inf)
_OF_VALUE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
UNEXPECTED_VALUE_ERRORS = (*_OF_VALUE, MemoryError, RecursionError)
DUTIES = {  # duty -> the hint if it is neglected
    "shares": "The result of {0} shares memory with {1}, so changing one changes the other. Return a copy.",
    "mode": "{0} left a model in another mode (train or eval) than before. Restore it, also after an exception.",
    "result changed": "This call of {0} changed {1}: is an array kept from one call to the next and used again?",
    "changed": "{0} changed its argument {1}, which the caller may still need. "
    "Work on a copy: x = x - 1 makes a new array, x -= 1 and x[...] = 0 write into the old one.",
}
Known = Mapping[str, object] | None  # hint -> the wrong answer that deserves it


@dataclass(frozen=True)
class Task:
    """One task of a lesson: its number, three hints from vague to explicit, and the check."""

    number: int
    hints: tuple[str, ...]
    check: Callable[["Student"], None]


def task(number: int, hints: tuple[str, str, str] | None = None) -> Callable[[Callable], Task]:
    """Make a function a task's check. Its docstring has the three hints, as paragraphs, unless `hints` has them."""

    def make_task(check: Callable) -> Task:
        paragraphs = re.split(r"\n\s*\n", (check.__doc__ or "").strip())
        texts = tuple(hints or (" ".join(text.split()) for text in paragraphs))
        if len(texts) != 3:
            raise ValueError(f"task {number} has {len(texts)} hints, not 3")
        return Task(number, texts, check)

    return make_task


@dataclass(frozen=True)
class raised:  # noqa: N801 (reads as a word in a check)
    """An exception as the expected answer: of this type (or a subclass), with this text in its message."""

    kind: str
    message: str = ""

    def fits(self, value: object) -> bool:
        return isinstance(value, Raised) and self.kind in value.types and self.message in value.message

    def __repr__(self) -> str:
        return self.kind + (f" that says {self.message!r}" if self.message else "")


class fine(str):  # noqa: N801 (reads as a word in a check)
    """A hint about a side condition that is not the lesson's point: an answer that breaks it gets a remark and all
    points.
    """


@dataclass
class Failure(Exception):
    """A wrong answer, as the report shows it.

    is_known: the hint names this very mistake. is_state: the call is right by itself, and wrong after earlier calls.
    """

    call: str
    expected: str
    got: str
    hint: str
    line: int | None
    is_known: bool = False
    is_state: bool = False


@dataclass
class NotStarted(Exception):
    """The code ran into a gap that is not filled yet."""

    task: int


@dataclass(frozen=True)
class promise:  # noqa: N801 (reads as a word in checks.py)
    """Differences between what a function's docstring promises and what every function owes; see `tests/saboteurs`.

    shares: the result may share memory with the arguments.
    switches: it may leave a model in another mode.
    within, outside: properties of inputs that it must also handle, and that it need not handle, separated by commas.
    """

    shares: bool = False
    switches: bool = False
    within: str = ""
    outside: str = ""


@dataclass
class Run:
    """A running session with a student's code, beside one with the solution."""

    session: Session
    number: int  # number of the lesson
    signatures: dict[str, tuple[str, list[str]]]  # name -> (how a call is shown, its parameters)
    reference: Session  # runs the solution
    breach: Failure | None = None  # the first neglected duty, whatever the values
    searched: Failure | None = None  # the failure that a search found
    remarks: list[str] = field(default_factory=list)  # for the student, if the answer passes
    called: set[str] = field(default_factory=set)  # names of the student's functions that the check has called

    def remark(self, text: str) -> None:
        self.remarks += [] if text in self.remarks else [str(text)]

    def worst(self, failure: Failure | None) -> Failure | None:
        """Choose the failure that explains most: the check's own, a neglected duty, or a search's."""
        searched = self.searched
        if searched and searched.is_state:
            return searched
        known = [one for one in (failure, searched) if one and one.is_known]
        return known[0] if known else self.breach or failure or searched


class Student:
    """The student's functions, as attributes; `student.driver` has the driver's."""

    def __init__(self, run: Run, is_driver: bool = False):
        self._run, self._is_driver = run, is_driver

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return Student(self._run, True) if name == "driver" else Function(self._run, name, self._is_driver)


class Function:
    """A function of the student's, or of the driver's. Calling it returns an Answer."""

    def __init__(self, run: Run, name: str, is_driver: bool):
        self.run, self.name, self.is_driver = run, name, is_driver
        key = f"driver.{name}" if is_driver else name
        self.shown, self.parameters = run.signatures.get(key, (name, []))

    def __call__(self, *arguments: object) -> "Answer":
        run = self.run
        value = run.session.call(self.name, *arguments, driver=self.is_driver)
        answer = Answer(value, self, arguments)
        run.called.update(run.session.called)
        if isinstance(value, Raised) and "NotImplementedError" in value.types:
            gap = re.match(f"{stub_start(run.number, '([0-9]+)')}:", value.message)
            if gap:
                raise NotStarted(int(gap[1]))
        if run.session.breach and not run.breach:
            breach = _breach(answer.call, run.session.breach)
            if run.session.breach["duty"] == FINE:
                run.remark(breach.hint)
            else:
                run.breach = breach
        return answer


def _breach(call: str, facts: dict[str, Any]) -> Failure:
    """Describe a neglected duty (see `duties.py`)."""
    function, name = escape(facts["function"], 60), escape(facts["name"], 60)
    before, after = show_both(facts.get("before"), facts.get("after"))
    hint = DUTIES[facts["duty"]].format(function, name)
    return Failure(call, f"{name} as it was: {before}", f"{name} afterwards: {after}", hint, None)


@dataclass(eq=False)
class Answer:
    """The result of a call: `value` is the value, `raw` the value or a Raised, `answer[key]` a part of the result."""

    raw: object
    function: Function
    arguments: tuple
    part: str = ""

    @property
    def value(self) -> object:
        """The value. Raises Failure if the call raised an exception."""
        self.returns()
        return self.raw

    def __getitem__(self, key: Any) -> "Answer":
        value = self.value
        if isinstance(value, dict) and key in value or isinstance(value, (list, tuple)) and -1 < key < len(value):
            return replace(self, raw=value[key], part=f"{self.part}[{key!r}]")
        raise self.failure(
            f"something with a part {key!r}", "The result does not have the parts that the task asks for."
        )

    def returns(self, instead: dict[str, raised] | None = None) -> None:
        """Fail if the call raised an exception; `instead` has hints for exceptions."""
        if isinstance(self.raw, Raised):
            known_hint = self._known(instead)
            self.fail("a result", known_hint or _why(self.raw), is_known=bool(known_hint))

    def equals(self, expected: object, instead: Known = None, hint: str = "", tolerance: float = TOLERANCE) -> None:
        """Fail unless the result equals `expected`, a value or raised(...): shapes exactly, numbers within tolerance.

        Dtypes may differ. instead: hints for wrong answers that are known; hint: for any other wrong value.
        """
        if isinstance(expected, raised):
            problem = None if expected.fits(self.raw) else "This input should raise an error."
        else:
            problem = difference(expected, self.raw, tolerance)
        if not problem:
            return
        known_hint = self._known(instead, tolerance)
        if isinstance(hint, fine) or not isinstance(self.raw, Raised):
            known_hint = known_hint or hint
        if isinstance(self.raw, Raised):
            problem = _why(self.raw)
        elif self.raw is None and not (isinstance(expected, raised) or self.part or self.function.is_driver):
            problem = "The function returned None: is a return missing?"
        texts = show_both(expected, self.raw)
        self.fail(texts[0], known_hint or problem, is_known=bool(known_hint), got=texts[1])

    def holds(self, condition: Callable[[object], bool], expected: str, hint: str, instead: Known = None) -> None:
        """Fail unless condition(value) is true. expected: the condition in words."""
        if not isinstance(hint, fine):
            self.returns({text: wrong for text, wrong in (instead or {}).items() if isinstance(wrong, raised)})
        if isinstance(self.raw, Raised) or not _true_of(condition, self.raw):
            self.fail(expected, self._known(instead) or hint, is_known=True)

    def fail(self, expected: str, hint: str, is_known: bool = False, got: str = "") -> None:
        """End the check with a Failure, or note a hint that is `fine`. is_known: the hint names this very mistake."""
        if not isinstance(hint, fine):
            raise self.failure(expected, hint, is_known, got)
        self.function.run.remark(hint)

    def failure(self, expected: str, hint: str, is_known: bool = False, got: str = "") -> Failure:
        line = self.raw.line if isinstance(self.raw, Raised) else None
        return Failure(self.call, expected, got or show_value(self.raw), hint, line, is_known)

    def _known(self, instead: Known, tolerance: float = TOLERANCE) -> str:
        """Return the hint of the first known wrong answer that equals this one, or ""."""
        return next((hint for hint, wrong in (instead or {}).items() if is_like(wrong, self.raw, tolerance)), "")

    @property
    def call(self) -> str:
        """The call, as a report shows it: on one line if its arguments are short."""
        function, arguments = self.function, self.arguments
        names = function.parameters[: len(arguments)]
        names = [*names, *(f"argument {i + 1}" for i in range(len(names), len(arguments)))]
        is_short = not any(isinstance(a, dict) or isinstance(a, np.ndarray) and a.ndim for a in arguments)
        if is_short and not function.is_driver:
            lines = [f"{function.shown}({', '.join(map(show_value, arguments))})"]
        else:
            lines = [function.shown if function.is_driver else f"{function.shown}({', '.join(names)})"]
            for name, argument in zip(names, arguments, strict=True):
                if isinstance(argument, (list, tuple)) and any(isinstance(item, np.ndarray) for item in argument):
                    lines += [f"{name}[{i}] = {show_value(item)}" for i, item in enumerate(argument)]
                else:
                    lines.append(f"{name} = {show_value(argument)}")
        return "\n".join(lines + ([f"part {self.part} of the result"] if self.part else []))


def _why(exception: Raised) -> str:
    """Make a hint for an exception that no check foresaw."""
    if exception.types[0] == "AttributeError":
        return f"A name is missing: {escape(exception.message, 100)}."
    plain = f"Your code raises {exception.types[0]} here, but a result is expected."
    return next((hint for kind, hint in EXCEPTIONS.items() if kind in exception.types), plain)


def is_like(wrong: Any, value: object, tolerance: float) -> bool:
    """Return True if the value is the wrong answer `wrong`: a value, `raised`, or a predicate."""
    if isinstance(wrong, raised):
        return wrong.fits(value)
    if callable(wrong):
        return not isinstance(value, Raised) and _true_of(wrong, value)
    return difference(wrong, value, tolerance) is None


def _true_of(condition: Callable[[object], bool], value: object) -> bool:
    """Evaluate the condition. A value of an unexpected form, on which it raises, does not meet it."""
    try:
        return bool(condition(value))
    except UNEXPECTED_VALUE_ERRORS:
        return False


def explaining(answers: Sequence[Answer], mistakes: Sequence[Mapping[str, object]]) -> str:
    """Return the first hint that explains all answers, or "". mistakes: for each answer, {hint: wrong answer}."""
    pairs = [*zip(answers, mistakes, strict=True)]
    return next((hint for hint in mistakes[0] if all(is_like(m[hint], a.raw, TOLERANCE) for a, m in pairs)), "")


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw normal numbers with one decimal: easy to read, and never zero, because zeros hide mistakes."""
    rounded = np.round(rng.standard_normal(shape), 1)
    return np.where(rounded == 0, 0.1, rounded)
