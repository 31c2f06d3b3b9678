"""pytest tests/classroom/test_pages.py: the lessons' pages that answer, from disk in headless Chromium, by keyboard.

What a page shows is compared with what minilora and NumPy compute. Needs Chromium, without which the first tests run.
"""

import base64
import json
import re

import numpy as np
import pytest

from minilora.classroom.publish import pages
from minilora.plan.activations import Step
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS
from minilora.quant import plain
from minilora.quant.codebooks import CODEBOOKS, midpoints, order
from minilora.results.page import ROOT, reviews_curve
from tests.helpers import chrome

needs_chromium = pytest.mark.skipif(
    chrome.found() is None, reason=f"no browser here: none of {', '.join(chrome.NAMES)}"
)
pytestmark = pytest.mark.host
SCRIPTS = pages.scripts()
every_page = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.parent.name)


@pytest.fixture(scope="module")
def page():
    with chrome.Page() as page:
        yield page


def data_of(number: str) -> dict:
    (script,) = [script for script in SCRIPTS if script.parent.name.startswith(number)]
    return json.loads(script.with_suffix(".json").read_text("utf-8"))


def unpacked(array: dict) -> np.ndarray:
    codes = np.frombuffer(base64.b64decode(array["codes"]), "<i2")
    return (codes * array["scale"]).reshape(array["shape"])


def opened(page, number: str, guess: str) -> None:
    """The page of a lesson, after a guess by keyboard."""
    (script,) = [script for script in SCRIPTS if script.parent.name.startswith(number)]
    page.open(script.with_name(pages.PAGE))
    page.value("document.querySelector('#guess input, #guess select').focus()")
    page.value("document.activeElement.select?.()")
    page.press(*guess, "Tab", "Enter")


def number_in(words: str, before: str, after: str) -> float:
    """The number between two pieces of a text."""
    found = re.search(re.escape(before) + r"\s*(-?[\d,.]+?)\s*" + re.escape(after), words)
    assert found, f"no number between {before!r} and {after!r} in {words!r}"
    return float(found[1].replace(",", ""))


def test_pages_are_what_their_sources_make():
    assert pages.stale() == [], "run python -m minilora.classroom.publish.pages"


@every_page
def test_a_page_says_what_it_is_without_scripts(script):
    page = script.with_name(pages.PAGE).read_text("utf-8")
    assert "<noscript>" in page and re.search(r"<noscript>.*\d.*</noscript>", page, re.S)
    assert not re.search(r'(src|href)="(https?:)?//', page), "it works from disk"
    reading = (script.parent / "README.md").read_text("utf-8")
    assert f"]({pages.PAGE})" in reading, "the reading links to it"


@needs_chromium
@every_page
def test_a_page_opens_from_disk_on_a_telephone_in_the_dark(page, script):
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    try:
        page.call("Emulation.setEmulatedMedia", features=dark)
        page.open(script.with_name(pages.PAGE))
        assert page.value("document.documentElement.scrollWidth") <= 390
        assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(23, 25, 28)"
        page.call("Emulation.setEmulatedMedia", media="print")
        assert page.value("[...document.querySelectorAll('.after')].every(e => getComputedStyle(e).display != 'none')")
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.call("Emulation.setEmulatedMedia", media="", features=[])


@needs_chromium
@every_page
def test_the_answer_waits_for_a_guess(page, script):
    page.open(script.with_name(pages.PAGE))
    is_shown = "[...document.querySelectorAll('.after')].map(e => getComputedStyle(e).display != 'none')"
    assert page.value(is_shown) and not any(page.value(is_shown))
    opened(page, script.parent.name[:2], "1")
    assert all(page.value(is_shown)) and page.value("document.getElementById('verdict').textContent")
    assert not [line for line in page.log if "rror" in line]


def choose(page, **values: str) -> None:
    for name, value in values.items():
        page.value(f"byId({name!r}).value = {value!r}, byId({name!r}).dispatchEvent(new Event('input'))")


@needs_chromium
def test_lesson_12_counts_bytes_as_the_planner_does(page):
    def gigabytes(shape: str, way: str, *step: int, is_checkpointed: bool = False) -> float:
        plan = make_plan(PRESETS[shape], way, step=Step(*step, 2, fused=True))
        return (plan.checkpointed if is_checkpointed else plan.memory).peak / 1e9

    opened(page, "12", "100")
    verdict = page.value("byId('verdict').textContent")
    full, qlora = gigabytes("llama-65b", "full", 1, 512), gigabytes("llama-65b", "qlora", 1, 512, is_checkpointed=True)
    assert number_in(verdict, "needs", "GB,") == round(full)
    assert number_in(verdict, "GB,", "times") == round(full / 100, 1)
    assert number_in(verdict[verdict.index("QLoRA") :], "GB,", "GB with") == pytest.approx(qlora, abs=0.06)
    choose(page, shape="llama-7b", way="lora", batch="16", length="2048")
    page.value("byId('checkpointing').click()")
    said = page.value("byId('said').textContent")
    assert number_in(said, "", "GB in all") == pytest.approx(
        gigabytes("llama-7b", "lora", 16, 2048, is_checkpointed=True), abs=0.06
    )


@needs_chromium
def test_lesson_13_says_what_was_measured_and_when_training_pays(page):
    curve = reviews_curve(ROOT)
    opened(page, "13", "8")
    verdict = page.value("byId('verdict').textContent")
    assert number_in(verdict, "answers", "% rightly") == round(curve.reached("trained", "lora", 32).mean, 1)
    shots, best = curve.best_prompt()
    assert number_in(verdict, f"({shots} examples)", "%.") == round(best.mean, 1)
    choose(page, size="512 examples", queries="3")
    said = page.value("byId('said').textContent")
    prompted = curve.cost("prompt", shots)["milliseconds"]
    assert number_in(said, "1,000 queries:", "s with") == round(prompted)
    assert number_in(said, "pays from", "queries") == pytest.approx(curve.crossover("lora", 512), rel=2e-3)


