"""The diagrams of lesson 02: python -m lessons.diagrams"""

import numpy as np

from lessons.drawing import GRADIENT, MASKED, NOTE, PLAIN, SECOND, SMALL, Diagram

FROM_NOTEBOOK = {"wiggle.svg": "Error of a wiggled gradient"}

A, X, U, Y = 10, 150, 290, 430  # left edges of the four nodes
WIDE = 80


def _values() -> tuple[int, int, int, int]:
    a = 1
    x = 2 * a
    u = x + 1
    return a, x, u, u * x


def graph() -> Diagram:
    a, x, u, y = _values()
    past, through = u, x * 1  # the parts of x: from y = u x past u, and through u = x + 1
    d = Diagram(
        520,
        250,
        f"Four boxes from left to right: a = {a}, x = 2 a = {x}, u = x + 1 = {u}, y = u x = {y}. Red arrows lead back "
        f"from y. Two of them meet at x, with {past} and {through}, and x hands {2 * (past + through)} on to a.",
    )
    top, high = 76, 84
    names = ("a", "x = 2 a", "u = x + 1", "y = u x")
    gradients = (2 * (past + through), past + through, x, 1)
    for left, name, value, gradient in zip((A, X, U, Y), names, (a, x, u, y), gradients, strict=True):
        d.box(left, top, WIDE, high)
        d.text(left + WIDE / 2, top + 16, name, SMALL)
        d.text(left + WIDE / 2, top + 40, str(value), look="bold")
        d.text(left + WIDE / 2, top + 66, str(gradient), look="bold gradient")
    for left, right in ((A, X), (X, U), (U, Y)):
        d.arrow((left + WIDE, top + 38), (right, top + 38))
    d.arrow((X + 40, top), (X + 40, 40), (Y + 40, 40), (Y + 40, top))
    for left, right, part in ((A, X, gradients[0]), (X, U, through), (U, Y, x)):
        d.arrow((right, top + 66), (left + WIDE, top + 66), kind=GRADIENT)
        d.text((left + WIDE + right) / 2, top + 54, str(part), SMALL, look="gradient")
    d.arrow((Y + 40, top + high), (Y + 40, 200), (X + 40, 200), (X + 40, top + high), kind=GRADIENT)
    d.text(330, 186, str(past), SMALL, look="gradient")
    d.text(510, 20, "values: solid arrows", SMALL, "end", "soft")
    d.text(510, 228, "gradients: dashed arrows", SMALL, "end", "gradient")
    d.text(X + 40, 228, f"{past} + {through} = {past + through}", SMALL, look="gradient")
    return d


def broadcasting() -> Diagram:
    d = Diagram(
        520,
        250,
        "Left: the three numbers of b stand in both rows of a 2 by 3 array. Right: the two rows of the gradient g are "
        "added up to the three numbers of b's gradient.",
    )
    g = np.array([[1, 2, 3], [10, 20, 30]])
    cell, left, right = (60, 36), 20, 320
    d.text(left, 22, "forward: copies out", SMALL, "start")
    d.grid(left, 44, 1, 3, cell, lambda i, j: SECOND, lambda i, j: f"b{j}")
    d.grid(left, 136, 2, 3, cell, lambda i, j: SECOND, lambda i, j: f"b{j}")
    d.text(right, 22, "back: sums home", SMALL, "start")
    d.grid(right, 44, 1, 3, cell, lambda i, j: PLAIN, lambda i, j: str(g.sum(axis=0)[j]))
    d.grid(right, 136, 2, 3, cell, lambda i, j: PLAIN, lambda i, j: str(g[i, j]))
    for j in range(3):
        d.arrow((left + 30 + 60 * j, 80), (left + 30 + 60 * j, 134))
        d.arrow((right + 30 + 60 * j, 136), (right + 30 + 60 * j, 82), kind=GRADIENT)
    d.text(left + 196, 62, "b  (3,)", SMALL, "start", "soft")
    d.text(left + 196, 172, "b's copies\n(2, 3)", SMALL, "start", "soft")
    d.text(right, 228, "g  (2, 3): sum(axis=0)", SMALL, "start", "soft")
    return d


def order() -> Diagram:
    a, x, u, y = _values()
    d = Diagram(
        520,
        330,
        "Two walks back over the same four boxes. Above, x hands on its first part, 3, before u has handed down the "
        "second: a gets 6. Below, u comes before x, x has 5, and a gets 10.",
    )
    late, early = 2 * u, 2 * (u + x)
    rows = (
        (20, "wrong: y, x, u, a", {"y": 1, "x": 2, "u": 3, "a": 4}, f"{u} now", "2, too late", late),
        (182, "right: y, u, x, a", {"y": 1, "u": 2, "x": 3, "a": 4}, f"{u} waits", "2", early),
    )
    for top, title, places, direct, through, end in rows:
        d.text(10, top, title, anchor="start", look="bold")
        box = top + 36
        for left, name in zip((A, X, U, Y), "axuy", strict=True):
            is_wrong = name in "xa" and end == late
            d.box(left, box, WIDE, 40, "", NOTE if is_wrong else SECOND if name == "x" else PLAIN)
            d.text(left + 26, box + 20, name, look="bold")
            d.circle(left + 58, box + 20, 13, str(places[name]), MASKED, SMALL)
        for left, right, part in ((A, X, str(end)), (X, U, through), (U, Y, str(x))):
            d.arrow((right, box + 20), (left + WIDE, box + 20), kind=GRADIENT)
            d.text((left + WIDE + right) / 2, box - 12 if " " in part else box + 8, part, SMALL, look="gradient")
        d.arrow((Y + 40, box + 40), (Y + 40, box + 66), (X + 40, box + 66), (X + 40, box + 40), kind=GRADIENT)
        d.text((X + Y) / 2 + 40, box + 80, direct, SMALL, look="gradient")
        d.text(A, box + 60, f"gets {end}", SMALL, "start", "gradient")
    return d


def two_parts() -> Diagram:
    d = Diagram(
        520,
        250,
        "n0 (3, 2) and n1 (2, 4) make n3 (3, 4); with n2 (4,) it makes n4 (3, 4); its tanh is n5, and n5 times n4 is "
        "n6. Two red arrows meet at n4: one from n5, one from n6.",
    )
    for words, x, y in (("n0\n(3, 2)", 10, 14), ("n1\n(2, 4)", 10, 86), ("n2\n(4,)", 140, 180)):
        d.box(x, y, 64, 52, words, size=SMALL)
    for words, x, y in (
        ("n3 = n0 @ n1", 104, 50),
        ("n4 = n3 + n2", 250, 50),
        ("n5 = tanh(n4)", 250, 180),
        ("n6 = n5 * n4", 396, 115),
    ):
        d.box(x, y, 114, 52, f"{words}\n(3, 4)", SECOND if "n3 +" in words else PLAIN, SMALL)
    d.arrow((74, 40), (102, 64))
    d.arrow((74, 112), (102, 88))
    d.arrow((218, 76), (248, 76))
    d.arrow((204, 206), (234, 206), (234, 92), (248, 92))
    d.arrow((290, 102), (290, 178))
    d.arrow((364, 66), (475, 66), (475, 113))
    d.arrow((364, 216), (475, 216), (475, 169))
    d.arrow((435, 115), (435, 86), (366, 86), kind=GRADIENT)
    d.arrow((435, 167), (435, 196), (366, 196), kind=GRADIENT)
    d.arrow((325, 180), (325, 104), kind=GRADIENT)
    d.text(307, 28, "two parts", SMALL, look="gradient")
    return d
