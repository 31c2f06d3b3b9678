"""pytest tests/test_functional.py: the fused operations against PyTorch, against their plain forms and on their own.

`CALLS` says how minilora computes each case of golden/make_functional.py; the golden vectors come from there.
"""

import math
import weakref
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

import minilora.functional as F
from minilora import Tensor, backend, nn, no_grad, ops
from minilora.functional import activations, linears, norms
from minilora.functional.attention import plain_rotary, plain_scaled_dot_product_attention
from minilora.functional.losses import plain_cross_entropy
from minilora.gradcheck import gradcheck
from minilora.tensor import gradients
from notebooks.figures.memory import live_bytes
from tests.helpers import strict
from tests.test_ops import laid_out, layouts, leaf, seeds

attention = F.scaled_dot_product_attention
causal = partial(attention, is_causal=True)


def low_rank(x, weight, a, b, bias=None):
    return F.low_rank_linear(x, weight, bias, a, b, 0.75)


def rotary(x, angle):
    return F.rotary(x, backend.asarray(np.cos(angle)), backend.asarray(np.sin(angle)))


CALLS = {
    **dict.fromkeys(["linear", "linear_no_bias", "linear_vector"], F.linear),
    "embedding": F.embedding,
    "layer_norm": F.layer_norm,
    "layer_norm_plain": partial(F.layer_norm, eps=0.1),
    "rms_norm": F.rms_norm,
    "rms_norm_plain": partial(F.rms_norm, eps=0.1),
    "softmax": F.softmax,
    "softmax_axis": partial(F.softmax, axis=1),
    "log_softmax": F.log_softmax,
    "log_softmax_axis": partial(F.log_softmax, axis=0),
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "swiglu": F.swiglu,
    **dict.fromkeys(["low_rank_linear_few_rows", "low_rank_linear_many_rows"], low_rank),
    **dict.fromkeys(["rotary", "rotary_rows"], rotary),
    "attention": attention,
    "attention_scale": partial(attention, scale=0.9),
    **{f"attention_{axes}_axes": attention for axes in ("two", "three", "five")},
    **{f"attention_mask{kind}": attention for kind in ("", "_keys", "_square", "_heads", "_float", "_column")},
    **{f"attention_{kind}": attention for kind in ("grouped", "empty_rows", "empty_rows_float")},
    **{f"attention_causal{kind}": causal for kind in ("", "_cache", "_few_keys", "_mask", "_mask_float")},
    **{f"cross_entropy{kind}": F.cross_entropy for kind in ("", "_ignored", "_large", "_one_row")},
    "cross_entropy_ignored_class": partial(F.cross_entropy, ignore_index=3),
    "linear_cross_entropy": F.linear_cross_entropy,
}
CONSTANTS = ("mask", "angle")  # floats that get no gradient


def run(name: str, arrays: dict[str, np.ndarray], dtype="float64", frozen=()) -> dict:
    """Return {"out": …, "grad.NAME": …} for a case, from its "in.NAME" and "flow"; inputs in `frozen` do not train."""
    inputs = {key[3:]: a for key, a in arrays.items() if key.startswith("in.")}
    inputs = {key: a.astype(dtype) if a.dtype.kind == "f" else a for key, a in inputs.items()}
    live = {key: Tensor(a) for key, a in inputs.items() if a.dtype.kind == "f" and key not in CONSTANTS}
    for key, t in live.items():
        t.requires_grad = key not in frozen
    out = CALLS[name](**(inputs | live))
    by_tensor = gradients(out, backend.asarray(arrays["flow"]))
    for key, t in live.items():
        np.testing.assert_array_equal(t.numpy(), inputs[key], err_msg=f"{key} was changed")
    return {"out": out.numpy()} | {
        f"grad.{k}": backend.to_numpy(by_tensor[t]) for k, t in live.items() if t in by_tensor
    }


def compare(name: str, actual: dict, expected: dict) -> None:
    """Compare values to 1e-10 and gradients to 1e-8 of the largest element; no gradient may be missing."""
    assert set(actual) == {key for key in expected if key.startswith("grad.")} | {"out"}
    for key, a in actual.items():
        bound = (1e-10 if key == "out" else 1e-8) * max(1, np.abs(expected[key]).max(initial=0))
        assert a.shape == expected[key].shape, f"{name}: {key}"
        np.testing.assert_allclose(a, expected[key], rtol=0, atol=bound, err_msg=f"{name}: {key}")


