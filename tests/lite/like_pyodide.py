"""The notebooks' code under the browser's limits, in CPython: which of them run to their end, and how long it takes.

python -m tests.lite.like_pyodide [NN …]
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from minilora.classroom.lessons.lesson import find_lesson
from minilora.classroom.publish import lite, notebooks

LIMIT = 900  # seconds for one notebook
# These modules are not there, no process and no thread starts, one core computes.
START = """
import os, sys, sysconfig, threading
sysconfig.get_config_vars()
sys.platform = "emscripten"
sys.modules |= dict.fromkeys(("tokenizers", "resource", "fcntl", "_posixsubprocess"))
del os.fork
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
from minilora import blas
blas.cores = lambda: 1
exec(compile(sys.stdin.read(), "cells", "exec"))
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess:
    """Run code in `folder`. TimeoutExpired after LIMIT."""
    more = {"OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONPATH": str(notebooks.FOLDER.parent)}
    return subprocess.run(
        [sys.executable, "-c", START],
        input=code,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | more,
        timeout=LIMIT,
    )


def code_of(notebook: Path) -> str:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def outcome(code: str, folder: Path) -> str:
    """ "yes", or why not."""
    try:
        done = run(code, folder)
    except subprocess.TimeoutExpired:
        return f"not within {LIMIT} s"
    return "yes" if done.returncode == 0 else f"no: {(done.stderr or done.stdout).splitlines()[-1]}"


def main(numbers: list[str]) -> int:
    outcomes = []
    with TemporaryDirectory() as folder:
        files = Path(folder, "files")
        lite.stage(files)
        for source in notebooks.sources(numbers):
            lesson = find_lesson(source.stem[:2])
            (files / "lessons" / lesson.name / "exercise.py").write_text(lesson.source.text, encoding="utf-8")
            check = f"from minilora.cli import main\nsys.exit(main(['check', '{lesson.number:02d}']))"
            outcomes.append(outcome(code_of(source.with_suffix(".ipynb")), notebooks.FOLDER))
            outcomes.append(outcome(check, files / "notebooks"))
            print(f"{source.stem}: the notebook ends: {outcomes[-2]}; the solution passes: {outcomes[-1]}", flush=True)
    return 0 if set(outcomes) == {"yes"} else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
