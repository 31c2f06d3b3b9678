"""`minilora similar`: answers of a class that are alike."""

from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser, share
from minilora.errors import escape


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora similar submitted --lessons 08"
    parser.add_argument("folder", help="what was handed in, as for `minilora grade`")
    parser.add_argument("--lessons", help="numbers or names, with commas: 02,08 (default: all)")
    parser.add_argument("--least", type=share, default=0.4, help="how much alike, from 0 to 1 (default: %(default)s)")
    parser.add_argument("--out", default="similar.html", help="the page to write (default: %(default)s)")


def run(arguments: Namespace) -> None:
    from minilora.classroom.lessons.lesson import chosen_lessons
    from minilora.classroom.teaching import collecting, similar

    lessons = chosen_lessons(arguments.lessons)
    handed_in = collecting.collect(Path(arguments.folder), lessons, None)
    pairs = {}
    for lesson in lessons:
        pairs[lesson.name], left_out = similar.find_pairs(handed_in, lesson, arguments.least)
        for pair in pairs[lesson.name]:
            print(f"{pair.share:.2f}  {lesson.name}  {escape(pair.names[0])}, {escape(pair.names[1])}")
        for student, why in left_out.items():
            print(f"left out: {escape(student)}, {lesson.name}: {why}")
    similar.write_similar(Path(arguments.out), pairs)
    print(f"wrote {arguments.out}: where to look; it decides nothing")