def read_golden() -> dict[str, dict[str, np.ndarray]]:
    cases: dict = {}
    for file in ("functional", "attention"):
        for key, a in load_file(Path(__file__).parent / "golden" / f"{file}.safetensors").items():
            case, key = key.split("/")
            cases.setdefault(case, {})[key] = a
    return cases


GOLDEN = read_golden()


# Against PyTorch


def test_every_golden_case_is_compared():
    assert set(GOLDEN) == set(CALLS)


@pytest.mark.parametrize("in_blocks", [False, True], ids=["at once", "block by block"])
@pytest.mark.parametrize("name", CALLS)
def test_as_pytorch(name, in_blocks, monkeypatch):
    """Blocks are small, so that every loop over blocks takes several turns (a device works on everything at once)."""
    if in_blocks and backend.is_cpu():
        blocks = lambda rows, row_bytes: (slice(i, min(i + 2, rows)) for i in range(0, rows, 2))  # noqa: E731
        monkeypatch.setattr(backend, "row_blocks", blocks)
    compare(name, run(name, GOLDEN[name]), GOLDEN[name])


@pytest.mark.parametrize("name", CALLS)
def test_float32_all_the_way(name, monkeypatch):
    """No float64 array is made in between, and the results are right to float32's precision."""
    made = []
    if backend.name == "strict":
        create = strict.StrictArray.__init__

        def watched(self, array):
            made.append(array.dtype)
            create(self, array)

        monkeypatch.setattr(strict.StrictArray, "__init__", watched)
    arrays = GOLDEN[name] | {"flow": GOLDEN[name]["flow"].astype("float32")}
    computed = run(name, arrays, "float32")
    assert np.dtype("float64") not in made
    for key, a in computed.items():
        expected = GOLDEN[name][key]
        assert a.dtype == np.float32 and a.shape == expected.shape
        np.testing.assert_allclose(a, expected, rtol=0, atol=2e-5 * max(1, np.abs(expected).max(initial=0)))


@pytest.mark.parametrize("name", CALLS)
def test_freezing_changes_no_other_gradient(name):
    everything = run(name, GOLDEN[name])
    live = [key[5:] for key in everything if key.startswith("grad.")]
    for frozen in live if len(live) > 1 else []:
        computed = run(name, GOLDEN[name], frozen=(frozen,))
        assert set(computed) == set(everything) - {f"grad.{frozen}"}
        for key, a in computed.items():
            np.testing.assert_allclose(a, everything[key], rtol=1e-12, atol=1e-12)


# Against the plain forms, and central differences

leads = st.sampled_from([(), (1,), (3,), (0,), (2, 3), (2, 1, 2)])


def rows_of(*names: str):
    """Draw arrays (..., C) of one shape."""
    return st.tuples(leads, st.integers(1, 5)).map(lambda p: {name: (*p[0], p[1]) for name in names})


def linear_shapes(**more):
    """Draw x (..., in), weight (out, in), bias (out,), and more shapes by `more(in, out, rank)`."""
    numbers = st.tuples(leads, st.integers(0, 4), st.integers(0, 4), st.integers(1, 3))
    return numbers.map(
        lambda p: (
            {"x": (*p[0], p[1]), "weight": (p[2], p[1]), "bias": (p[2],)}
            | {name: shape(*p[1:]) for name, shape in more.items()}
        )
    )


def norm_shapes(*names: str):
    return st.tuples(leads, st.integers(1, 5)).map(lambda p: {"x": (*p[0], p[1])} | {name: (p[1],) for name in names})


PLAIN = {
    "linear": (linear_shapes(), F.linear, linears.plain_linear),
    "low_rank_linear": (
        linear_shapes(a=lambda i, o, r: (r, i), b=lambda i, o, r: (o, r)),
        lambda x, weight, bias, a, b: F.low_rank_linear(x, weight, bias, a, b, 1.5),
        lambda x, weight, bias, a, b: linears.plain_low_rank_linear(x, weight, bias, a, b, 1.5),
    ),
    "rms_norm": (norm_shapes("weight"), F.rms_norm, norms.plain_rms_norm),
    "rms_norm without weight": (norm_shapes(), F.rms_norm, norms.plain_rms_norm),
    "layer_norm": (norm_shapes("weight", "bias"), F.layer_norm, norms.plain_layer_norm),
    "layer_norm without weight": (norm_shapes(), F.layer_norm, norms.plain_layer_norm),
    "layer_norm without bias": (norm_shapes("weight"), F.layer_norm, norms.plain_layer_norm),
    "silu": (rows_of("x"), F.silu, activations.plain_silu),
    "swiglu": (rows_of("gate", "up"), F.swiglu, activations.plain_swiglu),
    "swiglu of one tensor": (rows_of("x"), lambda x: F.swiglu(x, x), lambda x: activations.plain_swiglu(x, x)),
    "gelu_tanh": (rows_of("x"), lambda x: F.gelu(x, "tanh"), activations.plain_gelu_tanh),
    "softmax": (rows_of("x"), F.softmax, activations.plain_softmax),
    "log_softmax": (rows_of("x"), F.log_softmax, activations.plain_log_softmax),
    "softmax of the first axis": (
        rows_of("x").filter(lambda shapes: shapes["x"][0] > 0),
        lambda x: F.softmax(x, axis=0),
        lambda x: activations.plain_softmax(x, axis=0),
    ),
}


