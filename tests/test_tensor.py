"""pytest tests/test_tensor.py: tensors, the graph, the walk back, and what may change in between."""

import copy
import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minilora
import minilora.functional as F
from minilora import Tensor, backend, nn, no_grad, ops, optim
from minilora.tensor import gradients, is_recording, record


def host(a) -> np.ndarray:
    return backend.to_numpy(a)


def trained(values, dtype="float64") -> Tensor:
    return Tensor(np.array(values, dtype=dtype), requires_grad=True)


@pytest.mark.host
@pytest.mark.parametrize("start", ["from minilora.tensor import Tensor", "from minilora import ops, Tensor"])
def test_a_tensor_adds_wherever_it_was_imported_from(start):
    code = f"{start}; print((Tensor([1.0]) + 1).item())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (process.stdout, process.stderr) == ("2.0\n", "")
    assert "__add__" in vars(Tensor) and "exp" in vars(Tensor)


def test_a_misspelt_attribute_is_an_error():
    with pytest.raises(AttributeError):
        _ = Tensor(1.0).gard
    with pytest.raises(AttributeError):
        Tensor(1.0).gard = 1
    with pytest.raises(AttributeError, match="tensors"):
        _ = minilora.tensors


# What a tensor holds


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (np.ones(2, "float32"), "float32"),
        (np.ones(2, "float64"), "float64"),
        (np.ones(2, "float16"), "float32"),
        (np.float64(1), "float64"),
        (np.float32(1), "float32"),
        (np.ones(2, "int64"), "int64"),
        (np.ones(2, "int32"), "int32"),
        (np.ones(2, "uint8"), "uint8"),
        (np.ones(2, bool), "bool"),
        (1.0, "float32"),
        (1, "float32"),
        (True, "float32"),
        ([1, 2.5], "float32"),
        ([[1.0], [2.0]], "float32"),
        ((), "float32"),
    ],
    ids=lambda x: repr(x),
)
def test_dtypes(data, dtype):
    t = Tensor(data)
    assert t.dtype == dtype and backend.is_array(t.data)
    np.testing.assert_array_equal(t.numpy(), np.asarray(data, dtype=dtype))
    assert t.requires_grad is False and t.grad is None


def test_shape_and_friends():
    t = Tensor(np.arange(6.0).reshape(2, 3))
    assert (t.shape, t.ndim, t.size, len(t)) == ((2, 3), 2, 6, 2)
    assert t.T.shape == (3, 2) and Tensor(np.ones((2, 3, 4))).T.shape == (4, 3, 2)
    scalar = Tensor(2.5)
    assert (scalar.shape, scalar.ndim, scalar.size) == ((), 0, 1)
    assert [row.shape for row in t] == [(3,), (3,)]
    for walk in (len, list, sum):
        with pytest.raises(TypeError, match="0-d"):
            walk(scalar)


def test_item_and_float_and_bool():
    assert Tensor(2.5).item() == 2.5 and type(Tensor(2.5).item()) is float
    assert Tensor([[3.0]]).item() == 3.0 and float(Tensor([[3.0]])) == 3.0
    assert bool(Tensor(1.0)) and not bool(Tensor(0.0))
    for bad in (Tensor([1.0, 2.0]), Tensor(np.zeros(0))):
        with pytest.raises(ValueError, match="one element"):
            bad.item()


def test_repr_shows_values_dtype_and_training():
    text = repr(trained([[1.0, 2.0], [3.0, 4.0]]))
    assert "1." in text and "float64" in text and "requires_grad=True" in text
    assert "requires_grad" not in repr(Tensor([1.0])) and "float32" in repr(Tensor([1.0]))


def test_equality_is_elementwise_and_the_hash_is_the_objects():
    a, b = Tensor([1.0, 2.0]), Tensor([1.0, 3.0])
    for equal in (a == b, b == a, a == b.numpy(), b.numpy() == a, a == [1, 3], a == backend.asarray(b.numpy())):
        assert isinstance(equal, Tensor) and equal.numpy().tolist() == [True, False] and not equal.requires_grad
    assert (a != b).numpy().tolist() == [False, True] and (a == 2).numpy().tolist() == [False, True]
    assert a in {a} and b not in {a} and Tensor([1.0, 2.0]) not in {a: 1} and {a: 1}[a] == 1
    assert (a == None) is False and (a != "text") is True  # noqa: E711 (Python's own answer)
    with pytest.raises(TypeError):
        _ = a < None
    big = Tensor(np.array([2**24 + 1]))
    assert bool(big == 2**24 + 1) and not bool(big == 2**24)  # the number is not rounded to float32
    with pytest.raises(ValueError):
        _ = a == Tensor([1.0, 2.0, 3.0])


