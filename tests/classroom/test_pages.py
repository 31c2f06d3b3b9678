"""pytest tests/classroom/test_pages.py: the lessons' pages that answer, from disk in headless Chromium, by keyboard.

What a page shows is compared with what minilora and NumPy compute. Needs Chromium, without which the first tests run.
"""

import json
import re
import runpy
from unittest.mock import patch

import numpy as np
import pytest

from experiments.results.page import measured_curves
from lessons import pages
from minilora import functional as F
from minilora.measure.lab import Lab
from minilora.plan.activations import Step
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS
from minilora.quant import plain
from minilora.quant.codebooks import CODEBOOKS, midpoints, order
from minilora.tensor import no_grad
from minilora.train import load
from tests.helpers import chrome

needs_chromium = pytest.mark.skipif(
    chrome.chromium_path() is None, reason=f"no browser here: none of {', '.join(chrome.NAMES)}"
)
pytestmark = pytest.mark.host
OTHER_TEXT = 0.05  # of a number that was measured on the documentation of other versions of Python and NumPy
SCRIPTS = pages.scripts()
LETTERS = """[...document.querySelectorAll("svg text")].map((text) => text.ownerSVGElement.clientWidth *
  parseFloat(getComputedStyle(text).fontSize) / text.ownerSVGElement.viewBox.baseVal.width)"""
OUTSIDE = """[...document.querySelectorAll("svg.picture")].flatMap((svg) => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text, path, rect, circle")].filter((drawn) => {
    const at = drawn.getBoundingClientRect();
    return at.left < box.left - 1 || at.top < box.top - 1 || at.right > box.right + 1 || at.bottom > box.bottom + 1;
  }).map((drawn) => `${svg.id}: ${drawn.outerHTML}`);
})"""  # of their pictures
every_page = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.parent.name)


@pytest.fixture(scope="module")
def page():
    with chrome.Page() as page:
        yield page


def data_of(number: str) -> dict:
    (script,) = [script for script in SCRIPTS if script.parent.name.startswith(number)]
    return json.loads(script.with_suffix(".json").read_text("utf-8"))


def without_scripts(number: str) -> str:
    """Return the text of a lesson's page as a browser without scripts shows it."""
    (script,) = [script for script in SCRIPTS if script.parent.name.startswith(number)]
    return re.search("<noscript>.*</noscript>", pages.written(script).decode(), re.S)[0].replace("\n", " ")


def opened(page, number: str, guess: str) -> None:
    """Open the page of a lesson and make a guess by keyboard."""
    (script,) = [script for script in SCRIPTS if script.parent.name.startswith(number)]
    page.open(script.with_name(pages.PAGE))
    page.value("document.querySelector('#guess input, #guess select').focus()")
    page.value("document.activeElement.select?.()")
    page.press(*guess, "Tab", "Enter")


def number_in(words: str, before: str, after: str) -> float:
    """Return the number between two pieces of a text."""
    match = re.search(re.escape(before) + r"\s*(-?[\d,.]+?)\s*" + re.escape(after), words)
    assert match, f"no number between {before!r} and {after!r} in {words!r}"
    return float(match[1].replace(",", ""))


def test_pages_are_what_their_sources_make():
    assert pages.stale() == [], "run python -m lessons.pages"


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
        seen = "[...document.querySelectorAll('{}')].{}(e => e.checkVisibility())".format
        assert page.value(seen(".after:not(figcaption *)", "every")) and page.value("byId('said').checkVisibility()")
        assert not page.value(seen("input, select, button, figcaption .after", "some")), "nothing to move on paper"
        assert all(size > 10 for size in page.value(LETTERS)), "legible on a telephone"
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
    assert page.value(OUTSIDE) == []


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
    assert qlora < 48, "it fits into the card"


@needs_chromium
def test_lesson_13_says_what_was_measured_and_when_training_pays(page):
    curve = measured_curves()["reviews"]
    opened(page, "13", "1")
    verdict = page.value("byId('verdict').textContent")
    assert verdict.startswith(f"You said 128. {curve.sentence()}"), "as the README has it"
    close = [n for n in curve.parts("trained", "lora") if f"On {n} examples, LoRA's mean" in verdict]
    best = curve.best("prompt")
    assert close == [
        n
        for n in curve.parts("trained", "lora")
        if best.spread.mean < (way := curve.way("trained", "lora", n)).spread.mean and not curve.is_ahead(way, best)
    ]


