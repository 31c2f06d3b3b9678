"""The colours of methods and of kinds of memory, the same in figures, lessons and pages.

Those of methods are a palette for colour-blind readers (Okabe and Ito 2008).
"""

BLUE, ORANGE, GREEN, BLACK, PINK, YELLOW, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#000000",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
GREY = "#555555"  # nothing trains
DARK_GREEN = "#0B5D44"
RED = "#c1121f"  # gradients, and what was forgotten

# One colour per family of methods. Methods of a family are told apart by their markers and lines.
FAMILIES = {
    "own weights": BLUE,
    "own vectors": YELLOW,
    "virtual tokens": SKY,
    "adapters": BLACK,
    "low rank": GREEN,
}

# One colour per kind of memory. Frozen numbers are grey, what trains is orange and gradients are red, as in the
# diagrams of the lessons. Neighbours also differ in black and white.
MEMORY = {
    "weights": "#6C7A89",
    "constants": "#C3C9CF",
    "adapters": "#E08214",
    "gradients": RED,
    "optimizer": "#7B3294",
    "activations": "#92C5DE",
    "logits": "#2A9D8F",
    "workspace": "#E6C65C",
}
