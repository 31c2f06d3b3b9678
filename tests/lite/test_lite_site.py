"""pytest tests/lite: the site for the browser. Here: it builds without the net and holds what it should."""

import email
import hashlib
import json
import shutil
import zipfile

import nbformat
import pytest

import minilora
from minilora.classroom.lessons.lesson import all_lessons
from minilora.errors import MiniloraError
from notebooks import lite
from tests.lite import like_pyodide

pytestmark = [pytest.mark.host, pytest.mark.slow]

NOTEBOOKS = sorted((lite.ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
QUICK = [path for path in NOTEBOOKS if path.name[:2] in ("02", "04", "08")]


@pytest.fixture(scope="module")
def wheel(site):
    (wheel,) = (site / "pypi").glob("*.whl")
    return wheel


def test_every_notebook_is_there_with_its_pictures_and_two_cells_in_front(site):
    names = {path.name for path in (site / "files/notebooks").iterdir()}
    assert names == {*(path.name for path in NOTEBOOKS), lite.FIGURES, lite.TOKENIZERS.name}
    for path in NOTEBOOKS:
        built = json.loads((site / "files/notebooks" / path.name).read_text())
        assert built["cells"][2:] == nbformat.read(path, as_version=4)["cells"]
        assert [cell["source"] for cell in built["cells"][:2]] == [lite.NOTE, lite.INSTALL]
        outputs = [output for cell in built["cells"] for output in cell.get("outputs", [])]
        texts = [text for o in outputs for text in (o.get("text", ""), *o.get("data", {}).values())]
        assert all(isinstance(text, str) for text in texts), "JupyterLite shows a list of lines with commas"
        listed = json.loads((site / "api/contents/notebooks/all.json").read_text())["content"]
        assert path.name in {entry["name"] for entry in listed}


def test_readings_and_what_a_check_needs_are_there(site):
    paths = {path.relative_to(site / "files").as_posix() for path in site.glob("files/lessons/**/*") if path.is_file()}
    for lesson in all_lessons():
        for name in (*lesson.readings, "exercise.py", "solution.py", "checks.py"):
            assert f"lessons/{lesson.name}/{name}" in paths
    assert not any(path.endswith(("teaching.md", "pictures.py", "play.py", "live.py")) for path in paths)


def test_the_wheel_is_pure_whole_and_leaves_out_what_pyodide_lacks(site, wheel):
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
    release = json.loads((site / "pypi/all.json").read_text())["minilora"]["releases"][minilora.__version__][0]
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


CHECK = """
from minilora.cli import main
main(["check", "08", "--task", "3"])
main(["check", "08", "--task", "3", "--hint"])
"""


def test_an_exercise_is_checked_in_the_page(site, wheel, tmp_path):
    """The command runs in a notebook's cell, with the site's files and without processes."""
    shutil.copytree(site / "files", tmp_path / "drive")
    zipfile.ZipFile(wheel).extractall(tmp_path / "package")
    exercise = tmp_path / "drive/lessons/08_lora/exercise.py"
    (gap,) = [line for line in exercise.read_text("utf-8").splitlines() if "lesson 08, task 3:" in line]
    right = "    return x @ W.T + alpha / r * ((x @ A.T) @ B.T)"
    outputs = []
    for answer in (right, "    return x @ W.T + (x @ A.T) @ B.T"):
        exercise.write_text(exercise.read_text("utf-8").replace(gap, answer), "utf-8")
        gap = answer
        done = like_pyodide.run(CHECK, tmp_path / "drive/notebooks", tmp_path / "package")
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "task 3 passed\n" in outputs[0]
    assert "task 3 failed" in outputs[1] and "not scaled" in " ".join(outputs[1].split()) and "hint 1 " in outputs[1]


@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end_in_the_page(path, site):
    """One notebook is run here; `python -m tests.lite.like_pyodide` runs all of them."""
    built = site / "files/notebooks" / path.name
    assert json.loads(built.read_text())["cells"][0]["source"] == lite.NOTE
    done = like_pyodide.run(like_pyodide.code_of(built), built.parent)
    assert done.returncode == 0, done.stderr
    assert like_pyodide.not_printed(built, done.stdout) == []