@needs_chromium
def test_lesson_08_adds_up_pieces_as_numpy_does(page):
    data = data_of("08")
    change = pages.unpacked(data["change"])
    left, sizes, right = np.linalg.svd(change)
    np.testing.assert_allclose(data["sizes"], sizes, atol=1e-3 * sizes[0])
    held = np.cumsum(sizes**2) / (sizes**2).sum()
    opened(page, "08", "7")
    verdict = page.value("byId('verdict').textContent")
    assert number_in(verdict, "7 pieces hold", "%") == pytest.approx(100 * held[6], abs=0.06)
    assert number_in(verdict, "80 % need", "pieces") == np.argmax(held >= 0.8) + 1
    assert "Eight pieces have 2,304 numbers, an eighth of the 18,432, and hold most" in without_scripts("08")
    assert change.size == 18_432 == 8 * 8 * sum(change.shape) and held[7] > 0.5
    page.press("ArrowRight", "ArrowRight", "ArrowRight")
    caption = page.value("byId('said').textContent")
    assert caption.startswith("r = 4: 1,152 numbers, 6.3 % of 18,432")
    assert number_in(caption, "hold", "% of ΔW") == pytest.approx(100 * held[3], abs=0.06)
    best = (left[:, :4] * sizes[:4]) @ right[:4]
    pixels = "byId('{}').getContext('2d').getImageData(0, 0, 192, 96).data".format
    shown = np.array(list(page.value(f"[...{pixels('sum')}]"))).reshape(96, 192, 4)
    blue = np.where(best < 0, 255 - 136, 255 - 2)
    expected = 255 - np.minimum(np.abs(best) / (np.abs(change).max() / 2), 1) * blue
    assert np.abs(shown[..., 2] - expected).max() <= 2


def quantized(weights: np.ndarray, blocksize: int, kind: str) -> tuple[str, float]:
    """Return the bytes of the weights as the page writes them, and the root mean square error."""
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
    page.press("Tab", "Tab", " ")  # to the button that takes it back
    check(weights, 16)
    caption = page.value("byId('said').textContent")
    assert caption.startswith("Weight 15 is 0.1672, and its block's absmax 0.1672."), "not the first block's"
    weights = np.array(data_of("11")["weights"], dtype=np.float32)
    before, after = ([quantized(numbers, 16, kind)[1] for kind in ("nf4", "int4")] for numbers in (weights, largest))
    nf4, int4 = (new / old for new, old in zip(after, before, strict=True))
    without = without_scripts("11")
    assert "for these weights is {:.4f}, INT4's {:.4f}.".format(*before) in without
    assert "they are {:.4f} and {:.4f}: {:.1f} and {:.1f} times.".format(*after, nf4, int4) in without
    assert f"NF4's is {quantized(largest, 4, 'nf4')[1]:.4f}." in without


@needs_chromium
@pytest.mark.slow
def test_lesson_07_moves_the_point_that_was_measured(page):
    data = data_of("07")
    ways = {way["name"]: way for way in data["ways"]}
    for way in ways.values():  # λ = 0 is the base and λ = 1 what training kept
        assert way["strengths"][0] == way["path"][0] == [0, 0]
        assert way["strengths"][-1] == pytest.approx(way["path"][way["steps"].index(way["kept"])], abs=2e-5)
    lab = Lab(load.base_folder(), test_characters=12_000)
    bits = [lab.bits(lab.base(), text) for text in (lab.domain_test, lab.base_test)]
    assert data["base"] == pytest.approx(bits, rel=OTHER_TEXT)

    half, whole = (np.array(ways["LoRA"]["strengths"][i]) for i in (10, 20))
    opened(page, "07", "70")
    verdict = page.value("byId('verdict').textContent")
    assert number_in(verdict, "LoRA has", "% of what it had learned") == round(100 * half[0] / whole[0])
    assert number_in(verdict, "and", "% of what it had forgotten") == round(100 * half[1] / whole[1])

    def check(name: str, place: int) -> None:
        caption = page.value("byId('said').textContent")
        learned, forgotten = ways[name]["strengths"][place]
        assert caption.startswith(
            f"{name} at λ = {place / 20:.2f}: learned {learned:.3f}, forgotten {forgotten:.3f}"
        ), caption
        left, ground = (float(page.value(f"ring.getAttribute('{name}')")) for name in ("cx", "cy"))
        where = "(([x, y]) => [x, y])([{}({}), {}({})])".format("x", learned, "y", forgotten)
        assert page.value(where) == pytest.approx([left, ground], abs=0.01)
        assert ("has gained" in caption) == (forgotten < 0)

    page.value("byId('way').focus()")
    page.press("Home")
    check("full fine-tuning", 10)
    without = without_scripts("07")
    assert "LoRA learned {:.3f} and forgot {:.3f} bits".format(*whole) in without
    learned, forgotten = (
        f"{now:.3f}, which is {100 * now / then:.0f} %" for now, then in zip(half, whole, strict=True)
    )
    assert f"it has learned {learned}, and forgotten {forgotten}." in without


