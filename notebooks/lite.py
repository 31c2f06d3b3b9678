"""The notebooks as a site that runs them in the reader's browser: JupyterLite, with Pyodide as its kernel.

    python -m notebooks.lite               builds it into build/lite
    python -m notebooks.lite --out FOLDER  or there

Needs the extra `lite`, and nothing from outside. The site holds the notebooks, the lessons' readings, exercises and
checks, and a wheel of minilora; Python itself, NumPy and matplotlib come from Pyodide's server when a page is opened.
Each notebook gets a cell in front that installs what it needs, and a note on what differs there. The options of the
build are in docs/jupyter_lite_config.json.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from minilora.classroom.lessons.lesson import Lesson
from minilora.errors import MiniloraError, escape
from notebooks import make

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "docs" / "jupyter_lite_config.json"
KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel"  # whose settings in the site say where Pyodide and wheels are
# What of JupyterLab goes into the site, whatever else is installed: the kernel and the sliders.
EXTENSIONS = (
    "@jupyterlite/pyodide-kernel-extension",
    "@jupyter-widgets/jupyterlab-manager",
)
# Where a browser gives the page no storage, what a reader changes is kept in memory, until the page is closed.
DRIVERS = ["asyncStorage", "localStorageWrapper", "memoryStorageDriver"]
STORAGE = {
    "enableMemoryStorage": True,
    "contentsStorageDrivers": DRIVERS,
    "settingsStorageDrivers": DRIVERS,
}
STORAGE |= {"workspacesStorageDrivers": DRIVERS}
MARK = "jupyter-lite.json"  # a folder with this file in it is a site, and may be built anew

FIGURES = "figures"  # the folder of modules that notebooks import from beside them
TOKENIZERS = make.FOLDER / "browser" / "tokenizers.py"  # in place of the library
CHECKED = (
    "exercise.py",
    "solution.py",
    "checks.py",
    "driver.py",
    "device.py",
)  # of a lesson, what `minilora check` reads
INSTALL = "# In the browser only: what the cells below need.\n%pip install -q minilora ipywidgets"
NOTE = (
    "*This copy runs in your browser. The first cell takes a while, the first time most. One core computes there, "
    "without a fast matrix library: a cell that trains takes many minutes; what it came to elsewhere stands below it. "
    "Python's documentation, which some cells read, is that of the Python there, without the manual: numbers differ from those that the copy "
    "came with. A cell that does not end is ended by Kernel → Restart Kernel; what you changed stays.*"
)


def for_the_browser(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return the notebook with two cells in front: the differences in the browser, and the installation."""
    note: dict[str, Any] = {"cell_type": "markdown", "source": NOTE}
    install: dict[str, Any] = {
        "cell_type": "code",
        "source": INSTALL,
        "execution_count": None,
        "outputs": [],
    }
    for cell, name in ((note, "browser-note"), (install, "browser-install")):
        cell.update({"id": name, "metadata": {}})
    return notebook | {"cells": [note, install, *notebook["cells"]]}


def stage(folder: Path) -> None:
    """Write the files of the site: notebooks, and each lesson's reading with the files that a check needs."""
    import nbformat

    (folder / "notebooks").mkdir(parents=True)
    for path in make.sources([]):
        # nbformat joins the lists of lines in a file; JupyterLite shows those of an output with commas between.
        notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
        text = json.dumps(for_the_browser(notebook), ensure_ascii=False, indent=1)
        (folder / "notebooks" / f"{path.stem}.ipynb").write_text(text, "utf-8")
    shutil.copyfile(TOKENIZERS, folder / "notebooks" / TOKENIZERS.name)
    (folder / "notebooks" / FIGURES).mkdir()
    for path in make.FOLDER.glob(f"{FIGURES}/*.py"):
        shutil.copyfile(path, folder / "notebooks" / FIGURES / path.name)
    for lesson in [
        Lesson(path.parent)
        for path in sorted((ROOT / "lessons").glob("[0-9][0-9]_*/solution.py"))
    ]:
        target = folder / "lessons" / lesson.name
        target.mkdir(parents=True)
        checked = {
            name: path for name in CHECKED if (path := lesson.folder / name).is_file()
        }
        for name, path in {**lesson.readings, **checked}.items():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target / name)


def run(folder: Path, *command: str) -> None:
    """Run a step in `folder`. Raises MiniloraError, with what it printed, if it fails or warns."""
    process = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if process.returncode or "Warning" in process.stdout:
        raise MiniloraError(
            f"{' '.join(command[:3])} failed or warned:\n{process.stdout}"
        )


def build(out: Path) -> None:
    """Build the site into `out`. Raises MiniloraError if `out` has other files, and if a step fails or warns."""
    out = out.resolve()
    if out.exists() and not (
        out.is_dir() and ((out / MARK).is_file() or not any(out.iterdir()))
    ):
        raise MiniloraError(
            f"{escape(str(out))} exists already and is not a JupyterLite site"
        )
    installed = Path(sys.prefix) / "share" / "jupyter" / "labextensions"
    options = ["--config", str(CONFIG)]
    for extension in EXTENSIONS:
        if not (installed / extension).is_dir():
            raise MiniloraError(
                f'{extension} is not installed: pip install -e ".[lite]"'
            )
        options.append(
            f"--LiteBuildConfig.federated_extensions={installed / extension}"
        )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "site").mkdir()
        settings = {"jupyter-lite-schema-version": 0, "jupyter-config-data": STORAGE}
        (work / "site" / MARK).write_text(json.dumps(settings), "utf-8")
        stage(work / "files")
        run(ROOT, "-m", "hatchling", "build", "-t", "wheel", "-d", str(work / "wheels"))
        options += ["--lite-dir", str(work / "site"), "--output-dir", str(work / "out")]
        options += [
            "--contents",
            str(work / "files"),
            "--piplite-wheels",
            str(work / "wheels"),
        ]
        run(work, "-m", "jupyterlite_core", "build", *options)
        run(work, "-m", "jupyterlite_core", "check", *options)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(work / "out", out)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "build" / "lite",
        help="folder of the site (build/lite)",
    )
    arguments = parser.parse_args(argv)
    try:
        build(arguments.out)
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"built; to open it, run python -m http.server --bind 127.0.0.1 --directory {arguments.out} 8000"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
