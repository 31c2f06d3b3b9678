"""pytest tests/test_gradcheck.py: the checker of gradients passes right rules and catches each kind of wrong one."""

import numpy as np
import pytest

from minilora import Tensor, backend, ops
from minilora.backend import xp
from minilora.gradcheck import FULL_JACOBIAN_SIZE, GradientError, gradcheck
from minilora.ops import raw
from minilora.tensor import record, wrap


def tensor(*shape: int, seed: int = 0, dtype="float64", requires_grad: bool = True) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=requires_grad)


def square(rule):
    """x² with the given rule, a function of x and g."""

    def fn(x):
        a = raw(x)
        return record(a * a, (x, lambda g: rule(a, g)))

    return fn


@pytest.mark.parametrize("shape", [(), (1,), (3,), (0,), (2, 0), (4, 16), (5, 20)])
def test_a_right_rule_passes(shape):
    assert gradcheck(square(lambda x, g: 2 * x * g), tensor(*shape)) is True


def test_several_inputs_and_constants():
    gradcheck(lambda a, b, c: a @ b + c, tensor(2, 3), tensor(3, 2), tensor(2, 2, requires_grad=False))
    gradcheck(lambda a, c: a * c, tensor(2, 3), np.float64(3))
    gradcheck(lambda a: a * a + a, tensor(3))


def test_one_tensor_given_twice():
    x = tensor(3)
    gradcheck(lambda a, b: a * b, x, x)


def test_an_input_that_is_not_used_has_gradient_0():
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


@pytest.mark.parametrize("value", [1e-3, 1.0, 1e3])
def test_the_bound_follows_the_size_of_the_gradient(value):
    """A large gradient may round more; a small error on it is still an error."""
    x = Tensor(np.array([value, 2 * value]), requires_grad=True)
    gradcheck(square(lambda x, g: 2 * x * g), x)
    with pytest.raises(GradientError):
        gradcheck(square(lambda x, g: 2 * x * g * 1.001), x)


def test_only_the_second_input_is_wrong():
    def fn(a, b):
        x, y = raw(a), raw(b)
        return record(x * y, (a, lambda g: g * y), (b, lambda g: -g * x))

    with pytest.raises(GradientError, match="input 1"):
        gradcheck(fn, tensor(3), tensor(3, seed=1))


def test_a_missing_sum_over_broadcast_axes():
    """Without `unbroadcast`, the rule returns the shape of the result."""

    def fn(a, b):
        x, y = raw(a), raw(b)
        return record(x + y, (a, lambda g: g), (b, lambda g: g))

    with pytest.raises((GradientError, RuntimeError), match=r"\(2, 3\)"):
        gradcheck(fn, tensor(2, 3), tensor(3))


def test_a_mean_in_place_of_a_sum_over_broadcast_axes():
    def fn(a, b):
        x, y = raw(a), raw(b)
        return record(x + y, (a, lambda g: g), (b, lambda g: g.mean(axis=0)))

    with pytest.raises(GradientError, match="input 1"):
        gradcheck(fn, tensor(2, 3), tensor(3))


def test_a_change_in_place_in_the_forward_pass():
    def fn(x):
        a = raw(x)
        a *= 2
        return record(a * a / 4, (x, lambda g: a * g / 2))

    with pytest.raises(GradientError, match="input 0 was changed"):
        gradcheck(fn, tensor(3))


def test_a_change_in_place_in_the_backward_pass():
    """Caught by the checker, or before it by the lock that NumPy's arrays have."""

    def fn(x):
        a = raw(x)

        def rule(g):
            result = 2 * a * g
            a[...] = 0
            return result

        return record(a * a, (x, rule))

    with pytest.raises((GradientError, ValueError), match="changed|read-only"):
        gradcheck(fn, tensor(3))


def test_a_change_of_a_constant_is_caught():
    constant = Tensor(np.ones(3))

    def fn(x, c):
        raw(c)[...] = 2
        return x * 2

    with pytest.raises(GradientError, match="input 1 was changed"):
        gradcheck(fn, tensor(3), constant)


def test_a_discontinuity_is_caught():
    with pytest.raises(GradientError):
        gradcheck(lambda x: ops.where(x > 0, x + 1, x), Tensor(np.array([0.0]), requires_grad=True))


def test_a_dropped_gradient_is_caught():
    """detach() in the wrong place: half of the product rule is missing."""
    with pytest.raises(GradientError):
        gradcheck(lambda x: x * x.detach(), tensor(3))


def test_a_gradient_of_the_wrong_dtype_is_caught(monkeypatch):
    monkeypatch.setattr(
        "minilora.gradcheck.gradients", lambda out, g: {x: backend.asarray(np.zeros(3, "float32")) for x in [inputs]}
    )
    inputs = tensor(3)
    with pytest.raises(GradientError, match="float64.*float32"):
        gradcheck(lambda x: x * 2, inputs)


@pytest.mark.parametrize(
    "inputs",
    [[tensor(2, dtype="float32")], [tensor(2, requires_grad=False)], [], [tensor(2), tensor(2, dtype="float32")]],
    ids=["float32", "frozen", "none", "one float32"],
)
def test_inputs_it_cannot_check_are_refused(inputs):
    with pytest.raises(ValueError, match="float64"):
        gradcheck(lambda *inputs: inputs[0] * 2, *[wrap_again(x) for x in inputs])


def wrap_again(x: Tensor) -> Tensor:
    """The same on the backend of the running test: parameters are made when the file is collected."""
    t = wrap(backend.asarray(x.numpy()))
    t.requires_grad = x.requires_grad
    return t


def test_grad_is_left_alone():
    x = tensor(3)
    x.grad = backend.asarray(np.ones(3))
    gradcheck(lambda x: x * 2, x)
    np.testing.assert_array_equal(backend.to_numpy(x.grad), 1)


def test_the_message_says_where():
    with pytest.raises(GradientError, match=r"input 0, element 3: the rule gives .*, central differences give "):
        gradcheck(square(lambda x, g: xp.where(xp.arange(5) == 3, 50, 2 * x * g)), tensor(5))
