"""Lesson 08's live page: type a sentence, and move the rank and the strength of a LoRA adapter. See lessons/pages.py.

live.html holds the package's base in 8 bits per weight and a LoRA adapter, and live.js computes with both. live.json
has the adapter and what was measured with it: COMMAND trains it, in a minute or two, and `python -m lessons.pages
--measure 08` does all of that again.

    8 bits     each row of a matrix has one scale, its largest magnitude / 127; a weight is scale · code, -127 to 127
    pieces     the update B A of each layer, taken apart by its SVD: row k of A is √σ_k v_k, column k of B √σ_k u_k, so
               that the first r pieces are the best update of rank r (Eckart and Young 1936), and all 8 are B A
    text       4 bytes as 5 of 85 characters: 25 % more characters than bytes, where base64 needs 33 %
"""

import base64
import html
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minilora.formats.atomic import read_json
from minilora.formats.safetensors import load_file
from minilora.measure.lab import Lab
from minilora.tensor import no_grad
from minilora.train import load, methods

COMMAND = "minilora finetune --data numpy-docs --method lora --steps 200 --seed 0"
TITLE = "LoRA at work on your own sentence"
NAME = "live"  # in the links of other pages
SHOWN, LAYOUT = "r=8&s=1", ""
LARGEST = 4_000_000  # bytes of the page
RANK, ALPHA, CONTEXT = 8, 16, 128  # of the command; the context is what base and adapter were trained on
LINEARS = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
RECORD = Path(__file__).with_suffix(".json")
PICTURE = Path(__file__).parent / "pictures" / "strength.svg"
DIGITS = "".join(chr(code) for code in range(33, 127) if chr(code) not in "\"$&'/<>\\`")  # 85, none special in HTML
ROWS = 6  # tokens that are shown
LONGEST = 6  # tokens of a word that is completed
WRITTEN = 16  # tokens with which a model goes on
EXAMPLES = {  # beginnings, and what to look for
    "Return an": "Turn λ down to 0, slowly: the green sheet becomes the grey one. Which word leads half-way? Is it one "
    "of the two that lead at the ends?",
    "Convert the input to an": "Turn r down. How many of the eight pieces does it take for “array” to lead?",
    "Returns\n": "Not the words but the form: NumPy's documentation underlines its headings. Which sheet draws a line, "
    "and from which r on?",
    "This exception is": "What it costs: a sentence as in Python's documentation. How sure are the two of “raised”, "
    "and how much of that comes back at λ = 0.5?",
}
OWN = "A sentence of your own. Choose a word of the table to write on."


# Numbers as bytes