def attention(model, ids: np.ndarray, is_causal: bool) -> np.ndarray:
    """Return the attention weights (L, H, T, P + T): the output in each layer for values that form the identity."""
    outputs, attend = [], F.scaled_dot_product_attention

    def listening(q, k, v, **options):
        values = np.broadcast_to(np.eye(k.shape[2], dtype="float32"), (*k.shape[:-1], k.shape[2]))
        outputs.append(attend(q, k, values, is_causal=is_causal).numpy()[0])
        return attend(q, k, v, **options)

    with patch.object(F, "scaled_dot_product_attention", listening), no_grad():
        model(ids[None])
    return np.stack(outputs)


@needs_chromium
def test_lesson_10_has_the_attention_of_the_base_and_of_the_prefix(page):
    data, (script,) = data_of("10"), [script for script in SCRIPTS if script.parent.name.startswith("10")]
    names = runpy.run_path(str(script))
    lab = Lab(load.base_folder(), test_characters=8_000)
    ids, virtual = lab.tokenizer.encode(names["SENTENCE"]), data["virtual"]
    models = (lab.base(), names["prefixed"](lab, pages.unpacked(data["prefix"])))
    assert data["bits"] == pytest.approx([lab.bits(one, lab.domain_test) for one in models], rel=OTHER_TEXT)
    assert all(f"{bits:.3f}" in names["BODY"] for bits in data["bits"])

    weights = {is_masked: [attention(one, ids, is_masked) for one in models] for is_masked in (True, False)}

    def check(layer: int, head: int, token: int, is_masked: bool = True) -> None:
        rows = page.value("[...byId('weights').rows].map((row) => [...row.cells].map((cell) => cell.textContent))")
        off, on = (one[layer - 1, head - 1, token - 1] for one in weights[is_masked])
        wanted = np.full((virtual + len(ids), 3), np.nan)
        wanted[virtual:, 0], wanted[:, 1], wanted[virtual:, 2] = off, on, on[virtual:] / on[virtual:].sum()
        if is_masked:
            wanted[virtual + token :] = np.nan
        shown = [[float(cell.rstrip("\xa0%")) if "%" in cell else np.nan for cell in row[1:]] for row in rows]
        np.testing.assert_allclose(shown, 100 * wanted, atol=0.15)
        if layer == 1:
            np.testing.assert_allclose(wanted[virtual:, 0], wanted[virtual:, 2], atol=1e-4)

    shares = weights[True][1][..., :virtual].sum(axis=-1).mean(axis=-1)
    alike = 100 * np.mean([4 / (4 + seen) for seen in range(1, 9)])
    opened(page, "10", "20")
    verdict = page.value("byId('verdict').textContent")
    assert number_in(verdict, "", "% go to") == pytest.approx(100 * shares.mean(), abs=0.06)
    assert number_in(verdict, "would be", "%") == round(alike, 1)
    assert number_in(verdict, "from", "%") == pytest.approx(100 * shares.min(), abs=0.06)
    assert "(layer {}, head {}).".format(*np.array(np.unravel_index(shares.argmax(), shares.shape)) + 1) in verdict
    without = without_scripts("10")
    assert f"{100 * shares.mean():.0f} % of all attention" in without and f"would be {alike:.0f} %." in without
    assert f"gives it {100 * shares.max():.0f} %, another {100 * shares.min():.0f} %." in without
    check(1, 3, 5)
    caption = page.value("byId('said').textContent")
    assert number_in(caption, "the prefix has", "%") == pytest.approx(
        100 * weights[True][1][0, 2, 4, :virtual].sum(), abs=0.06
    )
    page.press("Tab", " ")  # the mask off
    check(1, 3, 5, is_masked=False)
    page.press(" ")
    page.value("byId('layer').focus()")
    page.press("End", "ArrowLeft", "Tab", "Home", "ArrowRight", "Tab", "End")
    check(5, 2, 8)