@pytest.mark.parametrize("name", PLAIN)
@given(data=st.data(), layout=layouts, seed=seeds)
def test_as_its_plain_form(name, data, layout, seed):
    shapes, fast, slow = PLAIN[name]
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape) for shape in data.draw(shapes).values()]
    same(fast, slow, arrays, layout)
    gradcheck(fast, *[leaf(a, layout) for a in arrays], rtol=2e-6)


@pytest.mark.host
@pytest.mark.parametrize("out_features, in_features", [(300, 500), (1001, 129), (64, 1030), (7, 9400)])
@pytest.mark.parametrize("rows", [2, 3, 6])
def test_each_of_few_rows_gets_what_it_gets_alone(rows, out_features, in_features, monkeypatch):
    rng = np.random.default_rng(rows)
    x, weight = (rng.standard_normal((n, in_features), dtype="float32") for n in (rows, out_features))
    calls, product = [], linears.few_rows_product
    monkeypatch.setattr(linears, "few_rows_product", lambda *a: calls.append(1) or product(*a))
    together = F.linear(x, weight).numpy()
    assert calls
    F.linear(rng.standard_normal((7, in_features), dtype="float32"), weight)
    F.linear(x[:1], weight)
    for other in (weight[::-1], weight.astype("float64"), weight[:1]):  # BLAS would copy it; it is small
        linears._product(x, other)
    assert len(calls) == 1
    alone = np.concatenate([x[i : i + 1] @ weight.T for i in range(rows)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-6 * abs(alone).max())


def same(fast, slow, arrays: list[np.ndarray], layout: str = "C") -> None:
    """Assert that the values and gradients of both agree to 1e-10 of the largest."""
    tensors, copies = [leaf(a, layout) for a in arrays], [leaf(a) for a in arrays]
    out, expected = fast(*tensors), slow(*copies)
    assert out.shape == expected.shape and out.dtype == expected.dtype
    np.testing.assert_allclose(out.numpy(), expected.numpy(), rtol=1e-10, atol=1e-10)
    flow = np.random.default_rng(0).standard_normal(out.shape)
    actual, wanted = gradients(out, flow), gradients(expected, flow)
    for t, copy in zip(tensors, copies, strict=True):
        g, w = backend.to_numpy(actual[t]), backend.to_numpy(wanted[copy])
        assert g.shape == w.shape and g.dtype == w.dtype
        np.testing.assert_allclose(g, w, rtol=0, atol=1e-10 * max(1, np.abs(w).max(initial=0)))


@given(
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    layout=layouts,
    seed=seeds,
    name=st.sampled_from(["relu", "silu", "gelu", "gelu_tanh"]),
)
def test_activations_of_any_shape(shape, layout, seed, name):
    x = np.random.default_rng(seed).standard_normal(shape)
    gradcheck(CALLS[name], leaf(x + 0.01 * np.sign(x), layout))
    assert CALLS[name](leaf(x, layout)).shape == shape


@given(
    lead=leads,
    heads=st.sampled_from([(1, 1), (2, 2), (4, 2), (3, 1)]),
    length=st.integers(0, 4),
    span=st.integers(0, 4),
    size=st.integers(1, 3),
    is_causal=st.booleans(),
    mask=st.sampled_from(["none", "boolean", "float"]),
    layout=layouts,
    seed=seeds,
)
def test_attention_of_any_shape(lead, heads, length, span, size, is_causal, mask, layout, seed):
    """Gradients equal central differences, and values the formula; rows with nothing to attend to are zero."""
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((*lead, heads[0], length, size))
    k, v = rng.standard_normal((2, *lead, heads[1], span, size))
    bias = np.zeros((*lead, heads[0], length, span))
    given_mask = None
    if mask == "boolean":
        given_mask = rng.random((*lead, heads[0], length, span)) < 0.6
        bias += np.where(given_mask, 0, -np.inf)
    elif mask == "float":
        given_mask = rng.standard_normal((length, span))
        bias += given_mask
    if is_causal:
        bias += np.where(np.tri(length, span, span - length, dtype=bool), 0, -np.inf)
    given_mask = None if given_mask is None else laid_out(given_mask, layout)

    scores = q @ np.repeat(k, heads[0] // heads[1], axis=-3).swapaxes(-1, -2) / math.sqrt(size) + bias
    exps = np.exp(scores)
    weights = exps / np.where(exps.sum(-1, keepdims=True) > 0, exps.sum(-1, keepdims=True), 1)
    expected = weights @ np.repeat(v, heads[0] // heads[1], axis=-3)

    fn = partial(attention, mask=given_mask, is_causal=is_causal)
    tensors = [leaf(a, layout) for a in (q, k, v)]
    out = fn(*tensors)
    assert out.shape == expected.shape
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-10, atol=1e-12)
    gradcheck(fn, *tensors, rtol=2e-6)


@pytest.mark.parametrize(("length", "span"), [(150, 150), (70, 131), (64, 64), (65, 65), (1, 130)])
def test_long_causal_attention_block_by_block(length, span):
    """More than one block of queries gives the same as all scores at once."""
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((1, 2, length, 4)), *rng.standard_normal((2, 1, 2, span, 4))
    mask = rng.random((length, span)) < 0.9
    mask[:, 0] = True
    mask = backend.asarray(mask)
    same(causal, partial(plain_scaled_dot_product_attention, is_causal=True), [q, k, v])
    same(partial(causal, mask=mask), partial(plain_scaled_dot_product_attention, is_causal=True, mask=mask), [q, k, v])


@pytest.mark.parametrize("lead", [(), (2,)])
def test_rotary_as_its_plain_form(lead):
    rng = np.random.default_rng(0)
    angle = np.tile(rng.standard_normal((*lead, 5, 3)), 2)
    cos, sin = backend.asarray(np.cos(angle)), backend.asarray(np.sin(angle))
    same(lambda x: F.rotary(x, cos, sin), lambda x: plain_rotary(x, cos, sin), [rng.standard_normal((2, 5, 3, 6))])


# Attention's small print


def qkv(length: int, span: int, heads: int = 2, seed: int = 0, dtype="float64") -> list[Tensor]:
    rng = np.random.default_rng(seed)
    shapes = (1, heads, length, 4), (1, heads, span, 4), (1, heads, span, 4)
    return [Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("kind", [lambda m: m, backend.asarray, Tensor], ids=["numpy", "backend", "tensor"])
@pytest.mark.parametrize("hidden", [False, -np.inf, np.finfo("float32").min], ids=str)  # the last as people bring them
def test_a_mask_is_any_array(kind, hidden):
    mask = np.tri(4, 5, 1, dtype=bool)
    given_mask = mask if hidden is False else np.where(mask, 0, hidden).astype("float32")
    q, k, v = qkv(4, 5, dtype="float32")
    out = attention(q, k, v, mask=kind(given_mask))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.numpy(), causal(q, k, v).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "mask",
    [
        *map(
            np.ones, [(3, 5), (5, 5), (4, 6), (4, 1, 5), (3, 1, 4, 5), (1, 4, 4, 5), (2, 2, 4, 5), (1, 1, 1, 4, 5, 1)]
        ),
        np.ones((4, 5), dtype=np.int64),  # added to the scores, the 0 and 1 of an attention_mask would mask nothing
        Tensor(np.zeros((4, 5)), requires_grad=True),
    ],
    ids=lambda mask: f"{mask.dtype} {mask.shape}",
)
def test_a_mask_that_cannot_be_is_refused(mask):
    with pytest.raises((ValueError, TypeError)):
        attention(*qkv(4, 5), mask=mask)


@pytest.mark.parametrize(
    "shapes",
    [
        ((1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 4)),
        ((1, 3, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)),
        ((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 4, 4)),
        ((2, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)),
        ((1, 2, 3, 4), (1, 2, 3, 4), (1, 1, 3, 4)),
    ],
    ids=str,
)
def test_attention_says_which_shapes_do_not_pair(shapes):
    q, k, v = (Tensor(np.ones(shape)) for shape in shapes)
    with pytest.raises(ValueError, match=r"queries \("):
        attention(q, k, v)


# Softmax and losses


@pytest.mark.parametrize("softmax", [F.softmax, lambda x, axis=-1: F.log_softmax(x, axis).exp()])
def test_softmax_of_large_numbers(softmax):
    x = Tensor(np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]], dtype="float32"), requires_grad=True)
    out = softmax(x)
    np.testing.assert_allclose(out.numpy(), [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    out.sum().backward()
    np.testing.assert_allclose(backend.to_numpy(x.grad), 0, atol=1e-6)
    q, k, v = (200 * t.detach() for t in qkv(4, 4))
    assert np.isfinite(causal(q, k, v).numpy()).all()
    np.testing.assert_array_equal(F.log_softmax(Tensor(np.array([0.0, 1000.0]))).numpy(), [-1000, 0])


@pytest.mark.parametrize("op", [F.softmax, F.log_softmax, ops.logsumexp])
def test_an_axis_without_elements_is_refused_in_words(op):
    with pytest.raises(ValueError, match=r"(softmax|logsumexp) over an axis without elements.* \(2, 0\)"):
        op(Tensor(np.ones((2, 0))), axis=-1)
    assert op(Tensor(np.ones((0, 2))), axis=-1).shape[0] == 0


@given(
    rows=st.integers(1, 6),
    classes=st.integers(1, 5),
    width=st.integers(1, 4),
    ignored=st.booleans(),
    layout=layouts,
    seed=seeds,
)
def test_cross_entropy_forms_agree(rows, classes, width, ignored, layout, seed):
    """cross_entropy is its plain form on the rows that count, linear_cross_entropy is cross_entropy of a linear map."""
    rng = np.random.default_rng(seed)
    logits, x = rng.standard_normal((rows, classes)), rng.standard_normal((rows, width))
    weight, targets = rng.standard_normal((classes, width)), rng.integers(0, classes, rows)
    counts = np.ones(rows, dtype=bool)
    if ignored:
        counts = rng.random(rows) < 0.6
        counts[rng.integers(rows)] = True
    marked = np.where(counts, targets, -100)
    same(
        lambda a: F.cross_entropy(a, marked),
        lambda a: plain_cross_entropy(a[counts], targets[counts]),
        [logits],
        layout,
    )
    same(
        lambda x, w: F.linear_cross_entropy(x, w, marked),
        lambda x, w: F.cross_entropy(F.linear(x, w), marked),
        [x, weight],
        layout,
    )
    gradcheck(lambda a: F.cross_entropy(a, marked), leaf(logits, layout))


def test_linear_cross_entropy_chunk_by_chunk(monkeypatch):
    monkeypatch.setattr("minilora.functional.losses.CHUNK_BYTES", (1, 1))  # the smallest chunk, 64 rows
    rng = np.random.default_rng(0)
    x, weight, targets = rng.standard_normal((2, 75, 3)), rng.standard_normal((5, 3)), rng.integers(0, 5, (2, 75))
    targets[0, :70] = -100
    for marked in (targets, np.abs(targets) % 5):
        same(
            lambda x, w, marked=marked: F.linear_cross_entropy(x, w, marked),
            lambda x, w, marked=marked: F.cross_entropy(F.linear(x, w), marked),
            [x, weight],
        )


def test_rms_norm_of_integers():
    x = np.array([[1, 2, 3, 4], [0, 0, -7, 9]])
    for ids in (x, Tensor(x)):
        np.testing.assert_array_equal(F.rms_norm(ids).numpy(), F.rms_norm(Tensor(x.astype("float64"))).numpy())


def test_rows_of_a_chunk():
    sizes = [(2048, 64, 4), (2048, 128, 4), (2048, 4096, 4), (2048, 1, 8), (10**6, 4096, 4)]
    assert [F.chunk_rows(*size) for size in sizes] == [256, 512, 1024, 128, 64]  # four times the weight, 2 to 8 MiB


def test_linear_cross_entropy_of_a_part():
    """Shards that divide by the whole batch's number of targets add up to the whole, also a shard with none."""
    rng = np.random.default_rng(0)
    x, weight, targets = rng.standard_normal((6, 3)), rng.standard_normal((5, 3)), np.array([1, -100, 4, 0, -100, -100])

    def shards(x, w):
        parts = [slice(0, 2), slice(2, 4), slice(4, 6)]
        return sum(F.linear_cross_entropy(x[part], w, targets[part], num_items=3) for part in parts)

    same(shards, lambda x, w: F.linear_cross_entropy(x, w, targets), [x, weight])


losses = pytest.mark.parametrize(
    "loss",
    [
        F.cross_entropy,
        lambda logits, targets, **k: F.linear_cross_entropy(logits, Tensor(np.eye(logits.shape[-1])), targets, **k),
    ],
    ids=["cross_entropy", "linear_cross_entropy"],
)


@losses
def test_a_number_of_items_may_be_a_tensor_and_is_positive(loss):
    logits, targets = np.random.default_rng(0).standard_normal((6, 5)), np.array([1, -100, 4, 0, 2, 2])
    expected = loss(Tensor(logits), targets, num_items=4).item()
    for four in (Tensor(4.0), Tensor([4]), np.array(4), np.array([4]), np.int64(4)):
        value = loss(Tensor(logits), targets, num_items=four)
        assert value.item() == expected and value.shape == () and value.dtype == "float64"
    for bad in (0, -1, float("nan"), Tensor(0.0)):
        with pytest.raises(ValueError, match="must be positive, not"):
            loss(Tensor(logits), targets, num_items=bad)


@losses
@pytest.mark.parametrize(
    ("targets", "error", "words"),
    [
        ([-100, -100], ValueError, "-100"),
        ([0, 3], IndexError, "3.*3"),
        ([0, -1], IndexError, "-1.*3"),
        ([0, -99], IndexError, "-99.*3"),
        (np.zeros(3, int), ValueError, "targets of shape"),
        (np.zeros((2, 1), int), ValueError, "targets of shape"),
        (np.zeros((), int), ValueError, "targets of shape"),
        ([0.0, 1.0], TypeError, "integers"),
    ],
    ids=str,
)
def test_targets_that_cannot_be_are_refused(loss, targets, error, words):
    with pytest.raises(error, match=words):
        loss(Tensor(np.ones((2, 3))), np.array(targets))
    with pytest.raises(ValueError, match="all are 2"):
        loss(Tensor(np.ones((2, 3))), np.full(2, 2), ignore_index=2)


@losses
@pytest.mark.parametrize("kind", [list, backend.asarray, Tensor], ids=["list", "backend", "tensor"])
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_targets_are_any_integers(loss, kind, dtype):
    targets = kind(np.array([2, 0], dtype=dtype))
    assert loss(Tensor(np.zeros((2, 3))), targets).item() == pytest.approx(math.log(3))


# Lookups and randomness


@pytest.mark.parametrize("bad", [5, -1, 1000])
@pytest.mark.parametrize("kind", [np.array, backend.asarray, Tensor, list], ids=["numpy", "backend", "tensor", "list"])
def test_an_id_out_of_range_is_refused(bad, kind):
    ids = kind([[0, bad]]) if kind in (np.array, list) else kind(np.array([[0, bad]]))
    with pytest.raises(IndexError, match=f"{bad}.*5"):
        F.embedding(ids, Tensor(np.ones((5, 2))))


@given(shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), layout=layouts, seed=seeds)
def test_embedding_adds_up_repeated_ids(shape, layout, seed):
    rng = np.random.default_rng(seed)
    weight, ids = rng.standard_normal((4, 3)), rng.integers(0, 4, shape)
    out = F.embedding(laid_out(ids, layout), leaf(weight, layout))
    np.testing.assert_array_equal(out.numpy(), weight[ids])
    gradcheck(lambda w: F.embedding(ids, w), leaf(weight, layout))


def test_dropout_drops_the_share_and_keeps_the_mean():
    x = Tensor(np.ones((200, 100), dtype="float32"), requires_grad=True)
    out = F.dropout(x, 0.3, np.random.default_rng(0))
    values = out.numpy()
    assert out.dtype == np.float32
    assert (values == 0).mean() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_allclose(np.unique(values), [0, 1 / 0.7], rtol=1e-6)
    out.sum().backward()
    np.testing.assert_array_equal(backend.to_numpy(x.grad), values)  # the gradient passes where the value did


def test_dropout_follows_its_generator():
    """A seed gives the same result on every backend, because NumPy draws the mask."""
    drawn = F.dropout(Tensor(np.ones(50)), 0.5, np.random.default_rng(1)).numpy()
    np.testing.assert_array_equal(drawn != 0, np.random.default_rng(1).random(50, dtype="float32") >= 0.5)


def test_settings_out_of_range_are_refused():
    for p in (-0.1, 1, 1.5, math.nan):
        with pytest.raises(ValueError, match="0 <= p < 1"):
            F.dropout(Tensor([1.0]), p, np.random.default_rng(0))
    with pytest.raises(ValueError, match="'none' or 'tanh'"):
        F.gelu(Tensor([1.0]), approximate="sigmoid")


@pytest.mark.parametrize(("dtype", "ulps"), [("float64", 4), ("float32", 8)])
def test_erf_to_the_last_digits(dtype, ulps):
    x = np.concatenate(
        [np.linspace(-7, 7, 2801), np.geomspace(1e-30, 1, 200), [0.0, -0.0, 0.46875, np.inf, -np.inf]]
    ).astype(dtype)
    expected = np.array([math.erf(float(v)) for v in x])
    computed = backend.to_numpy(F.erf(backend.asarray(x)))
    assert computed.dtype == dtype
    np.testing.assert_allclose(computed, expected, rtol=ulps * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, s: F.dropout(x, s, np.random.default_rng(0)),
        lambda x, s: F.layer_norm(x, eps=s),
        lambda x, s: F.rms_norm(x, eps=s),
        lambda x, s: attention(x, x, x, scale=s),
        lambda x, s: F.low_rank_linear(x, x[0, 0], None, x[0, 0, :2], x[0, 0, :, :2], s),
    ],
    ids=["dropout", "layer_norm", "rms_norm", "attention", "low_rank_linear"],
)
@pytest.mark.parametrize("scalar", [np.float64(0.5), np.float32(0.5)], ids=["float64", "float32"])
def test_a_numpy_scalar_as_a_setting_never_widens(call, scalar):
    x = Tensor(np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype("float32"), requires_grad=True)
    out = call(x, scalar)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.numpy(), call(x, 0.5).numpy(), rtol=1e-6)


