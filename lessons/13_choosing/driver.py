"""Runs beside the student's code: calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""


def frontier(student, points):
    """names = frontier(points)"""
    names = list(student.frontier(points))
    return {"names": sorted(names), "costs": [points[name][0] for name in names]}
