"""pytest tests/test_fields.py: the fields of configurations refuse what they may not hold, all of it at once."""

from dataclasses import dataclass, fields
from math import inf, nan

import numpy as np
import pytest

from minilora.fields import checked, choice, field_problems, flag, number, tokens, whole

pytestmark = pytest.mark.host


@dataclass
class Settings:
    rank: int = whole(8, least=1)
    layers: int = whole(0)
    width: int | None = whole(None, least=1, optional=True)
    lr: float = number(1e-3, above=0)
    dropout: float = number(0.0, least=0, below=1)
    scaling: float | None = number(None, other_than=0, optional=True)
    bias: bool = flag(False)
    kind: str = choice("nf4", "nf4", "fp4")
    act: str = choice("silu", "silu")
    ends: int | list[int] | None = tokens(None)
    pattern: dict = checked({}, "a dictionary", lambda value: isinstance(value, dict))
    free: object = None


def test_the_defaults_and_what_is_allowed_have_no_problem():
    assert field_problems(Settings()) == []
    allowed = Settings(
        1, 5, 3, 1, 0.5, -2, True, "fp4", "silu", [1, 2], {"a": 1}, free="anything"
    )  # an int is a number
    assert field_problems(allowed) == []
    assert Settings().pattern is not Settings().pattern


@pytest.mark.parametrize(
    "name, values, words",
    [
        ("rank", (0, -1, 1.0, True, None, "8"), "a whole number of at least 1"),
        ("layers", (-1, False, 2.5), "a whole number of at least 0"),
        ("width", (0, "1"), "a whole number of at least 1 or None"),
        ("lr", (0, -1.0, nan, inf, 1e39, 10**50, True, None, "1", [1]), "a positive number"),
        ("dropout", (-0.1, 1, nan, None), "a number of at least 0 and below 1"),
        ("scaling", (0, 0.0, inf, "2"), "a number other than 0 or None"),
        ("bias", (0, 1, None, "yes"), "True or False"),
        ("kind", ("int4", None, 4, ["nf4"]), "one of nf4, fp4"),
        ("act", ("gelu", None, {}), "'silu'"),
        ("ends", (-1, [1, -1], [True], "ab", (1,)), "token ids or None"),
        ("pattern", (None, []), "a dictionary"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(name, values, words):
    for value in values:
        (problem,) = field_problems(Settings(**{name: value}))
        assert problem.startswith(f"{name} must be {words}, not {value!r}"), value


def test_scalars_of_numpy_become_those_of_python():
    settings = Settings(
        np.int64(4), width=np.uint8(3), lr=np.float64(0.5), dropout=np.float32(0.25), bias=np.bool_(True)
    )
    assert field_problems(settings) == []
    plain = Settings(4, width=3, lr=0.5, dropout=0.25, bias=True)
    assert settings == plain and [type(v) for v in vars(settings).values()] == [type(v) for v in vars(plain).values()]
    assert field_problems(Settings(np.float64(4)))[0].endswith("not 4.0")


def test_all_problems_come_at_once_in_the_order_of_the_fields():
    problems = field_problems(Settings(rank=0, bias="y", kind="NF5"))
    assert [problem.partition(" ")[0] for problem in problems] == ["rank", "bias", "kind"]
    assert problems[2].endswith("not 'NF5'; did you mean 'nf4'?")


def test_a_value_never_brings_raw_control_characters_or_much_text():
    for name in (f.name for f in fields(Settings) if f.name not in ("free", "pattern")):
        (problem,) = field_problems(Settings(**{name: "\x1b[2J" + "x" * 500}))
        assert problem.isprintable() and len(problem) < 200
