"""pytest tests/test_optim.py: optimizers step as PyTorch's do, skip what is frozen, and go on where they stopped."""

import weakref
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from minilora import Tensor, backend, optim, threads
from minilora.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, get_linear_schedule_with_warmup
from tests.test_ops import laid_out

GOLDEN = load_file(Path(__file__).parent / "golden" / "optim.safetensors")

# golden/make_nn.py has PyTorch's half, and the gradient.
OPTIMIZERS = {
    "adamw": (optim.AdamW, {"lr": 0.01}),
    "adamw_settings": (optim.AdamW, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw_no_decay": (optim.AdamW, {"lr": 0.01, "weight_decay": 0.0}),
    "sgd": (optim.SGD, {"lr": 0.05}),
    "sgd_momentum": (optim.SGD, {"lr": 0.02, "momentum": 0.9}),
    "sgd_settings": (optim.SGD, {"lr": 0.02, "momentum": 0.5, "weight_decay": 0.1}),
}
optimizers = pytest.mark.parametrize("name", OPTIMIZERS)


def host(a) -> np.ndarray:
    return backend.to_numpy(a)


def gradient(p, goal, step: int):
    return (p - goal) * (1 + step % 3) + 0.1 * (step % 5 - 2)


def parameters(dtype="float64") -> list[Tensor]:
    arrays = [GOLDEN["w"], GOLDEN["b"]]
    return [Tensor(a.astype(dtype), requires_grad=True) for a in arrays]


def run(name: str, params: list[Tensor], steps, optimizer=None):
    """Step along the golden gradient; yield the optimizer and, after each step, the parameters."""
    make, settings = OPTIMIZERS[name]
    optimizer = make(params, **settings) if optimizer is None else optimizer
    goals = [backend.asarray(GOLDEN[f"goal_{key}"].astype(params[0].dtype)) for key in ("w", "b")]
    seen = {}
    for step in steps:
        for p, goal in zip(params, goals, strict=True):
            p.grad = gradient(p.data, goal, step)
        optimizer.step()
        seen[step] = [p.numpy() for p in params]
    return optimizer, seen


# Against PyTorch and the formula


@optimizers
def test_a_hundred_steps_of_pytorch(name):
    _, seen = run(name, parameters(), range(1, 101))
    for step in (1, 10, 100):
        for key, a in zip(("w", "b"), seen[step], strict=True):
            np.testing.assert_allclose(a, GOLDEN[f"{name}.{step}.{key}"], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 4), (40_000,)])  # the last takes several blocks of the cache
def test_adamw_is_its_plain_formula(shape):
    rng = np.random.default_rng(0)
    start = rng.standard_normal(shape)
    p = Tensor(start, requires_grad=True)
    optimizer = optim.AdamW([p], lr=0.1, betas=(0.7, 0.9), eps=1e-4, weight_decay=0.3)
    expected = backend.asarray(start)
    m = v = backend.asarray(np.zeros(shape))
    for step in range(1, 6):
        g = backend.asarray(rng.standard_normal(shape))
        p.grad = g
        optimizer.step()
        expected, m, v = optim.plain_adamw_step(expected, g, m, v, step, 0.1, (0.7, 0.9), 1e-4, 0.3)
    np.testing.assert_allclose(p.numpy(), host(expected), rtol=1e-12, atol=1e-14)
    for key, a in (("m", m), ("v", v)):
        np.testing.assert_allclose(host(optimizer.state_dict()[f"0.{key}"]), host(a), rtol=1e-12, atol=1e-14)


# What a step touches


@optimizers
def test_frozen_parameters_and_those_without_a_gradient_are_left_alone(name):
    """Neither weight decay nor momentum moves them."""
    frozen, idle, live = parameters() + parameters()[:1]
    make, settings = OPTIMIZERS[name]
    optimizer = make([frozen, idle, live], **settings)
    for p in (frozen, idle, live):
        p.grad = backend.asarray(np.ones(p.shape))
    optimizer.step()  # all have momentum now
    frozen.requires_grad, idle.grad = False, None
    before = [p.numpy() for p in (frozen, idle, live)]
    optimizer.step()
    for p, a in zip((frozen, idle), before, strict=False):
        np.testing.assert_array_equal(p.numpy(), a)
    assert (live.numpy() != before[2]).all()


