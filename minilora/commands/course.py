"""`minilora course`: the lessons as an nbgrader course, or as a kit for students."""

from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser
from minilora.errors import MiniloraError


def add(parser: Parser) -> None:
    parser.epilog = "examples:\n  minilora course mycourse --lessons 02,08\n  minilora course --kit students.zip"
    parser.add_argument("folder", nargs="?", help="of an nbgrader course; a new or an empty folder")
    kit = "what students get without nbgrader: readings, exercises, notebooks, checks without answers"
    parser.add_argument("--kit", metavar="FILE.zip", help=kit)
    parser.add_argument("--lessons", help="numbers or names, with commas: 02,08 (default: all)")
    parser.add_argument("--hidden", metavar="FOLDER", help="your private checks, one file a lesson: 08_lora.py")


def run(arguments: Namespace) -> None:
    from minilora.classroom.lessons.lesson import chosen_lessons
    from minilora.classroom.publish.course import write_course
    from minilora.classroom.teaching.kits import write_kit

    folder, kit, hidden = arguments.folder, arguments.kit, arguments.hidden
    if (folder is None) == (kit is None):
        raise MiniloraError("course takes a folder for nbgrader, or --kit students.zip: one of the two")
    lessons = chosen_lessons(arguments.lessons)
    if lessons[0].kit is not None:
        raise MiniloraError("course needs the solutions, and the lessons here came in a kit; run it in a clone")
    if kit is not None:
        if hidden is not None:
            raise MiniloraError("--hidden goes with an nbgrader course; a kit has no private checks")
        write_kit(Path(kit), lessons)
        print(f"wrote {kit}: {len(lessons)} lessons. Next: minilora grade FOLDER, of what comes back")
        return
    notebooks = write_course(Path(folder), lessons, None if hidden is None else Path(hidden))
    print("\n".join(f"wrote {path}" for path in notebooks))
    print(f"Next: cd {folder} && nbgrader generate_assignment {notebooks[0].stem}")
