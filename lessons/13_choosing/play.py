"""Lesson 13's page: prompt or fine-tune? All its words, ranges and numbers are those of one record.

See lessons/pages.py.
"""

import re
from html import escape

from experiments.results.page import CURVES, measured_curves
from minilora.errors import MiniloraError
from minilora.measure.curve_report import CurveResult
from minilora.show.grids import IN_SENTENCES
from minilora.train.catalog import CATALOG

TITLE = "Prompt or fine-tune?"
HEADLINE = "After how many examples does training beat the prompt?"
BACKGROUND = "Sorting film reviews with a small language model"
NAME = "choosing"  # in the links of other pages
ABOUT = "Examples in the prompt, or training on them: from how many examples is training ahead?"
TASK = "reviews"
MOST = 10**9  # queries


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
        "ms": round(curve.cost(method)["milliseconds"], 1),
    }
    facts["numbers"], *answers = re.split(r"(?<=\.) (?=[A-Z])", curve.sentence())
    facts["answer"] = " ".join(answers)
    for one in facts["trained"]:
        n = one["examples"]
        one["isAhead"] = curve.is_ahead(curve.way("trained", method, n), prompt)
        one["seconds"] = round(curve.spread("seconds", "trained", method, n).mean, 1)
        rows = list(curve.records.of("trained", method, n))
        one["steps"], one["timed"] = max(row["steps"] for row in rows), sum("seconds" in row for row in rows)
        one["cheaperFrom"] = curve.crossover(method, n)
    _check(facts)
    return facts


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


def summary(data: dict) -> str:
    best, n = data["trained"][-1], data["trained"][-1]["cheaperFrom"]
    training = f"With {best['examples']:,} examples, training takes {best['seconds']:.0f} s"
    cost = (
        f"from about {float(f'{n:.2g}'):,.0f} queries on it has cost less than the prompt"
        if n
        else "it never costs less than the prompt"
    )
    return f"{data['numbers']} {data['answer']} {training}; {cost}."


def surprises(data: dict) -> str:
    """Tell what the pictures let one wonder about, as far as the record tells."""
    last = max(data["prompts"], key=lambda one: one["examples"])
    best = next(one for one in data["prompts"] if one["examples"] == data["best"])
    same = [one for one in data["trained"] if one["steps"] == data["trained"][0]["steps"]]
    words = ""
    if last["accuracy"] < best["accuracy"]:
        words += f"More examples in the prompt are not always better: with {best['examples']}, "
        words += f"{best['accuracy']:.1f} % are right, with {last['examples']}, {last['accuracy']:.1f} %. "
    if len(same) > 1 and same[0]["seconds"] >= same[-1]["seconds"]:
        *sizes, most = (f"{one['examples']:,}" for one in same)
        *times, last_time = (f"{one['seconds']:.0f} s" for one in same)
        words += f"Training on {', '.join(sizes)} or {most} examples takes {same[0]['steps']} steps each, the few "
        words += f"again and again, so fewer save no steps. It took {', '.join(times)} and {last_time}"
        words += ", each timed once" if all(one["timed"] == 1 for one in same) else ""
        words += "; the record does not tell why these differ."
    return f'<p class="soft">{words}</p>' if words else ""


def body(data: dict) -> str:
    labels = " or ".join(map(escape, data["labels"]))
    sizes = "".join(f"<option>{one['examples']}</option>" for one in data["trained"][1:])  # the first is seen
    once = "; the prompt without examples has one" if data["prompts"][0]["examples"] == 0 else ""
    first, last = (data["trained"][i]["examples"] for i in (0, -1))
    return f"""
<div class="say">
<p class="lead">{escape(data["task"])}: {labels}? People have labelled some examples. You can write a few of them into
every prompt of a small language model, or train the model on all of them once.</p>
<form id="guess" class="row"><label><span>Your guess first: from how many examples on does training get <em>clearly</em>
more right than the best prompt?</span> <select name="guess" required><option value="">choose</option>{sizes}<option
value="0">never</option></select></label> <button>Check my guess</button></form>
<p class="answer" id="verdict" role="status"></p>
<!-- summary -->
</div>
<section class="stage">
  <figure><svg class="picture" id="accuracy" viewBox="0 0 400 300" role="img" aria-label="Accuracy by examples in the
  prompt, and by training on {first} to {last} examples"></svg></figure>
  <div class="after">
    <h2 style="border-top: 1px solid var(--line); font-size: 1.1rem; margin: .3rem 0 .2rem; padding-top: .3rem">The
    cost: <span class="soft" style="font-weight: 400">time on {escape(data["machine"])}</span></h2>
    <figure><svg class="picture" id="cost" viewBox="0 0 400 42" role="img" aria-labelledby="said"></svg></figure>
    <div class="row"><label class="long">queries <input type="range" id="slide" aria-label="queries" min="0"
      step="any"></label> <input type="number" id="queries" aria-label="number of queries" min="1" max="{MOST}"
      value="1000" style="width: 9.5rem"> <label>trained on <select id="size"></select></label></div>
    <output class="said" id="said" for="queries size" aria-live="polite" style="min-height: 3em"></output>
  </div>
</section>
<div class="more">
  <p class="soft">{escape(data["model"])} on {data["test"]} {data["texts"]} that were not trained on. A bar goes from
  the lowest to the highest of {data["seeds"]} runs{once}.</p>
  <details class="after"><summary>Why so, and how sure?</summary>
    <p class="soft">{escape(data["numbers"])} {escape(data["method"])} trains a small addition and leaves the model
    itself as it is; {escape(data["baseline"])} counts words, without a language model. Guessing gets
    {100 / len(data["labels"]):.0f} %. <em>Ahead</em>: the 95 % interval of the difference, over runs and texts, lies
    above 0. Prompts are plain or calibrated (less each answer's mean score over all texts), whichever is better. The
    table in minilora's README differs by a point or two: it has no calibration, and a search chose its rates.</p>
    {surprises(data)}
    <p class="soft">A longer prompt is read again with every query; training is paid for
    once.</p></details>
  <p><a href="README.md">The reading</a> has the rule; <code>minilora curve</code> measures all of this on your own
  examples.</p>
</div>
"""
