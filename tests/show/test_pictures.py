"""pytest tests/show/test_pictures.py: each picture shows what it was given, under its title."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from minilora.show import style
from minilora.show.grids import Spread
from notebooks.figures import internals, pictures

pytestmark = pytest.mark.host
WAYS = {"one": ([0, 1, 2], [0, 1, 0.5]), "two": ([0, 2, 3], [0, 0.1, 0.2])}
POINTS = {"full": (133.0, Spread(2.2, 0.1, 3)), "lora": (110.0, Spread(2.3, 0.1, 3))}

DRAWN = {
    "curves": (pictures.curves, (WAYS, "x", "y"), ["one", "two"]),
    "step_times": (
        pictures.step_times,
        (
            {"full": {"slow": ([1, 2, 8], [1.0, 2.0, 4.0])}, "LoRA": {"slow": ([1, 2], [0.7, 0.5])}},
            {"LoRA": {"slow": ([1, 2], [0.7, 0.6])}},
        ),
        ["full", "LoRA", "slow", "measured", "8", "0.5"],
    ),
    "learning_curve": (
        pictures.learning_curve,
        (([0, 1, 2], [3.0, 2.0, 1.5]), [(1, "so")], {"guess": 3.5}),
        ["guess", "1"],
    ),
    "paths": (pictures.paths, (WAYS, "x", "y"), ["one", "two", "the base"]),
    "label_budgets": (pictures.label_budgets, ({"some": {1: [0.5, 0.6], 8: [0.7, 0.8]}}, 0.5), ["some", "chance"]),
    "methods_at_cost": (pictures.methods_at_cost, (POINTS, "MB", "bits", {"base": 2.5}, ["lora"]), ["full", "LoRA"]),
    "bars": (pictures.bars, ({"one": 1.0, "two": 2000.0}, "x"), ["one", "2,000"]),
    "stacked_bars": (
        pictures.stacked_bars,
        ({"full": {"weights": 2.0, "rest": 1.0}}, "MB"),
        ["full", "weights", "rest"],
    ),
    "grouped_bars": (
        pictures.grouped_bars,
        ({"asked": {"one": 1.0, "two": 20.4}, "told": {"one": 3.0}}, "%", 100),
        ["asked", "told", "one", "two", "20", "0"],
    ),
    "matrices": (internals.matrices, ({"before": np.eye(3), "after": np.zeros((3, 3))}, "size"), ["before", "after"]),
}


def test_a_notebook_shows_a_picture_with_its_caption_and_is_said_in_words(monkeypatch):
    """JupyterLab shows alternative text only for pictures in HTML."""
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", lambda data, raw: shown.append((data, raw)))
    figure = pictures.bars('A "title"', {"one": 1.0, "two": 2000.0}, "labels per class")
    pictures.show(figure, "Is a < b?")
    (data, raw), page = shown[0], shown[0][0]["text/html"]
    assert raw and data["text/plain"] == 'A "title"'
    assert 'alt="A &quot;title&quot;: labels per class, one, two, 1, 2,000"' in page
    assert "<figcaption>Is a &lt; b?</figcaption>" in page and "data:image/svg+xml;base64," in page
    pictures.show(internals.matrices("A map", {"before": np.eye(3)}, "size"), "A map is a PNG.")
    page = shown[1][0]["text/html"]
    assert "data:image/png;base64," in page
    picture = Image.open(BytesIO(base64.b64decode(page.split("base64,")[1].split('"')[0])))
    assert picture.mode == "P" and picture.width == round(pictures.DPI * figure.get_figwidth())
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_an_svg_has_the_same_text_each_time_and_turns_its_ink_on_a_dark_system():
    first, again = (pictures.svg(pictures.curves("The title", WAYS, "x", "y"), "a < b") for _ in range(2))
    assert first == again and "<dc:" not in first and "<title>a &lt; b</title>" in first
    dark = first.partition("prefers-color-scheme: dark")[2].partition("</style>")[0]
    for light, colour in pictures.DARK.items():
        assert light == light.lower(), "as matplotlib writes it"
        assert f'[style*="fill: {light}"] {{ fill: {colour} !important }}' in dark
    assert "var(" not in first, "programs without CSS variables would draw it black"
    assert "stroke: #000000" in first.partition("</style>")[2]


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_shows_what_it_was_given(name):
    from matplotlib.text import Text

    draw, arguments, words = DRAWN[name]
    figure = draw("The title", *arguments)
    style.write_png(figure, file := BytesIO(), 60)
    assert file.getvalue().startswith(b"\x89PNG")
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert {"The title", *words} <= texts