@needs_chromium
def test_lesson_08_adds_up_pieces_as_numpy_does(page):
    data = data_of("08")
    change = unpacked(data["change"])
    left, sizes, right = np.linalg.svd(change)
    np.testing.assert_allclose(data["sizes"], sizes, atol=1e-3 * sizes[0])
    held = np.cumsum(sizes**2) / (sizes**2).sum()
    opened(page, "08", "7")
    verdict = page.value("byId('verdict').textContent")
    assert number_in(verdict, "7 pieces hold", "%") == pytest.approx(100 * held[6], abs=0.06)
    assert number_in(verdict, "80 % need", "pieces") == np.argmax(held >= 0.8) + 1
    page.press("ArrowRight", "ArrowRight", "ArrowRight")
    said = page.value("byId('said').textContent")
    assert said.startswith("r = 4: 1,152 numbers, 6.3 % of 18,432")
    assert number_in(said, "hold", "% of ΔW") == pytest.approx(100 * held[3], abs=0.06)
    best = (left[:, :4] * sizes[:4]) @ right[:4]
    pixels = "byId('{}').getContext('2d').getImageData(0, 0, 192, 96).data".format
    shown = np.array(list(page.value(f"[...{pixels('sum')}]"))).reshape(96, 192, 4)
    blue = np.where(best < 0, 255 - 136, 255 - 2)
    expected = 255 - np.minimum(np.abs(best) / (np.abs(change).max() / 2), 1) * blue
    assert np.abs(shown[..., 2] - expected).max() <= 2


def quantized(weights: np.ndarray, blocksize: int, kind: str) -> tuple[str, float]:
    """The bytes of the weights as the page writes them, and the root of the mean square of the errors."""
    packed, absmax = plain.quantize_4bit(weights, blocksize, midpoints(kind), order(kind))
    back = plain.dequantize_4bit(packed, absmax, CODEBOOKS[kind](), blocksize, weights.size)
    return " ".join(f"0x{byte:02X}" for byte in packed), np.sqrt(np.square(back - weights, dtype=float).mean())


@needs_chromium
def test_lesson_11_quantizes_as_minilora_does(page):
    weights = np.array(data_of("11")["weights"], dtype=np.float32)
    largest = np.where(np.arange(16) == 14, 10 * weights, weights)
    assert np.abs(weights).argmax() == 14

    def check(weights: np.ndarray, blocksize: int) -> None:
        for kind in ("nf4", "int4"):
            packed, error = quantized(weights, blocksize, kind)
            says = page.value(f"byId('{kind}-says').textContent")
            assert says.endswith(f"bytes {packed}"), (says, packed, blocksize)
            assert number_in(says, "error", ";") == pytest.approx(error, abs=6e-5)

    opened(page, "11", "5")
    verdict = page.value("byId('verdict').textContent")
    for kind, before, after in (("nf4", "0.0059:", "times"), ("int4", "INT4's is", "times")):
        times = quantized(largest, 16, kind)[1] / quantized(weights, 16, kind)[1]
        assert number_in(verdict, before, after) == pytest.approx(times, abs=0.06)
    check(largest, 16)
    page.press("ArrowUp")
    check(largest, 8)
    page.press("ArrowUp")
    check(largest, 4)
    page.press("Tab", "Tab", " ")  # to the button that takes it back
    check(weights, 4)
    said = page.value("byId('said').textContent")
    assert said.startswith("Weight 15 is 0.1672, and its block's absmax 0.1672."), "not the first block's"
    page.value("byId('which').focus()")
    page.press("Home", "ArrowRight", "ArrowRight", "ArrowRight", "Tab", "ArrowLeft")  # the fourth weight, a little less
    weights[3] = 0.055  # of the steps of the slider, the next below
    check(weights, 4)
    said = page.value("byId('said').textContent")
    assert said.startswith("Weight 4 is 0.0550, and its block's absmax 0.0550. NF4: code 15, mark 1.0000")
    assert said.endswith("4 + 32 / 4 = 12 bits.")
    without = re.search("<noscript>.*</noscript>", page.value("document.documentElement.innerHTML"), re.S)[0]
    weights = np.array(data_of("11")["weights"], dtype=np.float32)
    for numbers, blocksize in ((weights, 16), (largest, 16), (largest, 4)):
        assert f"{quantized(numbers, blocksize, 'nf4')[1]:.4f}" in without


@needs_chromium
def test_lesson_11_weights_can_be_dragged(page):
    opened(page, "11", "5")
    box = page.value("(({x, y, width}) => ({x, y, width}))(byId('weights').getBoundingClientRect())")
    unit = box["width"] / 360  # pixels of the page per unit of the picture
    start = {"x": box["x"] + unit * (54 + 19 * 2.5), "y": box["y"] + unit * 72}  # the third weight, at zero
    axis = float(page.value("byId('weights').dataset.axis"))
    for kind, up in (("mousePressed", 0), ("mouseMoved", 30), ("mouseReleased", 30)):
        where = start | {"y": start["y"] - unit * up}
        page.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **where)
    said = page.value("byId('said').textContent")
    assert number_in(said, "Weight 3 is", ", and") == pytest.approx(axis / 2, rel=0.03)