@optimizers
def test_gradients_are_not_changed_or_kept(name):
    """The first step must not use a gradient as its momentum, since the second step would write into it."""
    make, settings = OPTIMIZERS[name]
    p, other = parameters()
    p.grad = g = backend.asarray(np.ones(p.shape))
    optimizer = make([p, other], **settings)
    for _ in range(3):
        optimizer.step()
    np.testing.assert_array_equal(host(g), 1)
    gone = weakref.ref(g)
    optimizer.zero_grad()
    del g
    assert gone() is None and p.grad is other.grad is None


@pytest.mark.parametrize("layout", ["transposed", "reversed", "read-only"])
@optimizers
def test_any_memory_layout(name, layout):
    params = parameters()
    params[0].data = laid_out(params[0].numpy(), layout)
    _, seen = run(name, params, range(1, 11))
    np.testing.assert_allclose(seen[10][0], GOLDEN[f"{name}.10.w"], rtol=1e-11, atol=1e-12)
    straight, turned = parameters()[0], parameters()[0]
    g = np.random.default_rng(0).standard_normal(straight.shape)
    make, settings = OPTIMIZERS[name]
    for p, of in ((straight, "C"), (turned, layout)):
        p.grad = laid_out(g, of)
        make([p], **settings).step()
    np.testing.assert_array_equal(straight.numpy(), turned.numpy())


def test_a_step_keeps_the_tensor_and_its_dtype():
    for dtype in ("float32", "float64"):
        p = Tensor(np.ones(3, dtype), requires_grad=True)
        for make in (optim.SGD, optim.AdamW):
            optimizer = make([p], lr=np.float64(0.1), weight_decay=np.float64(0.1))
            (p * p).sum().backward()
            optimizer.step()
            assert p.dtype == dtype and p.requires_grad and p.grad.dtype == dtype


# Groups


def test_groups_have_their_own_settings():
    a, b, c = (Tensor(np.ones(2), requires_grad=True) for _ in range(3))
    optimizer = optim.SGD([{"params": [a], "lr": 0.5}, {"params": [b, c], "weight_decay": 1.0}], lr=0.1)
    for p in (a, b, c):
        p.grad = backend.asarray(np.ones(2))
    c.requires_grad = False
    optimizer.step()
    np.testing.assert_allclose(a.numpy(), 0.5)
    np.testing.assert_allclose(b.numpy(), 0.8)
    np.testing.assert_allclose(c.numpy(), 1)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    np.testing.assert_allclose(a.numpy(), 0.5)


