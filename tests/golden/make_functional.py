"""python tests/golden/make_functional.py: what PyTorch computes for `minilora.functional`.

Writes functional.safetensors and attention.safetensors. Each case holds random inputs, the result, a random gradient of
the result ("flow") and the gradients of the inputs that have one. All is computed in float64; inputs are stored as
float32, which they fit exactly. tests/test_functional.py computes the same with minilora; tests/parity compares live.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as T
from safetensors.numpy import save_file

HERE = Path(__file__).parent


@dataclass
class Case:
    """`inputs(rng)` draws named arrays; `compute(*tensors)` is PyTorch's result. Floats but `mask` get gradients."""

    inputs: Callable
    compute: Callable


def normal(**shapes):
    """Draw normally distributed inputs of these shapes."""
    return lambda rng: {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def with_more(inputs: Callable, **more):
    """Return `inputs` and further ones, each made by a function of the generator."""
    return lambda rng: inputs(rng) | {name: draw(rng) for name, draw in more.items()}


def ints(high: int, *shape: int):
    return lambda rng: rng.integers(0, high, shape)


def targets(high: int, *shape: int, ignored: int):
    """Draw class indices, about a third of them `ignored`."""
    return lambda rng: np.where(rng.random(shape) < 0.35, ignored, rng.integers(0, high, shape))


def booleans(*shape: int, share: float = 0.7):
    """Draw a mask: True with probability `share`, and always at the first key, so that no row is empty."""

    def draw(rng):
        mask = rng.random(shape) < share
        mask[..., 0] = True
        return mask

    return draw


def some_rows_empty(*shape: int):
    def draw(rng):
        mask = booleans(*shape)(rng)
        mask[..., 1, :] = False
        mask[0, ..., -1, :] = False
        return mask

    return draw


def floats_with_empty_rows(*shape: int):
    return lambda rng: np.where(some_rows_empty(*shape)(rng), rng.standard_normal(shape), -np.inf)


def wide(*shape: int):
    """Draw values from the tails and the middle of an activation's domain, and 0 itself."""

    def draw(rng):
        values = rng.standard_normal((3, *shape))
        return {"x": values * np.array([0, 3, 30])[:, None, None]}

    return draw


def triangle(length: int, span: int):
    """Make the mask in which query i sees the keys up to i + span - length."""
    return torch.ones(length, span, dtype=torch.bool).tril(span - length)


def attend(q, k, v, mask=None, scale=None):
    """Run PyTorch's attention. Rows with nothing to attend to are set to 0, whichever kernel ran."""
    k, v = (t.repeat_interleave(q.shape[-3] // t.shape[-3], -3) for t in (k, v))
    if mask is None:
        return T.scaled_dot_product_attention(q, k, v, scale=scale)
    bias = torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask
    bias = bias.to(q.dtype).expand(*q.shape[:-1], k.shape[-2])
    empty = (bias == -torch.inf).all(-1, keepdim=True)
    out = T.scaled_dot_product_attention(q, k, v, attn_mask=bias.masked_fill(empty, 0), scale=scale)
    return out.masked_fill(empty, 0)


def low_rank(x, weight, a, b, bias=None):
    return T.linear(x, weight, bias) + T.linear(T.linear(x, a), b) * 0.75


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat([-x[..., half:], x[..., :half]], dim=-1)


def angles(*shape: int):
    """Draw rotary angles whose second half repeats the first."""
    return lambda rng: np.tile(rng.uniform(-3, 3, (*shape[:-1], shape[-1] // 2)), 2)


CONSTANTS = ("mask", "angle")  # inputs that get no gradient
qkv = normal(q=(2, 2, 4, 4), k=(2, 2, 4, 4), v=(2, 2, 4, 3))
longer = normal(q=(2, 4, 2, 4), k=(2, 2, 5, 4), v=(2, 2, 5, 4))
shorter = normal(q=(1, 2, 5, 4), k=(1, 2, 3, 4), v=(1, 2, 3, 4))

CASES = {
    "linear": Case(normal(x=(2, 3, 4), weight=(5, 4), bias=(5,)), T.linear),
    "linear_no_bias": Case(normal(x=(3, 4), weight=(5, 4)), T.linear),
    "linear_vector": Case(normal(x=(4,), weight=(5, 4), bias=(5,)), T.linear),
    "embedding": Case(
        with_more(normal(weight=(6, 3)), ids=ints(6, 4, 5)), lambda weight, ids: T.embedding(ids, weight)
    ),
    "layer_norm": Case(
        normal(x=(2, 3, 6), weight=(6,), bias=(6,)), lambda x, weight, bias: T.layer_norm(x, (6,), weight, bias)
    ),
    "layer_norm_plain": Case(normal(x=(4, 6)), lambda x: T.layer_norm(x, (6,), eps=0.1)),
    "rms_norm": Case(normal(x=(2, 3, 6), weight=(6,)), lambda x, weight: T.rms_norm(x, (6,), weight, 1e-6)),
    "rms_norm_plain": Case(normal(x=(4, 6)), lambda x: T.rms_norm(x, (6,), eps=0.1)),
    "softmax": Case(wide(3, 5), lambda x: T.softmax(x, dim=-1)),
    "softmax_axis": Case(wide(3, 5), lambda x: T.softmax(x, dim=1)),
    "log_softmax": Case(wide(3, 5), lambda x: T.log_softmax(x, dim=-1)),
    "log_softmax_axis": Case(wide(3, 5), lambda x: T.log_softmax(x, dim=0)),
    "relu": Case(wide(2, 5), T.relu),
    "silu": Case(wide(2, 5), T.silu),
    "gelu": Case(wide(2, 5), T.gelu),
    "gelu_tanh": Case(wide(2, 5), lambda x: T.gelu(x, approximate="tanh")),
    "swiglu": Case(normal(gate=(2, 3, 4), up=(2, 3, 4)), lambda gate, up: T.silu(gate) * up),
    "low_rank_linear_few_rows": Case(normal(x=(2, 3), weight=(9, 3), a=(2, 3), b=(9, 2)), low_rank),
    "low_rank_linear_many_rows": Case(normal(x=(2, 5, 3), weight=(4, 3), a=(2, 3), b=(4, 2), bias=(4,)), low_rank),
    "rotary": Case(
        with_more(normal(x=(2, 3, 2, 6)), angle=angles(3, 6)),
        lambda x, angle: x * angle.cos()[:, None] + rotate_half(x) * angle.sin()[:, None],
    ),
    "rotary_rows": Case(
        with_more(normal(x=(2, 3, 2, 6)), angle=angles(2, 3, 6)),
        lambda x, angle: x * angle.cos()[..., None, :] + rotate_half(x) * angle.sin()[..., None, :],
    ),
    "attention": Case(qkv, attend),
    "attention_scale": Case(qkv, lambda q, k, v: attend(q, k, v, scale=0.9)),
    "attention_three_axes": Case(normal(q=(2, 3, 4), k=(2, 5, 4), v=(2, 5, 4)), attend),
    "attention_two_axes": Case(
        normal(q=(3, 4), k=(5, 4), v=(5, 3)), lambda q, k, v: T.scaled_dot_product_attention(q, k, v)
    ),
    "attention_five_axes": Case(
        with_more(normal(q=(2, 3, 2, 2, 4), k=(2, 3, 2, 3, 4), v=(2, 3, 2, 3, 4)), mask=booleans(3, 1, 2, 3)), attend
    ),
    "attention_grouped": Case(longer, attend),
    "attention_mask": Case(with_more(qkv, mask=booleans(2, 2, 4, 4)), attend),
    "attention_mask_keys": Case(with_more(longer, mask=booleans(2, 1, 1, 5)), attend),
    "attention_mask_square": Case(with_more(longer, mask=booleans(2, 5)), attend),
    "attention_mask_heads": Case(with_more(longer, mask=booleans(1, 4, 2, 5)), attend),
    "attention_mask_float": Case(with_more(longer, mask=lambda rng: 3 * rng.standard_normal((2, 1, 2, 5))), attend),
    "attention_mask_column": Case(with_more(longer, mask=lambda rng: rng.standard_normal((2, 1))), attend),
    "attention_causal": Case(qkv, lambda q, k, v: attend(q, k, v, triangle(4, 4))),
    "attention_causal_cache": Case(longer, lambda q, k, v: attend(q, k, v, triangle(2, 5))),
    "attention_causal_few_keys": Case(shorter, lambda q, k, v: attend(q, k, v, triangle(5, 3))),
    "attention_causal_mask": Case(
        with_more(longer, mask=some_rows_empty(2, 1, 2, 5)),
        lambda q, k, v, mask: attend(q, k, v, mask & triangle(2, 5)),
    ),
    "attention_causal_mask_float": Case(
        with_more(longer, mask=lambda rng: rng.standard_normal((4, 2, 5))),
        lambda q, k, v, mask: attend(q, k, v, mask.masked_fill(~triangle(2, 5), -torch.inf)),
    ),
    "attention_empty_rows": Case(with_more(qkv, mask=some_rows_empty(2, 2, 4, 4)), attend),
    "attention_empty_rows_float": Case(
        with_more(qkv, mask=floats_with_empty_rows(2, 1, 4, 4)),
        attend,
    ),
    "cross_entropy": Case(with_more(normal(logits=(5, 4)), targets=ints(4, 5)), T.cross_entropy),
    "cross_entropy_ignored": Case(
        with_more(normal(logits=(4, 6, 5)), targets=targets(5, 4, 6, ignored=-100)),
        lambda logits, targets: T.cross_entropy(logits.reshape(-1, 5), targets.reshape(-1)),
    ),
    "cross_entropy_ignored_class": Case(
        with_more(normal(logits=(12, 5)), targets=targets(5, 12, ignored=3)),
        lambda logits, targets: T.cross_entropy(logits, targets, ignore_index=3),
    ),
    "cross_entropy_large": Case(
        lambda rng: {"logits": 500 * rng.standard_normal((6, 4)), "targets": rng.integers(0, 4, 6)}, T.cross_entropy
    ),
    "cross_entropy_one_row": Case(with_more(normal(logits=(4,)), targets=ints(4)), T.cross_entropy),
    "linear_cross_entropy": Case(
        with_more(normal(x=(3, 5, 4), weight=(7, 4)), targets=targets(7, 3, 5, ignored=-100)),
        lambda x, weight, targets: T.cross_entropy((x @ weight.T).reshape(-1, 7), targets.reshape(-1)),
    ),
}


def compute(case: Case, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return {"in.NAME": …, "flow": …, "out": …, "grad.NAME": …} for one case."""
    inputs = {name: float32(a) for name, a in case.inputs(rng).items()}
    tensors = {name: float64(a) for name, a in inputs.items()}
    live = {name: t for name, t in tensors.items() if t.is_floating_point() and name not in CONSTANTS}
    for t in live.values():
        t.requires_grad_()
    out = case.compute(*tensors.values())
    flow = float32(rng.standard_normal(tuple(out.shape)))
    gradients = torch.autograd.grad(out, list(live.values()), float64(flow))
    arrays = {f"in.{name}": a for name, a in inputs.items()} | {"flow": flow, "out": out.detach().numpy()}
    return arrays | {f"grad.{name}": g.numpy() for name, g in zip(live, gradients, strict=True)}


def float32(a) -> np.ndarray:
    """Return `a` as an array, rounded if it has floats."""
    a = np.asarray(a)
    return a.astype("float32") if a.dtype.kind == "f" else a


def float64(a: np.ndarray) -> torch.Tensor:
    """Return `a` as a tensor, widened if it has floats."""
    return torch.from_numpy(a.astype("float64") if a.dtype.kind == "f" else a)


def main() -> None:
    files = {"functional": {}, "attention": {}}
    for i, (name, case) in enumerate(CASES.items()):
        arrays = compute(case, np.random.default_rng(i))
        home = files["attention" if name.startswith("attention") else "functional"]
        home |= {f"{name}/{key}": np.array(a, order="C") for key, a in arrays.items()}
    for name, arrays in files.items():
        save_file(arrays, HERE / f"{name}.safetensors")


if __name__ == "__main__":
    main()
