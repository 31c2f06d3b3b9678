"""`minilora course`: the lessons as an nbgrader course."""

from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser
from minilora.errors import MiniloraError


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora course mycourse --lessons 02,08"
    parser.add_argument("folder", help="where to; a new or an empty folder")
    parser.add_argument("--lessons", help="numbers or names, with commas: 02,08 (default: all)")
    parser.add_argument("--hidden", metavar="FOLDER", help="your private checks, one file a lesson: 08_lora.py")


def run(arguments: Namespace) -> None:
    from minilora.classroom.publish.course import write_course

    lessons, hidden = arguments.lessons, arguments.hidden
    words = None if lessons is None else [word.strip() for word in lessons.split(",") if word.strip()]
    if words == []:
        raise MiniloraError("--lessons names none: --lessons 02,08")
    notebooks = write_course(Path(arguments.folder), words, None if hidden is None else Path(hidden))
    print("\n".join(f"wrote {path}" for path in notebooks))
    print(f"Next: cd {arguments.folder} && nbgrader generate_assignment {notebooks[0].stem}")
