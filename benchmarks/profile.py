"""A profile of each row of the speed table: the time in matrix products, elementwise work, Python and allocation.

    python -m benchmarks.profile                  prints two lines per row

All of the work runs on one thread, also in BLAS, so that nothing waits for anything else. Two copies of the work take
turns: a plain one, whose CPU seconds are measured, and one on ClockedArrays, which time NumPy's calls and do nothing
else. Shares are relative to the plain copy's seconds.

    products      `@` and `dot`
    allocation    the CPU seconds that the plain work spent in the system, nearly all of them on giving it memory, page
                  by page and filled with zeros
    elementwise   other ufuncs, reductions, look-ups and copies, less the allocation, which happens inside them
    Python        the rest of the plain work: the interpreter, between NumPy's calls

The clock itself costs a little, so the parts may add up to a few percent more than the whole. The second line says how
much faster the work is on all cores, and which functions spend most on elementwise work.
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter, process_time, thread_time
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np

import minilora
from benchmarks import decoding, quant, step
from minilora import backend, blas

PRODUCTS = {"matmul", "dot"}
SECONDS = 3.0  # about how long each of a row's two measurements takes
PACKAGE = f"{Path(minilora.__file__).parent}/"

_clock = False  # True while a call is timed, so that NumPy's inner calls are not counted twice
_seconds: Counter[tuple[bool, str]] = Counter()  # (is it a product?, calling function in the package) -> seconds


def _timed(name: str, work, *args, **kwargs):
    """Call `work`, and add its seconds to the function of minilora that asked for it."""
    global _clock
    if _clock:
        return work(*args, **kwargs)
    frame = sys._getframe(1)
    while not frame.f_code.co_filename.startswith(PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    place = frame.f_code.co_qualname.replace(".<locals>.", " ")
    _clock, started = True, thread_time()
    try:
        return work(*args, **kwargs)
    finally:
        _seconds[name in PRODUCTS, place] += thread_time() - started
        _clock = False


class ClockedArray(np.ndarray):
    """An array that times NumPy's work on it. `base` is None if it owns its data, as for a plain array."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        plain = [_plain(x) for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(_plain(x) for x in out)
        result = _timed(ufunc.__name__, getattr(ufunc, method), *plain, **kwargs)
        return out[0] if out is not None and out[0] is not None else _clocked(result)

    def __array_function__(self, func, types, args, kwargs):
        out = kwargs.get("out")
        args = [[_plain(x) for x in a] if isinstance(a, (list, tuple)) else _plain(a) for a in args]
        result = _timed(func.__name__, func, *args, **{name: _plain(value) for name, value in kwargs.items()})
        return out if out is not None else _clocked(result)

    def __getitem__(self, index):
        if _is_basic(index):
            return super().__getitem__(index)
        return _clocked(_timed("getitem", _plain(self).__getitem__, index))

    def __setitem__(self, index, value):
        _timed("setitem", _plain(self).__setitem__, index, _plain(value))

    def copy(self, order="C"):
        return _clocked(_timed("copy", _plain(self).copy, order))

    def astype(self, *args, **kwargs):
        return _clocked(_timed("astype", _plain(self).astype, *args, **kwargs))

    @property
    def base(self):
        base = super().base
        return None if type(base) is np.ndarray and base.base is None and base.size == self.size else base


def _plain(x):
    return x.view(np.ndarray) if isinstance(x, ClockedArray) else x


def _clocked(x):
    return x.view(ClockedArray) if type(x) is np.ndarray else x


def _is_basic(index) -> bool:
    return not any(isinstance(i, (np.ndarray, list)) for i in (index if isinstance(index, tuple) else (index,)))


def clocked_backend() -> backend.Backend:
    """Make a backend that is NumPy with `ClockedArray`s."""

    def making(name: str):
        work = getattr(np, name)
        return lambda *args, **kwargs: _clocked(_timed(name, work, *args, **kwargs))

    namespace = SimpleNamespace(**{name: value for name, value in vars(np).items() if not name.startswith("_")})
    for name in ("empty", "zeros", "ones", "full", "arange", "asarray", "tri"):
        setattr(namespace, name, making(name))
    with backend.use("numpy"):
        return replace(
            backend._active, namespace=namespace, array_type=ClockedArray, from_host=_clocked, to_host=_plain
        )


backend.register("clocked", clocked_backend)


# Profiling


def profile(make: Callable, seconds: float) -> dict:
    """Profile some work.

    make: returns the work for a number of threads (None: all). seconds: about how long to measure on one thread, and
    again on all. Returns the CPU seconds of the work on one thread ("whole") and of its four parts, the seconds on all
    cores ("on all cores"), and "functions": {function: its seconds of elementwise work}.
    """
    blas.keep_freed_memory()  # training does this, too
    with backend.use("numpy"):
        work = make(None)
        work()
        rounds = max(3, round(seconds / timed(work, perf_counter)))
        on_all_cores = statistics.median(timed(work, perf_counter) for _ in range(rounds))
    with blas.one_thread():
        works = {}
        for name in ("numpy", "clocked"):
            with backend.use(name):
                works[name] = make(1)
                works[name]()
        whole = system = 0.0
        _seconds.clear()
        for _ in range(rounds):
            with backend.use("numpy"):
                before = getrusage(RUSAGE_SELF).ru_stime
                whole += timed(works["numpy"], process_time)
                system += getrusage(RUSAGE_SELF).ru_stime - before
            with backend.use("clocked"), patch("numpy.take", partial(_timed, "take", np.take)):
                works["clocked"]()
    products = sum(value for (is_product, _), value in _seconds.items() if is_product)
    inside = _seconds.total()
    parts = {"products": products, "elementwise": inside - products - system, "Python": whole - inside}
    parts = {name: value / rounds for name, value in (parts | {"allocation": system, "whole": whole}).items()}
    functions = {name: value / rounds for (is_product, name), value in _seconds.items() if not is_product}
    return parts | {"on all cores": on_all_cores, "functions": functions}


def timed(work: Callable, clock: Callable) -> float:
    started = clock()
    work()
    return clock() - started


def in_words(result: dict) -> list[str]:
    """Format the result of `profile` as two lines."""
    whole = result["whole"]
    parts = ("products", "elementwise", "Python", "allocation")
    shares = ", ".join(f"{name} {max(result[name], 0) / whole:.0%}" for name in parts)
    most = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in Counter(result["functions"]).most_common(3))
    faster = f"{whole / result['on all cores']:.2f} times as fast on {blas.cores()} cores"
    return [f"{1000 * whole:.1f} ms on one thread: {shares}", f"{faster}; elementwise: {most}"]


def works() -> dict[str, Callable]:
    """Return {row: function that makes the row's work for a number of threads (None: all)}."""
    makers = {
        f"{size}, {method}": partial(step.minilora_step, step.find_size(size), method, None)
        for size in step.IN_DEPTH
        for method in step.METHODS
    }
    makers |= {f"{name} 4096 x 4096": partial(quant.minilora_work, name, 4096) for name in quant.WORKS}
    return makers | {"SmolLM2-135M, greedy": lambda threads: decoding.minilora_work("any", lookup=False)}


def of_row(name: str) -> dict:
    """Profile a row; returns its two lines as "words"."""
    return {"words": in_words(profile(works()[name], SECONDS))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", help="profile only rows whose names contain this text (default: all)", default="")
    arguments = parser.parse_args()
    for name in works():
        if arguments.row in name:
            print("\n  ".join([name, *of_row(name)["words"]]), flush=True)


if __name__ == "__main__":
    main()
