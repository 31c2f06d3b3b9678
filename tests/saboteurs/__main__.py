"""python -m tests.saboteurs 08: do a lesson's checks notice its sabotaged solutions?

Without a lesson: all of them. --sample N: every Nth saboteur. --of: one function's. Ends with 1 where one survives.
"""

import argparse
import sys

from minilora.classroom.lessons.lesson import all_lessons, find_lesson
from minilora.classroom.sandbox.runner import Sandbox
from tests.saboteurs.tried import NOTICED, try_all


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
            within = [trial for trial in trials if trial.counts]
            missed = [trial for trial in within if trial.verdict != NOTICED]
            outside = sum(not trial.saboteur.is_promised for trial in trials)
            noticed = len(within) - len(missed)
            print(f"{lesson.name:<22}{len(trials):>6}{outside:>9}{len(within):>8}{noticed:>9}", flush=True)
            for trial in missed:
                print(f"    {trial.verdict}: {trial.saboteur}")
            survived += len(missed)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
