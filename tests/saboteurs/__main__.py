"""python -m tests.saboteurs 08: do a lesson's checks notice its sabotaged solutions?

Without a lesson: all of them. --sample N: every Nth saboteur. --of: one function's. Ends with 1 where one survives.
"""

import argparse
import sys

from minilora.classroom.lessons.lesson import all_lessons, find_lesson
from minilora.classroom.sandbox.runner import Sandbox
from tests.saboteurs.tried import NOTICED, table, try_all


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*")
    parser.add_argument("--sample", type=int, default=1, metavar="N")
    parser.add_argument("--of", default="", metavar="FUNCTION")
    arguments = parser.parse_args()
    lessons = [find_lesson(word) for word in arguments.lessons] or all_lessons()
    survived = 0
    print(f"{'':<22}{'made':>6}{'outside':>9}{'within':>8}{'noticed':>9}")
    with Sandbox() as sandbox:
        for lesson in lessons:
            trials = try_all(lesson, sandbox, slice(None, None, arguments.sample), arguments.of)
            counts = table(trials)
            print(f"{lesson.name:<22}{counts['made']:>6}{counts['outside']:>9}{counts['within']:>8}", end="")
            print(f"{counts['noticed']:>9}", flush=True)
            for trial in trials:
                if trial.counts and trial.verdict != NOTICED:
                    survived += 1
                    print(f"    {trial.verdict}: {trial.saboteur}")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
