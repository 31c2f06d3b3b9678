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
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from minilora.data.corpora import load as load_corpus
from minilora.data.corpora import split
from minilora.formats.atomic import read_json
from minilora.formats.safetensors import load_file
from minilora.measure.lab import Lab
from minilora.tensor import no_grad
from minilora.train import load, methods

COMMAND = "minilora finetune --data numpy-docs --method lora --steps 200 --seed 0"
TITLE = "LoRA at work on your own sentence"
SHOWN, LAYOUT = "r=8&s=1", ""
LARGEST = 4_000_000  # bytes of the page
RANK, ALPHA, CONTEXT = 8, 16, 128  # of the command; the context is what base and adapter were trained on
LINEARS = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
RECORD = Path(__file__).with_suffix(".json")
DIGITS = "".join(chr(code) for code in range(33, 127) if chr(code) not in "\"$&'/<>\\`")  # 85, none special in HTML
LONG_ENOUGH = 6  # tokens before the cut of an example
ROWS = 7  # tokens that are shown
SIZES = {  # the base's, by their names in live.js and in config.json
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "inner": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "groups": "num_key_value_heads",
    "size": "head_dim",
    "theta": "rope_theta",
    "eps": "rms_norm_eps",
}


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
        return recorded(Path(folder, "run"))