# What is kept for backward


KEEPS_NOTHING = {
    "linear, weight frozen": lambda x: F.linear(x, Tensor(np.ones((4, 4)))),
    "linear, bias trains": lambda x: F.linear(x, Tensor(np.ones((4, 4))), Tensor(np.ones(4), requires_grad=True)),
    "embedding": lambda x: F.embedding(np.array([0, 1]), x),
    "low_rank_linear, all frozen": lambda x: F.low_rank_linear(
        x, Tensor(np.ones((4, 4))), None, Tensor(np.ones((2, 4))), Tensor(np.ones((4, 2))), 1.0
    ),
    "dropout": lambda x: F.dropout(x, 0.5, np.random.default_rng(0)),
    "softmax": F.softmax,
    "log_softmax": F.log_softmax,
    "layer_norm": F.layer_norm,
    "cross_entropy": lambda x: F.cross_entropy(x, np.array([0, 1, 2])),
    "linear_cross_entropy": lambda x: F.linear_cross_entropy(x, Tensor(np.ones((4, 4))), np.array([0, 1, 2])),
}


@pytest.mark.parametrize("name", KEEPS_NOTHING)
def test_an_input_that_backward_does_not_need_is_freed(name):
    x = Tensor(np.random.default_rng(0).standard_normal((3, 4)), requires_grad=True) * 2.0
    gone = weakref.ref(x.data)
    out = KEEPS_NOTHING[name](x)
    del x
    assert gone() is None
    assert out.requires_grad


