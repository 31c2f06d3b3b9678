"""Quantizing and dequantizing in minilora and in bitsandbytes on the CPU: the same arrays, taking turns in one run.

    pip install -e ".[parity]" && python -m benchmarks.quant

NF4 with blocks of 64. Each library runs in a process of its own and works when it is told to, so neither disturbs the
other. Printed are milliseconds, minilora's GB/s (bytes of the float32 array, which is read or written), and the median
of the rounds' ratios, with one thread and with all cores; then the bits per number, from the arrays' own bytes.
"""

import argparse
import json
import statistics
import subprocess
import sys
from functools import cache
from time import perf_counter

from benchmarks.harness import environment, median_ratio

SIZES = (256, 1024, 4096)
FORMS = {"nf4": {}, "nf4, double": {"compress_statistics": True}}


@cache
def weight(size: int):
    import numpy as np

    return np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)


class Minilora:
    def __init__(self):
        from minilora import quant

        self.quant = quant

    def work(self, name: str, size: int, form: str, threads: int):
        """A function that quantizes or dequantizes once."""
        array, options = weight(size), FORMS[form]
        packed, state = self.quant.quantize_4bit(array, **options)
        if name == "quantize":
            return lambda: self.quant.quantize_4bit(array, **options, threads=threads or None)
        return lambda: self.quant.dequantize_4bit(packed, state, threads=threads or None)

    def bytes(self, form: str) -> int:
        packed, state = self.quant.quantize_4bit(weight(SIZES[-1]), **FORMS[form])
        return packed.nbytes + state.nbytes


class Bitsandbytes:
    def __init__(self):
        import bitsandbytes.functional
        import torch

        self.functional, self.torch, self.cores = bitsandbytes.functional, torch, torch.get_num_threads()

    def work(self, name: str, size: int, form: str, threads: int):
        self.torch.set_num_threads(threads or self.cores)
        array, options = self.torch.from_numpy(weight(size)), {"quant_type": "nf4", **FORMS[form]}
        packed, state = self.functional.quantize_4bit(array, **options)
        if name == "quantize":
            return lambda: self.functional.quantize_4bit(array, **options)
        return lambda: self.functional.dequantize_4bit(packed, state)

    def bytes(self, form: str) -> int:
        array = self.torch.from_numpy(weight(SIZES[-1]))
        packed, state = self.functional.quantize_4bit(array, quant_type="nf4", **FORMS[form])
        parts = [packed, state.absmax, *([state.offset, state.state2.absmax] if state.nested else [])]
        return sum(part.nbytes for part in parts)


LIBRARIES = {"minilora": Minilora, "bitsandbytes": Bitsandbytes}


def serve(library: str) -> None:
    """Do what each line of standard input says: {"bytes": form}, or {"work": […], "count": …}, answered in seconds."""
    runner = LIBRARIES[library]()
    prepared = cache(runner.work)
    for line in sys.stdin:
        order = json.loads(line)
        if "bytes" in order:
            answer = runner.bytes(order["bytes"])
        else:
            work = prepared(*order["work"])
            if library == "bitsandbytes":
                runner.torch.set_num_threads(order["work"][-1] or runner.cores)
            started = perf_counter()
            for _ in range(order["count"]):
                work()
            answer = (perf_counter() - started) / order["count"]
        print(json.dumps(answer), flush=True)


class Runner:
    """A library in a process of its own. folder: of the code that it runs, where that is not this one."""

    def __init__(self, library: str, folder=None):
        command = [sys.executable, "-m", "benchmarks.quant", "--serve", library]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, **pipes, text=True, cwd=folder, env=environment(folder))

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def take_turns(runners: dict[str, Runner], work: tuple, rounds: int) -> dict[str, list[float]]:
    """The seconds of each runner in each round, with about a tenth of a second a turn."""
    counts = {}
    for name, runner in runners.items():
        runner.ask(work=work, count=2)  # warm up
        counts[name] = max(1, round(0.1 / runner.ask(work=work, count=2)))
    turns = [{name: r.ask(work=work, count=counts[name]) for name, r in runners.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in turns] for name in runners}


def compare(runners: dict[str, Runner], work: tuple, rounds: int) -> dict:
    """Median seconds of each library, and the median of the rounds' ratios."""
    seconds = take_turns(runners, work, rounds)
    medians = {name: statistics.median(of_one) for name, of_one in seconds.items()}
    return medians | {"ratio": median_ratio(seconds["bitsandbytes"], seconds["minilora"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", choices=LIBRARIES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve)

    from minilora import blas

    runners = {name: Runner(name) for name in LIBRARIES}
    print(f"{blas.cores()} cores; medians of {arguments.rounds} rounds")
    print(f"{'work':<12}{'size':<13}{'form':<13}{'threads':>7}{'minilora':>12}{'':>10}{'bitsandbytes':>14}{'ratio':>7}")
    for name in ("dequantize", "quantize"):
        for size in SIZES:
            for form in FORMS if size == SIZES[-1] else ["nf4"]:
                for threads in (1, 0):
                    r = compare(runners, (name, size, form, threads), arguments.rounds)
                    speed = 4 * size**2 / r["minilora"] / 1e9
                    print(
                        f"{name:<12}{f'{size} x {size}':<13}{form:<13}{threads or 'default':>7}"
                        f"{r['minilora'] * 1e3:>9.2f} ms{speed:>5.1f} GB/s{r['bitsandbytes'] * 1e3:>11.2f} ms"
                        f"{r['ratio']:>7.2f}",
                        flush=True,
                    )
    for form in FORMS:
        bits = {name: 8 * runner.ask(bytes=form) / SIZES[-1] ** 2 for name, runner in runners.items()}
        print(f"bits per number, {form}: " + ", ".join(f"{name} {value:.6f}" for name, value in bits.items()))
    for runner in runners.values():
        runner.close()


if __name__ == "__main__":
    main()
