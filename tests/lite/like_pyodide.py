"""The notebooks' code under the browser's limits, in CPython: which of them run to their end, and how long it takes.

python -m tests.lite.like_pyodide [NN …]
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from minilora.classroom.publish import notebooks

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


if __name__ == "__main__":
    failed = []
    for source in notebooks.sources(sys.argv[1:]):
        start = time.monotonic()
        try:
            done = run(code_of(source.with_suffix(".ipynb")), notebooks.FOLDER)
            said = "runs to its end" if done.returncode == 0 else f"stops: {done.stderr.splitlines()[-1]}"
        except subprocess.TimeoutExpired:
            said = "does not end"
        failed += [source.stem] * (said != "runs to its end")
        print(f"{source.stem:<20} {said}, {time.monotonic() - start:.0f} s", flush=True)
    sys.exit(len(failed) > 0)
