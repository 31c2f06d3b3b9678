"""Saboteurs: a lesson's solution made wrong from outside, in ways that its checks must notice.

    kit.py      how a function is sabotaged; its text runs beside the solution
    made.py     which saboteurs there are for each function of a lesson, and which lie outside its promise
    tried.py    what a lesson's checks say of each

`python -m tests.saboteurs 08` tries all of a lesson. Small changes of a solution's syntax (mutants) are
noticed by any check of values; these are right nearly always, as the answers of people are. What the sandbox watches in
every call (`minilora/classroom/sandbox/duties.py`) has no saboteur: a changed argument, a model left in another mode.
"""
