"""The strength of an adapter: SmolLM2's answers about the jargon when its adapter's update is scaled down or up.

    minilora demo --model smollm2 --out runs/evening     trains the adapter: nine minutes on one core
    python -m experiments.strengths runs/evening         asks at each strength: three minutes on one core

It writes experiments/records/strengths.json: for each strength the F1 of the demo's 80 test questions, and the answer
to the first of them. lessons/08_lora/pictures.py draws it.
"""

import sys
from pathlib import Path

from minilora.demo import teach
from minilora.formats.atomic import write_json
from minilora.measure.records import machine
from minilora.quant import in_float
from minilora.train import load, metrics

RECORD = Path(__file__).parent / "records" / "strengths.json"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
TOKENS = 40  # at most in an answer, as in docs/one-evening.md


def measure(run: str, model: str = "smollm2", strengths: tuple[float, ...] = STRENGTHS) -> dict:
    """Ask the model with the adapter of a run folder at each strength; return the record."""
    questions = teach.glossary(teach.FULL.shots, quick=False)[1]["phrasings"]
    adapted, tokenizer = load.load_model(model, run)
    rows = []
    for strength in strengths:
        adapted.set_strength(strength)
        with in_float(adapted):  # quicker, with the same numbers
            score = metrics.measure_task(adapted, tokenizer, questions, max_new_tokens=TOKENS)
        rows.append({"strength": strength, "f1": score.f1, "exact": score.exact, "answer": score.predicted[0]})
        print(strength, score.f1, score.predicted[0], flush=True)
    first, count = questions[0], len(questions)
    return {
        "command": f"minilora demo --model {model}",
        "question": first[-2]["content"],
        "expected": first[-1]["content"],
        "questions": count,
        "rows": rows,
        "machine": machine(),
    }


if __name__ == "__main__":
    write_json(RECORD, measure(sys.argv[1]))
