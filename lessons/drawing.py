"""Diagrams as SVG: boxes, matrices to scale, grids and arrows that look alike in every lesson.

    d = Diagram(520, 200, "A frozen weight W beside the two thin matrices A and B that train.")
    d.box(20, 60, 110, 40, "W", FROZEN)
    d.arrow((75, 160), (75, 100))

Positions are in units of the picture, x to the right and y downward. A picture of the full width of 520 is legible on a
telephone of 390 pixels, since its letters are 17 units high. It brings its own ground, light or dark as the reader's
system is, so that it reads on any page; frozen and trained also differ in grey.
"""

from collections.abc import Callable, Sequence
from functools import partial
from html import escape

from minilora.palette import MEMORY

FROZEN, TRAINED, PLAIN, MASKED, NOTE = "frozen", "trained", "plain", "masked", "note"
SECOND, THIRD, FOURTH = "second", "third", "fourth"  # further colours, where parts are told apart
FORWARD, GRADIENT = "forward", "gradient"  # of arrows
WIDTH = 520
LETTERS, SMALL = 17, 15  # heights
MOVING = 0.3  # of the time of each value that something moves through; then it stands

_LIGHT = {
    "ground": "#fcfcfa",
    "ink": "#1f2328",
    "soft": "#57606a",
    "frozen": "#d0d7de",
    "trained": "#f4a261",
    "second": "#8ecae6",
    "third": "#b7e4c7",
    "fourth": "#f1c0e8",
    "plain": "#ffffff",
    "masked": "#eceae4",
    "note": "#fff3bf",
    "gradient": MEMORY["gradients"],
}
_DARK = {
    "ground": "#161b22",
    "ink": "#e6edf3",
    "soft": "#a9b4c0",
    "frozen": "#444c56",
    "trained": "#b35c00",
    "second": "#1f6f9f",
    "third": "#2d6a4f",
    "fourth": "#7b3f73",
    "plain": "#22272e",
    "masked": "#1c2128",
    "note": "#4d4416",
    "gradient": "#ff7b72",
}
_STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
.mono { font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
.bold { font-weight: 600; }
.area { stroke-width: 1.4; }
.trained { stroke-width: 2.6; }
.line { stroke-width: 1.8; fill: none; }
.gradient { stroke-dasharray: 7 4; stroke-width: 2.2; }
text.gradient { stroke: none; }
.flow { stroke-linecap: round; stroke-width: 4; stroke-dasharray: 0.1 11; }
@media (prefers-reduced-motion: no-preference) { .flow { animation: flow 1s linear infinite; } }
@keyframes flow { from { stroke-dashoffset: 11.1; } to { stroke-dashoffset: 0; } }
.faint { fill: none; stroke-width: 1; stroke-dasharray: 2 4; }
"""
_MOVE = """
.move { transform-box: fill-box; }
@media screen and (prefers-reduced-motion: no-preference) { .move { animation: 10s linear infinite alternate; } }
"""
# Plain colours, not variables of CSS: programs that do not know these would draw everything in black.
_COLOURS = """text { fill: %(ink)s; } .soft { fill: %(soft)s; } text.gradient { fill: %(gradient)s; }
.area, .line { stroke: %(ink)s; } .line.gradient { stroke: %(gradient)s; } .faint { stroke: %(soft)s; }
"""

Point = tuple[float, float]


class Diagram:
    """A picture of width × height units. title: the alt text, for readers who hear the page."""

    def __init__(self, width: float, height: float, title: str):
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []
        self._moves: dict[str, str] = {}  # keyframes -> name

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = LETTERS,
        anchor: str = "middle",
        look: str = "",
        turn: float = 0,
    ) -> None:
        """Write lines of text; (x, y) is the middle (anchor start: the left end, end: the right end) of the first.

        look: of "soft", "bold", "mono" and "gradient", any; turn: degrees, clockwise.
        """
        turned = f' transform="rotate({_n(turn)} {_n(x)} {_n(y)})"' if turn else ""
        for i, line in enumerate(words.split("\n")):
            place = f'x="{_n(x)}" y="{_n(y + i * size * 1.25 + size * 0.35)}"'
            kind = f' class="{look}"' if look else ""
            self._parts.append(
                f'<text {place} font-size="{_n(size)}" text-anchor="{anchor}"{kind}{turned}>{escape(line)}</text>'
            )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str = "",
        kind: str = PLAIN,
        size: float = LETTERS,
        corner: float = 6,
    ) -> None:
        """Draw a box with its upper left corner at (x, y), and words in the middle."""
        self._area(f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{_n(corner)}"', kind)
        middle = y + height / 2 - words.count("\n") * size * 0.625
        self.text(x + width / 2, middle, words, size)

    def matrix(self, x: float, y: float, width: float, height: float, name: str, kind: str) -> None:
        """Draw a matrix to scale. Give a name that is wider than that as ""."""
        self.box(x, y, width, height, name, kind, corner=0)

    def circle(
        self, x: float, y: float, radius: float, words: str = "", kind: str = PLAIN, size: float = LETTERS
    ) -> None:
        """Draw a circle around (x, y): a sum, a node of a graph."""
        self._area(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"', kind)
        self.text(x, y, words, size)

    def shape(self, *points: Point, kind: str = PLAIN) -> None:
        """Draw a closed area through points: a slice under a curve."""
        way = " ".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self._area(f'<path d="M{way}Z"', kind)

    def grid(
        self,
        x: float,
        y: float,
        rows: int,
        columns: int,
        cell: float | Point,
        kind: Callable[[int, int], str] = lambda i, j: PLAIN,
        words: Callable[[int, int], str] = lambda i, j: "",
        size: float = SMALL,
    ) -> None:
        """Draw cells, each of a kind and with words; cell: its side, or (width, height)."""
        width, height = cell if isinstance(cell, tuple) else (cell, cell)
        for i in range(rows):
            for j in range(columns):
                self.box(x + j * width, y + i * height, width, height, words(i, j), kind(i, j), size, corner=0)

    def line(self, *points: Point, look: str = "line") -> None:
        """Draw a line or a curve through points; look: "line", "line gradient" or "faint"."""
        self._path(points, look, "")

    def arrow(self, *points: Point, kind: str = FORWARD) -> None:
        """Draw an arrow through points, its head at the last; a gradient's is dashed, in its own colour."""
        self._path(points, "line gradient" if kind == GRADIENT else "line", f' marker-end="url(#{kind})"')

    def flow(self, *points: Point) -> None:
        """Draw a line of dots that move towards the last point; they stand still for a reader who wants no motion."""
        self._path(points, "line flow", "")

    def moving_bar(self, x: float, y: float, widths: Sequence[float], height: float, kind: str) -> None:
        """Draw a bar whose width goes through a list and back; a reader who wants no motion sees the last."""
        values = [f"transform: scaleX({width / widths[-1]:.3f})" for width in widths]
        bar = f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(widths[-1])}" height="{_n(height)}"'
        self._move(values, lambda: self._parts.append(f'{bar} class="in-{kind}" fill="{_LIGHT[kind]}"/>'))

    def moving_circle(self, xs: Sequence[float], y: float, radius: float, kind: str) -> None:
        """Draw a circle that goes through places and back, in step with the moving bars."""
        values = [f"transform: translateX({_n(x - xs[-1])}px)" for x in xs]
        self._move(values, lambda: self.circle(xs[-1], y, radius, kind=kind))

    def moving_text(self, x: float, y: float, texts: Sequence[str], size: float = LETTERS, look: str = "") -> None:
        """Write one text after the other in one place; each gives way when the moving bars are half-way to the next."""
        for shown, words in enumerate(texts):
            values = [f"opacity: {int(i == shown)}; animation-timing-function: step-end" for i in range(len(texts))]
            still = "" if shown == len(texts) - 1 else ' opacity="0"'
            self._move(values, partial(self.text, x, y, words, size, "start", look), still, MOVING / 2)

    def svg(self) -> str:
        """Return the picture as a file's text."""
        light, dark = (
            _COLOURS % colours + " ".join(f".in-{name} {{ fill: {colour}; }}" for name, colour in colours.items())
            for colours in (_LIGHT, _DARK)
        )
        heads = "".join(
            f'<marker id="{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="6.5" markerHeight="6.5" '
            f'orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" class="in-{ink}" fill="{_LIGHT[ink]}"/></marker>'
            for kind, ink in ((FORWARD, "ink"), (GRADIENT, GRADIENT))
        )
        moves = "".join(f"@keyframes {name} {{ {frames} }}\n" for frames, name in self._moves.items())
        moves = _MOVE + moves if moves else ""
        size = f"{_n(self.width)} {_n(self.height)}"
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{_n(self.width)}" role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{_STYLE}{light}{moves}",
                f"@media (prefers-color-scheme: dark) {{\n{dark} }}",
                f"@media print {{\n{light} }}</style>",
                f"<defs>{heads}</defs>",
                f'<rect width="100%" height="100%" rx="8" class="in-ground" fill="{_LIGHT["ground"]}"/>',
                *self._parts,
                "</svg>\n",
            ]
        )

    def _move(self, values: list[str], draw: Callable[[], None], still: str = "", change: float = MOVING) -> None:
        """Let what is drawn go through values of a property. change: the part of its time until a value stands."""
        n = len(values)
        starts = [0, *(i + change for i in range(1, n))]
        frames = (f"{_n(100 * starts[i] / n)}%, {_n(100 * (i + 1) / n)}% {{ {values[i]} }}" for i in range(n))
        name = self._moves.setdefault(" ".join(frames), f"move-{len(self._moves)}")
        self._parts.append(f'<g class="move" style="animation-name: {name}"{still}>')
        draw()
        self._parts.append("</g>")

    def _area(self, shape: str, kind: str) -> None:
        look = "area trained" if kind == TRAINED else "area"
        self._parts.append(f'{shape} class="{look} in-{kind}" fill="{_LIGHT[kind]}" stroke="{_LIGHT["ink"]}"/>')

    def _path(self, points: tuple[Point, ...], look: str, head: str) -> None:
        way = " ".join(f"{_n(x)} {_n(y)}" for x, y in points)
        ink = _LIGHT[{"line gradient": "gradient", "faint": "soft"}.get(look, "ink")]
        self._parts.append(f'<path d="M{way}" class="{look}" fill="none" stroke="{ink}"{head}/>')


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
