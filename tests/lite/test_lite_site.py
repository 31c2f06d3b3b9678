"""pytest tests/lite: the site for the browser. Here: it builds without the net and holds what it should."""

import email
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

import minilora
from minilora.classroom.lessons.kit import KIT
from minilora.classroom.lessons.lesson import all_lessons
from minilora.classroom.publish import lite
from minilora.errors import MiniloraError

pytestmark = pytest.mark.host

NOTEBOOKS = sorted((lite.ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(scope="module")
def wheel(site):
    (wheel,) = (site / "pypi").glob("*.whl")
    return wheel


def test_every_notebook_is_there_with_its_pictures_and_two_cells_in_front(site):
    assert [path.name for path in sorted((site / "files/notebooks").iterdir())] == [path.name for path in NOTEBOOKS]
    for path in NOTEBOOKS:
        built = json.loads((site / "files/notebooks" / path.name).read_text())
        assert built["cells"][2:] == json.loads(path.read_text())["cells"]
        assert ["".join(cell["source"]) for cell in built["cells"][1:2]] == [lite.INSTALL]
        listed = json.loads((site / "api/contents/notebooks/all.json").read_text())["content"]
        assert path.name in {entry["name"] for entry in listed}


def test_readings_and_exercises_are_there_and_solutions_are_not(site):
    files = [path for path in site.glob("files/lessons/**/*") if path.is_file()]
    found = {path.relative_to(site / "files/lessons").as_posix() for path in files}
    assert found == {
        f"{lesson.name}/{name}" for lesson in all_lessons() for name in (*lesson.readings, "exercise.py", KIT)
    }


def test_the_wheel_is_pure_whole_and_leaves_out_what_pyodide_lacks(wheel):
    assert wheel.name == f"minilora-{minilora.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
        inside = {name for name in archive.namelist() if name.startswith("minilora/")}
    assert (metadata["Name"], metadata["Version"]) == ("minilora", minilora.__version__)
    assert "tokenizers>=0.21; sys_platform != 'emscripten'" in [
        line.replace('"', "'") for line in metadata.get_all("Requires-Dist")
    ]
    package = lite.ROOT / "minilora"
    files = {path.relative_to(package.parent).as_posix() for path in package.rglob("*") if path.is_file()}
    assert inside == {name for name in files if "__pycache__" not in name}


def test_the_kernel_is_told_of_the_wheel(site, wheel):
    release = json.loads((site / "pypi/all.json").read_text())["minilora"]["releases"][minilora.__version__][0]
    assert release["filename"] == wheel.name
    assert release["digests"]["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    settings = json.loads((site / "jupyter-lite.json").read_text())["jupyter-config-data"]["litePluginSettings"]
    assert any(url.startswith("./pypi/all.json") for url in settings[lite.KERNEL]["pipliteUrls"])


def test_a_step_that_warns_stops_the_build(tmp_path):
    with pytest.raises(MiniloraError, match="UserWarning: so it is"):
        lite.run(tmp_path, "-c", "import warnings; warnings.warn('so it is')")
    with pytest.raises(MiniloraError, match="failed"):
        lite.run(tmp_path, "-c", "raise SystemExit(3)")


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "work.txt").write_text("mine")
    assert lite.main(["--out", str(tmp_path)]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["work.txt"]


@pytest.mark.parametrize(
    "source, needed",
    [
        ("from minilora.measure.lab import Lab", True),
        ("import minilora.measure.lab", True),
        ("from minilora.data import tokenizer", True),
        ("from minilora.train import recipes\nmodel, tokenizer = recipes.load_model('base')", True),
        ("from minilora.train.recipes import load_model", True),
        ("import minilora.train.recipes\nminilora.train.recipes.load_model('base')", True),
        ("from minilora.train import recipes\nrecipes.count_parameters(recipes.base_folder())", False),
        ("ask = False\nif ask:\n    from minilora.train import recipes\n    recipes.load_model('base')", False),
        ("ask = True\nif ask:\n    from minilora.train import recipes\n    recipes.load_model('base')", True),
        ("ask = False\nif not ask:\n    from minilora.train.recipes import load_model", True),
        ("from minilora.show import pictures, labels\nimport numpy as np\nnp.load_model = 1", False),
    ],
)
def test_which_notebooks_need_the_tokenizers_library(source, needed):
    assert lite.needs_tokenizers(source) is needed


# As in the browser: these modules are not there, and no thread starts.
LIKE_PYODIDE = """
import sys, threading
sys.modules |= dict.fromkeys(("tokenizers", "resource", "fcntl"))
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
from minilora import blas
blas.cores = lambda: 1
exec(compile(sys.stdin.read(), "notebook", "exec"))
"""


CHECK = """
import os
del os.fork
sys.platform = "emscripten"
from minilora.cli import main
main(["check", "08", "--task", "3"])
main(["check", "08", "--task", "3", "--hint"])
"""


def test_an_exercise_is_checked_in_the_page(site, tmp_path):
    """The command in a notebook's cell, with the site's files around it, and no processes."""
    shutil.copytree(site / "files", tmp_path / "drive")
    exercise = tmp_path / "drive/lessons/08_lora/exercise.py"
    (gap,) = [line for line in exercise.read_text("utf-8").splitlines() if "lesson 08, task 3:" in line]
    right = "    return x @ W.T + alpha / r * ((x @ A.T) @ B.T)"
    said = []
    for answer in (right, "    return x @ W.T + (x @ A.T) @ B.T"):
        exercise.write_text(exercise.read_text("utf-8").replace(gap, answer), "utf-8")
        gap = answer
        done = subprocess.run(
            [sys.executable, "-c", LIKE_PYODIDE],
            input=CHECK,
            capture_output=True,
            text=True,
            cwd=tmp_path / "drive/notebooks",
            env=os.environ | {"PYTHONPATH": str(lite.ROOT)},
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert "task 3 passed\n" in said[0] and "(ran in this process, without limits)" in said[0]
    assert "task 3 failed" in said[1] and "not scaled" in " ".join(said[1].split()) and "hint 1 " in said[1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_says_of_itself_holds(path, site):
    """One that is said to run does, without what Pyodide lacks; one that is not stops for want of tokenizers."""
    cells = json.loads((site / "files/notebooks" / path.name).read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells[2:] if cell["cell_type"] == "code")
    done = subprocess.run(
        [sys.executable, "-c", LIKE_PYODIDE], input=code, capture_output=True, text=True, cwd=lite.ROOT / "notebooks"
    )
    if "".join(cells[0]["source"]) == lite.RUNS:
        assert done.returncode == 0, done.stderr
    else:
        assert "tokenizers" in done.stderr.splitlines()[-1], done.stderr
