"""pytest tests/test_kernels.py: the C of every kernel is its NumPy form, as the host's compiler reads it."""

from inspect import signature

import numpy as np
import pytest

from minilora import backend
from minilora.kernels import KERNELS, Kernel
from minilora.quant.blockwise import values_of_codes
from tests.helpers import host_kernels

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(host_kernels.COMPILER is None, reason="neither g++ nor clang++ is here"),
]

RNG = np.random.default_rng(0)
ROW = (5, 1)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape or (5, 6))


def wide() -> np.ndarray:
    """Draw numbers, some of whose exp is 0 or overflows."""
    a = normal()
    a[0, :2] = 1e4, -1e4
    return a


def masked() -> np.ndarray:
    """Make a mask with a fully and a partly masked row."""
    a = normal()
    a[0], a[1, 2:] = -np.inf, -np.inf
    return a


def some_zero(*shape: int) -> np.ndarray:
    a = abs(normal(*shape))
    a[0] = 0
    return a


BYTES, MASKED = RNG.integers(0, 256, 40), masked()
CASES = {  # arguments, and last what is written to
    "rms_inverse": (some_zero(*ROW), 6, 1e-3, normal(*ROW)),
    "scale_rows": (normal(), normal(*ROW), normal(6), normal()),
    "rms_slope": (normal(), normal(), normal(*ROW), normal(*ROW), 6, normal()),
    "swiglu": (wide(), normal()),
    "swiglu_slopes": (normal(), wide(), normal()),
    "rotate": (normal(2, 4, 3, 2), normal(2, 4, 3, 2), normal(4, 1, 2), normal(4, 1, 2), -1, *normal(2, 2, 4, 3, 2)),
    "exp_below": (MASKED, MASKED.max(axis=1, keepdims=True), normal()),
    "inverse_or_one": (some_zero(*ROW),),
    "softmax_slope": (normal(*ROW), normal(*ROW), normal(), normal()),
    "row_losses": (1 + some_zero(5), normal(5), normal(5)),
    "adamw": (normal(), 0.1, 1e-3, 0.9, 0.8, 0.95, normal(), normal(), abs(normal())),
    "values_of_codes": (BYTES.astype(np.uint8), normal(3), normal(16), 5, normal(79)),
}


def results_on(name: str, kernel: Kernel, dtype: str, function=None) -> list[np.ndarray]:
    """Return the outputs of a kernel, or the arrays that it writes to, on a backend."""
    with backend.use(name):
        arguments = [
            backend.asarray(a, dtype=dtype if a.dtype == np.float64 else None) if isinstance(a, np.ndarray) else a
            for a in CASES[kernel.source[-1]]
        ]
        returned = (function or kernel)(*arguments)
        outputs = len(host_kernels.parameters_of(*kernel.source[:2])) - len(kernel.source[0].split(","))
        if len(signature(kernel.plain).parameters) == len(host_kernels.parameters_of(*kernel.source[:2])):
            returned = tuple(arguments[-outputs:])
        returned = returned if isinstance(returned, tuple) else (returned,)
        assert len(returned) == outputs
        return [backend.to_numpy(a) for a in returned]


def test_every_kernel_has_a_case():
    assert [kernel.source[-1] for kernel in KERNELS] == list(CASES)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.source[-1])
def test_a_kernel_is_its_plain_form(kernel, dtype):
    if kernel is values_of_codes:
        dtype = "float32"  # it has no T
    plainly, by_c = (
        results_on("strict", kernel, dtype, kernel.plain),
        results_on("kernels", kernel, dtype),
    )
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    for a, b in zip(plainly, by_c, strict=True):
        assert b.dtype == a.dtype and np.isfinite(b).all() and b.any()
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * abs(a).max())
