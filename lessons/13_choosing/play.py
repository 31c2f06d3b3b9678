"""Lesson 13's page: prompt or fine-tune? See minilora/classroom/publish/pages.py."""

from minilora.results.page import measured_curves

TITLE = "Prompt or fine-tune?"
BODY = """
<p>SmolLM2-135M is to say whether film reviews are positive or negative. You may put labelled examples into the
prompt, or train LoRA on them. All numbers were measured on 200 held-out reviews; chance is 50 %.</p>
<form id="guess" class="row">
  <label>Your guess first: from how many examples on is training better than the best prompt?
  <select name="guess" required><option value="">choose</option><option>32</option><option>128</option>
  <option>512</option><option value="9999">never</option></select></label>
  <button>Commit</button>
</form>
<p class="answer" id="verdict" role="status"></p>
<noscript><p>Scripts are off here, so nothing is drawn. The best prompt answers 84.7 % rightly, LoRA 89.5 % after 32
examples and 91.8 % after 512.</p></noscript>
<figure><svg class="picture" id="accuracy" viewBox="0 0 400 270" role="img"
  aria-label="Accuracy by prompts, and by LoRA on 32, 128 and 512 examples"></svg>
<figcaption>Lines across: prompts with so many examples, plain or calibrated (less each answer's mean score over all
reviews), whichever is better. Points: LoRA, mean of three seeds, with the lowest and the highest.</figcaption></figure>
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


def measure() -> dict:
    """The curve on film reviews, as it is recorded."""
    curve = measured_curves()["reviews"]
    shots = []
    for k in curve.measured("prompt"):
        plain, calibrated = curve.reached("prompt", k), curve.calibrated("prompt", k)
        best = max(plain.mean, calibrated.mean)
        shots.append(
            {"examples": k, "accuracy": round(best, 2), "ms": round(curve.cost("prompt", k)["milliseconds"], 1)}
        )
    trained = []
    for n in curve.measured("trained", "lora"):
        values = [100 * row["accuracy"] for row in curve.records.of("trained", "lora", n)]
        reached = {
            "accuracy": round(curve.reached("trained", "lora", n).mean, 2),
            "low": min(values),
            "high": max(values),
        }
        trained.append({"examples": n, "seconds": round(curve.seconds("lora", n), 1), **reached})
    return {"shots": shots, "trained": trained, "ms": round(curve.cost("lora")["milliseconds"], 1)}
