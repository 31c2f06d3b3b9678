"""Lesson 10's page: what a model expects next with and without a prefix, and where it looks. See lessons/pages.py."""

import re
from pathlib import Path
from unittest.mock import patch

import numpy as np

from lessons.pages import packed, unpacked
from minilora import functional as F
from minilora.formats.atomic import read_json
from minilora.measure.lab import Lab
from minilora.tensor import no_grad
from minilora.train import load
from minilora.train.loop import TrainConfig
from minilora.train.methods import METHODS, Options

TITLE = "What a prefix changes"
BACKGROUND = "A prefix: trained entries that a language model reads before your words"
HEADLINE = "How likely is “array” after “A list of ar…” with a prefix in front?"
NAME = "prefix"  # in the links of other pages
ABOUT = "A few trained entries in front of a sentence, and a language model expects another word"
SENTENCES = ("A list of ar", "import nu", "This exception is")  # chosen because they show something
LIVE = Path(__file__).parents[1] / "08_lora/live.py"  # whose LoRA trained longer
P = 4  # virtual tokens
STEPS = 60  # of training
WORDS = 2  # next words that are shown; a third row has all others


def to_prefix(sentence: dict, virtual: int) -> np.ndarray:
    """Return the prefix's share of the last token's attention, for each head of all layers."""
    return unpacked(sentence["on"])[:, :virtual].sum(axis=1)


def summary(data: dict) -> str:
    first, (off, on, _), virtual = data["sentences"][0], data["bits"], data["virtual"]
    word, shares = first["words"][0], to_prefix(first, virtual)
    return (
        f"After “{first['text']}”, a language model gives {100 * word['off']:.0f} % to “{word['word']}”. With a prefix "
        f"of {virtual} trained entries in front it gives {100 * word['on']:.0f} %, and no weight has changed: "
        f"{100 * shares.mean():.0f} % of the last token's attention go to the prefix (the mean of {len(shares)} heads)."
        f" {data['characters']:,} characters of NumPy's documentation take {on:.2f} bits per character in place of "
        f"{off:.2f}."
    )


def body(data: dict) -> str:
    virtual, first, heads = data["virtual"], data["sentences"][0], data["layers"] * data["heads"]
    (off, on, full), trained, word = data["bits"], np.prod(data["prefix"]["shape"]), first["words"][0]
    lora = read_json(LIVE.with_suffix(".json"))["rank"][-1]
    more = re.search(r"--steps (\d+)", LIVE.read_text("utf-8"))[1]
    last, lost = (one := data["sentences"][-1]), one["words"][0]
    return f"""
<div class="say">
<p class="lead">A language model has read Python's documentation. Now it should do better on NumPy's, but none of its
weights may change. A <b>prefix</b> does that: {virtual} entries trained on NumPy's (a key and a value each, in every
layer), v1 to v{virtual}, stand in front of each text. Take them away, and the old model is back.</p>
<form id="guess" class="row"><label><span>Your guess first: after “{first["text"]}…”, the model gives
{100 * word["off"]:.0f}&nbsp;% to “{word["word"]}”. How many per cent with the prefix?</span> <input type="number"
name="guess" min="0" max="100" placeholder="%" required></label> <button>Check my guess</button></form>
<p class="answer" id="verdict" role="status"></p>
<!-- summary -->
</div>
<section class="stage">
  <figure><svg class="picture" id="arrows" viewBox="0 0 400 305" role="img" aria-label="What the last token of a
  sentence looks at, in the prefix and in the words, and below it bars of what the model expects next"></svg></figure>
  <div class="row after"><select id="sentence" aria-label="sentence"></select>
    <label><input type="checkbox" id="prefix" checked> prefix</label></div>
  <div class="row after"><label class="long">head <input type="range" id="head" min="0" max="{heads}" value="0">
    <b id="head-says" style="width: 8.5rem"></b></label></div>
  <output class="said" id="said" aria-live="polite" style="min-height: 3em"></output>
</section>
<div class="more">
  <p class="after"><b>Is it more than one sentence?</b> These were chosen because they show something. Over
  {data["characters"]:,} characters of NumPy's documentation that the prefix was not trained on, the model needs
  {on:.2f} bits per character with it and {off:.2f} without (fewer is better). Training all
  {data["weights"] / 1e6:.1f} million weights on the same text, for the same {STEPS} steps, leads to {full:.2f}; the
  prefix has {trained:,} trained numbers. (LoRA's {lora:.2f} on <a href="../08_lora/live.html">lesson 08's live page</a>
  comes after {more} steps on more text: it does not show that LoRA beats training all weights.)</p>
  <p class="after"><b>The price:</b> after “<a target="_self" href="#sentence={len(data["sentences"])}&head=0&prefix=1"
  >{last["text"]}…</a>”, “{lost["word"]}” falls from {100 * lost["off"]:.0f} to {100 * lost["on"]:.0f} %. As many
  characters of Python's documentation take {data["old"][1]:.2f} bits each in place of {data["old"][0]:.2f}, until the
  prefix is taken away.</p>
  <p class="soft">The arcs show what the last token of the sentence looks at, because from there the model expects what
  comes next: the thicker an arc, the larger its share of the attention. A bar is the probability of the next token,
  often only a piece of a word, and the word beside it is how the model went on from that token. Nothing stands before
  the sentence here; lesson 08's live page puts the mark of a new text before it, so its percentages differ.
  <span class="after">The slider begins with the mean of all {heads} heads, and goes on from the head that gives the
  prefix least to the one that gives it most.</span></p>
  <p><a href="README.md">The reading</a> says where a prefix comes from, and <a href="exercise.py">the exercise</a>
  puts one into every layer.</p>
</div>
"""


