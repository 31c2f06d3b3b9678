"""Records of cells that train: in a reader's browser, where products of matrices are slow, they are read instead.

The site's build runs a notebook once, and keeps of each cell with the tag `record` what it showed and the variables
that code below reads (`make`). In the site's copy such a cell begins with a line `%%recorded FILE NAMES`, which reads
the FILE and does not compute. Without this line, or with other code below it, the cell computes as anywhere else.

A record is an .npz archive: the arrays; a JSON text with the code, the seconds it took and what it showed; and a
pickle of the variables without their arrays. A pickle, since the variables are models of all methods, in dictionaries
and tuples, beside histories and texts. It comes from the site that the library comes from. A weight near one of the
base's is kept as its difference from that one, in 16 bits; equal ones take no space.
"""

import ast
import copy
import dis
import json
import pickle
from collections.abc import Callable, Collection
from functools import cache
from io import BytesIO
from pathlib import Path
from time import perf_counter
from types import CodeType
from typing import Any

import numpy as np

from minilora.train import recipes

TAG, FOLDER = "record", "records"
SECONDS = 900  # for one cell
EXTENSION = f"%load_ext {__name__}"  # what makes %%recorded known
DEFINITIONS = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
OWN_SCOPE = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


# Which cells, and which of their variables


def _assigned(node: ast.AST) -> set[str]:
    """Names that a cell assigns or changes by `name[...] = ` and `name.x = `, not those inside functions."""
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, OWN_SCOPE):
            continue
        target: Any = child
        if isinstance(getattr(child, "ctx", None), ast.Store):
            while isinstance(target, ast.Subscript | ast.Attribute):
                target = target.value
            if isinstance(target, ast.Name):
                found.add(target.id)
        found |= _assigned(child)
    return found


def _flow(code: CodeType, stored: Collection[str] = ()) -> tuple[set[str], set[str]]:
    """Names that the code reads before it assigns them, in functions too, and names that it assigns."""
    needed, own = set(), set(stored)
    for step in dis.get_instructions(code):
        if isinstance(step.argval, CodeType):
            needed |= _flow(step.argval, own)[0]
        elif step.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            needed |= {step.argval} - own
        elif step.opname == "STORE_NAME":
            own.add(step.argval)
    return needed, own


def _definitions(code: str) -> CodeType:
    """The functions, classes and imports of a cell."""
    tree = ast.parse(code)
    tree.body = [node for node in tree.body if isinstance(node, DEFINITIONS)]
    return compile(tree, "<a recorded cell>", "exec")


def with_magic(notebook: dict[str, Any], stem: str, magic: str) -> dict[str, Any]:
    """The notebook, with a line in front of each cell to record: the magic, its file, the variables needed below."""
    notebook = copy.deepcopy(notebook)
    below: set[str] = set()  # what the cells below read
    for i, cell in reversed(list(enumerate(notebook["cells"]))):
        if cell["cell_type"] != "code":
            continue
        code = cell["source"]
        if TAG in cell["metadata"].get("tags", ()):
            names = sorted(_assigned(ast.parse(code)) & (below | _flow(_definitions(code))[0]))
            cell["source"] = " ".join([f"%%{magic} {FOLDER}/{stem}_{i:02d}.npz", *names]) + f"\n{code}"
        needed, own = _flow(compile(code, "<a cell>", "exec"))
        below = needed | (below - own)
    return notebook


# The file


@cache
def _base() -> dict[str, np.ndarray]:
    return {name: p.numpy() for name, p in recipes.load_model("base")[0].named_parameters()}


class _Pickler(pickle.Pickler):
    """Keeps arrays apart, in `arrays`."""

    def __init__(self, file: BytesIO):
        super().__init__(file, protocol=5)
        self.arrays: dict[str, np.ndarray] = {}

    def persistent_id(self, value: Any) -> tuple[str | None, str | None] | None:
        if type(value) is not np.ndarray:
            return None
        alike = {n: b for n, b in _base().items() if b.shape == value.shape and b.dtype == value.dtype}
        near = min(alike, key=lambda name: np.linalg.norm(value - alike[name]), default=None)
        if near is not None and np.array_equal(value, alike[near]):
            return near, None
        if near is not None and np.linalg.norm(value - alike[near]) < np.linalg.norm(value) / 2:
            kept = (value - alike[near]).astype("float16")
        else:
            near, kept = None, value
        key = f"array_{len(self.arrays)}"
        self.arrays[key] = kept
        return near, key


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BytesIO, arrays: Any):
        super().__init__(file)
        self.arrays = arrays

    def persistent_load(self, pid: Any) -> np.ndarray:
        near, key = pid
        if near is None:
            return self.arrays[key]
        return _base()[near].copy() if key is None else _base()[near] + self.arrays[key]


def write(path: Path, about: dict[str, Any], variables: dict[str, Any]) -> None:
    """about: the cell's `code`, the `seconds` it took, the `text` it printed, and data of what else was `shown`."""
    stream = BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(variables)
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), "uint8")}
    arrays |= {"variables": np.frombuffer(stream.getvalue(), "uint8")} | pickler.arrays
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def read(path: Path) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """About the record, and a function that reads its variables. OSError where there is none."""
    archive = np.load(BytesIO(path.read_bytes()))
    return json.loads(archive["about"].tobytes()), _Unpickler(BytesIO(archive["variables"].tobytes()), archive).load


# In a notebook


def recorded(line: str, code: str, namespace: dict[str, Any], compute: Callable[[str], Any]) -> None:
    """Show what the code showed, and set what it assigned. Where the record is of other code, or not there: compute."""
    try:
        about, variables = read(Path(line.split()[0]))
    except OSError:
        about = {"code": None}
    if about["code"] != code.strip():
        print("(There is no record of this code: it is computed.)")
        compute(code)
        return
    exec(_definitions(code), namespace)
    namespace.update(variables())
    print(about["text"], end="")
    if about["shown"]:
        from IPython.display import display

        for data in about["shown"]:
            display(data, raw=True)
    print(f"({about['seconds']:.0f} s of computing, read from a record. To compute: delete the line %%recorded.)")


def record(line: str, code: str, shell: Any) -> None:
    """Run the code, and write its record."""
    from IPython.utils.capture import capture_output

    path, *names = line.split()
    start = perf_counter()
    with capture_output() as captured:
        result = shell.run_cell(code)
    result.raise_error()
    shown = [output.data for output in captured.outputs]
    about = {"code": code.strip(), "seconds": perf_counter() - start, "text": captured.stdout, "shown": shown}
    write(Path(path), about, {name: shell.user_ns[name] for name in names})


def load_ipython_extension(shell: Any) -> None:
    """What %load_ext calls."""
    read_it = lambda line, cell: recorded(line, cell, shell.user_ns, shell.run_cell)  # noqa: E731
    shell.register_magic_function(read_it, "cell", "recorded")
    shell.register_magic_function(lambda line, cell: record(line, cell, shell), "cell", "record")


def make(notebook: dict[str, Any], stem: str, folder: Path) -> dict[str, Any]:
    """Run the notebook in `folder`, down to its last cell to record, and write the records there; the notebook that
    reads them.

    nbclient's CellExecutionError where a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient

    running = nbformat.from_dict(with_magic(notebook, stem, "record"))
    while running.cells and not running.cells[-1].source.startswith("%%record "):
        running.cells.pop()
    if running.cells:
        running.cells.insert(0, nbformat.v4.new_code_cell(EXTENSION))
        where = {"metadata": {"path": folder}}
        NotebookClient(running, timeout=SECONDS, kernel_name="python3", resources=where).execute()
    return with_magic(notebook, stem, "recorded")
