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
