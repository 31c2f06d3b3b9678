"""`minilora doctor`: what the machine offers, and a short proof that minilora computes right on it."""

import platform
import shutil
from argparse import Namespace
from importlib import metadata

import numpy as np

from minilora import backend, blas
from minilora import functional as F
from minilora.commands.common import Parser, add_json, print_result
from minilora.errors import MiniloraError
from minilora.gradcheck import gradcheck
from minilora.tensor import Tensor
from minilora.train.load import base_folder


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora doctor"
    add_json(parser)


def run(arguments: Namespace) -> None:
    findings = examine()
    print_result(arguments, findings, "\n".join(f"{name:<14} {value}" for name, value in findings.items()))


def examine() -> dict[str, str]:
    """Findings by name, in the order to show them. Raises MiniloraError where a check of the computation fails."""
    packages = ("minilora", "numpy", "tokenizers", "matplotlib", "cupy-cuda12x")
    kernels = [f"{b['internal_api']} {b['version']}, {b.get('architecture', '?')} kernels" for b in blas.describe()]
    findings = {
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": ", ".join(f"{package} {_version(package)}" for package in packages),
        "cores": str(blas.cores()),
        "BLAS": "; ".join(kernels) or "unknown to threadpoolctl",
        "memory": _memory(),
        "disk free": f"{shutil.disk_usage('.').free / 2**30:.1f} GiB here",
        "backend": backend.name,
        "cupy": _cupy(),
        "base model": "here" if (base_folder() / "config.json").is_file() else "missing",
    }
    rng = np.random.default_rng(0)
    q, k, v = (Tensor(backend.asarray(rng.standard_normal((1, 2, 5, 4))), requires_grad=True) for _ in range(3))
    try:
        gradcheck(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q, k, v)
    except AssertionError as error:
        raise MiniloraError(f"a gradient check failed on this machine: {error}") from error
    return findings | {"gradients": "attention agrees with central differences"}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _memory() -> str:
    try:
        with open("/proc/meminfo") as file:
            facts = dict(line.split(":") for line in file)
        total, free = (int(facts[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
        return f"{total:.1f} GiB, {free:.1f} available"
    except (OSError, KeyError, ValueError):  # not Linux
        return "unknown"


def _cupy() -> str:
    try:
        with backend.use("cupy"):
            return "works"
    except MiniloraError as error:
        return str(error)