def test_under_no_grad_nothing_is_recorded():
    x = Tensor(np.ones((3, 4)), requires_grad=True)
    with no_grad():
        for call in KEEPS_NOTHING.values():
            assert not call(x).requires_grad
        loss = F.linear_cross_entropy(x, x, np.array([0, 1, 2]))
    assert not loss.requires_grad
    np.testing.assert_allclose(loss.item(), F.linear_cross_entropy(x, x, np.array([0, 1, 2])).item())


@pytest.mark.parametrize("rows", [2, 12])  # low_rank_linear computes few rows and many rows in two ways
@pytest.mark.parametrize("name", ["linear", "low_rank_linear"])
def test_a_weight_that_is_made_anew_gives_the_same_and_does_not_live_until_backward(name, rows):
    rng = np.random.default_rng(0)
    x, weight, bias, a, b = (
        rng.standard_normal(shape).astype("float32") for shape in [(rows, 5), (7, 5), (7,), (2, 5), (7, 2)]
    )
    made = []

    def make():
        array = backend.asarray(weight.copy())
        made.append(weakref.ref(array))
        return array

    runs = []
    for w in (make, backend.asarray(weight)):
        live = [leaf(array) for array in ((x,) if name == "linear" else (x, a, b))]
        y = F.linear(*live, w, bias) if name == "linear" else F.low_rank_linear(live[0], w, bias, *live[1:], 0.5)
        assert all(ref() is None for ref in made)
        of = gradients((y * y).sum())
        runs.append([y.numpy(), *(backend.to_numpy(of[t]) for t in live)])
    assert len(made) == 2
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


