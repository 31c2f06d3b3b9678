"""Lesson 13's page: prompt or fine-tune? All its words, ranges and numbers are those of one record.

See lessons/pages.py.
"""

import re
from html import escape
from math import ceil

from experiments.results.page import CURVES, measured_curves
from minilora.errors import MiniloraError
from minilora.measure.curve_report import CurveResult
from minilora.plan.shapes import find_shape
from minilora.show.grids import IN_SENTENCES
from minilora.train.catalog import CATALOG

TITLE = "Prompt or fine-tune?"
BACKGROUND = "Sorting film reviews with a small language model"
NAME = "choosing"  # in the links of other pages
ABOUT = "How many examples does training need to beat the best prompt clearly?"
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
        "machine": _machine(curve.records.header["machine"]),
        "prompts": [_prompt(curve, k) for k in curve.parts("prompt")],
        "best": prompt.key[1],
        "trained": [_point(curve, "trained", method, n) for n in curve.parts("trained", method)],
    }
    query, saved, saved_if_cached = _milliseconds(curve, prompt.key[1], method)
    facts |= {"ms": round(query, 1), "saved": round(saved, 1), "savedIfCached": round(saved_if_cached, 3)}
    facts["numbers"], *answers = re.split(r"(?<=\.) (?=[A-Z])", curve.sentence())
    facts["answer"] = " ".join(answers)
    for one in facts["trained"]:
        n = one["examples"]
        one["isAhead"] = curve.is_ahead(curve.way("trained", method, n), prompt)
        seconds = curve.spread("seconds", "trained", method, n).mean
        one["seconds"] = round(seconds, 1)
        one["timed"] = sum("seconds" in row for row in curve.records.of("trained", method, n))
        one["cheaperFrom"], one["cheaperIfCached"] = (
            ceil(1000 * seconds / each) if each > 0 else None for each in (saved, saved_if_cached)
        )
    _check(facts)
    ahead = [one for one in facts["trained"] if one["isAhead"]]
    shown = ahead[0] if ahead else max(facts["trained"], key=lambda one: one["accuracy"])
    return facts | {"shown": shown["examples"]}  # whose cost is asked for


def _milliseconds(curve: CurveResult, examples: int, method: str) -> tuple[float, float, float]:
    """Return what a query takes after training, and what it saves, beside the best prompt and beside that one, cached.

    LoRA is merged, so a query takes as long as one without examples, if the record has that. Cached examples are
    not read again, but each token of the query is compared with them: 4 operations for each channel of each layer, in
    place of 2 for each weight. price.md counts them.
    """
    plain = curve.cost("prompt", 0) or curve.cost(method)
    shape, tokens = find_shape(curve.settings["model"]), round(plain["tokens"])
    share = 4 * tokens * shape.hidden * shape.layers / (2 * shape.parameters)
    saved = max(0.0, curve.cost("prompt", examples)["milliseconds"] - plain["milliseconds"])
    return plain["milliseconds"], saved, share * saved


def _machine(facts: dict) -> str:
    count, name = facts["cores"], facts["processor"].get("name", "unknown processor")
    return f"{'one core' if count == 1 else f'{count} cores'} of an {name}"


def _prompt(curve: CurveResult, k: int) -> dict:
    points = [_point(curve, "prompt", k)]
    if curve.calibrated("prompt", k):
        points.append(_point(curve, "prompt", k, number="calibrated"))
    best = max(points, key=lambda one: one["accuracy"])
    return best | {"ms": round(curve.cost("prompt", k)["milliseconds"], 1)}


def _point(curve: CurveResult, *key, number: str = "accuracy") -> dict:
    values, mean = [100 * row[number] for row in curve.records.of(*key)], curve.spread(number, *key, scale=100).mean
    low, high = min(values), max(values)
    return {"examples": key[-1], "accuracy": round(mean, 2), "low": round(low, 2), "high": round(high, 2)}


def _check(facts: dict) -> None:
    for kind in ("prompts", "trained"):
        for one in facts[kind]:
            for name, most in (("accuracy", 100), ("low", 100), ("high", 100), ("ms", None), ("seconds", None)):
                value = one.get(name, 1)
                if not (0 <= value <= most if most else 0 < value < float("inf")):
                    raise MiniloraError(f"{TASK}: {name} of {kind}, {one['examples']} examples, cannot be {value}")
    if not 0 < facts["ms"] < float("inf"):
        raise MiniloraError(f"{TASK}: a trained model's query cannot take {facts['ms']} ms")


def _shown(data: dict) -> dict:
    return next(one for one in data["trained"] if one["examples"] == data["shown"])


def _about(n: float) -> str:
    return f"{float(f'{n:.2g}'):,.0f}"


def summary(data: dict) -> str:
    one = _shown(data)
    training = f"Training on {one['examples']:,} examples takes {one['seconds'] / 60:.1f} minutes"
    cost = (
        f"from about {_about(n)} queries on it costs less than prompting, or from {_about(one['cheaperIfCached'])} if "
        "the prompt is cached"
        if (n := one["cheaperFrom"])
        else "it never costs less than the prompt"
    )
    return f"{data['numbers']} {data['answer']} {training}; {cost}."