def attention(model, ids: np.ndarray) -> np.ndarray:
    """Return the last token's attention (L·H, P + T), which sees all of them; P is 0 for a model without a prefix."""
    calls, attend = [], F.scaled_dot_product_attention

    def listening(q, k, v, **options):
        keys = np.repeat(k.numpy()[0], q.shape[1] // k.shape[1], axis=0)  # (H, P + T, D)
        calls.append(np.einsum("hd,hjd->hj", q.numpy()[0, :, -1], keys) / np.sqrt(q.shape[-1]))
        return attend(q, k, v, **options)

    with patch.object(F, "scaled_dot_product_attention", listening), no_grad():
        model(ids[None])
    return softmax(np.concatenate(calls))


def softmax(scores: np.ndarray) -> np.ndarray:
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def prefixed(lab: Lab, prefix: np.ndarray):
    """Return the base with the prefix (P, 2·L·H_kv·D)."""
    model = lab.fresh("prefix", 0, Options(virtual_tokens=len(prefix)), tokens=range(len(prefix)))
    (parameter,) = (p for p in model.parameters() if p.requires_grad)
    parameter.data = prefix.astype("float32")
    return model


def expected(model, ids: np.ndarray) -> np.ndarray:
    """Return the probabilities (V,) of the token after these."""
    return softmax(model(ids[None]).logits.numpy()[0, -1].astype("float64"))


def described(lab: Lab, models: tuple, text: str) -> dict:
    """Return what the models without and with a prefix look at and expect after a text: first what is most likely."""
    ids = np.array(lab.tokenizer.encode(text))
    off, on = (expected(model, ids) for model in models)
    words: dict[str, dict] = {}
    for token in np.argsort(-np.maximum(off, on)):
        longer = np.array([[*ids, token]])
        rest = models[int(on[token] > off[token])].generate(longer, 6, temperature=0)[0, len(ids) :]
        word = re.match(r"\s*\w*", lab.tokenizer.decode(rest))[0]
        begun = "" if word[:1].isspace() else re.search(r"\w*$", text)[0]
        word = f"{begun}{word}".strip() or "new line"
        shares = {"off": round(float(off[token]), 4), "on": round(float(on[token]), 4)}
        words.setdefault(word, {"word": word, "token": int(token)} | shares)
        if len(words) == WORDS:
            break
    return {
        "text": text,
        "tokens": [lab.tokenizer.decode([int(token)]).strip() for token in ids],
        "words": list(words.values()),
        "off": packed(attention(models[0], ids)),  # a row per head, layer by layer
        "on": packed(attention(models[1], ids)),
    }


def record(lab: Lab, prefix: dict, full: float) -> dict:
    """Return the page's data for a packed prefix; full: bits per character after full fine-tuning."""
    models = lab.base(), prefixed(lab, unpacked(prefix))  # what the page is about, rounded as it is written
    config = models[0].config
    return {
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "virtual": P,
        "weights": sum(parameter.size for parameter in models[0].parameters()),
        "characters": lab.domain_test.characters,
        "bits": [round(bits, 3) for bits in (*(lab.bits(one, lab.domain_test) for one in models), full)],
        "old": [round(lab.bits(one, lab.base_test), 3) for one in models],
        "sentences": [described(lab, models, text) for text in SENTENCES],
        "prefix": prefix,
    }


def measure() -> dict:
    """Train a prefix, and all weights, on NumPy's documentation, and return what the page shows of both."""
    lab = Lab(load.base_folder(), validation_characters=4_000)  # tests on the text that live.py of lesson 08 tests on
    text, trained = lab.domain_text(40_000, seed=0), {}
    for method in ("prefix", "full"):
        config = TrainConfig(steps=STEPS, warmup=3, eval_every=20, peak_lr=METHODS[method].lr)
        trained[method], _ = lab.adapt(method, text, config, Options(virtual_tokens=P))
    (parameter,) = (p for p in trained["prefix"].parameters() if p.requires_grad)
    return record(lab, packed(parameter.numpy()), lab.bits(trained["full"], lab.domain_test))
