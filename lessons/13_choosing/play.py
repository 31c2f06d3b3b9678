"""Lesson 13's page: prompt or fine-tune? All its words, ranges and numbers are those of one record.

See lessons/pages.py.
"""

from html import escape

from experiments.results.page import CURVES, measured_curves
from minilora.errors import MiniloraError
from minilora.measure.curve_report import CurveResult
from minilora.show.grids import IN_SENTENCES
from minilora.train.catalog import CATALOG

TITLE = "Prompt or fine-tune?"
NAME = "choosing"  # in the links of other pages
SHOWN = "q=3"  # in the picture for sharing
TASK = "reviews"


def data(curve: CurveResult | None = None) -> dict:
    """Return the record's numbers for prompts, training and their costs, and its advice.

    Raises MiniloraError if a number in the record cannot be: an accuracy outside of 0 to 100 %, a time that is not
    positive.
    """
    curve = curve or measured_curves()[TASK]
    (_, method, _) = curve.best("trained").key
    prompt, settings = curve.best("prompt"), curve.settings
    facts = {
        "model": CATALOG[settings["model"]].description.split(",")[0],
        "task": CURVES[TASK],
        "texts": TASK,
        "labels": settings["labels"],
        "test": settings["test_examples"],
        "seeds": len(settings["seeds"]),
        "method": IN_SENTENCES[method],
        "baseline": curve.baseline,
        "counting": f"{curve.baseline}, which only counts words",
        "prompts": [_prompt(curve, k) for k in curve.parts("prompt")],
        "best": prompt.key[1],
        "words": [_point(curve, curve.words_kind, n) for n in curve.parts(curve.words_kind)],
        "trained": [_point(curve, "trained", method, n) for n in curve.parts("trained", method)],
        "ms": round(curve.cost(method)["milliseconds"], 1),
        "sentence": curve.sentence(),
    }
    for one in facts["trained"]:
        n = one["examples"]
        one["isAhead"] = curve.is_ahead(curve.way("trained", method, n), prompt)
        one["seconds"] = round(curve.spread("seconds", "trained", method, n).mean, 1)
        one["paysFrom"] = curve.crossover(method, n)
    _check(facts)
    return facts


def _prompt(curve: CurveResult, k: int) -> dict:
    spreads = (curve.reached("prompt", k), curve.calibrated("prompt", k))
    accuracy = max(spread.mean for spread in spreads if spread)
    return {"examples": k, "accuracy": round(accuracy, 2), "ms": round(curve.cost("prompt", k)["milliseconds"], 1)}


def _point(curve: CurveResult, *key) -> dict:
    values = [100 * row["accuracy"] for row in curve.records.of(*key)]
    low, high, mean = min(values), max(values), curve.reached(*key).mean
    return {"examples": key[-1], "accuracy": round(mean, 2), "low": round(low, 2), "high": round(high, 2)}


def _check(facts: dict) -> None:
    for kind in ("prompts", "words", "trained"):
        for one in facts[kind]:
            for name, most in (("accuracy", 100), ("low", 100), ("high", 100), ("ms", None), ("seconds", None)):
                value = one.get(name, 1)
                if not (0 <= value <= most if most else 0 < value < float("inf")):
                    raise MiniloraError(f"{TASK}: {name} of {kind}, {one['examples']} examples, cannot be {value}")
    if not 0 < facts["ms"] < float("inf"):
        raise MiniloraError(f"{TASK}: a trained model's query cannot take {facts['ms']} ms")


def summary(data: dict) -> str:
    best = data["trained"][-1]
    pays = f"pays from {best['paysFrom']:,} queries on" if best["paysFrom"] else "never pays for itself in time"
    return f"{data['sentence']} With {best['examples']:,} examples, training takes {best['seconds']:.0f} s and {pays}."


def body(data: dict) -> str:
    labels = " or ".join(map(escape, data["labels"]))
    sizes = "".join(f"<option>{one['examples']}</option>" for one in data["trained"])
    first, last = (data["trained"][i]["examples"] for i in (0, -1))
    return f"""
<div class="say">
<p class="lead">{escape(data["task"])}: {labels}? You have labelled examples for {escape(data["model"])}. You can show
it a few in every prompt, or train {escape(data["method"])} on all of them once.</p>
<form id="guess" class="row"><label><span>Your guess first: from how many examples on is training ahead of the best
prompt?</span> <select name="guess" required><option value="">choose</option>{sizes}<option
value="0">never</option></select></label> <button>Commit</button></form>
<p class="answer" id="verdict" role="status"></p>
<!-- summary -->
</div>
<section class="stage">
  <figure><svg class="picture" id="accuracy" viewBox="0 0 400 220" role="img" aria-label="Accuracy by prompts, by
  counting
    words, and by training on {first} to {last} examples"></svg></figure>
  <div class="after">
    <figure><svg class="picture" id="cost" viewBox="0 0 400 172" role="img" aria-labelledby="said"></svg></figure>
    <div class="row"><label class="long">queries <input type="range" id="queries" min="0" max="4" step="0.02" value="3">
      <b id="count" style="width: 3.4rem"></b></label> <label>trained on <select id="size"></select></label></div>
    <output class="said" id="said" for="queries size" aria-live="polite"></output>
  </div>
</section>
<div class="more">
  <p class="soft">{data["test"]} unseen {data["texts"]}; a bar goes from the lowest to the highest of {data["seeds"]}
  seeds.<span class="after"> Guessing reaches {100 / len(data["labels"]):.0f} %. Lines across are prompts, plain or
  calibrated (less each answer's mean score over all texts), whichever is better. <em>Ahead</em> means that the 95 %
  interval of the difference, over seeds and texts, lies above 0.</span></p>
  <p class="soft after">The picture of costs: seconds of computing in all. A longer prompt is read again with every
  query; training is paid for once. The lines cross where it has paid for itself.</p>
  <p><a href="README.md">The reading</a> has the rule; <code>minilora curve</code> measures all of this on your own
  examples.</p>
</div>
"""
