"""`minilora course --kit`: what students get who have no git: a part of this clone, in a zip.

It has the package and some of the lessons, with their solutions, as the public repository has them.
"""

import zipfile
from pathlib import Path

from minilora.classroom.lessons.lesson import Lesson
from minilora.errors import MiniloraError, escape

README = """# Lessons

In this folder, with Python 3.11 or newer, on Linux, macOS or in WSL:

    python3 -m venv .venv && . .venv/bin/activate && pip install -e .
    minilora check {first}

Each lesson is a folder in `lessons/`: read its README.md, write your answers into exercise.py, and check them.
"""


def write_kit(path: Path, lessons: list[Lesson]) -> None:
    """Raises MiniloraError if the file is there already, or is to be no .zip file."""
    if path.suffix != ".zip" or path.exists():
        raise MiniloraError(f"--kit {escape(str(path))} is to be a new .zip file: --kit students.zip")
    root = lessons[0].folder.parents[1]
    files = [root / "pyproject.toml", root / "LICENSE", *(root / "minilora").rglob("*")]
    files += (root / "notebooks" / "figures").glob("*.py")  # which notebooks import from beside them
    for lesson in lessons:
        files += [*lesson.folder.rglob("*"), root / "notebooks" / f"{lesson.name}.ipynb"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{path.stem}/README.md", README.format(first=lessons[0].name[:2]))
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts and file.name not in ("exercise.py", "teaching.md"):
                archive.write(file, f"{path.stem}/{file.relative_to(root)}")
        for lesson in lessons:  # as it was before anybody wrote into it
            archive.writestr(f"{path.stem}/lessons/{lesson.name}/exercise.py", lesson.source.exercise())
