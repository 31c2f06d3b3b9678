"""pytest tests/classroom/test_live_page.py: lesson 08's page that runs a language model, against minilora.

The page is opened from disk in headless Chromium. Its tokens, logits and words are compared with those of minilora's
own model of the same 8-bit weights. Without Chromium only the first tests run.
"""

import base64
import json
import re
import runpy
import time

import numpy as np
import pytest

from lessons import pages
from minilora.data import corpora
from minilora.tensor import no_grad
from minilora.train import load
from tests.helpers import chrome

SCRIPT = pages.ROOT / "lessons/08_lora/live.py"
PAGE = SCRIPT.with_suffix(".html")
NAMES = runpy.run_path(str(SCRIPT))
expected = NAMES["expected"]
RECORD = json.loads(SCRIPT.with_suffix(".json").read_text("utf-8"))
ADAPTER = base64.b64decode(RECORD["adapter"])
CLOSE = 2e-4  # of logits, which are up to 20 in size: the page adds in float64, minilora in float32
needs_chromium = pytest.mark.skipif(
    chrome.chromium_path() is None, reason=f"no browser here: none of {', '.join(chrome.NAMES)}"
)
pytestmark = pytest.mark.host

LONG = ("Return the sum of array elements over a given axis. " * 40)[:2000]
FIRST = next(iter(NAMES["EXAMPLES"]))
TEXTS = {
    "first": FIRST,
    "plain": "The quick brown fox jumps over the lazy dog.",
    "code": "def f(x: int) -> str:\n    return f'{x:>8}'\t# £5\n\n\n",
    "emoji": "🙂👩‍👩‍👧 naïve 東京 \u00a0\u0085x",
    "empty": "",
    "long": LONG,
}
SETTINGS = [(0, 0.0), (8, 1.0), (3, 0.7), (1, 1.5)]


@pytest.fixture(scope="module")
def tokenizer():
    return load.tokenizer_of(load.base_folder())


@pytest.fixture(scope="module")
def browser():
    with chrome.Page() as page:
        yield page


@pytest.fixture
def page(browser):
    browser.call("Page.navigate", url="about:blank")  # or a change of the address alone would keep the page
    browser.log.clear()
    browser.open(PAGE)
    wait(browser, "document.body.dataset.ready")
    yield browser
    assert not [line for line in browser.log if "rror" in line]


