"""pytest tests/test_gradcheck.py: the checker of gradients passes right rules and catches each kind of wrong one."""

import numpy as np
import pytest

from minilora import Tensor, backend, ops
from minilora.backend import xp
from minilora.gradcheck import FULL_JACOBIAN_SIZE, GradientError, gradcheck
from minilora.ops import raw
from minilora.tensor import record


def tensor(*shape: int, seed: int = 0, dtype="float64", requires_grad: bool = True) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=requires_grad)


def square(rule):
    """Compute x² with the given rule, a function of x and g."""

    def fn(x):
        a = raw(x)
        return record(a * a, (x, lambda g: rule(a, g)))

    return fn


@pytest.mark.parametrize("shape", [(), (1,), (3,), (0,), (2, 0), (4, 16), (5, 20)])
def test_a_right_rule_passes(shape):
    assert gradcheck(square(lambda x, g: 2 * x * g), tensor(*shape)) is True


def test_several_inputs_constants_and_one_that_is_given_twice_or_not_used():
    x = tensor(3)
    gradcheck(lambda a, b, c: a @ b + c, tensor(2, 3), tensor(3, 2), tensor(2, 2, requires_grad=False))
    gradcheck(lambda a, c: a * c + a, tensor(2, 3), np.float64(3))
    gradcheck(lambda a, b: a * b, x, x)
    gradcheck(lambda a, b: a * 2, tensor(2), tensor(2))


WRONG = {
    "sign": lambda x, g: -2 * x * g,
    "factor": lambda x, g: x * g,
    "a little": lambda x, g: 2 * x * g * (1 + 1e-4),
    "gradient ignored": lambda x, g: 2 * x,
    "zero": lambda x, g: 0 * g,
    "reversed": lambda x, g: (2 * x * g)[::-1],
    "right on average": lambda x, g: xp.broadcast_to((2 * x * g).mean(), x.shape),
    "right but for one element": lambda x, g: xp.where(xp.arange(x.size).reshape(x.shape) == 3, 0, 2 * x * g),
    "right but for two that cancel": lambda x, g: (
        2 * x * g + xp.where(xp.arange(x.size) < 2, 1, 0) * xp.where(xp.arange(x.size) == 0, 1, -1)
    ),
    "nan": lambda x, g: 2 * x * g * float("nan"),
    "nan in one element": lambda x, g: xp.where(xp.arange(x.size) == 2, float("nan"), 2 * x * g),
    "infinite": lambda x, g: 2 * x * g * float("inf"),
    "rounded to float32": lambda x, g: (2 * x * g).astype(xp.float32).astype(xp.float64) * (1 + 1e-5),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("size", [6, FULL_JACOBIAN_SIZE + 1])
def test_a_wrong_rule_is_caught(name, size):
    with pytest.raises(GradientError, match="input 0"):
        gradcheck(square(WRONG[name]), tensor(size))


def second_rule(rule):
    """Compute x + y with the given rule of y."""
    return lambda a, b: record(raw(a) + raw(b), (a, lambda g: g), (b, rule))


def test_a_wrong_rule_of_the_second_input_is_caught():
    with pytest.raises(GradientError, match="input 1"):
        gradcheck(second_rule(lambda g: -g), tensor(3), tensor(3, seed=1))
    with pytest.raises((GradientError, RuntimeError), match=r"\(2, 3\)"):
        gradcheck(second_rule(lambda g: g), tensor(2, 3), tensor(3))  # a sum over broadcast axes is missing
    with pytest.raises(GradientError, match="input 1"):
        gradcheck(second_rule(lambda g: g.mean(axis=0)), tensor(2, 3), tensor(3))


def test_a_change_in_place_is_caught():
    """Changes of an input or a constant are caught in the forward pass; in backward, NumPy's lock may catch them."""

    def forward(x, c):
        raw(x)[...] *= 2
        return x * 1

    def constant(x, c):
        raw(c)[...] = 2
        return x * 2

    def backward(x, c):
        a = raw(x)

        def rule(g):
            result = 2 * a * g
            a[...] = 0
            return result

        return record(a * a, (x, rule))

    for fn, words in ((forward, "input 0 was"), (constant, "input 1 was"), (backward, "changed|read-only")):
        with pytest.raises((GradientError, ValueError), match=words):
            gradcheck(fn, tensor(3), Tensor(np.ones(3)))


def test_a_discontinuity_and_a_dropped_gradient_are_caught():
    """A detach() in the wrong place loses half of the product rule."""
    with pytest.raises(GradientError):
        gradcheck(lambda x: ops.where(x > 0, x + 1, x), Tensor(np.array([0.0]), requires_grad=True))
    with pytest.raises(GradientError):
        gradcheck(lambda x: x * x.detach(), tensor(3))


def test_a_gradient_of_the_wrong_dtype_is_caught(monkeypatch):
    monkeypatch.setattr(
        "minilora.gradcheck.gradients", lambda out, g: {x: backend.asarray(np.zeros(3, "float32")) for x in [inputs]}
    )
    inputs = tensor(3)
    with pytest.raises(GradientError, match="float64.*float32"):
        gradcheck(lambda x: x * 2, inputs)


def test_inputs_it_cannot_check_are_refused():
    narrow = tensor(2, dtype="float32")
    for inputs in ([narrow], [tensor(2, requires_grad=False)], [], [tensor(2), narrow]):
        with pytest.raises(ValueError, match="float64"):
            gradcheck(lambda *inputs: inputs[0] * 2, *inputs)


def test_the_message_says_where_and_grad_is_left_alone():
    x = tensor(5)
    x.grad = backend.asarray(np.ones(5))
    with pytest.raises(GradientError, match=r"input 0, element 3: the rule gives .*, central differences give "):
        gradcheck(square(lambda x, g: xp.where(xp.arange(5) == 3, 50, 2 * x * g)), x)
    np.testing.assert_array_equal(backend.to_numpy(x.grad), 1)