# What is made again in backward

REMADE = {
    "rms_norm": lambda x, w: F.rms_norm(x, w),
    "rms_norm without a weight": lambda x, w: F.rms_norm(x),
    "layer_norm": lambda x, w: F.layer_norm(x, w, w * 2),
    "swiglu": lambda x, w: F.swiglu(x, x * w),
    "gelu": lambda x, w: F.gelu(x * w),
    "gelu_tanh": lambda x, w: F.gelu(x * w, "tanh"),
}
READERS = {
    "linear": lambda y, a, b: F.linear(y, a),
    "three linears": lambda y, a, b: F.linear(y, a) * F.linear(y, a + 1) + F.linear(y, a * 2),
    "low rank, many rows": lambda y, a, b: F.low_rank_linear(y, np.ones((4, 5), "float32"), None, a[:2], b[:4], 0.5),
    "low rank, few rows": lambda y, a, b: F.low_rank_linear(y, np.ones((20, 5), "float32"), None, a[:2], b, 0.5),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", REMADE)
def test_what_is_made_again_gives_the_bits_that_were_kept(name, reader):
    """The reference is a run in which every operation saves its input."""
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 3, 5), "w": (5,), "a": (4, 5), "b": (20, 2)}
    arrays = {key: rng.standard_normal(shape).astype("float32") for key, shape in shapes.items()}
    runs = []
    for forgetful in (False, True):
        leaves = {key: Tensor(a, requires_grad=True) for key, a in arrays.items()}
        with nullcontext() if forgetful else F.selective_recomputation():
            y = REMADE[name](leaves["x"], leaves["w"])
        assert (y._node.recompute is None) == forgetful
        grads = gradients((READERS[reader](y, leaves["a"], leaves["b"]) * 3).sum())
        runs.append({key: backend.to_numpy(grads[t]) for key, t in leaves.items() if t in grads})
    assert {"x", "a"} <= runs[0].keys() == runs[1].keys()
    for key in runs[0]:
        np.testing.assert_array_equal(*(one[key] for one in runs), err_msg=key)


