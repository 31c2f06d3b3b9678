"""Lesson 08's live page: type a sentence, and move the rank and the strength of a LoRA adapter. See lessons/pages.py.

live.html holds the package's base in 8 bits per weight and a LoRA adapter, and live.js computes with both. live.json
has the adapter and what was measured with it: COMMAND trains it, in a minute or two, and `python -m lessons.pages
--measure 08` does all of that again.

    8 bits     each row of a matrix has one scale, its largest magnitude / 127; a weight is scale · code, -127 to 127
    pieces     the update B A of each layer, taken apart by its SVD: row k of A is √σ_k v_k, column k of B √σ_k u_k, so
               that the first r pieces are the best update of rank r (Eckart and Young 1936), and all 8 are B A
    text       base 85: 25 % more characters than bytes, where base64 needs 33 %
"""

import base64
import html
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from minilora.formats.atomic import read_json
from minilora.functional import softmax
from minilora.measure.lab import Lab
from minilora.tensor import no_grad
from minilora.train import load, methods

COMMAND = "minilora finetune --data numpy-docs --method lora --steps 200 --seed 0"
TITLE = "LoRA at work on your own sentence"
HEADLINE = "Half the LoRA: which word wins?"
BACKGROUND = "LoRA taught a language model NumPy's documentation"
SHOWN = "What the model writes without LoRA and with it, bars of what each expects next, and a ? for half of it"
NAME = "live"  # in the links of other pages
ABOUT = "A small language model in your browser: type, turn its adapter down, and watch the next word"
LAYOUT = ""
LARGEST = 4_000_000  # bytes of the page
RANK, ALPHA = 8, 16  # of the command
CONTEXT, WRITTEN = 112, 16  # tokens that are read and written: together the 128 that base and adapter were trained on
RECORD = Path(__file__).with_suffix(".json")
ROWS = 6  # tokens that are shown
PICTURED = "Convert the input to an"  # in the README's picture of this page, which docs/pictures.py draws,
STRENGTHS, WORDS = (0, 0.25, 0.5, 0.75, 1), 5  # at these λ, with so many words
LONGEST = 6  # tokens of a word in the table
HALF = 0.5  # λ of the reader's guess, which is about the first of these beginnings
EXAMPLES = {  # beginnings, and what to see there
    "Return an": "Half-way, a word leads that leads at neither end.",
    "Convert the input to an": "Turn r down: the first of the eight pieces is enough for “array” to lead.",
    "Returns\n": "Not the words but the form: NumPy's documentation underlines its headings. Turn r down: below 5, the "
    "line is gone.",
    "This exception is": "What it costs: a sentence as in Python's documentation. LoRA halves how sure the model is of "
    "“raised”, and λ = 0.5 gives half of that back.",
}


# Weights as bytes


