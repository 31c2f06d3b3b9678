"""Run the notebooks' code in CPython under the browser's limits, and report which reach their end, and how fast.

python -m tests.lite.like_pyodide [NN …]
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from minilora.classroom.lessons.lesson import find_lesson
from notebooks import lite, make

LIMIT = 900  # seconds for one notebook
# These modules are not there, no process and no thread starts, one core computes.
START = """
import os, sys, sysconfig, threading
sysconfig.get_config_vars()
sys.platform = "emscripten"
sys.modules |= dict.fromkeys(("resource", "fcntl", "_posixsubprocess"))
del os.fork
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
from minilora import blas
blas.cores = lambda: 1
exec(compile(sys.stdin.read(), "cells", "exec"))
"""


def run(code: str, folder: Path, package: Path = make.FOLDER.parent) -> subprocess.CompletedProcess:
    """Run code in `folder`, with the minilora that lies in `package`. Raises TimeoutExpired after LIMIT."""
    path = os.pathsep.join(map(str, (package, lite.TOKENIZERS.parent)))  # in the site, beside the notebooks
    more = {"OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", START],
        input=code,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | more,
        timeout=LIMIT,
    )


def cells_of(notebook: Path) -> list[dict]:
    return [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def code_of(notebook: Path) -> str:
    """Return the code of the site's copy, without its installation cells."""
    return "\n".join("".join(cell["source"]) for cell in cells_of(notebook)[1:])


def not_printed(notebook: Path, printed: str) -> list[str]:
    """Return the stored output lines that a run did not print, in their order; numbers may differ by 5 %."""
    texts = ["".join(output.get("text", "")) for cell in cells_of(notebook) for output in cell["outputs"]]
    left = iter(printed.splitlines())
    return [line for text in texts for line in text.splitlines() if not any(make.alike(line, now) for now in left)]


def outcome(code: str, folder: Path, package: Path, notebook: Path | None = None) -> str:
    """Return "yes" and the seconds, or the reason of a failure."""
    start = perf_counter()
    try:
        done = run(code, folder, package)
    except subprocess.TimeoutExpired:
        return f"not within {LIMIT} s"
    if done.returncode:
        return f"no: {(done.stderr or done.stdout).splitlines()[-1]}"
    if notebook and (missing := not_printed(notebook, done.stdout)):
        return f"no: it did not print {missing[0]!r}"
    return f"yes ({perf_counter() - start:.0f} s)"


def main(numbers: list[str]) -> int:
    outcomes = []
    with TemporaryDirectory() as folder:
        files = Path(folder, "files")
        lite.stage(files)
        package = Path(folder, "package")  # apart from the checkout, whose lessons come before those in `files`
        shutil.copytree(make.FOLDER.with_name("minilora"), package / "minilora")
        for source in make.sources(numbers):
            lesson = find_lesson(source.stem[:2])
            notebook = files / "notebooks" / f"{source.stem}.ipynb"
            outcomes.append(outcome(code_of(notebook), notebook.parent, package, notebook))
            (files / "lessons" / lesson.name / "exercise.py").write_text(lesson.source.text, encoding="utf-8")
            check = f"from minilora.cli import main\nassert not main(['check', '{lesson.number:02d}'])"
            outcomes.append(outcome(check, notebook.parent, package))
            print(f"{source.stem}: the notebook ends: {outcomes[-2]}; the solution passes: {outcomes[-1]}", flush=True)
    return 0 if all(outcome.startswith("yes") for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