def assigned(a) -> Tensor:
    t = trained([0.0, 0.0, 0.0])
    t.data = a
    return t


@pytest.mark.parametrize("bad", [np.ones(2, complex), np.array(["a"]), np.array([None]), "text", [1.0, "x"]], ids=repr)
def test_what_is_no_number_is_refused(bad):
    with pytest.raises((TypeError, ValueError)):
        Tensor(bad)


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_only_floats_train(dtype):
    with pytest.raises(TypeError, match=dtype):
        Tensor(np.ones(2, dtype), requires_grad=True)
    with pytest.raises(TypeError, match=dtype):
        Tensor(np.ones(2, dtype)).requires_grad = True


@pytest.mark.parametrize("give", [lambda a: Tensor(a, requires_grad=True), assigned], ids=["made of", "assigned"])
def test_the_users_array_is_copied_and_stays_theirs(give):
    """It is neither changed nor made read-only, and later writes to it do not matter."""
    for a in (np.ones(3), backend.asarray(np.ones(3)), Tensor(np.ones(3)).data):
        t = give(a)
        y = (t * t).sum()
        a[...] = 5
        np.testing.assert_array_equal(t.numpy(), 1)
        y.backward()
        np.testing.assert_array_equal(host(t.grad), 2)
        optim.SGD([t], lr=1.0).step()
        np.testing.assert_array_equal(host(a), 5)


def test_a_tensor_of_a_tensor_and_numpy_are_copies():
    t = trained([1.0, 2.0])
    u, a = Tensor(t), t.numpy()
    assert type(a) is np.ndarray and not u.requires_grad
    u.data[...] = 0
    a[...] = 9
    np.testing.assert_array_equal(t.numpy(), [1, 2])


def test_numpy_reads_the_numbers_and_a_device_refuses():
    t = trained([[1.0, 2.0], [3.0, 4.0]])
    calls = [np.asarray, np.array, np.linalg.norm, lambda t: np.array([t, t]), lambda t: np.asarray(t[0, 0])]
    if backend.name != "numpy":
        for call in calls:
            with pytest.raises(TypeError, match="(?i)implicit conversion"):
                call(t)
        return
    assert [call(t).dtype.kind for call in calls] == ["f"] * 5 and np.asarray(t * 2).tolist() == [[2, 4], [6, 8]]
    assert np.asarray(t, dtype="float32").dtype == "float32"
    assert np.asarray(t) is t.data  # with the rules of `.data`
    copy = np.array(t)
    copy[...] = 0
    np.testing.assert_array_equal(t, [[1, 2], [3, 4]])


# backward


def test_gradients_add_up_over_uses_and_over_calls():
    x = trained([1.0, 2.0])
    (x * 3 + x * x).sum().backward()
    np.testing.assert_array_equal(host(x.grad), [5, 7])
    first = x.grad  # somebody may hold on to it
    (x * 10).sum().backward()
    np.testing.assert_array_equal(host(x.grad), [15, 17])
    np.testing.assert_array_equal(host(first), [5, 7])
    x.grad = None
    (x * 10).sum().backward()
    np.testing.assert_array_equal(host(x.grad), [10, 10])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from("+*-")), min_size=1, max_size=12))