def quantized(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one scale per row, float32 (n, 1), and the codes, int8 (n, m)."""
    scales = np.abs(matrix).max(axis=1, keepdims=True).astype("float32") / np.float32(127)
    return scales, np.rint(matrix / np.where(scales > 0, scales, 1)).astype("int8")


def as_bytes(array: np.ndarray) -> bytes:
    """Write a matrix as scales and codes, and a vector (of a norm) in float32."""
    parts = [array.astype("float32")] if array.ndim == 1 else quantized(array)
    return b"".join(part.astype(part.dtype.newbyteorder("<")).tobytes() for part in parts)


def pieces(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return A (r, in) and Bᵀ (r, out) with the same product B A, whose rows are in order of importance."""
    left, sizes, right = np.linalg.svd(b.astype("float64") @ a, full_matrices=False)
    roots = np.sqrt(sizes[: len(a)])[:, None]
    return (roots * right[: len(a)]).astype("float32"), (roots * left.T[: len(a)]).astype("float32")


def adapter_of(model: Any) -> list[tuple[Any, Any]]:
    """Return the parameters A (r, in) and B (out, r) of each adapted layer, in the order in which they are saved."""
    parameters = [parameter for name, parameter in model.named_parameters() if "lora_" in name]
    return list(zip(parameters[::2], parameters[1::2], strict=True))


def model_in_8_bits(adapter: bytes, r: int = RANK, strength: float = 1.0) -> Any:
    """Build minilora's model of what the page computes: base and adapter in 8 bits, with the first r pieces."""
    model = load.load_model("base")[0]
    for parameter in model.parameters():
        if parameter.data.ndim == 2:
            parameter.data = np.multiply(*quantized(parameter.data))
    model, file = methods.adapt(model, "lora"), BytesIO(adapter)

    def first_rows(rows: int, columns: int) -> np.ndarray:
        """Read a matrix, and zero its rows from r on."""
        scales = np.frombuffer(file.read(4 * rows), "<f4")[:, None]
        codes = np.frombuffer(file.read(rows * columns), "i1").reshape(rows, columns)
        return np.where(np.arange(rows)[:, None] < r, scales * codes, np.float32(0))

    for a, b in adapter_of(model):
        a.data = first_rows(*a.shape)
        b.data = np.ascontiguousarray(first_rows(*b.shape[::-1]).T)
    model.set_strength(strength)
    return model


# What is measured


def measure() -> dict:
    """Train the adapter, and measure with it all that the page says."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", *COMMAND.split(), "--out", f"{folder}/run"], check=True)
        trained = load.load_model("base", f"{folder}/run")[0]
    adapter = b"".join(as_bytes(array) for a, b in adapter_of(trained) for array in pieces(a.numpy(), b.numpy()))
    lab, models = Lab(load.base_folder()), [model_in_8_bits(adapter, r) for r in range(RANK + 1)]
    ends, half = (models[0], models[RANK]), model_in_8_bits(adapter, RANK, HALF)
    return {
        "adapter": base64.b64encode(adapter).decode(),
        "rank": [round(lab.bits(model, lab.domain_test), 5) for model in models],
        "old": [round(lab.bits(model, lab.base_test), 5) for model in ends],
        "half": [round(lab.bits(half, text), 5) for text in (lab.domain_test, lab.base_test)],
        "characters": lab.domain_test.characters,
        "written": [continued(lab.tokenizer, model, next(iter(EXAMPLES))) for model in ends],
        "turned": turned(adapter, lab.tokenizer, PICTURED),
    }


def turned(adapter: bytes, tokenizer: Any, text: str) -> dict:
    """Return what comes after a text as λ rises: the likeliest words that the model is sure of, and what is written."""
    models = [model_in_8_bits(adapter, RANK, strength) for strength in STRENGTHS]
    ids = [tokenizer.eos_token_id, *tokenizer.encode(text)]
    shares = np.stack([expected(model, ids) for model in models])
    words = {}
    for token in map(int, np.argsort(-shares.max(axis=0))):
        word = completed(tokenizer, models[shares[:, token].argmax()], ids, token).strip()
        if not word.endswith("…"):
            words[token] = word
        if len(words) == WORDS:
            break
    tokens = list(words)
    return {
        "words": list(words.values()),
        "shares": [[round(float(row[token]), 3) for token in tokens] for row in shares],
        "written": [continued(tokenizer, model, text).split("\n")[0] for model in models],
    }


def expected(model: Any, ids: Sequence[int]) -> np.ndarray:
    """Return the probabilities of the token after others, (V,)."""
    with no_grad():
        return softmax(model(np.asarray(ids)[None]).logits[:, -1]).numpy()[0]


def completed(tokenizer: Any, model: Any, ids: Sequence[int], token: int) -> str:
    """Return the word that a token begins after others, with … where a model is not sure of its rest, as live.js does.

    Sure: half of its probability goes to one token of letters, or half to what ends the word.
    """
    is_letters = np.array([tokenizer.decode([one]).isalpha() for one in range(tokenizer.vocab_size)])
    word = [token]
    while len(word) < LONGEST and tokenizer.decode(word)[-1:].isalpha():
        shares = expected(model, [*ids, *word])
        if shares[is_letters].sum() < 0.5:
            break
        if shares.max() < 0.5:
            return tokenizer.decode(word) + "…"
        word.append(int(shares.argmax()))
    return tokenizer.decode(word)


def continued(tokenizer: Any, model: Any, text: str) -> str:
    """Return what a model writes after a text: each time the token that it expects most, as live.js does."""
    ids = np.array([[tokenizer.eos_token_id, *tokenizer.encode(text)]])
    new = model.generate(ids, WRITTEN, temperature=0)[0, ids.size :]
    return tokenizer.decode(new[new != tokenizer.eos_token_id])


# The page

STYLE = """
:root { --base: #767e87; }
#stage { display: grid; gap: .6rem 2rem; grid-template-columns: minmax(0, 1fr); }
.lead { margin: .2rem 0 .7rem; }
.title { display: flex; justify-content: space-between; align-items: baseline; }
textarea { width: 100%; font: 1rem/1.4 ui-monospace, monospace; padding: .4rem .6rem; border-radius: .4rem;
  resize: vertical; border: 1px solid var(--soft); background: var(--panel); color: var(--ink); display: block; }
#examples { gap: .4rem; } #examples a { margin-left: auto; font-size: .9rem; }
:is(#examples, #next) button { font: .9rem ui-monospace, monospace; padding: .2rem .5rem; }
#examples [aria-pressed=true] { border-color: var(--lora); box-shadow: inset 0 0 0 1px var(--lora); }
#look { margin: .3rem 0; min-height: 4.5rem; }
.row .long { min-width: 0; } .long span { width: 5.2rem; } .long b { width: 3.4rem; }
.sheets { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; margin-bottom: .5rem; }
.sheets p { margin: 0; height: 9rem; overflow: hidden; padding: .3rem .6rem 0; border-top: .25rem solid;
  background: var(--panel); font-size: .95rem; line-height: 1.35; white-space: pre-wrap; overflow-wrap: anywhere; }
#stage :is(p, thead th).base { border-color: var(--base); } #stage :is(p, thead th).lora { border-color: var(--lora); }
.sheets b { display: block; } .prompt { color: var(--soft); } .pale span { opacity: .5; }
#next { table-layout: fixed; }
#next :is(th, td) { padding: .2rem .35rem; } #next thead :is(.base, .lora) { border-bottom-width: .25rem; }
#next th:first-child { width: 8.5rem; padding-left: 0; font-weight: 400; }
#next :is(th, td):is(.base, .lora) { width: 4.4rem; } #next .leads { font-weight: 700; }
#next button { width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: left;
  padding: .05rem .5rem; min-height: 1.6em; cursor: pointer; color: inherit; }
#next thead td { font-size: .78rem; color: var(--soft); text-align: left; vertical-align: bottom;
  white-space: normal; line-height: 1.2; }
#next i { display: block; height: .5rem; min-width: 1px; border-radius: 0 .15rem .15rem 0; }
#next i + i { margin-top: 2px; } i.base { background: var(--base); } i.lora { background: var(--lora); }
h2 { font-size: 1.25rem; margin: 1.6rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media (min-width: 60rem) {
  #stage { grid-template-columns: minmax(0, 4fr) minmax(0, 5fr); } textarea { min-height: 7rem; }
}
@media (max-width: 30rem) {
  h1 { font-size: 1.05rem; } .lead, #look, .row .long, #next { font-size: .85rem; line-height: 1.35; }
  #look { min-height: 3.8rem; } .lead, .row { margin: .2rem 0 .4rem; }
  :is(#examples, #next) button, .title { font-size: .8rem; }
  .sheets p { font-size: .78rem; height: 6.9rem; padding: .2rem .4rem 0; }
  #next th:first-child { width: 6.4rem; } #next :is(th, td):is(.base, .lora) { width: 3.6rem; padding: .2rem 0; }
}
@media (prefers-reduced-motion: no-preference) { #next i { transition: width .15s; } }
@media (scripting: none) { #stage { display: block; } #stage > :first-child, #next { display: none; } }
@media print {
  #next i, .sheets p { print-color-adjust: exact; } #look, .long input { display: none; }
  #next thead td { visibility: hidden; }
  #stage :is(.row:has(.long), .long) { display: flex !important; }
  #next button { display: block !important; border: 0; }
}
"""


def data() -> dict:
    """Return the record, and what live.js needs beside the weights."""
    config = read_json(load.base_folder() / "config.json")
    rules = read_json(load.base_folder() / "tokenizer.json")["model"]
    weights = dict(load.load_model("base")[0].named_parameters())
    maps = [weight.shape for name, weight in weights.items() if ".layers." in name and len(weight.shape) == 2]
    record = read_json(RECORD)
    return {
        "config": config | {"rank": RANK, "alpha": ALPHA, "context": CONTEXT, "written": WRITTEN, "longest": LONGEST},
        "half": HALF,
        "weights": sum(weight.size for weight in weights.values()),
        "maps": len(maps),
        "piece": sum(map(sum, maps)),
        "merges": [[rules["vocab"][part] for part in pair] for pair in rules["merges"]],
        "examples": [{"text": text, "look": look} for text, look in EXAMPLES.items()],
        "record": {name: value for name, value in record.items() if name not in ("adapter", "turned")},
    }


def summary(data: dict) -> str:
    text, (base, lora) = data["examples"][0]["text"], (one.strip().split("\n")[0] for one in data["record"]["written"])
    return (
        f"This page runs a language model of {data['weights'] / 1e6:.1f} million weights, and a LoRA adapter, on your "
        f"own sentence. After “{text}”, the base writes “{base}” With the adapter, it writes “{lora}”"
    )


def body(data: dict) -> str:
    """Write the page's HTML; live.js fills the table."""
    record, first, adapter = data["record"], data["examples"][0], RANK * data["piece"]
    ranks = ", ".join(f"{bits:.2f} with r = {r}" for r, bits in enumerate(record["rank"]) if r in (1, 2, 4))
    ends = (record["rank"][0], record["rank"][RANK]), record["old"]
    turned = [(off, half, full) for (off, full), half in zip(ends, record["half"], strict=True)]
    learned, price = ("{:.2f}, {:.2f} and {:.2f}".format(*bits) for bits in turned)
    gained, paid = (100 * (half - off) / (full - off) for off, half, full in turned)
    parameters = load.load_model("base")[0].parameters()
    everything = b"".join(as_bytes(one.data) for one in parameters) + base64.b64decode(read_json(RECORD)["adapter"])
    steps = COMMAND.split("--steps ")[1].split()[0]
    other = RECORD.parents[1] / "07_forgetting/play.py"
    short = runpy.run_path(str(other))
    gain, cost = short["shares"](read_json(other.with_suffix(".json")), "LoRA")
    weights = re.sub("(.{1000})", r"\1\n", base64.b85encode(everything, pad=True).decode())
    buttons = "".join(f'<button type="button">{text}</button>\n'.replace("\n<", "↵<") for text in EXAMPLES)
    sheets = "".join(
        f'<p class="{name}"><b>{title}</b><span class="prompt">{html.escape(first["text"])}</span>'
        f'<span id="{name}-writes" aria-live="polite">{html.escape(written)}</span></p>\n'
        for name, title, written in zip(("base", "lora"), ("base", "with LoRA"), record["written"], strict=True)
    )
    row = '<tr><th scope="row">{}</th><td>{}</td><td class="base"></td><td class="lora"></td></tr>\n'.format
    word = row('<button type="button"></button>', '<i class="base"></i><i class="lora"></i>')
    return f"""
<style>{STYLE}</style>
<p class="lead">A small language model has read Python's documentation and nothing else (grey). LoRA adds {RANK} thin
pieces to each of {data["maps"]} matrices, {100 * adapter / data["weights"]:.0f} % more numbers, trained on NumPy's
(green). Both go on with your sentence; other kinds of text puzzle them.</p>
<!-- summary -->
<div id="stage" data-background="{html.escape(BACKGROUND)}">
<div>
  <div class="title">
    <label for="text">Your sentence</label> <span class="soft" id="note">the model is loading …</span></div>
  <textarea id="text" rows="2" spellcheck="false" autocomplete="off" autocapitalize="off"
    >{html.escape(first["text"])}</textarea>
  <div class="row" id="examples">{buttons}<a id="view" hidden>copy link</a></div>
  <p class="answer" id="look" role="status">Your guess first: which word leads at half strength (λ&nbsp;=&nbsp;{HALF})?
  Click it in the list.</p>
  <div class="row">
    <label class="long"><span>rank r</span>
      <input type="range" id="rank" min="0" max="{RANK}" value="{RANK}"> <b id="rank-says"></b></label>
    <label class="long"><span>strength λ</span>
      <input type="range" id="strength" min="0" max="1.5" step="0.05" value="1"> <b id="strength-says"></b></label>
  </div>
</div>
<div>
  <div class="sheets">{sheets}</div>
  <table id="next"><thead><tr><th scope="col">next word</th><td id="pick">click your guess</td>
    <th scope="col" class="base">base</th><th scope="col" class="lora">LoRA</th></tr></thead>
  <tbody>{ROWS * word}{row("all others", "")}</tbody></table>
</div>
</div>
<h2>What you are looking at</h2>
<p>The model's {data["weights"]:,} weights never change. Beside each of its {data["maps"]} linear maps W, LoRA puts two
thin matrices A and B, and the map becomes W + λ · (α/r) · B · A. Both sliders lead back to the base: r = 0, or λ = 0.
At r = {RANK} and λ = 1 the adapter is as it was trained.</p>
<p>Rank r: training made one update of rank {RANK} per map, and a singular value decomposition cuts it into {RANK}
pieces, of {data["piece"]:,} numbers in all maps together. The slider uses the r largest. They were trained together, so
what a few of them write can be broken. (α/r stays at its value in training, {ALPHA}/{RANK} = {ALPHA // RANK}.)</p>
<p>The table has the probabilities of the next <em>token</em>, a word or a piece of one. A piece is shown with the rest
of its word if the model that expects it more is sure of that rest, else with “…”. ↵ is a new line, ␣ a space. On the
sheets, each model goes on with the token that it expects most.</p>
<h2>Is it more than one sentence?</h2>
<p>The beginnings above were chosen because they show something. Over {record["characters"]:,} characters of NumPy's
documentation that the adapter was not trained on, the model needs {learned} bits per character at λ = 0, {HALF} and 1.
The price: on Python's documentation, which the base was trained on, it needs {price}. So half the strength has
{gained:.0f} % of the gain for {paid:.0f} % of the price. (This adapter was trained for {steps} steps; those of
<a href="../07_forgetting/play.html">page 07</a>, for {short["SETTINGS"]["steps"]}, have {gain} for {cost}.) Fewer
pieces, at λ = 1, gain less: on NumPy's, {ranks}.</p>
<p class="soft">The adapter comes from <code>{COMMAND}</code>. Base and adapter have 8 bits per weight here. The forward
pass is plain JavaScript, in the source of this page, and a test compares its logits with minilora's. Nothing that you
type is sent anywhere.</p>
<p><a href="README.md">The reading</a> explains LoRA, <a href="play.html">its other page</a> takes an update apart, and
<a href="exercise.py">the exercise</a> builds one.</p>
<script type="text/plain" id="weights">{weights}</script>
"""
