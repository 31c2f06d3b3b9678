"""pytest tests/quant/test_blockwise.py: 4 and 8 bits, bit for bit as bitsandbytes has them, fast and plain alike."""

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from minilora import Tensor, backend
from minilora.errors import MiniloraError
from minilora.quant import BLOCKSIZES, CODEBOOKS, blockwise, dequantize_4bit, nf4, plain, quantize_4bit
from minilora.quant.blockwise import _codes_of_bins, dequantize_on_cpu, quantize_on_cpu
from minilora.quant.codebooks import dynamic_map, midpoints, order
from minilora.threads import using

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "quant.safetensors")
BITSANDBYTES_TYPES = ("nf4", "fp4")
host = backend.to_numpy


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def quantized(array, *args, **kwargs) -> tuple[np.ndarray, object]:
    packed, state = quantize_4bit(backend.asarray(np.asarray(array)), *args, **kwargs)
    return host(packed), state


def round_trip(array, *args, **kwargs) -> np.ndarray:
    return host(dequantize_4bit(*quantize_4bit(backend.asarray(array), *args, **kwargs)))


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# Against bitsandbytes


def golden(name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the values of a case (`make_quant.length` of them), and the arrays that bitsandbytes made of them."""
    arrays = {key.removeprefix(f"{name}."): a for key, a in GOLDEN.items() if key.startswith(f"{name}.")}
    blocksize = int(name.split(".")[1])
    n = (max(2 * blocksize, 9600) if name.endswith("double") else 2 * blocksize) + blocksize // 2 + 1
    return GOLDEN["values"][arrays["start"] :][:n], arrays


def digest(array: np.ndarray) -> bytes:
    return hashlib.sha256(array.tobytes()).digest()


@pytest.mark.parametrize("quant_type", BITSANDBYTES_TYPES)
@pytest.mark.parametrize("blocksize", BLOCKSIZES)
def test_bitsandbytes_bits(blocksize, quant_type):
    values, expected = golden(f"{quant_type}.{blocksize}")
    packed, state = quantized(values, blocksize, quant_type)
    assert same_bits(packed, expected["packed"])
    assert same_bits(host(state.absmax), expected["absmax"])
    dequantized = host(dequantize_4bit(backend.asarray(packed), state))
    assert dequantized.dtype == np.float32 and digest(dequantized) == expected["dequantized"].tobytes()


@pytest.mark.parametrize("quant_type", BITSANDBYTES_TYPES)
@pytest.mark.parametrize("blocksize", BLOCKSIZES)
def test_bitsandbytes_bits_with_double_quantization(blocksize, quant_type):
    values, expected = golden(f"{quant_type}.{blocksize}.double")
    packed, state = quantized(values, blocksize, quant_type, compress_statistics=True)
    assert same_bits(host(state.absmax), expected["absmax"]) and state.absmax.dtype == np.uint8
    assert same_bits(host(state.offset), expected["offset"])
    assert same_bits(host(state.state2.absmax), expected["state2.absmax"])
    assert same_bits(host(state.state2.code), GOLDEN["dynamic_map"])
    assert (state.state2.blocksize, state.state2.dtype, state.nested) == (256, np.float32, True)
    assert digest(host(dequantize_4bit(backend.asarray(packed), state))) == expected["dequantized"].tobytes()


@pytest.mark.parametrize("blocksize", [64, 256, 4096])
def test_bitsandbytes_bits_in_8_bits(blocksize):
    values, table, code = map(backend.asarray, (GOLDEN["values"][:5001], _codes_of_bins(), dynamic_map()))
    codes, absmax = plain.quantize_8bit(values, blocksize, table)
    assert same_bits(host(codes), GOLDEN[f"8bit.{blocksize}.codes"])
    assert same_bits(host(absmax), GOLDEN[f"8bit.{blocksize}.absmax"])
    dequantized = host(plain.dequantize_8bit(codes, absmax, code, blocksize))
    assert digest(dequantized) == GOLDEN[f"8bit.{blocksize}.dequantized"].tobytes()


# How codes are chosen and stored


@pytest.mark.parametrize("quant_type, one, minus_one, zero", [("nf4", 15, 0, 7), ("fp4", 3, 11, 0), ("int4", 7, 9, 0)])
def test_the_first_code_is_in_the_high_half_and_the_last_byte_is_completed_by_zero(quant_type, one, minus_one, zero):
    packed, state = quantized([1.0, -1.0, 1.0], 32, quant_type)
    assert packed.dtype == np.uint8 and packed.tolist() == [[one << 4 | minus_one], [one << 4 | zero]]
    assert round_trip(np.array([3.0, -3.0, 3.0], "f4"), 32, quant_type).tolist() == [3, -3, 3]
    packed, _ = quantized(np.array([1.0, -1.0] * 16), 32, quant_type)  # a whole block
    assert packed.tolist() == [[one << 4 | minus_one]] * 16


@pytest.mark.parametrize("quant_type", CODEBOOKS)
@pytest.mark.parametrize("size", [32, 31])  # a whole block and a short one
def test_a_tie_takes_the_lower_value(quant_type, size):
    limits = midpoints(quant_type)
    limits = limits[abs(limits) <= 1]  # the first of INT4 lies outside
    block = np.zeros(size, "float32")
    block[-1] = 1
    for shift in (0, 1):
        block[: limits.size] = limits if shift == 0 else np.nextafter(limits, np.float32(2))
        packed, _ = quantized(block, 32, quant_type)
        codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[: limits.size]
        rank = np.argsort(order(quant_type))[codes]
        assert rank.tolist() == [i + shift + 15 - limits.size for i in range(limits.size)]


@pytest.mark.parametrize("quant_type, zero", [("nf4", 7), ("fp4", 0), ("int4", 0)])
def test_zeros(quant_type, zero):
    packed, state = quantized(np.zeros(32 + 5, "float32"), 32, quant_type)
    assert set(packed.reshape(-1).tolist()) == {zero << 4 | zero}
    assert host(state.absmax).tolist() == [0, np.float32(1e-38)]
    for double in (False, True):
        back = round_trip(np.zeros((4, 40), "float32"), 32, quant_type, compress_statistics=double)
        assert back.shape == (4, 40) and not back.any()


def test_very_small_and_very_large_numbers():
    for scale in (1e-45, 1e-41, 1e-38, 1e-30, 1e30, 3.4e38):
        values = (normal(70) / abs(normal(70)).max() * scale).astype("float32")
        back = round_trip(values)
        assert np.isfinite(back).all()
        assert abs(back - values).max() <= max(0.152 * abs(values).max(), 2e-39)  # 1e-38 is where 1/absmax ends


# How good it is


@pytest.mark.parametrize(
    "quant_type, bound", [("nf4", Fraction("0.1519036")), ("int4", Fraction(1, 14)), ("fp4", Fraction(1, 6))]
)
def test_largest_error(quant_type, bound):
    """The largest error is half the codebook's widest gap, in units of the block's absmax, and it nearly occurs."""
    values = normal(2**16).reshape(-1, 64)
    error = abs(round_trip(values, 64, quant_type) - values) / abs(values).max(axis=1, keepdims=True)
    assert 0.98 * bound < error.max() <= float(bound) * (1 + 1e-5)


def test_bits_a_number():
    n = 1024 * 1024
    for double, expected in ((False, 4.5), (True, 4.126953125 + 32 / n)):  # with the one offset
        packed, state = quantize_4bit(backend.asarray(normal(1024, 1024)), compress_statistics=double)
        assert 8 * (packed.nbytes + state.nbytes) / n == expected


# Shapes and dtypes


@pytest.mark.parametrize("shape", [(), (1,), (7,), (64,), (5, 13), (2, 3, 32), (1, 1)])
def test_any_shape_comes_back(shape):
    values = np.asarray(normal(*shape), "float32")
    packed, state = quantized(values, 32)
    assert packed.shape == ((values.size + 1) // 2, 1) and state.shape == shape
    assert round_trip(values, 32).shape == shape


def test_rows_are_read_in_order_whatever_the_layout():
    values = normal(40, 24)
    assert same_bits(quantized(values.T, 32)[0], quantized(np.ascontiguousarray(values.T), 32)[0])


def test_dtypes():
    values = normal(9, 11)
    for dtype in ("float16", "float32", "float64"):
        cast = values.astype(dtype)
        packed, state = quantized(cast)
        as_float32, expected = quantized(cast.astype("float32"))
        back = host(dequantize_4bit(backend.asarray(packed), state))
        assert same_bits(packed, as_float32) and back.dtype == state.dtype == dtype
        assert same_bits(back, host(dequantize_4bit(backend.asarray(packed), expected)).astype(dtype))
        assert host(state.absmax).dtype == np.float32


def test_tensors_are_taken_too_and_fields_have_bitsandbytes_names():
    values = normal(3, 50)
    packed, state = quantize_4bit(Tensor(values), compress_statistics=True)
    assert same_bits(host(packed), quantized(values)[0])
    assert (state.shape, state.dtype, state.blocksize, state.quant_type) == ((3, 50), np.float32, 64, "nf4")
    assert same_bits(host(state.code), nf4())


def test_every_backend_gives_the_same_bits():
    values = normal(150, 33)
    packed, state = quantized(values, 32, compress_statistics=True)
    back = host(dequantize_4bit(backend.asarray(packed), state))
    with backend.use("numpy"):
        expected, other = quantize_4bit(values, 32, compress_statistics=True)
        assert same_bits(packed, expected) and same_bits(back, dequantize_4bit(expected, other))
        pairs = [(state.absmax, other.absmax), (state.offset, other.offset), (state.state2.absmax, other.state2.absmax)]
    for ours, theirs in pairs:
        assert same_bits(host(ours), theirs)


# Fast and plain


def blocks_of_all_kinds(draw) -> np.ndarray:
    """Draw numbers that include the worst cases of blocks: zeros, constants, the smallest and largest floats, ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = {
        "normal": lambda n: rng.standard_normal(n),
        "zeros": lambda n: np.zeros(n),
        "constant": lambda n: np.full(n, rng.standard_normal()),
        "subnormal": lambda n: rng.standard_normal(n) * 1e-41,
        "tiny": lambda n: rng.standard_normal(n) * 1e-38,
        "huge": lambda n: rng.uniform(-3.4e38, 3.4e38, n),
        "ends": lambda n: rng.choice([1.0, -1.0], n),
        "ties": lambda n: rng.choice(np.append(midpoints("nf4"), [1, -1]), n),
        "wide": lambda n: rng.standard_normal(n) * 10.0 ** rng.uniform(-30, 30, n),
        "minus zero": lambda n: np.full(n, -0.0),
    }
    parts = draw(st.lists(st.tuples(st.sampled_from(sorted(kinds)), st.integers(1, 150)), min_size=1, max_size=6))
    return np.concatenate([kinds[kind](n) for kind, n in parts]).astype("float32")


@pytest.mark.host
@given(
    st.composite(blocks_of_all_kinds)(),
    st.sampled_from(BLOCKSIZES[:4]),
    st.sampled_from(list(CODEBOOKS)),
    st.booleans(),
)
def test_the_fast_form_is_the_plain_form(values, blocksize, quant_type, threads):
    with pytest.MonkeyPatch.context() as patch, using(3 if threads else 1):
        patch.setattr(blockwise, "WORTH_THREADS", 1)
        fast_is_plain(values, blocksize, quant_type)


def fast_is_plain(values, blocksize, quant_type):
    packed, absmax = quantize_on_cpu(values, blocksize, quant_type)
    codes, expected = plain.quantize_4bit(values, blocksize, midpoints(quant_type), order(quant_type))
    assert same_bits(packed, codes) and same_bits(absmax, expected)
    back = dequantize_on_cpu(packed, absmax, quant_type, blocksize, values.size)
    code = CODEBOOKS[quant_type]()
    assert same_bits(back, plain.dequantize_4bit(packed, absmax, code, blocksize, values.size))


@pytest.mark.host
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("quant_type", CODEBOOKS)
def test_the_fast_form_over_many_chunks_and_threads(quant_type, threads, monkeypatch):
    monkeypatch.setattr(blockwise, "WORTH_THREADS", 1)
    with using(threads):
        fast_is_plain(normal(64 * 2**12 + 77), 64, quant_type)


# Bad input


@pytest.mark.parametrize(
    "array, options, words",
    [
        ([[1.0, np.nan], [np.inf, 2.0]], {}, ["2 of 4", "[0, 1]", "nan"]),
        ([1.0, -np.inf], {}, ["1 of 2", "[1]", "-inf"]),
        ([1.0, 1e300], {}, ["1 of 2", "1e+300", "float32"]),
        ([[]], {}, ["shape (1, 0)", "empty"]),
        ([1, 2], {}, ["int64"]),
        ([1.0], {"blocksize": 48}, ["32, 64, 128, 256, 512, 1024, 2048, 4096", "not 48"]),
        ([1.0], {"blocksize": 64.0}, ["blocksize", "not 64.0"]),
        ([1.0], {"quant_type": "NF4"}, ["nf4, fp4, int4", "'NF4'", "did you mean 'nf4'"]),
        ([1.0], {"quant_type": None}, ["quant_type", "None"]),
    ],
)
def test_what_cannot_be_quantized(array, options, words):
    with pytest.raises(MiniloraError) as error:
        quantized(array, **options)
    assert str(error.value).isprintable()
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda packed, state: packed[:12], "12 numbers of uint8 and 1 absmax values, but shape .5, 5. .*needs 13"),
        (lambda packed, state: packed.astype("int16"), "of int16"),
        (lambda packed, state: setattr(state, "absmax", state.absmax[:0]) or packed, "0 absmax values"),
        (lambda packed, state: setattr(state, "blocksize", 65) or packed, "blocksize"),
    ],
)
def test_packed_data_that_does_not_fit_its_state(change, words):
    packed, state = quantize_4bit(backend.asarray(normal(5, 5)))
    with pytest.raises(MiniloraError, match=words):
        dequantize_4bit(change(packed, state), state)
