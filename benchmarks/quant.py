"""Quantizing to NF4 and back, in blocks of 64, in minilora and in bitsandbytes on the CPU.

`benchmarks.speed` runs each library in a process of its own that works on request.
"""

from functools import cache

from benchmarks.harness import call

WORKS = ("dequantize", "quantize")


@cache
def weight(size: int):
    import numpy as np

    return np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)


def minilora_work(name: str, size: int, threads: int | None):
    """Return a function that quantizes or dequantizes once. threads: None for all cores."""
    from minilora import quant
    from minilora.threads import using

    array = weight(size)
    packed, state = quant.quantize_4bit(array)

    def work() -> None:
        with using(threads):
            quant.quantize_4bit(array) if name == "quantize" else quant.dequantize_4bit(packed, state)

    return work


def bitsandbytes_work(name: str, size: int, threads: int | None):
    import torch
    from bitsandbytes import functional

    torch.set_num_threads(threads or torch.get_num_threads())
    array = torch.from_numpy(weight(size))
    packed, state = functional.quantize_4bit(array, quant_type="nf4")
    if name == "quantize":
        return lambda: functional.quantize_4bit(array, quant_type="nf4")
    return lambda: functional.dequantize_4bit(packed, state)


LIBRARIES = {"minilora": minilora_work, "bitsandbytes": bitsandbytes_work}


def step(library: str, name: str, size: int, threads: int | None):
    """Return a function that quantizes or dequantizes once, for a Runner."""
    work = LIBRARIES[library](name, size, threads)

    def once() -> float:
        work()
        return 0.0

    return once


def arguments_of(library: str, name: str, size: int, threads: int | None) -> list[str]:
    """Return the arguments for a Runner that quantizes or dequantizes."""
    return [*call("benchmarks.quant.step", library, name, size, threads), library, "cpu"]
