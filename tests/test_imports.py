"""pytest tests/test_imports.py: each floor of the house imports from those below it only, and importing stays light."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

PACKAGE = Path(__file__).parent.parent / "minilora"

# From the ground up. Each file or folder stands on one floor; those on one floor do not import each other, but for the
# two halves of the engine: the operations of `ops` make Tensors, and a Tensor's operators and methods are operations.
HALVES = {"tensor", "ops"}
FLOORS = [
    ["errors", "palette"],
    ["elsewhere"],
    ["fields"],
    ["blas"],
    ["backend"],
    ["kernels"],
    ["graph"],
    ["tensor", "ops"],
    ["functional", "gradcheck"],
    ["nn"],
    ["checkpointing"],
    ["threads"],
    ["optim"],
    ["formats"],
    ["models"],
    ["quant"],
    ["peft"],
    ["show"],
    ["plan"],
    ["data"],
    ["train"],
    ["measure"],
    ["demo"],
    ["classroom"],
    ["commands"],
    ["cli"],
]
HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}
EXEMPT = {"__init__", "__main__"}  # of the package itself: they gather what the floors offer
LONGEST = 400  # lines of a file
LONGER = {
    "tensor": 490,  # all operators and methods of a Tensor
    "ops": 460,  # every operation with its gradient
}


@cache
def modules() -> dict[str, Path]:
    """Return the path of every module of the package by its dotted name without `minilora`."""
    paths = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return paths


def imported(source: str, module: str, is_package: bool) -> set[str]:
    """Return the absolute dotted names that a module's text imports anywhere, `minilora.x.y` for its own package's.

    `from package import name` counts as `package.name`, whether the name is a module or something in it.
    """
    full = ["minilora", *module.split(".")]
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = full[: len(full) - node.level + is_package] if node.level else []
            home = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{home}.{alias.name}" for alias in node.names}
    return names


@cache
def packages(module: str) -> set[str]:
    """Return the top-level packages that a module of the package imports anywhere."""
    return {name.partition(".")[0] for name in imported(modules()[module].read_text("utf-8"), module, False)}


def arrows_up(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return a module's imports from other rooms of its floor or from above; all imports if it has no floor."""
    room = module.partition(".")[0]
    wrong = []
    for name in sorted(imported(source, module, is_package)):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top != "minilora" or target in (room, "__version__") or {room, target} == HALVES:
            continue
        if target not in HEIGHT or room not in HEIGHT or HEIGHT[target] >= HEIGHT[room]:
            wrong.append(f"{module} imports {name}")
    return wrong


def test_every_file_stands_on_a_floor():
    homeless = {name.partition(".")[0] for name in modules()} - set(HEIGHT) - EXEMPT
    assert not homeless, f"not in FLOORS: {homeless}"


def test_no_arrow_points_up():
    wrong = [
        arrow
        for name, path in modules().items()
        if name not in EXEMPT
        for arrow in arrows_up(path.read_text("utf-8"), name, path.name == "__init__.py")
    ]
    assert wrong == []


def test_an_arrow_that_points_up_is_seen():
    for source, module in [
        ("from .tensor import Tensor", "graph"),
        ("from . import nn, backend", "ops"),
        ("def f():\n    from ..peft.lora import LoraConfig", "models.llama"),
        ("from .ops import add", "attic"),
    ]:
        assert len(arrows_up(source, module)) == 1


def test_the_engine_sees_arrays_through_xp_alone():
    engine = [name for name in modules() if name.startswith(("graph", "tensor", "ops", "func"))]
    assert len(engine) > 5 and not {"numpy", "cupy"} & set().union(*map(packages, engine))


def strangers(source: str, module: str) -> set[str]:
    """Return a module's imports of checkout folders beside the package, which an installed package lacks."""
    beside = {path.stem for path in PACKAGE.parent.iterdir() if path.is_dir()} - {"minilora"}
    return {name for name in imported(source, module, False) if name.partition(".")[0] in beside}


def test_the_package_needs_nothing_beside_it():
    foreign = {name: strangers(path.read_text("utf-8"), name) for name, path in modules().items()}
    assert {"experiments", "benchmarks"} <= {path.name for path in PACKAGE.parent.iterdir()}
    assert {name: names for name, names in foreign.items() if names} == {}
    assert strangers("def f():\n    from experiments.results import page", "cli") == {"experiments.results.page"}


def test_notebooks_need_the_package_alone():
    for path in sorted((PACKAGE.parent / "notebooks").glob("*.py")):
        if path.stem not in ("make", "lite"):  # which make the notebooks, and are not imported by them
            assert strangers(path.read_text("utf-8"), path.stem) == set(), path.name


def test_no_file_is_too_long_to_read_at_once():
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules().items()}
    assert {name: count for name, count in lines.items() if count > LONGER.get(name, LONGEST)} == {}


def test_only_the_backend_imports_cupy():
    assert {name for name in modules() if packages(name) & {"cupy", "cupyx"}} == {"backend"}


def test_importing_the_package_loads_nothing_heavy():
    heavy = ["matplotlib", "pandas", "torch", "transformers", "tokenizers", "rich", "cupy", "IPython"]
    start = "import sys; from minilora import Tensor, functional, nn, optim"
    code = f"{start}; print([name for name in {heavy} if name in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (process.stdout, process.stderr) == ("[]\n", "")