@pytest.mark.host
def test_no_reader_keeps_what_can_be_made_again_and_each_is_made_once():
    x, w = Tensor(np.ones((64, 32), "float32"), requires_grad=True), Tensor(np.ones((8, 32), "float32"))
    w.requires_grad = True
    for operation in (F.rms_norm, F.layer_norm, F.gelu, lambda x: F.swiglu(x, x)):
        with F.selective_recomputation():
            y = F.linear(operation(x), w) + F.linear(operation(x * 2), w)
        # x, x * 2 or what a norm keeps of them, and what has fewer columns; the results themselves would be two more.
        assert live_bytes(nn.Module(), None, y)["activations"] < 3.5 * x.data.nbytes
    with F.selective_recomputation():
        y = F.rms_norm(x)
    remake = y._node.recompute
    first = remake()
    assert remake() is first and first is not y.data
    (F.linear(y, w) + F.linear(y, w)).sum().backward()
    assert y._node.recompute is None and remake() is not first  # the rule has dropped it


@pytest.mark.host
def test_attention_that_makes_its_scores_again_keeps_none_and_gives_the_same_bits():
    rng, runs, held_bytes = np.random.default_rng(0), [], []
    arrays = [rng.standard_normal((2, heads, 70, 8)).astype("float32") for heads in (4, 2, 2)]
    mask = rng.random((2, 1, 1, 70)) > 0.2
    for context in (nullcontext(), F.selective_recomputation()):
        q, k, v = (Tensor(a, requires_grad=True) for a in arrays)
        with context:
            y = F.scaled_dot_product_attention(q, k, v, mask=mask, is_causal=True)
        held_bytes.append(live_bytes(nn.Module(), None, y)["activations"])
        (y * y).sum().backward()
        runs.append([backend.to_numpy(a) for a in (y.data, q.grad, k.grad, v.grad)])
    assert held_bytes[1] < held_bytes[0] / 2
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("offset", [1e4, 1e7])
def test_a_loss_of_large_logits_keeps_its_digits(offset):
    """The loss depends only on differences of logits, and those of large ones are exact."""
    logits, nothing = np.array([[0, 0, 1]], "float32"), np.zeros((1, 1), "float32")
    expected = F.cross_entropy(Tensor(logits), np.array([0])).item()
    raised = Tensor(logits + np.float32(offset))
    assert F.cross_entropy(raised, np.array([0])).item() == pytest.approx(expected, rel=1e-6)
    weight = Tensor(raised.numpy().T.copy())
    one = Tensor(nothing + 1)
    assert F.linear_cross_entropy(one, weight, np.array([0])).item() == pytest.approx(expected, rel=1e-6)