def recorded(run: Path) -> dict:
    """Measure with the adapter of a run folder."""
    trained = load.load_model("base", run)[0]
    adapter = b"".join(map(as_bytes, adapter_of(trained)))
    lab = Lab(load.base_folder())
    base, adapted = model_in_8_bits(adapter, 0), model_in_8_bits(adapter)
    by_rank = [lab.bits(model_in_8_bits(adapter, r), lab.domain_test) for r in range(RANK + 1)]
    in_floats = [lab.bits(model, lab.domain_test) for model in (lab.base(), trained)]
    old = [lab.bits(model, lab.base_test) for model in (base, adapted)]
    numpy_lines, python_lines = (
        sorted(cut_lines(lab.tokenizer, base, adapted, corpus)) for corpus in ("numpy-docs", "python-docs")
    )
    middle, first = numpy_lines[len(numpy_lines) // 2], numpy_lines[-1]
    chosen = [first, middle, python_lines[len(python_lines) // 2]]
    return {
        "adapter": base64.b64encode(adapter).decode(),
        "bits": {"rank": few(by_rank), "floats": few(in_floats), "old": few(old)},
        "characters": lab.domain_test.characters,
        "lines": [len(numpy_lines), len(python_lines)],
        "examples": [{"bits": few([kl / np.log(2)])[0], "text": text} for kl, text in chosen],
        "table": table(lab.tokenizer, base, adapted, first[1]),
    }


def few(numbers: list[float]) -> list[float]:
    return [round(float(number), 5) for number in numbers]


def cut_lines(tokenizer: Any, base: Any, adapted: Any, corpus: str) -> list[tuple[float, str]]:
    """Return the first line of each held-out docstring, if it is a sentence, cut where the two models differ most.

    They differ by the KL divergence, in nats, of the base's next token from the adapted model's. The cut is before a
    word, after at least LONG_ENOUGH tokens.
    """
    cuts_of_lines = []
    lines = {document.text.partition("\n")[0].strip() for document in split(load_corpus(corpus)).test}
    for line in sorted(line for line in lines if line[:1].isupper() and line.endswith(".")):
        ids, starts = tokenizer.encode_placed([line])[0]
        ids = np.insert(ids[: CONTEXT - 1], 0, tokenizer.eos_token_id)
        before, after = (log_probabilities(model, ids) for model in (base, adapted))
        kl = (np.exp(after) * (after - before)).sum(axis=-1)
        cuts = [i for i, at in enumerate(starts[: CONTEXT - 1]) if i >= LONG_ENOUGH and line[at] == " "]
        if cuts:
            best = max(cuts, key=lambda i: kl[i])
            cuts_of_lines.append((float(kl[best]), line[: starts[best]]))
    return cuts_of_lines


def table(tokenizer: Any, base: Any, adapted: Any, text: str) -> list[list]:
    """Return [token, probability under the base, under the adapted model] of the tokens that the page shows first."""
    ids = np.insert(tokenizer.encode(text), 0, tokenizer.eos_token_id)
    before, after = (np.exp(log_probabilities(model, ids)[-1]) for model in (base, adapted))
    orders, shown = [np.argsort(-p, kind="stable") for p in (before, after)], []
    for pair in zip(*orders, strict=True):
        shown += [i for i in dict.fromkeys(pair) if i not in shown]
        if len(shown) >= ROWS:
            break
    shown = sorted(shown[:ROWS], key=lambda i: -max(before[i], after[i]))
    return [[tokenizer.decode([i], skip_special_tokens=False), *few([before[i], after[i]])] for i in shown]


# The page

STYLE = """
:root { --base: #767e87; }
#stage { display: grid; gap: .4rem 2rem; grid-template-columns: minmax(0, 1fr); }
h1 { font-size: 1.45rem; } .lead { margin: .2rem 0 .7rem; }
textarea { width: 100%; font: 1rem/1.4 ui-monospace, monospace; padding: .5rem .6rem; border-radius: .4rem;
  resize: vertical; border: 1px solid var(--soft); background: var(--panel); color: var(--ink); display: block; }
#note, #hint { margin: .3rem 0 0; min-height: 1.6em; }
#stage select { flex: 1 1 9rem; min-width: 0; padding: .2rem .3rem; font-size: .92rem; }
#next { table-layout: fixed; }
#next th, #next td { padding: .2rem .35rem; }
#next thead th { padding: 0 .35rem .1rem 0; white-space: nowrap; vertical-align: bottom; }
#next th:first-child { width: 6.4rem; padding-left: 0; overflow: hidden; font-weight: 400; }
#next :is(th, td):is(.base, .lora, .gain) { width: 4rem; }
#next td.lora { font-weight: 600; }
#next button { font: .95rem ui-monospace, monospace; padding: .05rem .45rem; max-width: 100%; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; display: block; cursor: pointer; }
#next i { display: block; height: .5rem; min-width: 1px; border-radius: 0 .15rem .15rem 0; }
#next i + i { margin-top: 2px; }
#next .bars { padding: .2rem 0; border-right: 1px solid var(--line);
  background: linear-gradient(var(--line), var(--line)) 50% 0 / 1px 100% no-repeat; }
#next .scale { display: flex; justify-content: space-between; padding: .5rem 0 0; background: none; border-right: 0;
  font-size: .78rem; color: var(--soft); }
:is(i, b).base { background: var(--base); } :is(i, b).lora { background: var(--lora); }
.key { display: inline-block; width: .5rem; height: .7rem; margin-right: .25rem; }
#tokens { font: .95rem/1.9 ui-monospace, monospace; margin: .6rem 0; overflow-wrap: anywhere; }
#tokens span { padding: .1rem .2rem; margin-right: 2px; border-radius: .2rem; }
.cheaper { background: color-mix(in srgb, var(--lora) calc(var(--full) * .5), transparent); }
.dearer { background: color-mix(in srgb, var(--scratch) calc(var(--full) * .5), transparent);
  border-bottom: 2px dotted var(--scratch); }
h2 { font-size: 1.25rem; margin: 1.6rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); }
.charts svg.picture { max-width: 28rem; background: var(--panel); border-radius: .4rem; }
@media (min-width: 60rem) {
  #stage { grid-template-columns: minmax(0, 4fr) minmax(0, 5fr); }
  #next tbody :is(th, td):not(.bars) { padding: .32rem .35rem; }
}
@media (max-width: 30rem) {
  h1 { font-size: 1.2rem; } .lead { font-size: .88rem; margin-bottom: .4rem; } .said { font-size: .9rem; }
  #next :is(th, td):is(.base, .lora, .gain) { width: 3.5rem; font-size: .85rem; }
  #next th:first-child { width: 5.4rem; } #next thead th { font-size: .72rem; padding-right: .25rem; }
  #stage select { font-size: .82rem; }
}
@media (prefers-reduced-motion: no-preference) { #next i { transition: width .15s; } }
@media (scripting: none) { .live, #stage .row, #said { display: none; } }
@media print { #next i, #next b, #tokens span { print-color-adjust: exact; } #hint { display: none; } }
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
        "config": {name: config[key] for name, key in SIZES.items()}
        | {"rank": RANK, "alpha": ALPHA, "context": CONTEXT},
        "weights": sum(weight.size for weight in weights.values()),
        "maps": len(maps),
        "piece": sum(out + into for out, into in maps),
        "merges": merges,
        "digits": DIGITS,
        "rows": ROWS,
        "examples": [example["text"] for example in record["examples"]],
        "record": {name: value for name, value in record.items() if name != "adapter"},
    }


def readable(token: str) -> str:
    """Write a token as `shown` of live.js does."""
    return token.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def first_words(data: dict) -> str:
    """Return the read-out of the first example."""
    rows = data["record"]["table"]
    first, then = (max(rows, key=lambda row, k=k: row[k]) for k in (1, 2))
    return (
        f"The base expects “{readable(first[0])}” first ({100 * first[1]:.1f} %). With r = {RANK} and λ = 1.00 it is "
        f"“{readable(then[0])}” ({100 * then[2]:.1f} %). Their predictions differ by "
        f"{data['record']['examples'][0]['bits']:.2f} bits (KL divergence)."
    )


def summary(data: dict) -> str:
    return (
        f"This page runs a language model of {data['weights'] / 1e6:.1f} million weights, and a LoRA adapter, on your "
        f"own sentence. What comes after “{data['examples'][0]}”? {first_words(data)}"
    )


def body(data: dict) -> str:
    """Write the page's HTML. It has the record of the first example until the script has read the weights."""
    record = data["record"]
    bits, examples, rows = record["bits"], record["examples"], record["table"]
    rows = [
        *sorted(([readable(token), *numbers] for token, *numbers in rows), key=lambda row: -max(row[1:])),
        ["all others", 1 - sum(row[1] for row in rows), 1 - sum(row[2] for row in rows)],
    ]
    lines = "\n".join(
        f'<tr><th scope="row">{html.escape(token)}</th><td class="bars"><i class="base" style="width:{100 * was:.1f}%">'
        f'</i><i class="lora" style="width:{100 * now:.1f}%"></i></td><td class="base">{100 * was:.1f} %</td>'
        f'<td class="lora">{100 * now:.1f} %</td><td class="gain">{100 * (now - was):+.1f}</td></tr>'.replace(
            ">-", ">−"
        )
        for token, was, now in rows
    )
    ranks = ", ".join(f"{value:.2f} at r = {r}" for r, value in enumerate(bits["rank"]) if r in (1, 2, 4))
    weights = as_text(base_bytes() + base64.b64decode(read_json(RECORD)["adapter"]))
    return f"""
<style>{STYLE}</style>
<p class="lead">This page holds a language model of {data["weights"] / 1e6:.1f} million weights and a LoRA adapter
that taught it NumPy's documentation. Type, and see what each expects next. Nothing is sent anywhere.</p>
<!-- summary -->
<div id="stage">
<div>
  <label for="text">Your sentence</label>
  <textarea id="text" rows="2" spellcheck="false" autocomplete="off" autocapitalize="off"
    >{html.escape(examples[0]["text"])}</textarea>
  <p class="soft" id="note"></p>
  <div class="row"><select id="example" aria-label="Examples">
    <option value="0">NumPy, most changed</option><option value="1">NumPy, the median</option>
    <option value="2">Python, the median</option><option value="-1">your own</option></select>
    <button type="button" id="back">take a token back</button></div>
  <div class="row">
    <label class="long">rank r <input type="range" id="rank" min="0" max="{RANK}" value="{RANK}">
      <b id="rank-says">{RANK}</b></label>
    <label class="long">strength λ <input type="range" id="strength" min="0" max="1.5" step="0.05" value="1">
      <b id="strength-says">1.00</b></label>
  </div>
  <output class="said" id="said" for="text rank strength" aria-live="polite">{first_words(data)}</output>
</div>
<div>
  <table id="next"><thead><tr><th scope="col">next token</th>
    <td class="bars scale"><span>0</span><span>50</span><span>100 %</span></td>
    <th scope="col" class="base"><b class="key base"></b>base</th>
    <th scope="col" class="lora"><b class="key lora"></b>LoRA</th><th scope="col" class="gain">change</th></tr></thead>
  <tbody>{lines}</tbody></table>
  <p class="soft" id="hint">A token is a word or a piece of one: choose one to write on. ␣ is a space, ↵ a
    new line.</p>
</div>
</div>
<h2>What you are looking at</h2>
<ol>
<li>The base's {data["weights"]:,} weights never change: grey and green bars come from the same ones.</li>
<li>Beside each of its {data["maps"]} linear maps W stand two thin matrices, and the map becomes
W + λ · (α/r) · B · A.</li>
<li>Rank 0 is the base, and so is λ = 0; r = {RANK} with λ = 1 is the adapter as it was trained.</li>
</ol>
<p class="soft">Training made one update of rank {RANK} per map. The slider keeps its first r pieces, the largest by a
singular value decomposition, which is the best update of that rank; training at rank r would have found another.
α/r stays at its value in training, {ALPHA}/{RANK} = {ALPHA // RANK}. A piece has {data["piece"]:,} numbers in all
maps together.</p>
<section class="live">
<h2>Your sentence, token by token</h2>
<p class="soft">Green: LoRA expected this token more than the base did. Orange and dotted: less.</p>
<p id="tokens"></p>
<p id="cost" class="answer"></p>
<h2>As r and λ move</h2>
<div class="charts">
<figure><svg class="picture" id="by-rank" viewBox="0 0 330 172" role="img"
  aria-label="Probability of three next tokens over the rank"></svg><figcaption>over the rank r, at your λ</figcaption>
</figure>
<figure><svg class="picture" id="by-strength" viewBox="0 0 330 172" role="img"
  aria-label="Probability of three next tokens over the strength"></svg><figcaption>over the strength λ, at your
  r</figcaption></figure>
</div>
</section>
<h2>Is it more than one sentence?</h2>
<p>On {record["characters"]:,} characters of NumPy's documentation that the adapter was not trained on, the base needs
{bits["rank"][0]:.2f} bits per character, and {ranks}, {bits["rank"][RANK]:.2f} at r = {RANK}. It has a price: on
Python's documentation, which the base was trained on, {bits["old"][0]:.2f} become {bits["old"][1]:.2f}.</p>
<details><summary>How the page was made</summary>
<p>The adapter comes from <code>{COMMAND}</code>. Base and adapter have 8 bits per weight here, with one scale per row;
with their weights as trained, they need {bits["floats"][0]:.3f} and {bits["floats"][1]:.3f} bits per character, not
{bits["rank"][0]:.3f} and {bits["rank"][RANK]:.3f}. The forward pass is plain JavaScript, in the source of this page,
and a test compares its logits with minilora's. The page reads the last {CONTEXT - 1} tokens.</p>
<p>The examples are chosen by a rule. Of NumPy's held-out docstrings, {record["lines"][0]} begin with a line that is a
sentence. Each is cut before the word, after at least {LONG_ENOUGH} tokens, where base and LoRA differ most
(KL divergence). In the first example they
differ most of all, {examples[0]["bits"]:.1f} bits; the second is the median, {examples[1]["bits"]:.1f} bits, and the
third the median of {record["lines"][1]} such sentences of Python's, {examples[2]["bits"]:.1f} bits.</p></details>
<p><a href="README.md">The reading</a> explains LoRA, <a href="play.html">its other page</a> takes an update apart, and
<a href="exercise.py">the exercise</a> builds one.</p>
<script type="text/plain" id="weights">{weights}</script>
"""
