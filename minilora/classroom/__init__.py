"""Lessons, the checker for their exercises, and a class's course and marks.

    lessons/    a lesson's folder: tasks, checks
    sandbox/    runs a student's code: runner (this process), supervisor and child (their own), limits, audit and
                imports (what the child may not do), wire (what passes between them)
    grading/    a submission against a lesson's checks
    publish/    an nbgrader course
    teaching/   a class: what was handed in, marks, rosters, answers that are alike, kits
    device.py   lesson 03's stand-in for a GPU

`docs/lessons.md` says how a lesson is written, from the names below.

Limits are no security boundary. They protect against accidents and cheap tricks; the code of strangers belongs in a
container or under an account of its own.
"""

from minilora.classroom.lessons.checking import draw, promise, raised, task
from minilora.classroom.lessons.searching import search

__all__ = ["draw", "promise", "raised", "search", "task"]
