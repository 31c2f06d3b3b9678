"""Lessons, the checker for their exercises, and a class's course and marks.

    lessons/    a lesson's folder: tasks, checks
    sandbox/    runs a student's code: runner (this process), server and child (their own), isolated (in bubblewrap),
                in_process (where there are no processes), duties (what is watched), wire (what passes between them)
    grading/    a submission against a lesson's checks: of a file, of a notebook's cells, of an nbgrader course
    course.py   an nbgrader course, and marks of .py files

`docs/lessons.md` says how a lesson is written, from the names below.

Limits protect a student against accidents of their own code. Code of others runs in bubblewrap alone.
"""

from minilora.classroom.lessons.checking import draw, promise, raised, task
from minilora.classroom.lessons.searching import search

__all__ = ["draw", "promise", "raised", "search", "task"]
