"""`minilora course`: make an nbgrader course of the lessons, or grade .py files."""

from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser
from minilora.errors import MiniloraError, plural


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora course mycourse --lessons 02,08"
    parser.add_argument("folder", nargs="?", help="new or empty folder to write the nbgrader course to")
    mark = "grade .py files instead; FOLDER has a folder for each student: submitted/ada/08_lora.py"
    parser.add_argument("--mark", metavar="FOLDER", help=mark)
    parser.add_argument("--out", metavar="FILE", help="table of marks that --mark writes (default: marks.csv)")
    parser.add_argument("--lessons", help="numbers or names, separated by commas: 02,08 (default: all)")


def run(arguments: Namespace) -> None:
    from minilora.classroom.course import write_course, write_marks
    from minilora.classroom.lessons.lesson import chosen_lessons

    folder, mark = arguments.folder, arguments.mark
    if (folder is None) == (mark is None):
        raise MiniloraError("give either a folder for an nbgrader course, or --mark FOLDER to grade .py files")
    if mark is None and arguments.out is not None:
        raise MiniloraError("--out is for --mark; an nbgrader course goes to its folder")
    lessons = chosen_lessons(arguments.lessons)
    if mark is not None:
        out = arguments.out or "marks.csv"
        count = write_marks(Path(mark), lessons, Path(out))
        print(f"wrote {out}: {plural(count, 'student')}")
        return
    notebooks = write_course(Path(folder), lessons)
    print("\n".join(f"wrote {path}" for path in notebooks))
    print(f"Next: cd {folder} && nbgrader generate_assignment {notebooks[0].stem}")
