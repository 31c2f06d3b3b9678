"""`minilora grade`: marks of a class."""

import time
from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser, whole
from minilora.errors import MiniloraError, escape, first_few


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora grade submitted --lessons 02,08 --roster roster.csv --jobs 2"
    parser.add_argument("folder", help="what was handed in: a folder a student, or Moodle's or Canvas's download")
    parser.add_argument("--lessons", help="numbers or names, with commas: 02,08 (default: all)")
    parser.add_argument("--roster", metavar="FILE", help="the class: student,name or an export of Moodle or Canvas")
    parser.add_argument("--variants", metavar="SECRET", default="", help="inputs of their own for each student")
    parser.add_argument("--jobs", type=whole(1, 64), default=2, help="files at a time (default: %(default)s)")
    parser.add_argument("--out", default="marks", help="where to; the same folder again goes on (default: %(default)s)")


def run(arguments: Namespace) -> None:
    from minilora.classroom.lessons.lesson import chosen_lessons
    from minilora.classroom.teaching import collecting, marking, overview, rosters, tables

    started, folder, out = time.monotonic(), Path(arguments.folder), Path(arguments.out)
    lessons = chosen_lessons(arguments.lessons)
    roster = rosters.read_roster(Path(arguments.roster)) if arguments.roster else None
    if out.exists() and not (out / marking.RECORDS).is_dir() and (not out.is_dir() or any(out.iterdir())):
        raise MiniloraError(f"--out {escape(str(out))} exists and has no marks in it; choose another folder")
    handed_in = collecting.collect(folder, lessons, roster, leave=(out,))
    closed = [Path(arguments.roster)] if arguments.roster else []
    marks = marking.mark_all(handed_in, lessons, out, arguments.jobs, [*closed, *handed_in.entries], arguments.variants)
    tables.write_tables(out, handed_in, marks, roster)
    overview.write_overview(out, marks, len(handed_in.students))
    for (student, lesson), mark in marks.of.items():
        if mark.reason:
            print(f"0 points: {escape(student)}, {lesson}: {mark.reason}")
    missing = [s.key for s in handed_in.students if not any((s.key, x.name) in marks.of for x in lessons)]
    if missing:
        print(f"handed in nothing: {first_few(missing, 30)}")
    if handed_in.unknown:
        print(f"not in the roster: {first_few((s.key for s in handed_in.unknown), 30)}")
    seconds = time.monotonic() - started
    print(f"{len(marks.of)} files of {len(handed_in.students)} students, {marks.new} graded now, {seconds:.0f} s")
    print(f"wrote {out}/marks.csv, overview.html, overview.csv, moodle.csv, canvas.csv, {tables.RESULTS}/")