def surprises(data: dict) -> str:
    """Tell what the picture lets one wonder about, as far as the record tells."""
    last, few, many = data["prompts"][-1], data["trained"][0], data["trained"][-1]
    best = next(one for one in data["prompts"] if one["examples"] == data["best"])
    words = ""
    if last["accuracy"] < best["accuracy"]:
        words += f"More examples in the prompt are not always better: with {best['examples']} in it, "
        words += f"{best['accuracy']:.1f} % are right on average, with {last['examples']}, {last['accuracy']:.1f} %. "
    if few["high"] - few["low"] > many["high"] - many["low"]:
        words += f"And training on few is a gamble: on {few['examples']}, the {data['seeds']} runs get from "
        words += (
            f"{few['low']:.1f} to {few['high']:.1f} % right, where guessing gets {100 / len(data['labels']):.0f} %. "
        )
        words += f"On {many['examples']}, they get from {many['low']:.1f} to {many['high']:.1f} %."
    return f'<p class="after"><b>Surprised?</b> {words}</p>' if words else ""


def body(data: dict) -> str:
    labels = " or ".join(map(escape, data["labels"]))
    sizes = "".join(f"<option>{one['examples']}</option>" for one in data["trained"])
    once = "; the prompt without examples has one" if data["prompts"][0]["examples"] == 0 else ""
    shown = _shown(data)
    timed = ", and training was timed once" if shown["timed"] == 1 else ""
    first, last = (data["trained"][i]["examples"] for i in (0, -1))
    return f"""
<style>
  #second {{ background: var(--panel); border-radius: .4rem; padding: .5rem .8rem; }}
  #second label {{ display: contents; }}
  #costs .row {{ margin: .4rem calc(17.5% - 8px) .4rem calc(15.5% - 8px); }} /* below the plot */
  #costs #cache {{ margin: 0; }}
  #second label > span {{ flex: 1 0 100%; }}
</style>
<div class="say">
<p class="lead">{escape(data["task"])}: {labels}? People have labelled some examples. You can write a few of them into
every prompt of a small language model, or train the model on all of them once.</p>
<form id="guess" class="row"><label><span>Your guess first: how many examples does training need to beat the best
prompt <em>clearly</em>? <small>(Clearly: the 95&nbsp;% interval of its lead lies above 0, so it is hardly
chance.)</small></span> <select name="guess" data-unit="examples" required><option value="">choose</option>{sizes}
<option value="0">never</option></select></label> <button>Check my guess</button></form>
<p class="answer" id="verdict" role="status"></p>
<!-- summary -->
<form id="second" class="row after"><label><span><span id="price"></span> After how many queries has training cost
less?</span> <input type="number" id="enough" name="queries" min="1" max="999999999" placeholder="queries" required
style="width: 8rem"></label> <button>Check my guess</button></form>
<p class="answer" id="paid" role="status"></p>
</div>
<section class="stage">
  <figure><svg class="picture" id="accuracy" viewBox="0 0 400 258" role="img" aria-label="Accuracy by examples in the
  prompt, and by training on {first} to {last} examples"></svg></figure>
  <div id="costs" class="hidden">
    <figure><svg class="picture" id="cost" viewBox="0 0 400 132" role="img" aria-labelledby="paid"></svg></figure>
    <div class="row"><input type="range" id="queries" aria-label="queries"></div>
    <div class="row" id="cache"><label><input type="checkbox" id="cached"> <span><b>cached prompt</b>: examples read
      once</span></label></div>
    <output class="said" id="said" for="queries cached" aria-live="polite" style="min-height: 3em"></output>
  </div>
</section>
<div class="more">
  <p class="after"><b>The larger cost is labelling</b>, unless it is done already: at half a minute each, training's
  {shown["examples"]} examples take {shown["examples"] / 2:.0f} minutes, the prompt's {data["best"]} take
  {data["best"] / 2:.0f}.</p>
  {surprises(data)}
  <p class="soft">{escape(data["model"])} on {data["test"]} {data["texts"]} that were not trained on. A bar goes from
  the lowest to the highest of {data["seeds"]} runs{once}.</p>
  <details class="after"><summary>Why so, and how sure?</summary>
    <p class="soft">{escape(data["numbers"])} {escape(data["method"])} trains a small addition and leaves the model
    itself as it is; {escape(data["baseline"])} counts words, without a language model. Guessing gets
    {100 / len(data["labels"]):.0f} %. The interval is over runs and texts. Prompts are plain or calibrated (less each
    answer's mean score over all texts), whichever is better. The table in minilora's README differs by a point or two:
    it has no calibration, and a search chose its rates.</p>
    <p class="soft">Times are of {escape(data["machine"])}{timed}. After training, a query takes as long as
    one without examples, because {escape(data["method"])} is merged. What is left of a cached prompt's price is
    <a href="price.md">counted</a>, not measured.</p></details>
  <p><a href="README.md">The reading</a> has the rule; <code>minilora curve</code> measures all of this on your own
  examples.</p>
</div>
"""
