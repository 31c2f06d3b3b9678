"""`minilora course`: the lessons as an nbgrader course, and marks of .py files."""

from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser
from minilora.errors import MiniloraError


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora course mycourse --lessons 02,08"
    parser.add_argument("folder", nargs="?", help="of an nbgrader course; a new or an empty folder")
    mark = "grade .py files, a folder a student: submitted/ada/08_lora.py"
    parser.add_argument("--mark", metavar="FOLDER", help=mark)
    parser.add_argument("--out", metavar="FILE", help="where the marks go (default: marks.csv)")
    parser.add_argument("--lessons", help="numbers or names, with commas: 02,08 (default: all)")


def run(arguments: Namespace) -> None:
    from minilora.classroom.course import write_course, write_marks
    from minilora.classroom.lessons.lesson import chosen_lessons

    folder, mark = arguments.folder, arguments.mark
    if (folder is None) == (mark is None):
        raise MiniloraError("course takes a folder for nbgrader, or --mark submitted")
    if mark is None and arguments.out is not None:
        raise MiniloraError("--out goes with --mark")
    lessons = chosen_lessons(arguments.lessons)
    if mark is not None:
        out = arguments.out or "marks.csv"
        print(f"wrote {out}: {write_marks(Path(mark), lessons, Path(out))} students")
        return
    notebooks = write_course(Path(folder), lessons)
    print("\n".join(f"wrote {path}" for path in notebooks))
    print(f"Next: cd {folder} && nbgrader generate_assignment {notebooks[0].stem}")