def test_random_graphs(steps):
    """Any directed acyclic graph of sums and products agrees with central differences."""

    def value(x):
        values = [x, x * 0.5]
        for i, j, op in steps:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(a + b if op == "+" else a - b if op == "-" else a * b * 0.3)
        return values[-1] + values[len(values) // 2]

    x = trained(0.7)
    value(x).backward()
    eps = 1e-6
    expected = (value(0.7 + eps) - value(0.7 - eps)) / (2 * eps)
    np.testing.assert_allclose(host(x.grad), expected, rtol=1e-6, atol=1e-6)


def test_a_gradient_is_an_array_of_the_backend_of_its_leafs_shape_and_dtype():
    for dtype in ("float32", "float64"):
        for shape in [(), (1,), (2, 3), (0,), (2, 0)]:
            x = Tensor(np.ones(shape, dtype), requires_grad=True)
            (x * 2).sum().backward()
            assert backend.is_array(x.grad) and x.grad.shape == shape and x.grad.dtype == dtype


def test_gradient_argument():
    flow = np.array([[1.0, -2.0, 0.5]])
    for gradient in (flow, backend.asarray(flow), Tensor(flow), flow.astype("float32"), flow.tolist()):
        x = trained([[1.0, 2.0, 3.0]])
        (x * x).backward(gradient)
        np.testing.assert_array_equal(host(x.grad), [[2, -8, 3]])
        assert x.grad.dtype == np.float64
    for gradient, expected in (([[3]], 12), (None, 4)):  # one element, of any shape, needs none
        x = trained([[2.0]])
        (x * x).backward(gradient)
        assert host(x.grad).item() == expected


def test_errors_of_backward():
    x = trained([1.0, 2.0])
    with no_grad():
        y = x.sum()
    for call, error, words in [
        (lambda: (x * 2).backward(), RuntimeError, r"\(2,\).*gradient"),
        (lambda: (x * 2).backward(np.ones(3)), ValueError, r"\(3,\).*\(2,\)"),
        (x.sum().detach().backward, RuntimeError, "graph"),
        (lambda: x.backward(np.ones(2)), RuntimeError, "graph"),
        (Tensor(1.0).backward, RuntimeError, "graph"),
        (y.backward, RuntimeError, "no_grad"),
    ]:
        with pytest.raises(error, match=words):
            call()
    assert x.grad is None


def test_a_graph_and_each_part_of_it_is_used_up():
    x = trained([1.0, 2.0])
    shared = x * x
    first, second = shared.sum(), (shared * 2).sum()
    first.backward()
    for again in (first, second, (shared * 3).sum()):
        with pytest.raises(RuntimeError, match="before"):
            again.backward()
    np.testing.assert_array_equal(host(x.grad), [2, 4])


@pytest.mark.parametrize(
    "op",
    [
        lambda a, b: a + b,
        lambda a, b: ops.where(a > 5, a, b) + a,
        lambda a, b: (a.reshape(3, 1) + b.reshape(3, 1)).reshape(3),
        lambda a, b: ops.stack([a, b]).sum(axis=0),
        lambda a, b: ops.concatenate([a, b])[0:3] + b,
        lambda a, b: (a + 0) + (a + 0) + b + b * 3,
        lambda a, b: (a.sum() + b.sum()).broadcast_to((3,)),
    ],
)
def test_leaves_share_no_gradient_array_and_none_with_the_caller(op):
    flow = backend.asarray(np.ones(3))
    a, b = trained([1.0, 2.0, 3.0]), trained([1.0, 2.0, 3.0])
    op(a, b).backward(flow)
    before = host(b.grad).copy()
    a.grad[...] = 77  # writable, too: no view of one broadcast number
    np.testing.assert_array_equal(host(b.grad), before)
    b.grad *= 0
    np.testing.assert_array_equal(host(flow), 1)


def test_gradients_without_touching_grad():
    x, w = trained([1.0, 2.0]), trained([3.0, 4.0])
    by_tensor = gradients((x * w).sum())
    assert x.grad is None and w.grad is None and set(by_tensor) == {x, w}
    np.testing.assert_array_equal(host(by_tensor[x]), [3, 4])


def test_a_rule_of_the_wrong_shape_is_named_and_one_may_say_none():
    x = trained([1.0, 2.0])
    with pytest.raises(RuntimeError, match=r"\(1,\).*\(2,\)"):
        record(x.data * 1, (x, lambda g: g.sum(keepdims=True))).backward(np.ones(2))
    record(x.data * 1, (x, lambda g: None)).backward(np.ones(2))
    assert x.grad is None


# Depth and memory

CHAIN = 20_000


@pytest.mark.slow
def test_a_long_chain():
    x = trained(1.0)
    y = x
    for _ in range(CHAIN):
        y = y + 1
    y.backward()
    assert y.item() == CHAIN + 1 and host(x.grad).item() == 1


@pytest.mark.slow
@pytest.mark.host
def test_a_long_chain_that_is_dropped():
    """Freeing a long unused graph must not crash the interpreter. It runs in a process of its own, because it might."""
    code = """
from minilora import Tensor
x = Tensor(1.0, requires_grad=True)
for end in range(4):
    y = x
    for _ in range(50_000):
        y = y * 1.0
    if end == 0:
        y.backward()
    elif end == 1:
        del y
    elif end == 2:
        y = None
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "alive", "")


def test_backward_frees_what_a_rule_held_before_the_next_rule_runs():
    x = trained([1.0, 2.0])
    big = backend.asarray(np.ones(1000))
    gone = weakref.ref(big)
    seen = []
    y = record(x.data * 1, (x, lambda g: (seen.append(gone()), g)[1]))
    y = record(y.data * 1, (y, lambda g, big=big: g * big[:2]))
    del big
    assert gone() is not None
    y.backward(np.ones(2))
    assert seen == [None]


def test_backward_frees_a_gradient_that_nobody_takes():
    """A rule for two inputs, one of them frozen, makes an unused array, which is freed before the next rule runs."""
    x, frozen, seen, made = trained([1.0, 2.0]), Tensor([1.0]), [], []

    def both(g):
        extra = g * 2
        made.append(weakref.ref(extra))
        return g, extra

    y = record(x.data * 1, (x, lambda g: (seen.append(made[0]()), g)[1]))
    y = record(y.data * 1, ((y, frozen), both))
    y.backward(np.ones(2))
    assert seen == [None]


def test_backward_frees_gradients_on_the_way():
    """The gradient of a node is freed by the time the rules of the node after the next run."""
    x, seen, made = trained([1.0, 2.0]), [], []

    def rule(g):
        seen.append([ref() is None for ref in made[:-1]])
        result = g * 2
        made.append(weakref.ref(result))
        return result

    y = x
    for _ in range(4):
        y = record(y.data * 1, (y, rule))
    y.backward(np.ones(2))
    assert seen == [[], [], [True], [True, True]]


def test_a_frozen_input_keeps_nothing_alive():
    """x W with W frozen needs W for the gradient of x, and x for nothing: x is freed in the forward pass."""
    for frozen in (True, False):
        x = trained(np.ones((4, 3))) * 2.0
        w = Tensor(np.ones((3, 2)), requires_grad=not frozen)
        reference = weakref.ref(x.data)
        y = x @ w
        del x
        assert (reference() is None) == frozen
        y.sum().backward()
        assert reference() is None
    h = Tensor(np.ones((4, 3))) * 2.0  # features from a frozen body, that meet a trained bias
    gone = weakref.ref(h.data)
    y = h + trained(np.ones(3))
    del h
    assert gone() is None and y.requires_grad
    assert not ((Tensor(np.ones((4, 3))) @ w.detach()).exp() + 1).tanh().requires_grad


def test_a_graph_has_no_cycles():
    """Reference counting alone frees it, walked or not."""
    gc.collect()
    gc.disable()
    try:
        for walked in (True, False):
            x = trained(np.ones((4, 3)))
            h = (x * 2).exp()
            refs = [weakref.ref(h), weakref.ref(h.data)]
            y = (h * h).sum()
            if walked:
                y.backward()
            del h, y
            assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()


# Switching off


def test_no_grad_records_nothing():
    x = trained([1.0, 2.0])
    assert is_recording()
    with no_grad():
        assert not is_recording()
        reference = weakref.ref((x * 2).data)
        y = (x * x).sum()
        with no_grad():
            pass
        assert not is_recording()
    assert is_recording()
    assert not y.requires_grad and reference() is None
    assert x.requires_grad and (x * 2).requires_grad


def test_no_grad_ends_with_an_exception_and_decorates():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_recording()

    @no_grad()
    def f(x):
        return x * 2

    assert not f(trained(1.0)).requires_grad and not f(trained(1.0)).requires_grad
    assert is_recording()


def test_no_grad_is_per_thread():
    x = trained([1.0, 2.0])
    inside, done = threading.Event(), threading.Event()

    def other():
        with no_grad():
            inside.set()
            done.wait(10)
            return (x * 2).requires_grad

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(other)
        assert inside.wait(10)
        assert (x * 2).requires_grad  # the other thread's block is not ours
        done.set()
        assert future.result() is False
    with no_grad(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: (x * 2).requires_grad).result() is True  # nor ours the other thread's


def test_detach():
    x = trained([1.0, 2.0])
    y = x * x
    d = y.detach()
    assert not d.requires_grad and d.grad is None
    np.testing.assert_array_equal(d.numpy(), y.numpy())
    (y * d).sum().backward()
    np.testing.assert_array_equal(host(x.grad), [2, 16])  # d counts as a constant


# What may be assigned


def test_requires_grad_and_grad_can_be_assigned():
    x = trained([1.0, 2.0])
    x.requires_grad = False
    assert not (x * 2).requires_grad
    x.requires_grad = True
    x.grad = backend.asarray(np.array([1.0, 1.0]))
    (x * 3).sum().backward()
    np.testing.assert_array_equal(host(x.grad), 4)
    with pytest.raises(RuntimeError, match="detach"):
        (x * 2).requires_grad = False


def test_data_can_be_assigned():
    x = trained([1.0, 2.0])
    for new in (np.array([3.0, 4.0]), backend.asarray(np.array([3.0, 4.0])), Tensor(np.array([3.0, 4.0]))):
        x.data = new
        assert backend.is_array(x.data)
        np.testing.assert_array_equal(x.numpy(), [3, 4])
        x.data = x.data * 0
    x.data += 1
    np.testing.assert_array_equal(x.numpy(), 1)
    with pytest.raises(RuntimeError, match="detach"):
        (x * 2).data = np.zeros(2)


def test_assigned_data_follows_the_constructors_rules():
    """Integers in a leaf that trains would cut its gradients to 0."""
    x = trained([1.0, 2.0], "float32")
    for bad in (np.array([1, 2]), np.array([True, False]), Tensor(np.array([1, 2]))):
        with pytest.raises(TypeError, match="floating-point"):
            x.data = bad
    np.testing.assert_array_equal(x.numpy(), [1, 2])
    x.data = np.ones(2, "float16")
    assert x.dtype == np.float32
    x.data = [3, 4]
    assert x.dtype == np.float32
    (x * 0.5).sum().backward()
    np.testing.assert_array_equal(host(x.grad), 0.5)
    with pytest.raises(TypeError, match="numbers"):
        x.data = np.array(["a", "b"])
    ids = Tensor([1.0, 2.0])
    ids.data = np.array([1, 2])
    assert ids.dtype == np.int64


# Changes between forward and backward, on the NumPy backend: refused or harmless

USES = {
    "t * t": lambda t: (t * t).sum(),
    "t.exp()": lambda t: t.exp().sum(),
    "t @ frozen": lambda t: (t @ Tensor(np.full((2, 2), 3.0))).sum(),
    "F.linear(t, t)": lambda t: F.linear(t, t).sum(),
    "F.rms_norm": lambda t: (F.rms_norm(t) * t).sum(),
    "F.softmax": lambda t: (F.softmax(t) * t).sum(),
    "F.gelu": lambda t: F.gelu(t).sum(),
    "F.swiglu": lambda t: F.swiglu(t, t).sum(),
    "attention": lambda t: F.scaled_dot_product_attention(t, t, t, is_causal=True).sum(),
    "F.cross_entropy": lambda t: F.cross_entropy(t, np.array([0, 1])),
    "F.linear_cross_entropy": lambda t: F.linear_cross_entropy(t, t, np.array([0, 1])),
    "t[...]": lambda t: (t[np.array([0, 0])] * t[1:]).sum(),
    "t.T": lambda t: (t.T * t).sum(),
    "var and max": lambda t: t.var() * t.max(),
}
START = [[0.5, 1.0], [-2.0, 3.0]]


def step(t):
    t.grad = backend.asarray(np.full((2, 2), 100.0))
    optim.SGD([t], lr=1.0).step()
    optim.AdamW([t], lr=1.0).step()
    t.grad = None


def load(t):
    holder = nn.Module()
    holder.t = t
    holder.load_state_dict({"t": np.full((2, 2), 100.0)})


CHANGES = {
    "t.data = a": lambda t: setattr(t, "data", np.full((2, 2), 100.0)),
    "t.data[...] = 100": lambda t: t.data.__setitem__(..., 100.0),
    "t.data[0] = 100": lambda t: t.data.__setitem__(0, 100.0),
    "t.data += 100": lambda t: t.data.__iadd__(100.0),
    "t.detach().data[...] = 100": lambda t: t.detach().data.__setitem__(..., 100.0),
    "step": step,
    "load": load,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", USES)
def test_a_change_before_backward_is_refused_or_harmless(use, change):
    if backend.name != "numpy" and change not in ("t.data = a", "load"):
        return  # CuPy has no read-only flag: only NumPy promises this
    untouched, t = trained(START), trained(START)
    USES[use](untouched).backward()
    y = USES[use](t)
    refused = False
    try:
        CHANGES[change](t)
    except (ValueError, RuntimeError):
        refused = True
        np.testing.assert_array_equal(t.numpy(), START)
    y.backward()
    np.testing.assert_array_equal(host(t.grad), host(untouched.grad))
    assert refused == change.startswith(("t.data[", "t.data +", "t.detach"))
    CHANGES[change](t)  # the graph is gone, and the array is free again
    assert (t.numpy() != START).any()


CONSTANTS = {
    "weight": ([[2.0, 2.0], [2.0, 2.0]], lambda t, c: t @ c),
    "condition": ([[True, False], [True, False]], lambda t, c: ops.where(c, t, 0.0)),
    "index": ([0, 1], lambda t, c: t[c]),
    "ids": ([0, 1], lambda t, c: F.embedding(c, t)),
    "targets": ([0, 1], lambda t, c: F.cross_entropy(t, c)),
    "mask": ([[True, False], [True, True]], lambda t, c: F.scaled_dot_product_attention(t, t, t, mask=c)),
}


@pytest.mark.parametrize("frozen", CONSTANTS)
def test_a_change_of_a_constant_tensor_is_refused_or_harmless(frozen):
    """Tensors that get no gradient are part of the graph, too."""
    if backend.name != "numpy":
        return
    constant, use = CONSTANTS[frozen]
    expected, t, c = trained(START), trained(START), Tensor(np.array(constant))
    use(expected, Tensor(np.array(constant))).sum().backward()
    y = use(t, c).sum()
    with suppress(ValueError, RuntimeError):
        c.data[...] = 1
    y.backward()
    np.testing.assert_array_equal(host(t.grad), host(expected.grad))
    c.data[...] = 1  # free again


@pytest.mark.parametrize(
    ("use", "start"),
    [
        (lambda t, a: ops.where(a, t, 0.0), [[True, False], [True, False]]),
        (lambda t, a: t * a, [[1.0, 2.0], [3.0, 4.0]]),
        (lambda t, a: a / t / a, [[1.0, 2.0], [3.0, 4.0]]),
        (lambda t, a: t**a, [[1.0, 2.0], [3.0, 4.0]]),
        (lambda t, a: a @ t, [[1.0, 2.0], [3.0, 4.0]]),
        (lambda t, a: ops.maximum(t, a), [[1.0, 2.0], [3.0, 4.0]]),
        (lambda t, a: F.linear(a, t), [[1.0, 2.0], [3.0, 4.0]]),
        (lambda t, a: F.linear(t, a), [[1.0, 2.0], [3.0, 4.0]]),
        (lambda t, a: F.rms_norm(a, t[0]), [[1.0, 2.0], [3.0, 4.0]]),
    ],
    ids=["where", "*", "/", "**", "@", "maximum", "linear of it", "linear by it", "rms_norm"],
)
def test_an_array_that_is_no_tensor_may_change_before_backward(use, start):
    """It stays the caller's, writable, and the graph has a copy."""
    for kind in (np.array, lambda a: backend.asarray(np.array(a))):
        expected, t = trained([[0.5, 1.5], [2.0, 3.0]]), trained([[0.5, 1.5], [2.0, 3.0]])
        use(expected, kind(start)).sum().backward()
        array = kind(start)
        y = use(t, array).sum()
        array[...] = 0
        y.backward()
        np.testing.assert_array_equal(host(t.grad), host(expected.grad))


def test_attention_that_recomputes_has_its_own_mask():
    grads = []
    for change in (False, True):
        t, mask = trained(START), backend.asarray(np.array([[0.0, -1.0], [0.0, 2.0]]))
        with F.selective_recomputation():
            y = F.scaled_dot_product_attention(t, t, t, mask=mask).sum()
        if change:
            mask[...] = 5
        y.backward()
        grads.append(host(t.grad))
    np.testing.assert_array_equal(*grads)


@pytest.mark.parametrize(
    "view",
    [lambda t: t.reshape(4), lambda t: t.T, lambda t: t[0], lambda t: t.swapaxes(0, 1), lambda t: t.squeeze()],
    ids=["reshape", "T", "index", "swapaxes", "squeeze"],
)
def test_a_change_through_a_view_is_refused_or_harmless(view):
    """A view taken earlier without a graph may share a tensor's memory, but must not change it under a graph."""
    if backend.name != "numpy":
        return
    t = trained(START)
    with no_grad():
        other = view(t)
    y = (t * t).sum()
    with suppress(ValueError):
        other.data[...] = 100.0
    y.backward()
    np.testing.assert_array_equal(host(t.grad), 2 * np.array(START))


def test_a_deep_copy_is_a_leaf_of_its_own():
    """A deep copy has its own data, gradient and lock; a shared parameter is copied once."""
    model = nn.Module()
    model.a = model.b = trained([1.0, 2.0])
    (model.a * 3).sum().backward()
    held = (model.a * model.a).sum()
    twin = copy.deepcopy(model)
    assert twin.a is twin.b and twin.a is not model.a and twin.a.requires_grad
    np.testing.assert_array_equal(host(twin.a.grad), 3)
    y = (twin.a * twin.a).sum()
    del held
    model.a.data[...] = 7
    if backend.name == "numpy":
        with pytest.raises(ValueError, match="read-only"):
            twin.a.data[...] = 7
    twin.a.grad = None
    y.backward()
    np.testing.assert_array_equal(host(twin.a.grad), [2, 4])
    twin.a.data[...] = 8
    np.testing.assert_array_equal(model.a.numpy(), 7)


def test_a_computed_array_in_a_graph_is_read_only():
    if backend.name != "numpy":
        return
    x = trained([1.0, 2.0])
    y = x.exp()
    z = (y * y).sum()
    for array in (y.data, y.detach().data):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    z.backward()
    np.testing.assert_allclose(host(x.grad), 2 * np.exp([2.0, 4.0]))


def test_a_dropped_graph_gives_its_arrays_back():
    x = trained([1.0, 2.0])
    first, second = (x * x).sum(), (x * x).sum()
    del first
    if backend.name == "numpy":
        with pytest.raises(ValueError, match="read-only"):
            x.data[...] = 0
    second.backward()
    x.data[...] = 0
    np.testing.assert_array_equal(x.numpy(), 0)
    beside = x.detach()
    third = (x * x).sum()
    del third  # without a walk
    beside.data[...] = 1
    np.testing.assert_array_equal(x.numpy(), 1)


def test_no_graph_and_an_error_in_the_forward_pass_lock_nothing():
    x, frozen = trained([1.0, 2.0]), Tensor([1.0, 2.0])
    with no_grad():
        y = (x * x).sum()
    z = frozen * 2
    for bad in (lambda: x + np.ones(3), lambda: x[5], lambda: F.embedding([9], x.reshape(2, 1))):
        with pytest.raises((ValueError, IndexError)):
            bad()
    x.data[...] = 0
    frozen.data[...] = 0
    assert y.item() == 5 and z.numpy().tolist() == [2, 4]


def test_threads_share_frozen_weights():
    """Graphs that share one weight at the same time and end in any order give right gradients and unlock the array."""
    w = Tensor(np.full((3, 3), 0.5))
    bias = trained(np.zeros(3))

    def work(seed):
        for _ in range(20):
            x = trained(np.random.default_rng(seed).standard_normal((2, 3)))
            by_tensor = gradients(((x @ w + bias).tanh() @ w).sum())
        return host(by_tensor[x]), host(by_tensor[bias])

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, [0, 1, 0, 1, 0, 1]))
    for seed, (gx, gb) in zip([0, 1] * 3, together, strict=True):
        alone = work(seed)
        np.testing.assert_array_equal(gx, alone[0])
        np.testing.assert_array_equal(gb, alone[1])
    w.data[...] = 0
    bias.data[...] = 0
