"""Lesson 13's page: prompt or fine-tune? Its numbers come from the record of film reviews.

See lessons/pages.py.
"""

from experiments.results.page import measured_curves

CURVE = measured_curves()["reviews"]
SIZES = CURVE.parts("trained", "lora")
TITLE = "Prompt or fine-tune?"
BODY = f"""
<p>SmolLM2-135M is to say whether film reviews are positive or negative. You may put labelled examples into the
prompt, train LoRA on them, or do without a language model: naive Bayes counts words. All numbers were measured on
{CURVE.settings["test_examples"]} held-out reviews; chance is 50 %. A way is <em>ahead</em> of another if
the 95 % interval of their difference, over seeds and reviews, lies above 0.</p>
<form id="guess" class="row">
  <label>Your guess first: from how many examples on is training ahead of the best prompt?
  <select name="guess" required><option value="">choose</option>
  {"".join(f'<option value="{n}">{n}</option>' for n in SIZES)}<option value="0">never</option></select></label>
  <button>Commit</button>
</form>
<p class="answer" id="verdict" role="status"></p>
<noscript><p>Scripts are off here, so nothing is drawn. {CURVE.sentence()}</p></noscript>
<figure><svg class="picture" id="accuracy" viewBox="0 0 400 270" role="img"
  aria-label="Accuracy by prompts, and by LoRA on {SIZES[0]} to {SIZES[-1]} examples"></svg>
<figcaption>Lines across: prompts with so many examples, plain or calibrated (less each answer's mean score over all
reviews), whichever is better.<span class="after"> Points: LoRA, mean of {len(CURVE.settings["seeds"])} seeds, with the
lowest and the highest.</span></figcaption></figure>
<div class="after">
  <p>And what does it cost? A longer prompt is read again with every query. Training is paid for once.</p>
  <div class="row"><label>queries <input type="range" id="queries" min="0" max="4" step="0.02" value="2"></label>
  <label>trained on <select id="size"></select></label>
  <output id="said" for="queries size" aria-live="polite"></output></div>
  <figure><svg class="picture" id="cost" viewBox="0 0 400 240" role="img" aria-labelledby="said"></svg>
  <figcaption>Seconds of computing in all, both axes logarithmic. The lines cross where training has paid for
  itself.</figcaption></figure>
</div>
<p><a href="README.md">The reading</a> has the rule; <code>minilora curve</code> measures both on your own examples.</p>
"""


def data() -> dict:
    """Return the record's numbers for prompts, LoRA and their costs, and its advice."""
    prompts = []
    for k in CURVE.parts("prompt"):
        spreads = (CURVE.reached("prompt", k), CURVE.calibrated("prompt", k))
        accuracy = round(max(spread.mean for spread in spreads if spread), 2)
        prompts.append({"examples": k, "accuracy": accuracy, "ms": round(CURVE.cost("prompt", k)["milliseconds"], 1)})
    shots, best = (prompt := CURVE.best("prompt")).key[1], prompt.spread
    trained = []
    for n in SIZES:
        values = [100 * row["accuracy"] for row in CURVE.records.of("trained", "lora", n)]
        reached = CURVE.reached("trained", "lora", n)
        trained.append(
            {
                "examples": n,
                "accuracy": round(reached.mean, 2),
                "low": round(min(values), 2),
                "high": round(max(values), 2),
                "isClose": reached.mean > best.mean and not CURVE.is_ahead(CURVE.way("trained", "lora", n), prompt),
                "seconds": round(CURVE.spread("seconds", "trained", "lora", n).mean, 1),
                "paysFrom": CURVE.crossover("lora", n),
            }
        )
    milliseconds = round(CURVE.cost("lora")["milliseconds"], 1)
    return {"prompts": prompts, "best": shots, "trained": trained, "ms": milliseconds, "sentence": CURVE.sentence()}
