"""GPU kernels compiled by the host's C++ compiler for the stand-in device: the same C code, run for every element.

conftest.py registers this as the backend "kernels". To run tests on it:

    MINILORA_BACKEND=kernels pytest tests/test_functional.py
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minilora.backend import Backend
from tests.helpers import strict
from tests.helpers.strict import StrictArray

COMPILER = shutil.which("g++") or shutil.which("clang++")
C_TYPES = {"float32": "float", "float64": "double", "int32": "int", "uint8": "unsigned char"}


class Parameter(NamedTuple):
    name: str
    kind: str  # a dtype, or T
    is_raw: bool  # True if the body indexes it; otherwise the body gets one element
    is_result: bool


def parameters_of(in_params: str, out_params: str) -> list[Parameter]:
    words = [(p.split(), result) for result, many in enumerate((in_params, out_params)) for p in many.split(",")]
    return [Parameter(name, kind, raw == ["raw"], bool(result)) for (*raw, kind, name), result in words]


def make(in_params: str, out_params: str, body: str, name: str) -> Callable:
    """Make a kernel as CuPy's ElementwiseKernel does, for arrays of the stand-in device.

    The kernel raises TypeError for arguments that CuPy would not accept.
    """
    parameters = parameters_of(in_params, out_params)
    inputs = sum(not p.is_result for p in parameters)

    def kernel(*arguments):
        if len(arguments) not in (inputs, len(parameters)):
            raise TypeError(f"{name} takes {inputs} arguments, or {len(parameters)} with results")
        plain = [StrictArray._plain(a) for a in arguments]
        arrays = [(p, a) for p, a in zip(parameters, plain, strict=False) if isinstance(a, np.ndarray)]
        generic = next(a.dtype for p, a in arrays if p.kind == "T" or not p.is_raw)
        dtypes = [generic if p.kind == "T" else np.dtype(p.kind) for p in parameters]
        shape = np.broadcast_shapes(*(a.shape for p, a in arrays if not p.is_raw))
        for p, a in arrays:
            if a.dtype != (generic if p.kind == "T" else p.kind) or (p.is_result and a.shape != shape):
                raise TypeError(f"{name} has {p.name} of {a.dtype}, {a.shape}, where T is {generic}, of shape {shape}")
        # Make each argument a contiguous array, broadcast to all elements unless it is raw or a single number.
        flat = [
            np.array(np.broadcast_to(a, shape) if isinstance(a, np.ndarray) and not p.is_raw else a, dtype, order="C")
            for p, a, dtype in zip(parameters, plain, dtypes, strict=False)
        ]
        flat += [np.empty(shape, dtype) for dtype in dtypes[len(flat) :]]
        singles = frozenset(p.name for p, a in zip(parameters, plain, strict=False) if not isinstance(a, np.ndarray))
        run = compiled(in_params, out_params, body, name, C_TYPES[generic.name], singles)
        run(ctypes.c_longlong(int(np.prod(shape))), (ctypes.c_void_p * len(flat))(*(a.ctypes.data for a in flat)))
        results = arguments[inputs:] or tuple(StrictArray(a) for a in flat[inputs:])
        for result, a in zip(results, flat[inputs:], strict=True):
            result._array[...] = a
        return results if len(results) > 1 else results[0]

    return kernel


@cache
def compiled(in_params: str, out_params: str, body: str, name: str, generic: str, singles: frozenset[str]) -> Callable:
    """Compile the loop over all elements, as a function of their number and of pointers to the arguments.

    singles: names of the arguments that are single numbers.
    """
    pointers, elements = [], []
    for place, p in enumerate(parameters_of(in_params, out_params)):
        kind = ("" if p.is_result else "const ") + ("T" if p.kind == "T" else C_TYPES[p.kind])
        pointers.append(f"{kind}* {'' if p.is_raw else 'all_'}{p.name} = ({kind}*)pointers[{place}];")
        if not p.is_raw:
            elements.append(f"{kind} &{p.name} = all_{p.name}[{0 if p.name in singles else 'i'}];")
    source = f"""#include <cmath>
using namespace std;
typedef {generic} T;
extern "C" void {name}(long long n, void** pointers) {{
    {" ".join(pointers)}
    for (long long i = 0; i < n; i++) {{ {" ".join(elements)} {body}; }}
}}
"""
    library = Path(tempfile.gettempdir()) / f"minilora-{os.getuid()}-{hashlib.sha256(source.encode()).hexdigest()}.so"
    if not library.exists():
        assert COMPILER, "neither g++ nor clang++ is installed"
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            (Path(folder) / "kernel.cpp").write_text(source, encoding="utf-8")
            command = [COMPILER, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", "kernel.so", "kernel.cpp"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            os.replace(Path(folder) / "kernel.so", library)
    return getattr(ctypes.CDLL(str(library)), name)


def load() -> Backend:
    """Make the backend "kernels"."""
    return replace(strict.load(), name="kernels", kernel=make)
