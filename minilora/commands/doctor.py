"""`minilora doctor`: show what the machine offers, and test that minilora computes correct gradients on it."""

import os
from argparse import Namespace
from tempfile import TemporaryDirectory
from textwrap import fill

import numpy as np

from minilora import backend
from minilora import functional as F
from minilora.commands.common import Parser, add_flag, print_result
from minilora.errors import MiniloraError, escape, line_width
from minilora.gradcheck import gradcheck
from minilora.measure.records import machine
from minilora.plan.fits import machine_memory
from minilora.show.grids import show_size
from minilora.tensor import Tensor


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora doctor"
    add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    """Print what the machine offers. Raises MiniloraError if the gradient check fails."""
    rng = np.random.default_rng(0)
    q, k, v = (Tensor(backend.asarray(rng.standard_normal((1, 2, 5, 4))), requires_grad=True) for _ in range(3))
    try:
        gradcheck(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q, k, v)
    except AssertionError as error:
        raise MiniloraError(f"a gradient check failed on this machine: {error}") from error
    facts, memory = machine(), machine_memory()
    findings = {name: str(value) for name, value in facts.items() if value} | {
        "processor": facts["processor"]["name"],
        "memory": "unknown" if memory is None else show_size(memory),
        "backend": backend.name,
        "cupy": state_of_cupy(),
        "gradients": "correct (those of attention match finite differences)",
    }
    lines = (fill(f"{name:<14} {value}", line_width(), subsequent_indent=15 * " ") for name, value in findings.items())
    print_result(arguments, findings, "\n".join(lines))


def state_of_cupy() -> str:
    """Say whether the CuPy backend works, or why not.

    CuPy makes its cache folder, by default ~/.cupy, as soon as it is imported. So this test gives it a temporary one.
    """
    before = os.environ.get("CUPY_CACHE_DIR")
    with TemporaryDirectory() as folder:
        os.environ["CUPY_CACHE_DIR"] = folder
        try:
            with backend.use("cupy"):
                return "works"
        except (MiniloraError, OSError) as error:
            return escape(str(error), 200)
        finally:
            if before is None:
                del os.environ["CUPY_CACHE_DIR"]
            else:
                os.environ["CUPY_CACHE_DIR"] = before
