"""pytest tests/parity/test_bitsandbytes_parity.py: 4 and 8 bits next to bitsandbytes on fresh numbers, bit for bit.

Needs the parity extra: pip install -e '.[parity,test]'

On a CPU, bitsandbytes 0.50 gives wrong scales to rows whose length is a multiple of 16 but not of the block size, so
values are compared flat or with rows of whole blocks. FP4's code 8 comes back as 0 or -0, depending on where it stands.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
bf = pytest.importorskip("bitsandbytes.functional")

from minilora.quant import (  # noqa: E402
    BLOCKSIZES,
    CODEBOOKS,
    dequantize_4bit,
    dynamic_map,
    quantize_4bit,
)
from minilora.quant.blockwise import _codes_of_bins, plain  # noqa: E402
from minilora.quant.codebooks import midpoints  # noqa: E402

# The plain form, which other backends run, is held to the fast one in test_quant_blockwise.py.
pytestmark = [pytest.mark.parity, pytest.mark.host, pytest.mark.filterwarnings("ignore")]
torch.set_num_threads(1)  # these tensors are too small to share
TYPES = ("nf4", "fp4")
SEEDS = range(10)


@pytest.fixture(autouse=True)
def _uncompiled():
    """Keep bitsandbytes from compiling its code for odd lengths, which takes longer than all of these tests."""
    with torch.compiler.set_stance("force_eager"):
        yield


def lengths(blocksize: int, rng) -> list[int]:
    """Return lengths around whole blocks, odd and even, and some random ones."""
    near = [1, 2, blocksize - 1, blocksize, blocksize + 1, 2 * blocksize, 3 * blocksize + blocksize // 2]
    return near + rng.integers(1, 6 * blocksize, 3).tolist()


def draw(rng, n: int, dtype: str = "float32") -> np.ndarray:
    """Draw weights that include zeros, a constant, ties and very small numbers."""
    values = rng.standard_normal(n) * 10 ** rng.uniform(-3, 1)
    for special in (0.0, 0.25, 1e-40, rng.choice(midpoints("nf4"))):
        if rng.random() < 0.5:
            start = rng.integers(0, n)
            values[start : start + rng.integers(1, 300)] = special
    return values.astype(dtype)


def same_bits(ours, theirs) -> None:
    """Assert equal dtypes and bits; bitsandbytes turns a single axis into two."""
    a, b = ours.reshape(-1), theirs.numpy().reshape(-1)
    assert a.dtype == b.dtype and a.size == b.size
    where = np.flatnonzero(a.view(f"u{a.itemsize}") != b.view(f"u{b.itemsize}"))
    assert where.size == 0, f"{where.size} of {a.size} differ, the first at {where[0]}: {a[where[0]]}, {b[where[0]]}"


def compare(values: np.ndarray, blocksize: int, quant_type: str) -> None:
    packed, state = quantize_4bit(values, blocksize, quant_type)
    expected, other = bf.quantize_4bit(torch.from_numpy(values), blocksize=blocksize, quant_type=quant_type)
    assert packed.shape == tuple(expected.shape) and state.shape == tuple(other.shape)
    same_bits(packed, expected)
    same_bits(state.absmax, other.absmax)
    same_bits(state.code, other.code)
    same_bits(dequantize_4bit(packed, state), bf.dequantize_4bit(expected, other) + 0)  # which makes 0 of -0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("quant_type", TYPES)
@pytest.mark.parametrize("blocksize", BLOCKSIZES)
def test_4_bits(blocksize, quant_type, seed):
    rng = np.random.default_rng([seed, blocksize])
    for n in lengths(blocksize, rng):
        compare(draw(rng, n), blocksize, quant_type)


@pytest.mark.parametrize("quant_type", TYPES)
@pytest.mark.parametrize("blocksize", BLOCKSIZES)
def test_4_bits_of_float16_and_of_matrices(blocksize, quant_type):
    rng = np.random.default_rng(blocksize)
    for n in lengths(blocksize, rng):
        compare(draw(rng, n, "float16"), blocksize, quant_type)
    compare(draw(rng, 6 * blocksize).reshape(3, 2 * blocksize), blocksize, quant_type)
    compare(draw(rng, 6 * blocksize).reshape(2, 3, blocksize), blocksize, quant_type)
    compare(draw(rng, 15 * 13).reshape(15, 13), blocksize, quant_type)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("blocksize", BLOCKSIZES)
def test_double_quantization(blocksize, seed):
    """PyTorch's mean may be off by units in the last place, differently on each processor; the rest is compared from
    the same offset."""
    rng = np.random.default_rng([seed, blocksize])
    for n in [*lengths(blocksize, rng), 300 * min(blocksize, 128) + 5]:
        values = draw(rng, n)
        packed, state = quantize_4bit(values, blocksize, compress_statistics=True)
        expected, other = bf.quantize_4bit(
            torch.from_numpy(values), blocksize=blocksize, quant_type="nf4", compress_statistics=True
        )
        _, single = bf.quantize_4bit(torch.from_numpy(values), blocksize=blocksize, quant_type="nf4")
        offset = torch.from_numpy(np.array(state.offset))
        assert offset == np.float32(single.absmax.numpy().astype("float64").mean())
        assert abs(offset - other.offset) <= 4 * np.spacing(offset.numpy())
        if offset != other.offset:
            other.absmax, other.state2 = bf.quantize_blockwise(single.absmax - offset, blocksize=256)
            other.offset = offset
        same_bits(packed, expected)
        same_bits(state.absmax, other.absmax)
        same_bits(state.state2.absmax, other.state2.absmax)
        same_bits(state.state2.code, other.state2.code)
        assert (state.state2.blocksize, state.nested) == (other.state2.blocksize, other.nested)
        same_bits(dequantize_4bit(packed, state), bf.dequantize_4bit(expected, other))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("blocksize", BLOCKSIZES[1:])
def test_8_bits(blocksize, seed):
    rng = np.random.default_rng([seed, blocksize])
    for n in lengths(blocksize, rng):
        for dtype in ("float32", "float16"):
            values = draw(rng, n, dtype)
            codes, absmax = plain.quantize_8bit(values.astype("float32"), blocksize, _codes_of_bins())
            expected, other = bf.quantize_blockwise(torch.from_numpy(values), blocksize=blocksize)
            same_bits(codes, expected)
            same_bits(absmax, other.absmax)
            back = plain.dequantize_8bit(codes, absmax, dynamic_map(), blocksize)
            same_bits(back.astype(dtype), bf.dequantize_blockwise(expected, other))


def test_codebooks():
    for quant_type in TYPES:
        same_bits(CODEBOOKS[quant_type](), bf.get_4bit_type(quant_type, device="cpu"))
    same_bits(dynamic_map(), bf.create_dynamic_map())
