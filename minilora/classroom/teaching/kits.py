"""`minilora course --kit students.zip`: what students get: readings, exercises, notebooks, and checks without answers.

students/README.md              how to start
students/minilora-….whl         the package
students/lessons/08_lora/       README.md, exercise.py and checks.kit (see `lessons/kit.py`)
students/notebooks/08_lora.ipynb
students/.github/workflows/     on GitHub, every push is checked
"""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from minilora.classroom.grading.grade import PASSED, grade
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.kit import KIT, pack_kit
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.lessons.reference import Recording, Reference
from minilora.classroom.sandbox.runner import Sandbox
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic
from minilora.train.progress import progress_bar

SECONDS = 100.0  # for a task, of which most go into the recording
README = """# Lessons

You need Python 3.11 or newer, on Linux, macOS or in WSL. In this folder:

    python3 -m venv .venv && . .venv/bin/activate
    pip install ./{wheel}
    minilora check {first}

Each lesson is a folder in `lessons/`. Read its README.md, write your answers into its exercise.py, and check them with
`minilora check {first}`. `minilora check {first} --hint` helps, and `minilora check` alone shows how far you are.
What you hand in is exercise.py. For the notebooks: `pip install jupyter ipywidgets`, then `jupyter lab notebooks`.

{lessons}
"""
WHEEL = b"Wheel-Version: 1.0\nGenerator: minilora\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
WORKFLOW = """# Checks every push; the summary of the run shows how far the exercises are.
name: minilora
on: push
permissions:
  contents: read
jobs:
  check:
    runs-on: ubuntu-latest
    timeout-minutes: 15
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.13"
      - run: pip install ./minilora-*.whl
      - shell: bash  # a failed exercise fails the step
        run: |
          echo '```' >> "$GITHUB_STEP_SUMMARY"
          minilora check | tee -a "$GITHUB_STEP_SUMMARY"
"""


def write_kit(path: Path, lessons: list[Lesson]) -> None:
    """Raises MiniloraError, and has then written nothing, where the file exists or a solution fails its checks."""
    if path.suffix != ".zip":
        raise MiniloraError(f"--kit {escape(str(path))} is to be a .zip file: --kit students.zip")
    if path.exists():
        raise MiniloraError(f"--kit {escape(str(path))} exists; choose another name")
    wheel, content = build_wheel()
    titles = "\n".join(f"- {lesson.number:02} {lesson.title}" for lesson in lessons)
    readme = README.format(wheel=wheel, first=lessons[0].name[:2], lessons=titles)
    files = {"README.md": readme.encode(), wheel: content, ".github/workflows/minilora.yml": WORKFLOW.encode()}
    with progress_bar("kit", len(lessons), unit="lessons") as advance:
        for lesson in lessons:
            folder, notebook = f"lessons/{lesson.name}", Path(f"notebooks/{lesson.name}.ipynb")
            files |= {f"{folder}/{name}": path.read_bytes() for name, path in lesson.readings.items()}
            files[f"{folder}/exercise.py"] = lesson.source.exercise().encode()
            files[f"{folder}/{KIT}"] = checks_of(lesson)
            if (source := lesson.folder.parents[1] / notebook).is_file():
                files[notebook.as_posix()] = source.read_bytes()
                for figure in source.parent.glob("figures/*.py"):  # which notebooks import
                    files[f"notebooks/figures/{figure.name}"] = figure.read_bytes()
            advance()
    write_atomic(path, _zip({f"{path.stem}/{name}": data for name, data in files.items()}))


def checks_of(lesson: Lesson) -> bytes:
    """The lesson's checks.kit. Raises MiniloraError where the solution fails a check."""
    recording, source = Recording(), lesson.source
    recorded = Lesson(lesson.folder)
    vars(recorded)["reference"] = Reference(source.text, lesson.driver, recording)
    with Sandbox(SECONDS) as sandbox:
        results = grade(recorded, Submission(lesson.folder / "solution.py", recorded), sandbox)
    for result in results:
        if result.verdict != PASSED:
            raise MiniloraError(f"{lesson.name}: the solution fails task {result.task}: {escape(result.hint, 200)}")
    stubs = source.filled(
        lambda gap: [source.lines[gap.first - 1], source.stub_line(gap), source.lines[gap.last]],
    )
    checks = (lesson.folder / "checks.py").read_text(encoding="utf-8")
    return pack_kit({"solution.py": stubs, "checks.py": checks, "driver.py": lesson.driver}, recording)


def build_wheel() -> tuple[str, bytes]:
    """(name, content) of the package as it is here, as a wheel; nothing is downloaded."""
    try:
        installed = distribution("minilora")
    except PackageNotFoundError as error:
        raise MiniloraError("--kit needs minilora installed, for its list of dependencies: pip install -e .") from error
    name, package = f"minilora-{installed.version}", Path(__file__).parents[2]
    paths = sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    files = {f"minilora/{path.relative_to(package).as_posix()}": path.read_bytes() for path in paths}
    for file in ("METADATA", "entry_points.txt"):
        files[f"{name}.dist-info/{file}"] = (installed.read_text(file) or "").encode()
    files[f"{name}.dist-info/WHEEL"] = WHEEL
    record = "".join(
        f"{file},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}\n"
        for file, data in files.items()
    )
    files[f"{name}.dist-info/RECORD"] = f"{record}{name}.dist-info/RECORD,,\n".encode()
    return f"{name}-py3-none-any.whl", _zip(files)


def _zip(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return archive.getvalue()
