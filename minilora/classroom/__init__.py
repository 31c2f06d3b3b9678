"""Lessons, the checker for their exercises, and a teacher's tools: an nbgrader course and marks.

    lessons/    reads a lesson's folder: its tasks and checks
    sandbox/    runs a student's code: runner (the checker's side), server and child (the processes that run it),
                isolated (in bubblewrap), in_process (without processes), duties (side effects that are watched),
                wire (how values are sent between the processes)
    grading/    grades a submission by a lesson's checks: a file, a notebook's cells, or an nbgrader course
    course.py   makes an nbgrader course, and marks .py files

`docs/lessons.md` explains how to write a lesson with the names below.

The limits protect students against accidents in their own code. Other people's code only ever runs in bubblewrap.
"""

from minilora.classroom.lessons.checking import draw, explaining, fine, promise, raised, task
from minilora.classroom.lessons.searching import search

__all__ = ["draw", "explaining", "fine", "promise", "raised", "search", "task"]
