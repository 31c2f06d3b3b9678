"""Runs beside the student's code: calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np


def frontier(student, points):
    """names = frontier(points)"""
    names = list(student.frontier(points))
    return {"names": sorted(names), "costs": [points[name][0] for name in names]}


def sum_of_numpys(student, adapters, strength):
    """A, B = adapter_sum(adapters, strength), each s and w an np.float64"""
    return student.adapter_sum([(A, B, np.float64(s), np.float64(w)) for A, B, s, w in adapters], strength)