def quantized(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one scale per row, float32 (n, 1), and the codes, int8 (n, m)."""
    scales = np.abs(matrix).max(axis=1, keepdims=True).astype("float32") / np.float32(127)
    return scales, np.rint(matrix / np.where(scales > 0, scales, 1)).astype("int8")


def rounded(matrix: np.ndarray) -> np.ndarray:
    """Return the float32 matrix that the 8-bit codes stand for."""
    scales, codes = quantized(matrix)
    return scales * codes


def as_bytes(array: np.ndarray) -> bytes:
    """Write a matrix as scales and codes, and a vector (of a norm) in float32."""
    parts = [array.astype("float32")] if array.ndim == 1 else quantized(array)
    return b"".join(part.astype(part.dtype.newbyteorder("<")).tobytes() for part in parts)


def as_text(data: bytes) -> str:
    """Write every 4 bytes, as a little-endian number, in 5 digits to base 85, in lines of 1,000 characters."""
    words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype("int64")
    places = words[:, None] // 85 ** np.arange(4, -1, -1) % 85
    text = np.frombuffer(DIGITS.encode(), "uint8")[places].tobytes().decode()
    return "\n".join(text[start : start + 1000] for start in range(0, len(text), 1000))


def base_weights() -> dict[str, np.ndarray]:
    return load_file(load.base_folder() / "model.safetensors")[0]


def base_bytes() -> bytes:
    """Write the base in the order in which live.js reads it."""
    weights = base_weights()
    layers = 1 + max(int(name.split(".")[2]) for name in weights if ".layers." in name)
    names = ["model.embed_tokens"]
    for layer in range(layers):
        own = ["input_layernorm", "post_attention_layernorm", *LINEARS]
        names += [f"model.layers.{layer}.{name}" for name in own]
    names.append("model.norm")
    assert {f"{name}.weight" for name in names} == set(weights)
    return b"".join(as_bytes(weights[f"{name}.weight"].astype("float32")) for name in names)


# The adapter


def pieces(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return A (r, in) and Bᵀ (r, out) with the same product B A, whose rows are in order of importance."""
    left, sizes, right = np.linalg.svd(b.astype("float64") @ a, full_matrices=False)
    roots = np.sqrt(sizes[: len(a)])[:, None]
    signs = np.sign(right[: len(a)].sum(axis=1, keepdims=True))  # an SVD leaves them open
    return (signs * roots * right[: len(a)]).astype("float32"), (signs * roots * left.T[: len(a)]).astype("float32")


def adapted_layers(model: Any) -> list[Any]:
    """Return the layers with an A and a B, in the order in which live.js reads them."""
    blocks = model.base_model.model.layers
    return [block.get_submodule(name) for block in blocks for name in LINEARS]


def adapter_of(model: Any) -> list[np.ndarray]:
    """Return A and Bᵀ of each adapted layer, in the order in which live.js reads them."""
    return [
        array
        for layer in adapted_layers(model)
        for array in pieces(layer.lora_A.weight.numpy(), layer.lora_B.weight.numpy())
    ]


def model_in_8_bits(adapter: bytes, r: int = RANK, strength: float = 1.0) -> Any:
    """Build minilora's model of what the page computes: base and adapter in 8 bits, with the first r pieces."""
    model = load.load_model("base")[0]
    for parameter in model.parameters():
        if parameter.data.ndim == 2:
            parameter.data = rounded(parameter.data)
    model = methods.adapt(model, "lora", None, (), 0)
    at = 0
    for layer in adapted_layers(model):
        a, b = layer.lora_A.weight, layer.lora_B.weight
        rows = []
        for shape in (a.shape, b.shape[::-1]):
            scales = np.frombuffer(adapter, "<f4", shape[0], at).reshape(-1, 1)
            codes = np.frombuffer(adapter, "i1", shape[0] * shape[1], at + scales.nbytes).reshape(shape)
            at += scales.nbytes + codes.nbytes
            rows.append(np.where(np.arange(RANK)[:, None] < r, scales * codes, np.float32(0)))
        a.data, b.data = rows[0], np.ascontiguousarray(rows[1].T)
    model.set_strength(strength)
    return model


def log_probabilities(model: Any, ids: np.ndarray) -> np.ndarray:
    """Return the natural logarithm of the probability of every next token, float64 (T, V)."""
    with no_grad():
        logits = model(np.asarray(ids)[None]).logits.numpy()[0].astype("float64")
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


# What is measured


def measure() -> dict:
    """Train the adapter, and measure with it all that the page says."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", *COMMAND.split(), "--out", f"{folder}/run"], check=True)
        trained = load.load_model("base", f"{folder}/run")[0]
    adapter = b"".join(map(as_bytes, adapter_of(trained)))
    lab = Lab(load.base_folder())
    base, adapted = model_in_8_bits(adapter, 0), model_in_8_bits(adapter)
    by_rank = [lab.bits(model_in_8_bits(adapter, r), lab.domain_test) for r in range(RANK + 1)]
    in_floats = [lab.bits(model, lab.domain_test) for model in (lab.base(), trained)]
    old = [lab.bits(model, lab.base_test) for model in (base, adapted)]
    return {
        "adapter": base64.b64encode(adapter).decode(),
        "bits": {"rank": few(by_rank), "floats": few(in_floats), "old": few(old)},
        "characters": lab.domain_test.characters,
        "examples": [example(lab.tokenizer, base, adapted, text) for text in EXAMPLES],
    }


def few(numbers: list[float]) -> list[float]:
    return [round(float(number), 5) for number in numbers]


def example(tokenizer: Any, base: Any, adapted: Any, text: str) -> dict:
    """Return what the page shows of a text: both continuations, and rows for the tokens that come next.

    A row has a token, its text, the letters that complete it to a word, and its two probabilities: of base and adapted.
    """

    def expected(model: Any, more: Sequence[int] = ()) -> np.ndarray:
        return np.exp(log_probabilities(model, np.array([tokenizer.eos_token_id, *ids, *more]))[-1])

    def rest_of(token: int, model: Any) -> str:
        word = [token]
        while len(word) < LONGEST and names[word[-1]][-1:].isalpha():
            if not names[following := int(expected(model, word).argmax())].isalpha():
                break
            word.append(following)
        return "".join(names[one] for one in word[1:])

    def continued(model: Any) -> str:
        written: list[int] = []
        while len(written) < WRITTEN and (token := int(expected(model, written).argmax())) != tokenizer.eos_token_id:
            written.append(token)
        return tokenizer.decode(written)

    ids = tokenizer.encode(text).tolist()
    names = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]
    before, after = expected(base), expected(adapted)
    orders, shown = [np.argsort(-p, kind="stable") for p in (before, after)], []
    for pair in zip(*orders, strict=True):
        shown += [token for token in dict.fromkeys(pair) if token not in shown]
        if len(shown) >= ROWS:
            break
    rows = [
        [i, names[i], rest_of(i, adapted if after[i] > before[i] else base), *few([before[i], after[i]])]
        for i in sorted(map(int, shown[:ROWS]), key=lambda i: -max(before[i], after[i]))
    ]
    return {"text": text, "base": continued(base), "lora": continued(adapted), "rows": rows}


# The page

STYLE = """
:root { --base: #767e87; }
#stage { display: grid; gap: .4rem 2rem; grid-template-columns: minmax(0, 1fr); }
h1 { font-size: 1.45rem; } .lead { margin: .2rem 0 .7rem; }
.title { display: flex; flex-wrap: wrap; gap: 0 1rem; justify-content: space-between; align-items: baseline; }
textarea { width: 100%; font: 1rem/1.4 ui-monospace, monospace; padding: .4rem .6rem; border-radius: .4rem;
  resize: vertical; border: 1px solid var(--soft); background: var(--panel); color: var(--ink); display: block; }
#examples { gap: .4rem; } #examples button { font: .9rem ui-monospace, monospace; padding: .2rem .5rem; }
#examples [aria-pressed=true] { border-color: var(--lora); box-shadow: inset 0 0 0 1px var(--lora); }
#look { margin: .3rem 0; min-height: 4.5em; } .said { min-height: 3em; }
.sheets { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; margin-bottom: .5rem; }
.sheets p { margin: 0; height: calc(7 * 1.35em + .55rem); overflow: hidden; padding: .3rem .6rem 0;
  border-top: .25rem solid; line-height: 1.35;
  background: var(--panel); font-size: .95rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.sheets .base { border-color: var(--base); } .sheets .lora { border-color: var(--lora); }
.sheets b { display: block; font-weight: 600; } .prompt { color: var(--soft); } [data-state=""] { opacity: .5; }
#next { table-layout: fixed; }
#next th, #next td { padding: .2rem .35rem; }
#next thead th { padding: 0 .35rem .1rem 0; white-space: nowrap; vertical-align: bottom; }
#next th:first-child { width: 7.4rem; padding-left: 0; overflow: hidden; font-weight: 400; }
#next :is(th, td):is(.base, .lora) { width: 4rem; }
#next td.lora { font-weight: 600; }
#next button { font: .95rem ui-monospace, monospace; padding: .05rem .45rem; max-width: 100%; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; display: block; cursor: pointer; color: inherit; }
#next i { display: block; height: .5rem; min-width: 1px; border-radius: 0 .15rem .15rem 0; }
#next i + i { margin-top: 2px; }
#next .bars { padding: .2rem 0; border-right: 1px solid var(--line);
  background: linear-gradient(var(--line), var(--line)) 50% 0 / 1px 100% no-repeat; }
#next :is(#scale, .none) { background: none; border-right: 0; }
#next #scale { display: flex; justify-content: space-between; padding: .5rem 0 0; font-size: .78rem;
  color: var(--soft); }
i.base, b.key.base { background: var(--base); } i.lora, b.key.lora { background: var(--lora); }
.key { display: inline-block; width: .5rem; height: .7rem; margin-right: .25rem; }
h2 { font-size: 1.25rem; margin: 1.6rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
#brindle img { display: block; width: 100%; max-width: 34rem; height: auto; }
@media (min-width: 60rem) { #stage { grid-template-columns: minmax(0, 4fr) minmax(0, 5fr); } }
@media (max-width: 30rem) {
  h1 { font-size: 1.05rem; } .lead, #look, .said, #stage .long { font-size: .85rem; line-height: 1.35; }
  .lead, .row { margin: .2rem 0 .4rem; } #look { min-height: 4em; } .said { min-height: 2.7em; }
  #examples button { font-size: .8rem; }
  .sheets p { font-size: .78rem; height: calc(5 * 1.35em + .45rem);
    padding: .2rem .4rem 0; }
  #next :is(th, td):is(.base, .lora) { width: 3.6rem; font-size: .85rem; padding: .2rem 0; }
  #next th:first-child { width: 5.9rem; } #next thead th { font-size: .72rem; padding-right: .25rem; }
  #next button { font-size: .85rem; padding: 0 .3rem; } #next tbody th { font-size: .85rem; }
}
@media (prefers-reduced-motion: no-preference) { #next i { transition: width .15s; } }
@media (scripting: none) { #stage .row, #look, #said { display: none; } }
@media print { #next i, #next b, .sheets p { print-color-adjust: exact; } #look { display: none; }
  #brindle { break-inside: avoid; } #brindle img { max-width: 24rem; } }
"""


def data() -> dict:
    """Return the record, and what live.js needs beside the weights."""
    config = read_json(load.base_folder() / "config.json")
    rules = read_json(load.base_folder() / "tokenizer.json")["model"]
    of_bytes = len(rules["vocab"]) - len(rules["merges"])
    merges = [[rules["vocab"][part] for part in pair] for pair in rules["merges"]]
    assert [rules["vocab"]["".join(pair)] for pair in rules["merges"]] == list(range(of_bytes, len(rules["vocab"])))
    record, weights = read_json(RECORD), base_weights()
    maps = [weight.shape for name, weight in weights.items() if name.removesuffix(".weight").endswith(tuple(LINEARS))]
    return {
        "config": config | {"rank": RANK, "alpha": ALPHA, "context": CONTEXT},
        "weights": sum(weight.size for weight in weights.values()),
        "maps": len(maps),
        "piece": sum(out + into for out, into in maps),
        "merges": merges,
        "digits": DIGITS,
        "rows": ROWS,
        "written": WRITTEN,
        "longest": LONGEST,
        "own": OWN,
        "examples": [one | {"look": EXAMPLES[one["text"]]} for one in record["examples"]],
        "record": {name: record[name] for name in ("bits", "characters")},
    }


def readable(row: list) -> str:
    """Write a row's token, completed to a word, as `shown` of live.js does after a space or a whole word."""
    text = row[1] + row[2]
    return re.sub("^ (?=[^ ])", "", text).replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def first_words(one: dict) -> str:
    """Return the read-out of an example."""
    first, then = (max(one["rows"], key=lambda row, k=k: row[k]) for k in (3, 4))
    return (
        f"The base expects “{readable(first)}” first ({100 * first[3]:.1f} %). With r = {RANK} and λ = 1.00 it is "
        f"“{readable(then)}” ({100 * then[4]:.1f} %)."
    )


def summary(data: dict) -> str:
    one = data["examples"][0]
    return (
        f"This page runs a language model of {data['weights'] / 1e6:.1f} million weights, and a LoRA adapter, on your "
        f"own sentence. What comes after “{one['text']}”? {first_words(one)}"
    )


def table(rows: list[list]) -> str:
    """Return the table as HTML: a row for each token, and one for all others."""
    most = next(end for end in (0.1, 0.2, 0.5, 1) if max(max(row[3:]) for row in rows) <= end)
    marks = "".join(f"<span>{50 * i * most:.0f}{' %' * (i == 2)}</span>" for i in range(3))

    def line(head: str, kind: str, bars: str, was: float, now: float) -> str:
        numbers = f'<td class="base">{100 * was:.1f} %</td><td class="lora">{100 * now:.1f} %</td>'
        return f'<tr><th scope="row">{head}</th><td class="bars {kind}">{bars}</td>{numbers}</tr>\n'

    def bar(name: str, p: float) -> str:
        return f'<i class="{name}" style="width:{100 * p / most:.1f}%"></i>'

    lines = ""
    for row in rows:
        button = f'<button type="button" disabled>{html.escape(readable(row))}</button>'
        lines += line(button, "", bar("base", row[3]) + bar("lora", row[4]), *row[3:])
    lines += line("all others", "none", "", *(1 - sum(row[k] for row in rows) for k in (3, 4)))
    return f"""<table id="next"><thead><tr><th scope="col">next word</th><td class="bars" id="scale">{marks}</td>
    <th scope="col" class="base"><b class="key base"></b>base</th>
    <th scope="col" class="lora"><b class="key lora"></b>LoRA</th></tr></thead>
  <tbody>{lines}</tbody></table>"""


def body(data: dict) -> str:
    """Write the page's HTML. It has the record of the first example until the script has read the weights."""
    record, one = data["record"], data["examples"][0]
    bits = record["bits"]
    trained, here = (
        "{:.3f} and {:.3f}".format(*pair) for pair in (bits["floats"], (bits["rank"][0], bits["rank"][RANK]))
    )
    ranks = ", ".join(f"{value:.2f} at r = {r}" for r, value in enumerate(bits["rank"]) if r in (1, 2, 4))
    weights = as_text(base_bytes() + base64.b64decode(read_json(RECORD)["adapter"]))
    alt = html.unescape(re.search("<title>(.*?)</title>", PICTURE.read_text("utf-8"), re.S)[1])
    prompt = f'<span class="prompt">{html.escape(one["text"])}</span>'
    buttons = "".join(
        f'<button type="button">{html.escape(text).replace(chr(10), "↵")}</button>\n' for text in EXAMPLES
    )
    return f"""
<style>{STYLE}</style>
<p class="lead">A model that has read only Python's documentation (grey), and the same with a LoRA adapter for NumPy's
(green), go on with your sentence; other kinds of text puzzle them. Choose one or type, then move the sliders.</p>
<!-- summary -->
<div id="stage">
<div>
  <div class="title"><label for="text">Your sentence</label> <span class="soft" id="note"></span></div>
  <textarea id="text" rows="2" spellcheck="false" autocomplete="off" autocapitalize="off"
    >{html.escape(one["text"])}</textarea>
  <div class="row" id="examples">{buttons}</div>
  <p class="soft" id="look">{one["look"]}</p>
  <div class="row">
    <label class="long">rank r <input type="range" id="rank" min="0" max="{RANK}" value="{RANK}">
      <b id="rank-says">{RANK}</b></label>
    <label class="long">strength λ <input type="range" id="strength" min="0" max="1.5" step="0.05" value="1">
      <b id="strength-says">1.00</b></label>
  </div>
  <output class="said" id="said" for="text rank strength" aria-live="polite">{first_words(one)}</output>
</div>
<div>
  <div class="sheets">
    <p class="base"><b>base</b>{prompt}<span id="base-writes">{html.escape(one["base"])}</span></p>
    <p class="lora"><b>with LoRA</b>{prompt}<span id="lora-writes">{html.escape(one["lora"])}</span></p>
  </div>
  {table(one["rows"])}
</div>
</div>
<h2>What you are looking at</h2>
<ol>
<li>The base's {data["weights"]:,} weights never change: grey and green come from the same ones.</li>
<li>Beside each of its {data["maps"]} linear maps W stand two thin matrices, and the map becomes
W + λ · (α/r) · B · A.</li>
<li>Rank 0 is the base, and so is λ = 0; r = {RANK} with λ = 1 is the adapter as it was trained.</li>
</ol>
<p>The table has the probabilities of the next <em>token</em>, which is a word or a piece of one. A piece is completed
to a word with the letters that the model would write which expects it more. ↵ is a new line, ␣ a space. On the sheets,
each model goes on with the token that it expects most.</p>
<p class="soft">Training made one update of rank {RANK} per map. The slider keeps its first r pieces, the largest by a
singular value decomposition, which is the best update of that rank; training at rank r would have found another.
α/r stays at its value in training, {ALPHA}/{RANK} = {ALPHA // RANK}. A piece has {data["piece"]:,} numbers in all
maps together.</p>
<details id="brindle"><summary>The same slider in a larger model (the last step of “One evening to LoRA”,
which lets you guess first)</summary>
<p>SmolLM2-135M is a published model of 135 million parameters. It was taught the jargon of a company that we invented,
and then its adapter was weakened and strengthened. At half strength it has left its old answer and not arrived at the
new one, as happens above after <code>Return an</code>.</p>
<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{base64.b64encode(PICTURE.read_bytes()).decode()}">
<p class="soft">One run, with seed 0. F1 counts the words that an answer shares with the expected one.</p>
</details>
<h2>Is it more than one sentence?</h2>
<p>The beginnings above were chosen because they show something. On average, over {record["characters"]:,} characters of
NumPy's documentation that the adapter was not trained on, the base needs {bits["rank"][0]:.2f} bits per character, and
{ranks}, {bits["rank"][RANK]:.2f} at r = {RANK}. It has a price: on Python's documentation, which the base was trained
on, {bits["old"][0]:.2f} become {bits["old"][1]:.2f}.</p>
<details><summary>How the page was made</summary>
<p>The adapter comes from <code>{COMMAND}</code>. Base and adapter have 8 bits per weight here, with one scale per row;
with their weights as trained, they need {trained} bits per character,
{"the same to three digits" if trained == here else f"not {here}"}. The forward pass is plain JavaScript, in the source
of this page, and a test compares its logits with minilora's. The page reads the last {CONTEXT - 1} tokens. Nothing that
you type is sent anywhere.</p></details>
<p><a href="README.md">The reading</a> explains LoRA, <a href="play.html">its other page</a> takes an update apart, and
<a href="exercise.py">the exercise</a> builds one.</p>
<script type="text/plain" id="weights">{weights}</script>
"""
