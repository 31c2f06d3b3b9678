"""The classroom: lessons, the checker for their exercises, and what writes new ones.

`docs/lessons.md` says how a lesson is written, from the names below. What runs a student's code stands in `runner.py`
(this side), `keeper.py` and `child.py` (the other side), `fence.py` (limits) and `wire.py` (what passes between them).

Limits are no security boundary. They protect against accidents and cheap tricks; the code of strangers belongs in a
container or under an account of its own.
"""

from minilora.classroom.lessons.checking import draw, raised, task
from minilora.classroom.lessons.mistakes import Mistake, Right

__all__ = ["Mistake", "Right", "draw", "raised", "task"]
