"""pytest tests/quant/test_codebooks.py: the codebooks are the published ones, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from minilora import nn, quant
from minilora.quant.codebooks import CODEBOOKS, dynamic_map, fp4, int4, midpoints, nf4, order

pytestmark = pytest.mark.host

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "quant.safetensors")

# QLoRA, appendix E, in the digits that bitsandbytes has.
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
FP4 = [0, 0.0052083335, 0.6666667, 1, 0.33333334, 0.5, 0.16666667, 0.25]


def bits(array: np.ndarray) -> list[int]:
    return np.asarray(array, np.float32).view(np.int32).tolist()


def test_nf4_is_derived_to_the_published_bits():
    assert bits(nf4()) == bits(NF4)


def test_a_codebook_of_fewer_values_fills_sixteen_codes(monkeypatch):
    monkeypatch.setitem(CODEBOOKS, "three", lambda: np.float32([-1, 0, 1]))
    values = np.float32([-2, 0.1, 0.2, 2])
    assert quant.dequantize_4bit(*quant.quantize_4bit(values, quant_type="three")).tolist() == [-2, 0, 0, 2]


def test_fp4():
    assert bits(fp4()) == bits(FP4 + [0 - value for value in FP4])
    assert not np.signbit(fp4()[8])  # "-0" is stored as 0


def test_int4_is_twos_complement_over_7():
    for code, value in enumerate(int4().tolist()):
        integer = code - 16 if code >= 8 else code
        assert value == np.float32(integer) / np.float32(7)


def test_the_dynamic_map():
    assert bits(dynamic_map()) == bits(GOLDEN["dynamic_map"])


@pytest.mark.parametrize("quant_type", CODEBOOKS)
def test_order_and_midpoints(quant_type):
    code, places, limits = CODEBOOKS[quant_type](), order(quant_type), midpoints(quant_type)
    assert sorted(places.tolist()) == list(range(16))
    assert (np.diff(code[places]) >= 0).all() and (np.diff(limits) > 0).all()
    assert limits.dtype == code.dtype == np.float32 and limits.shape == (15,) and code.shape == (16,)
    values = np.random.default_rng(0).uniform(-1, 1, 2000).astype("float32")
    chosen = code[places[np.searchsorted(limits, values)]]
    nearest = abs(values[:, None] - code).min(axis=1)
    np.testing.assert_allclose(abs(values - chosen), nearest, rtol=1e-5, atol=1e-7)


# Another codebook


@pytest.mark.parametrize(
    "name, values", [("int3", [0, 1 / 3, 2 / 3, 1, -1, -2 / 3, -1 / 3]), ("ternary", [-1, 0, 1]), ("sign", [1, -1])]
)
def test_a_codebook_of_fewer_values_works_wherever_a_quant_type_is_named(monkeypatch, name, values):
    filled = np.float32(values + values[-1:] * (16 - len(values)))  # tables are kept by its name, of this test alone
    monkeypatch.setitem(CODEBOOKS, name, lambda: filled)
    weight = np.random.default_rng(0).standard_normal((3, 47), dtype="float32")
    packed, state = quant.quantize_4bit(weight, 32, name)
    dequantized = quant.dequantize_4bit(packed, state)
    absmax = np.repeat(state.absmax, 32)[: weight.size].reshape(weight.shape)
    nearest = abs(weight[..., None] - np.float32(values) * absmax[..., None]).min(axis=-1)
    np.testing.assert_allclose(abs(dequantized - weight), nearest, atol=1e-6)
    layer = quant.Linear4bit.from_linear(nn.Linear(96, 64), 64, name)
    assert layer.settings["quant_type"] == name
    np.testing.assert_array_equal(layer.dequantize(), quant.dequantize_4bit(layer.packed, layer.quant_state))
