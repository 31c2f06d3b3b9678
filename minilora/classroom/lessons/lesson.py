"""Finding the lessons, and reading a lesson's folder."""

import re
import runpy
from functools import cached_property
from pathlib import Path
from typing import Any

from minilora.classroom.lessons.checking import Task, promise
from minilora.classroom.lessons.source import Source
from minilora.classroom.sandbox.in_process import InProcess
from minilora.classroom.sandbox.runner import Job, Session
from minilora.errors import MiniloraError, did_you_mean, escape

SOLUTIONS = "[0-9][0-9]_*/solution.py"  # pattern of the lessons' solutions, below the folder `lessons`


class Lesson:
    """A lesson, read from a folder such as lessons/08_lora."""

    def __init__(self, folder: Path):
        self.folder, self.name, self.number = folder, folder.name, int(folder.name[:2])
        self.exercise = folder / "exercise.py"

    @cached_property
    def title(self) -> str:
        """The title: "LoRA: a small update" if README.md has the line "# 08 LoRA: a small update"."""
        match = re.search(r"^# \d\d (.+)$", (self.folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
        return match[1].strip() if match else self.name[3:].replace("_", " ")

    @cached_property
    def source(self) -> Source:
        return Source(self.folder / "solution.py", self.number)

    @cached_property
    def checks(self) -> dict[str, Any]:
        return runpy.run_path(str(self.folder / "checks.py"))

    @property
    def readings(self) -> dict[str, Path]:
        """The pages that a student reads, and their pictures: {path in the lesson's folder: file}."""
        pages = [path for path in self.folder.glob("*.md") if path.name != "teaching.md"]
        files = sorted([*pages, *self.folder.glob("pictures/*.*")])
        return {path.relative_to(self.folder).as_posix(): path for path in files}

    @property
    def uses(self) -> tuple[str, ...]:
        """The dotted names in minilora that an exercise may use."""
        return tuple(self.checks["USES"])

    @property
    def beside(self) -> list[Path]:
        """The files in the lesson's folder that an exercise may import."""
        return [self.folder / f"{name}.py" for name in self.checks.get("BESIDE", ())]

    @property
    def modules(self) -> dict[str, str]:
        """The modules that run beside an exercise, {name: text}: the files `beside`, and the driver if there is one."""
        files = [*self.beside, *self.folder.glob("driver.py")]
        return {path.stem: path.read_text(encoding="utf-8") for path in files}

    @property
    def promises(self) -> dict[str, promise]:
        """The functions and methods with other duties than usual: {function or "Class.method": its promise}."""
        return self.checks.get("PROMISES", {})

    @cached_property
    def reference(self) -> Session:
        """A session with the solution, whose functions are called like a student's."""
        return InProcess().start(Job(self.source.text, "solution.py", self.modules))

    @property
    def tasks(self) -> list[Task]:
        """The tasks, in order."""
        tasks = (thing for thing in self.checks.values() if isinstance(thing, Task))
        return sorted(tasks, key=lambda task: task.number)


def lessons_folder() -> Path:
    """Find the folder `lessons`: of this checkout, or of a clone here or in a folder above. Raises MiniloraError."""
    here, checkout = [Path.cwd(), *Path.cwd().parents], Path(__file__).resolve().parents[3]
    for place in (checkout, *here):
        if any(place.glob(f"lessons/{SOLUTIONS}")):
            return place / "lessons"
    raise MiniloraError(
        "no lessons here or in a folder above: they are in minilora's repository, not in the installed package; clone "
        "the repository and run this command inside it"
    )


def all_lessons() -> list[Lesson]:
    """Return the lessons, in order of their numbers."""
    return [Lesson(path.parent) for path in sorted(lessons_folder().glob(SOLUTIONS))]


def find_lesson(word: str) -> Lesson:
    """Find a lesson by number ("8", "08"), name ("lora") or folder. Raises MiniloraError, which lists the lessons."""
    lessons = all_lessons()
    names = {name: lesson for lesson in lessons for name in (lesson.name, lesson.name[3:], lesson.name[:2])}
    key = Path(word).name.lower()
    key = f"{int(key):02}" if key.isascii() and key.isdigit() and len(key) < 9 else key
    if key in names:
        return names[key]
    near = did_you_mean(key, names, after=" There are ") or "there are "
    raise MiniloraError(f"unknown lesson {escape(word, 40)}: {near}{', '.join(lesson.name for lesson in lessons)}")


def chosen_lessons(words: str | None) -> list[Lesson]:
    """Return the lessons that --lessons names, each once, or all for None. Raises MiniloraError."""
    if words is None:
        return all_lessons()
    lessons = {(lesson := find_lesson(word.strip())).name: lesson for word in words.split(",") if word.strip()}
    if not lessons:
        raise MiniloraError("--lessons names no lesson; write it as --lessons 02,08")
    return list(lessons.values())
