"""pytest tests/gpu/test_kernels.py: every kernel compiles, by NVRTC, for cards of three generations; no card is needed.

CuPy writes a kernel's source when it is called, once it knows whether its arrays are contiguous and how many axes they
have. Here it writes the same from descriptions of arrays, and NVRTC makes machine code of it.
"""

import cupy
import numpy as np
import pytest
from cupy._core import _carray, _kernel, _scalar, core
from cupy.cuda import nvrtc

import minilora.quant.blockwise  # noqa: F401  has a kernel, too
from minilora.kernels import KERNELS

pytestmark = pytest.mark.host

CARDS = {"75": "Turing (T4)", "80": "Ampere (A100)", "90": "Hopper (H100)"}
ARRAY, INDEXER, SCALAR = 1, 2, 3  # kinds of arguments, as CuPy counts them


def source(kernel: cupy.ElementwiseKernel, dtype: str, contiguous: bool) -> str:
    """Return the CUDA that CuPy makes of a kernel, for arrays of 1 axis, or of 3 that are not contiguous. Arrays take
    the place of numbers too, because their C includes the C for a number.
    """
    arguments, ndim = [], 1 if contiguous else 3
    for p in kernel.params:
        if p.name == "_ind":
            arguments.append(_kernel._ArgInfo(INDEXER, _carray.Indexer, None, ndim, True, True))
        elif p.dtype == np.int32:
            arguments.append(_kernel._ArgInfo(SCALAR, _scalar.CScalar, p.dtype, 0, True, True))
        else:
            axes, whole = (1, True) if p.raw else (ndim, contiguous)
            arguments.append(_kernel._ArgInfo(ARRAY, cupy.ndarray, np.dtype(p.dtype or dtype), axes, whole, True))
    types = _kernel._TypeMap((("T", np.dtype(dtype)),))
    code = (tuple(arguments), types, kernel.params, kernel.operation, kernel.name, kernel.preamble)
    headers = "".join(f"#include <{header}>\n" for header in core._cupy_header_list)
    return headers + _kernel._get_elementwise_kernel_code(*code)


def compiled(code: str, card: str) -> bytes:
    """Compile to machine code for a card. Raises AssertionError with the compiler's output, warnings included."""
    program = nvrtc.createProgram(code, "kernel.cu", (), ())
    options = (*core.assemble_cupy_compiler_options(()), f"-arch=sm_{card}", "--device-as-default-execution-space")
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    assert not nvrtc.getProgramLog(program).strip("\0\n ")
    return nvrtc.getCUBIN(program)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.source[-1])
def test_a_kernel_compiles(kernel, card):
    made = cupy.ElementwiseKernel(*kernel.source)
    for dtype, contiguous in (("float32", True), ("float64", False)):
        code = source(made, dtype, contiguous)
        assert made.name.encode() in compiled(code, card)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("y = x * factor", 'identifier "factor" is undefined'),
        ("x = y", "expression must be a modifiable lvalue"),
        ("y = exp(x", "expected a"),
        ("int unused = 1; y = x", "never referenced"),
    ],
)
def test_a_mistake_does_not_compile(body, complaint):
    with pytest.raises(AssertionError, match=complaint):
        compiled(source(cupy.ElementwiseKernel("T x", "T y", body, "mistake"), "float32", True), "80")