def wait(page, condition: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not page.value(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.05)


def wait_for(page, r: int, strength: float) -> None:
    """Wait until the page, which follows its sliders a moment later, shows this model."""
    shown = "byId('rank-says').textContent + ' at ' + byId('strength-says').textContent"
    wait(page, f"{shown} === '{r} of 8 at {strength:.2f}'")


def inputs(tokenizer, text: str) -> np.ndarray:
    """Return the ids that the page reads."""
    return np.insert(tokenizer.encode(text)[-(NAMES["CONTEXT"] - 1) :], 0, tokenizer.eos_token_id)


def type_text(page, text: str) -> None:
    page.value(f"byId('text').value = {json.dumps(text)}; byId('text').dispatchEvent(new Event('input'))")


def test_the_page_is_small_and_tells_of_its_first_sentence_without_scripts():
    page = PAGE.read_text("utf-8")
    assert PAGE.stat().st_size < 4_000_000 and SCRIPT.with_suffix(".json").stat().st_size < 700_000
    words = page[page.index("<noscript>") : page.index("</noscript>")]
    assert all(written.strip().split("\n")[0] in words for written in [FIRST, *RECORD["written"]])
    weights = page[page.index('id="weights"') :].partition("</script>")[0]
    assert len(weights) > 3_800_000 and "<!--" not in weights and "<script" not in weights.lower()


def test_the_update_is_cut_into_pieces_of_which_the_first_are_the_best():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((8, 20)).astype("float32"), rng.standard_normal((12, 8)).astype("float32")
    first, second = NAMES["pieces"](a, b)
    np.testing.assert_allclose(second.T @ first, b @ a, atol=1e-5)
    sizes = np.linalg.svd(b @ a, compute_uv=False)
    for r in range(9):
        missing = np.linalg.norm(b @ a - second[:r].T @ first[:r])
        assert missing == pytest.approx(np.sqrt((sizes[r:] ** 2).sum()), abs=1e-4), "Eckart and Young"


def test_eight_bits_are_off_by_half_a_step_at_most():
    matrix = np.random.default_rng(0).standard_normal((5, 64)).astype("float32")
    matrix[2] = 0
    step = np.abs(matrix).max(axis=1, keepdims=True) / 127
    assert (np.abs(np.multiply(*NAMES["quantized"](matrix)) - matrix) <= 0.501 * step).all()


def test_the_picture_on_the_readme_moves_through_what_minilora_computes(tokenizer):
    turned, record = NAMES["turned"](ADAPTER, tokenizer, NAMES["PICTURED"]), RECORD["turned"]
    assert (turned["words"], turned["written"]) == (record["words"], record["written"])
    np.testing.assert_allclose(turned["shares"], record["shares"], atol=0.0011)  # rounded to 0.001
    picture = (SCRIPT.parents[2] / "docs/pictures/strength.svg").read_text("utf-8")
    motions = dict(re.findall(r"@keyframes ([\w-]+) \{ (.+) \}\n", picture))
    for word, first, *_, last in zip(record["words"], *record["shares"], strict=True):
        bar = picture[picture.index(f">{word}<") :]
        motion, width = re.search(r'animation-name: ([\w-]+)".*\n<rect .* width="(.+?)"', bar).groups()
        assert float(width) == pytest.approx(750 * last)  # 10 % of the axis are 75 units
        assert motions[motion].startswith(f"0%, 20% {{ transform: scaleX({first / last:.3f}) }}")
    shown = re.findall(r'<g class="move" [^>]*?( opacity="0")?>\n<text[^>]*>Convert the input</text>', picture)
    assert shown == [' opacity="0"'] * 4 + [""], "without motion, the last"


def test_the_record_is_what_minilora_computes_and_what_the_captions_ask_for(tokenizer):
    models = {setting: NAMES["model_in_8_bits"](ADAPTER, *setting) for setting in ((0, 1), (8, 1), (1, 1), (8, 0.5))}
    ends = models[0, 1], models[8, 1]
    assert [NAMES["continued"](tokenizer, model, FIRST) for model in ends] == RECORD["written"]

    def ranked(text: str, setting: tuple) -> dict[str, float]:
        """Return {token: probability} of the token after a text, the likeliest first."""
        p = expected(models[setting], inputs(tokenizer, text))
        return {tokenizer.decode([i]): p[i] for i in np.argsort(-p)}

    half_way, pieces, form, price = NAMES["EXAMPLES"]
    leading = [next(iter(ranked(half_way, setting))) for setting in ((0, 1), (8, 0.5), (8, 1))]
    assert leading == [" iterator", " object", " ar"]
    assert [next(iter(ranked(pieces, setting))) for setting in ((0, 1), (1, 1), (8, 1))] == [" address", " ar", " ar"]
    without, lined = (NAMES["continued"](tokenizer, model, form) for model in ends)
    assert lined.startswith("----") and "----" not in without
    below, from_there = (NAMES["continued"](tokenizer, NAMES["model_in_8_bits"](ADAPTER, r), form) for r in (4, 5))
    assert from_there.startswith("----") and "----" not in below
    sure, back, unsure = (ranked(price, setting)[" raised"] for setting in ((0, 1), (8, 0.5), (8, 1)))
    assert unsure / sure == pytest.approx(0.5, abs=0.05), "half as sure"
    assert (back - unsure) / (sure - unsure) == pytest.approx(0.5, abs=0.1), "half of it back"


@needs_chromium
def test_tokens_are_those_of_minilora(page, tokenizer):
    rng = np.random.default_rng(0)
    texts = [document.text[:400] for name in corpora.CORPORA for document in corpora.load(name).documents[::40]]
    kinds = [range(32, 127), range(1, 0x300), range(0x2000, 0x2100), range(0x3000, 0x3100), range(0x1F300, 0x1F700)]
    for _ in range(60):
        texts.append("".join(chr(rng.choice(kinds[rng.integers(len(kinds))])) for _ in range(rng.integers(1, 40))))
    texts += [*TEXTS.values(), "  \n\n  a   b \t\n", "it's we'll I'D 12a½²٣", "<|endoftext|>", "\ufeffx\u200b\u180e"]
    assert len(texts) > 200
    shown = page.value(f"{json.dumps(texts)}.map(encode)")
    for text, ids in zip(texts, shown, strict=True):
        assert ids == tokenizer.encode(text).tolist(), text
    every = page.value("Array.from({length: DATA.config.vocab_size}, (_, i) => decode([i]))")
    assert every[1:] == [tokenizer.decode([i]) for i in range(1, tokenizer.vocab_size)]


@needs_chromium
def test_logits_are_those_of_minilora(page, tokenizer):
    greatest = 0.0
    for r, strength in SETTINGS:
        model = NAMES["model_in_8_bits"](ADAPTER, r, strength)
        for name, text in TEXTS.items():
            ids = inputs(tokenizer, text)
            count = min(len(ids), 12)
            with no_grad():
                right = model(ids[None]).logits.numpy()[0, -count:]
            shown = page.value(f"logits({ids.tolist()}, {r}, {strength}, {count}).map((row) => [...row])")
            difference = np.abs(np.array(shown) - right).max()
            assert difference < CLOSE, (name, r, strength)
            greatest = max(greatest, difference)
    print(f"greatest difference of a logit: {greatest:.2g}")


@needs_chromium
def test_rank_0_is_the_base_bit_for_bit(page, tokenizer):
    ids = inputs(tokenizer, TEXTS["plain"]).tolist()
    same = "(([[a], [b]]) => a.every((x, i) => x === b[i]))([logits({0}, 0, 1), logits({0}, {1})])".format
    assert page.value(same(ids, "8, 0")) and not page.value(same(ids, "1, 1"))


@needs_chromium
def test_the_sliders_show_what_minilora_computes(page, tokenizer):
    def check(r: int, strength: float) -> None:
        wait_for(page, r, strength)
        models = [NAMES["model_in_8_bits"](ADAPTER, *setting) for setting in ((0, 1), (r, strength))]
        base, now = (expected(model, inputs(tokenizer, FIRST)) for model in models)
        rows = page.value("[...byId('next').tBodies[0].rows].map(row => [...row.cells].map(c => c.textContent))")
        tokens = page.value("rows")
        assert len(rows) == len(tokens) + 1 == NAMES["ROWS"] + 1
        totals = [0.0, 0.0]
        for (_, _, *cells), token in zip(rows, tokens, strict=False):
            for k, p in enumerate((base, now)):
                shown, right = float(cells[k].removesuffix(" %")), 100 * p[token]
                assert shown == pytest.approx(right, abs=0.051)
                totals[k] += right
        assert [float(cell.removesuffix(" %")) for cell in rows[-1][2:4]] == pytest.approx(
            [100 - total for total in totals], abs=0.06
        )
        assert now.argmax() in tokens and base.argmax() in tokens
        for sheet, model in zip(("base-writes", "lora-writes"), models, strict=True):
            wait(page, f"byId('{sheet}').textContent === {json.dumps(NAMES['continued'](tokenizer, model, FIRST))}")

    widths = "[...document.querySelectorAll('#next i.{}')].map(bar => bar.style.width)".format
    check(8, 1.0)
    of_base = page.value(widths("base"))
    page.value("byId('strength').value = 1.5; update()")
    assert page.value(widths("base")) == of_base, "the base never changes"
    page.value("byId('strength').value = 1; update()")
    page.value("byId('rank').focus()")
    page.press("Home", "ArrowRight", "ArrowRight", "ArrowRight")
    check(3, 1.0)
    page.press("Tab", "End")
    check(3, 1.5)
    page.press("Home")
    check(3, 0.0)
    assert page.value(widths("lora")) == page.value(widths("base"))


def words_after(tokenizer, base, adapted, text: str) -> list[str]:
    """Return the words of the page's table for a text, in their order."""

    def whole(token: int) -> str:
        return NAMES["completed"](tokenizer, adapted if after[token] > before[token] else base, ids, token)

    ids = inputs(tokenizer, text)
    before, after = expected(base, ids), expected(adapted, ids)
    in_turns = np.column_stack([np.argsort(-p, kind="stable") for p in (before, after)]).ravel()
    shown = list(dict.fromkeys(in_turns.tolist()))[: NAMES["ROWS"]]
    words = [whole(token) for token in sorted(shown, key=lambda token: -max(before[token], after[token]))]
    return [word.removeprefix(" ").replace("\n", "↵") for word in words]


@needs_chromium
@pytest.mark.parametrize("text", [*NAMES["EXAMPLES"], "This is an"])
def test_words_and_sheets(page, tokenizer, text):
    base, adapted = (NAMES["model_in_8_bits"](ADAPTER, r) for r in (0, 8))
    type_text(page, text)
    sheets = page.value("[...sheets].map((one) => [one.children[1].textContent, one.children[2].textContent])")
    assert sheets == [[text, " …"]] * 2, "what was written after another text is gone at once"
    words = words_after(tokenizer, base, adapted, text)
    of_both = {"abstract", "array", "al…"}  # completed by the base, by the adapted, and by neither
    assert text != "This is an" or of_both < {*words}
    names = "[...document.querySelectorAll('#next button')].map((one) => one.textContent)"
    wait(page, f"{names}.join() === {json.dumps(','.join(words))}")
    for name, model in (("base", base), ("lora", adapted)):
        written = NAMES["continued"](tokenizer, model, text)
        wait(page, f"byId('{name}-writes').textContent === {json.dumps(written)}")
    wait(page, "!document.querySelector('.pale')")


@needs_chromium
def test_what_is_being_written_stops_when_a_slider_moves(page, tokenizer):
    wait(page, "!document.querySelector('.pale')")
    page.value(
        """globalThis.seen = [];
        const passes = extended, sheet = byId('lora-writes');
        const set = (value) => { byId('strength').value = value; update(); };
        let left = 5; // from the first, which reads the text, to the middle of the sheet
        extended = (...those) => {
          if (!--left) setTimeout(() => set(0.1));
          return passes(...those);
        };
        new MutationObserver(() => seen.push(sheet.textContent)).observe(sheet, { childList: true });
        set(0.5);"""
    )
    wait(page, "seen.length && !document.querySelector('.pale')")
    model = NAMES["model_in_8_bits"](ADAPTER, 8, 0.1)
    assert page.value("seen") == [NAMES["continued"](tokenizer, model, FIRST)]


@needs_chromium
def test_nothing_moves_while_a_slider_does(page):
    """Nor does a button when its word is completed."""
    boxes = """JSON.stringify([...document.querySelectorAll('h2, input, .sheets p, #next :is(th, td, button)')]
      .map((one) => Object.values(one.getBoundingClientRect().toJSON())))"""
    words = "[...document.querySelectorAll('#next button')].map((one) => one.textContent)"
    for text in list(NAMES["EXAMPLES"])[:2]:
        type_text(page, text)
        wait(page, "rests.size === 0")
        before, order = page.value(boxes), page.value("rows")
        wait(page, "rests.size >= ROWS")
        completed = page.value(words)
        for r, strength in SETTINGS:
            page.value(f"[byId('rank').value, byId('strength').value] = [{r}, {strength}]; update()")
            assert page.value(boxes) == before
            moved = [old for old, new in zip(order, page.value("rows"), strict=True) if old != new]
            assert len(moved) <= 1, "at most one row gives way to the word that now leads"
        assert page.value("[byId('rank').value, byId('strength').value] = TRAINED; update(); true")
        assert page.value("rows") == order and page.value(words) == completed


@needs_chromium
def test_a_token_that_was_read_is_not_read_again(page, tokenizer):
    ids = inputs(tokenizer, TEXTS["plain"]).tolist()
    page.value(f"globalThis.ids_ = {ids}; globalThis.cache = emptyCache(); undefined")
    in_parts = "[...logits(ids_.slice(0, 4), 8, 1, 4, cache), ...logits(ids_.slice(4), 8, 1, ids_.length - 4, cache)]"
    difference = f"{in_parts}.map((row, t) => Math.max(...row.map((x, i) => Math.abs(x - whole[t][i]))))"
    greatest = page.value(f"const whole = logits(ids_, 8, 1, ids_.length); Math.max(...{difference})")
    assert greatest < 1e-9


@needs_chromium
def test_a_link_to_copy_has_sentence_rank_and_strength(page):
    assert not page.value("byId('view').checkVisibility()"), "a link to this disk leads nobody else here"
    wait(page, "rests.size === ROWS && !timers.has(remember)")
    assert page.value("isAsking && !location.hash && byId('view').href === location.href"), "it leads to the question"
    type_text(page, "It is a\n🙂")
    page.value("byId('rank').value = 3")
    wait(page, "decodeURIComponent(byId('view').href.replaceAll('+', ' ')).endsWith('#t=It is a\\n🙂&r=3&s=1')")
    assert page.value("byId('view').textContent === 'copy link' && byId('view').href === location.href")


@needs_chromium
def test_one_writes_along_by_keyboard_and_the_address_keeps_it(page):
    wait(page, "rests.size === ROWS")
    page.value("document.querySelector('#next button').focus()")
    page.press("Enter")
    assert page.value("byId('look').textContent").startswith("object. You said “array”. Half-way, a word leads")
    wait_for(page, 8, 0.5)
    page.value("document.querySelector('#next button').focus()")
    page.press("Enter")
    wait(page, "location.hash.startsWith('#t=')")
    assert page.value("byId('text').value") == FIRST + " array", "the whole word"
    wait(page, "byId('look').textContent.startsWith('Move λ and r')")
    page.value("byId('rank').value = 2")
    page.value("byId('examples').children[3].focus()")
    page.press("Enter")
    wait(page, "byId('look').textContent === DATA.examples[3].look")
    wait_for(page, 8, 1.0)
    wait(page, "document.querySelector('#next td.base.leads').textContent === '60.9 %'")
    page.value("location.hash = '#t=It%20is%20a&r=2&s=0.5'")
    wait(page, "byId('text').value === 'It is a'")
    wait_for(page, 2, 0.5)
    page.value("location.hash = '#t=%E0%A4%A&r=99&s=Infinity'")  # half a character, out of range, no number
    wait_for(page, 8, 0.5)


@needs_chromium
def test_bad_input_is_answered_in_words(page, tokenizer):
    def note_after(text: str, words: str) -> str:
        type_text(page, text)
        wait(page, f"byId('note').textContent.includes({json.dumps(words)})")
        wait(page, "now.p.length === DATA.config.vocab_size && now.p.every(Number.isFinite)")
        return page.value("byId('note').textContent")

    note_after("", "empty: how a document begins")
    tokens = len(tokenizer.encode(TEXTS["emoji"]))
    assert note_after(TEXTS["emoji"], f"{tokens} tokens").startswith(f"{len(TEXTS['emoji'])} characters")
    note_after(LONG, f"reads the last 111 of {len(tokenizer.encode(LONG))} tokens")
    assert page.value("ids") == tokenizer.encode(LONG).tolist()
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    note_after("x" * 2000, "reads the last 111 of")  # one word
    assert page.value("document.documentElement.scrollWidth <= innerWidth")


@needs_chromium
def test_a_telephone_the_dark_and_paper(page):
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    try:
        page.call("Emulation.setEmulatedMedia", features=dark)
        assert page.value("document.documentElement.scrollWidth") <= 390
        assert page.value("byId('next').getBoundingClientRect().bottom") < 800, "all that moves is on the first screen"
        wide = "[...document.querySelectorAll('#next td')].filter((cell) => cell.scrollWidth > cell.clientWidth)"
        assert page.value(f"{wide}.map((cell) => cell.textContent)") == [], "numbers stay in their cells"
        assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(23, 25, 28)"
        assert page.value("getComputedStyle(document.querySelector('#next i')).transitionDuration") == "0s"
        page.call("Emulation.setEmulatedMedia", media="print")
        shown = "[...document.querySelectorAll('#text, #rank-says, #next button, .sheets span')]"
        assert page.value(f"{shown}.every((e) => e.checkVisibility())")
        assert not page.value(
            "[...document.querySelectorAll('input, #examples button')].some(e => e.checkVisibility())"
        )
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.call("Emulation.setEmulatedMedia", media="", features=[])
