"""Run every test on each available backend: NumPy, the stand-in for CuPy (strict.py), and CuPy if a GPU is found.

A test that touches no array of the backend (files, data, the command line) says so, for its module or for itself, and
runs once, on NumPy:

    pytestmark = pytest.mark.host

MINILORA_BACKEND=numpy, =strict or =cupy restricts the others to that one backend; =kernels is `strict` with what a GPU
runs as kernels (minilora/kernels.py) made by the host's C++ compiler. HYPOTHESIS_PROFILE=ci tries 200
examples a property in place of 25.

`pytest` runs the quick tier. It leaves out what is marked slow (runs of seconds, every wrong answer to every lesson,
processes that are killed) and, but for the engine's own tests beside this file, all backends but NumPy. What is named
with `::` runs in any case. Tests start with an empty home, but for those that download: `pytest -m download`.
"""

import os
import random
import shutil
import signal
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

# minilora reads the variable when it is imported, knows no "strict", and so do the processes that tests start.
_only = os.environ.pop("MINILORA_BACKEND", None)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from minilora import backend, nn  # noqa: E402
from tests.helpers import host_kernels, strict  # noqa: E402

HERE = Path(__file__).parent

# What needs the parity, teach, lite or cuda12-check extra is no part of the suite where that is not installed.
NEEDS = {
    "parity": ("torch", "transformers", "peft"),
    "teach": ("nbgrader",),
    "gpu": ("cupy",),
    "lite": ("jupyterlite_core", "jupyterlite_pyodide_kernel", "hatchling"),
}
USERS = ("XDG_", "MPL", "MINILORA_", "COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR")  # variables that begin so
collect_ignore = [folder for folder, names in NEEDS.items() if not all(map(find_spec, names))]

backend.register("strict", strict.load)
backend.register("kernels", host_kernels.load)

settings.register_profile("default", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def _gpu_works() -> bool:
    try:
        with warnings.catch_warnings(action="ignore"), backend.use("cupy"):
            return backend.xp.ones(3).sum().item() == 3
    except Exception:  # noqa: BLE001 (no CuPy, device or driver, or one that cannot compile: a class for each)
        return False


def _backends() -> list[str]:
    known = ["numpy", "strict", "cupy", "kernels"]
    if _only is not None:
        if _only not in known:
            raise pytest.UsageError(f"MINILORA_BACKEND={_only!r}: the tests know {', '.join(known)}")
        return [_only]
    return known[:3] if _gpu_works() else known[:2]


def _start_as_a_stranger(config) -> None:
    """Give this process and its children an empty home, without the user's settings and downloads."""
    for name in list(os.environ):
        if name.startswith(USERS):
            del os.environ[name]
    if hasattr(config, "workerinput"):  # its home came with it; COLUMNS did, too, which readline sets
        return
    home = tempfile.mkdtemp(prefix="minilora-home-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    os.environ["HOME"] = home
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a script's background jobs, which pass it on
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    is_worker = hasattr(config, "workerinput")  # of pytest-xdist
    if config.option.markexpr != "download":
        _start_as_a_stranger(config)
    if any("::" in name for name in config.args) and config.option.markexpr in config.getini("addopts"):
        config.option.markexpr = ""
    config.addinivalue_line("markers", "host: touches no array of the backend, and so runs once, on NumPy")
    config.minilora_backends = config.workerinput["backends"] if is_worker else _backends()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["backends"] = node.config.minilora_backends  # workers do not inherit MINILORA_BACKEND


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("host") is None:
        is_engine = metafunc.definition.path.parent == HERE
        backends = [
            pytest.param(name, marks=pytest.mark.slow if number and not is_engine else [])
            for number, name in enumerate(metafunc.config.minilora_backends)
        ]
        metafunc.parametrize("backend_name", backends, indirect=True, scope="module")


@pytest.fixture(autouse=True, scope="module")
def backend_name(request) -> str:
    """Return the name of the backend that the test runs on. Fixtures that make arrays must request it, too."""
    name = getattr(request, "param", "numpy")
    with backend.use(name):
        yield name


@pytest.fixture(autouse=True)
def _same_start(request, backend_name):
    """Start each test on its backend, whatever the previous test did, with the global generators seeded."""
    random.seed(0)
    np.random.seed(0)
    nn.manual_seed(0)
    with backend.use(backend_name):
        yield
    if request.node.get_closest_marker("download") is None:
        assert not Path("~/.cache/minilora").expanduser().exists(), (
            "the test leaves files in the cache: give it a MINILORA_CACHE of its own"
        )