def test_parameters_come_from_any_iterable():
    a, b = (Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    for params in ((p for p in (a, b)), {"a": a, "b": b}.values(), iter([{"params": iter([a, b])}])):
        assert len(optim.AdamW(params, lr=0.1).param_groups[0]["params"]) == 2


NAN, INF = float("nan"), float("inf")
BAD = [(make, {"lr": lr}) for make in (optim.SGD, optim.AdamW) for lr in (-0.1, NAN, INF)]
BAD += [(make, {"weight_decay": decay}) for make in (optim.SGD, optim.AdamW) for decay in (-1.0, NAN)]
BAD += [(optim.AdamW, {"betas": betas}) for betas in ((1.0, 0.9), (0.9, 1.0), (-0.1, 0.9))]
BAD += [(optim.AdamW, {"eps": -1e-8}), *((optim.SGD, {"momentum": value}) for value in (-0.1, NAN, INF))]


@pytest.mark.parametrize("make, bad", BAD, ids=str)
def test_settings_out_of_range_are_refused(make, bad):
    p = Tensor([1.0], requires_grad=True)
    (name,) = bad
    for call in (lambda: make([p], **{"lr": 0.1} | bad), lambda: make([{"params": [p], **bad}], lr=0.1)):
        with pytest.raises(ValueError, match=f"{name}.*{'eps' if name == 'betas' else ''}"):
            call()


@pytest.mark.parametrize("make", [optim.SGD, optim.AdamW])
def test_parameters_that_cannot_be_are_refused(make):
    p = Tensor(np.ones(3), requires_grad=True)
    for params, error, words in [
        ([], ValueError, "no parameters"),
        ([{"params": []}], ValueError, "no parameters"),
        ([p, p], ValueError, "twice"),
        ([{"params": [p]}, {"params": [p]}], ValueError, "twice"),
        (["weight"], TypeError, "list of Tensors"),
        ([("name", p)], TypeError, "list of Tensors"),
        ([np.ones(3)], TypeError, "list of Tensors"),
        (p, TypeError, "in a list"),  # not its rows
        ([{"params": p}], TypeError, "in a list"),
        ([{"params": [Tensor(1.0, requires_grad=True)]}, {"params": p}], TypeError, "in a list"),
        ([p, p * 2], ValueError, r"computed tensor, of shape \(3,\)"),
    ]:
        with pytest.raises(error, match=words):
            make(params, lr=0.1)


# State


@optimizers
def test_the_state_goes_round(name):
    """50 steps, a save and load into a new optimizer, and 50 more give the same bits as 100 steps."""
    _, unbroken = run(name, parameters(), range(1, 101))
    params = parameters()
    first, _ = run(name, params, range(1, 51))
    stored = {
        key: host(value).copy() if key.split(".")[1] != "step" else value for key, value in first.state_dict().items()
    }
    make, settings = OPTIMIZERS[name]
    later = [Tensor(p.numpy(), requires_grad=True) for p in params]
    second = make(later, **settings)
    second.load_state_dict(stored)
    for a in stored.values():
        if isinstance(a, np.ndarray):
            a[...] = -1  # the optimizer has copies
    _, seen = run(name, later, range(51, 101), second)
    for a, b in zip(seen[100], unbroken[100], strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_state_has_arrays_and_steps_by_position_and_takes_the_dtypes_of_the_parameters():
    optimizer, _ = run("adamw", parameters(), [1, 2])
    state = optimizer.state_dict()
    assert set(state) == {"0.step", "0.m", "0.v", "1.step", "1.m", "1.v"}
    assert state["0.step"] == 2 and type(state["0.step"]) is int
    assert state["0.m"].shape == (3, 4) and backend.is_array(state["1.v"])
    optimizer.load_state_dict({"0.step": np.int64(3), "0.m": np.ones((3, 4), int), "0.v": np.ones((3, 4), "float16")})
    assert optimizer.state[0]["m"].dtype == optimizer.state[0]["v"].dtype == "float64"
    run("adamw", parameters(), [2], optimizer)


@pytest.mark.parametrize(
    "state",
    [
        {"0.step": 1, "0.m": np.ones((4, 3)), "0.v": np.ones((3, 4))},
        {"0.step": 1, "0.m": np.ones(13), "0.v": np.ones((3, 4))},
        {"2.step": 1, "2.m": np.ones(2), "2.v": np.ones(2)},
        {"x.m": np.ones((3, 4))},
        {"0.step": 1, "0.momentum": np.ones((3, 4))},
    ],
    ids=["turned", "longer", "beyond", "no position", "of SGD"],
)
def test_a_state_that_does_not_fit_is_refused(state):
    optimizer, _ = run("adamw", parameters(), [1])
    before = {key: host(value).copy() for key, value in optimizer.state_dict().items()}
    with pytest.raises(ValueError):
        optimizer.load_state_dict(state)
    for key, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(host(value), before[key])


def test_a_state_of_sgd_without_momentum_has_steps_alone():
    first, _ = run("sgd", parameters(), [1])
    second = optim.SGD(parameters(), lr=0.1, momentum=0.9)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == {"0.step": 1, "1.step": 1}


@pytest.mark.parametrize("make", [optim.SGD, optim.AdamW])
def test_a_gradient_of_another_shape_is_refused_before_anything_moves(make):
    a, b = with_gradients(np.ones(2), np.ones(3))
    b.grad = backend.asarray(np.ones(1))
    with pytest.raises(ValueError, match=r"parameter 1, of shape \(3,\), has a gradient of \(1,\)"):
        make([a, b], lr=0.1).step()
    np.testing.assert_array_equal(a.numpy(), 0)


# Clipping


def with_gradients(*grads) -> list[Tensor]:
    params = []
    for g in grads:
        params.append(Tensor(np.zeros_like(g), requires_grad=True))
        params[-1].grad = backend.asarray(np.array(g))
    return params


def test_clipping_scales_all_together_and_returns_the_norm_before():
    a, b = np.array([[3.0, 0.0]]), np.array([4.0])
    params = with_gradients(a, b)
    assert float(optim.clip_grad_norm_(params, 1.0)) == pytest.approx(5)
    np.testing.assert_allclose(host(params[0].grad), a / 5, rtol=1e-6)
    np.testing.assert_allclose(host(params[1].grad), b / 5, rtol=1e-6)
    for most in (1.1, float("inf")):  # small gradients are not scaled
        before = host(params[0].grad).copy()
        assert float(optim.clip_grad_norm_(params, most)) == pytest.approx(1)
        np.testing.assert_array_equal(host(params[0].grad), before)
    assert float(optim.clip_grad_norm_(with_gradients(np.array([3.0, 4.0]))[0], 1.0)) == pytest.approx(5)
    for max_norm in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="positive"):
            optim.clip_grad_norm_(params, max_norm)


def test_clipping_keeps_float32_and_skips_what_has_no_gradient():
    params = with_gradients(np.array([3.0, 4.0], "float32"), np.array([0.0], "float32"))
    params[1].grad = None
    assert float(optim.clip_grad_norm_((p for p in params), np.float64(1.0))) == pytest.approx(5)
    assert params[0].grad.dtype == np.float32 and params[1].grad is None
    assert float(optim.clip_grad_norm_(params[1:], 1.0)) == 0
    zeros = with_gradients(np.zeros(3))
    optim.clip_grad_norm_(zeros, 1.0)
    np.testing.assert_array_equal(host(zeros[0].grad), 0)


# Schedules


def rates(make, steps: int) -> list[list[float]]:
    """Return the learning rates of two groups, 1 and 0.5 at first, as the optimizer has them at each step."""
    optimizer = optim.SGD([{"params": [Tensor([1.0])]}, {"params": [Tensor([1.0])], "lr": 0.5}], lr=1.0)
    scheduler = make(optimizer)
    history = []
    for _ in range(steps):
        history.append([group["lr"] for group in optimizer.param_groups])
        assert scheduler.get_last_lr() == history[-1]
        optimizer.step()
        scheduler.step()
    return history


def test_schedules_follow_their_formulas():
    assert rates(lambda o: LambdaLR(o, lambda step: 1 / (1 + step)), 3) == [[1, 0.5], [0.5, 0.25], [1 / 3, 0.5 / 3]]
    cosine = rates(lambda o: CosineAnnealingLR(o, T_max=4, eta_min=0.1), 5)
    expected = [1, 0.1 + 0.9 * (2 + 2**0.5) / 4, 0.55, 0.1 + 0.9 * (2 - 2**0.5) / 4, 0.1]
    np.testing.assert_allclose([row[0] for row in cosine], expected, rtol=1e-12)
    np.testing.assert_allclose(
        [row[1] for row in cosine], [0.1 + (rate - 0.1) * 4 / 9 for rate in expected], rtol=1e-12
    )
    linear = rates(lambda o: get_linear_schedule_with_warmup(o, num_warmup_steps=2, num_training_steps=6), 8)
    assert [row[0] for row in linear] == [0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0]
    assert rates(lambda o: get_linear_schedule_with_warmup(o, 0, 2), 3) == [[1, 0.5], [0.5, 0.25], [0, 0]]


# Over threads


def test_threads_change_no_bit():
    rng = np.random.default_rng(0)
    shapes = [(3,), (threads.WORTH_A_TASK,), (5, 7), (300, 300), (2,)]
    start = [rng.standard_normal(shape, dtype="float32") for shape in shapes]
    slopes = [rng.standard_normal(shape, dtype="float32") for shape in shapes]
    runs = []
    for count in (1, 2):
        params = [Tensor(a, requires_grad=True) for a in start]
        optimizer = optim.AdamW(params, lr=0.1)
        with threads.using(count):
            for _ in range(3):
                for p, g in zip(params, slopes, strict=True):
                    p.grad = backend.asarray(g.copy())
                norm = optim.clip_grad_norm_(params, 1.0)
                optimizer.step()
        runs.append([host(norm), *(p.numpy() for p in params)])
    assert all(np.array_equal(one, two) for one, two in zip(*runs, strict=True))
