"""A format by prompt and by training: orders in free text (`orders`), which SmolLM2 writes as JSON.

    python -m experiments.format runs/format     measures what is missing there, and prints the table

    ("trained", "lora", n, seed)   LoRA trained on n orders, as `minilora finetune` trains by default
    ("prompt", k, seed)            the model as it is, with k orders and their JSON in the prompt: with none, and with
                                   the k that had most fields right on validation orders
    ("validation", k)              the same on validation orders

64 orders are 5,400 of the 8,192 tokens that the model reads.

Margins, written before anything was measured: training is better (or worse) than a prompt if the interval of the
difference in exact matches, over seeds and orders, at 95 % for all comparisons together, excludes 0; the two are near
each other if it lies within NEAR points of 0.
"""

import sys
from pathlib import Path

from experiments.beside import Beside
from experiments.orders import WRITTEN, judged, written
from experiments.prompts import answers_after
from minilora.data import chat
from minilora.data.chat import Conversation
from minilora.measure.curve import RECORDS, Curve, CurveSettings, TaskData
from minilora.measure.lr_search import SEED
from minilora.measure.records import Records
from minilora.measure.results import table
from minilora.show.grids import Grid, drawn, render
from minilora.train.metrics import TaskScore, after

KIND = "format"
NEAR = 5.0  # points of exact matches
SHOTS, SIZES, SEEDS = (4, 16, 64), (32, 128), (0, 1, 2)


class Format(Curve):
    """Measures the cells: trainings as `minilora curve` does, prompts by reading once what they share."""

    def __init__(self) -> None:
        parts = {part: written(part) for part in WRITTEN}
        task = TaskData(parts["train"], parts["test"], None, [], [])
        super().__init__(CurveSettings(data=KIND, shots=(), sizes=SIZES, seeds=SEEDS), task)
        self.held_back = parts["validation"]
        self.longest_answer = 8 + max(int(mask.sum()) for _, mask in self.encode(self.test).rows)

    def facts(self) -> dict:
        return super().facts() | {"validation_sha256": chat.sha256(self.held_back), "longest": self.longest_answer}

    def validation(self, k: int) -> dict:
        return self.prompted(k, SEED, self.held_back)

    def prompt(self, k: int, seed: int) -> dict:
        return self.prompted(k, seed, self.test)

    def prompted(self, k: int, seed: int, orders: list[Conversation]) -> dict:
        conversations = [after(self.task.shots(k, seed), one[:-1]) for one in orders]
        return judged(answers_after(self.base, self.tokenizer, conversations, self.longest_answer), orders)

    def numbers(self, score: TaskScore) -> dict:
        return judged(score.predicted, self.test)


def best_shots(records: Records) -> int:
    """Return the number of orders in the prompt with the most fields right on validation orders."""
    found = {k: records.rows["validation", k]["fields"] for k in SHOTS if ("validation", k) in records}
    return max(found, key=found.__getitem__, default=SHOTS[0])


def run(out: Path) -> Records:
    """Measure what is missing in out/records.jsonl."""
    curve = Format()
    records = Records.open(out / RECORDS, KIND, curve.facts(), resume=True)
    cells: list[tuple] = [("trained", "lora", n, seed) for n in SIZES for seed in SEEDS]
    records.complete([*cells, ("prompt", 0, 0), *(("validation", k) for k in SHOTS)], curve.measure, "orders")
    records.complete([("prompt", best_shots(records), seed) for seed in SEEDS], curve.measure, "the best prompt")
    return records


class FormatResult(Beside):
    """Says how each way did beside the best prompt."""

    def __init__(self, records: Records):
        best = ("prompt", best_shots(records))
        ways: dict[str, tuple] = {"the instruction alone": ("prompt", 0), f"{best[1]} orders in the prompt": best}
        ways |= {f"LoRA on {n} orders": ("trained", "lora", n) for n in SIZES}
        super().__init__(records, ways, best, {("prompt", 0)}, "exact", WRITTEN["test"], NEAR)

    def grid(self) -> Grid:
        columns = [self.share("JSON with\nthese keys, %", "valid"), self.share("all\nright, %", "exact")]
        columns += [self.share("fields\nright, %", "fields"), *self.columns("best prompt")]
        caption = (
            f"SmolLM2-135M on {self.items} orders in sentences that were in no prompt and no training, with half of "
            "the words new; greedy answers. Beside the best prompt: points of all right, and their 95 % interval over "
            f"seeds and orders, corrected for {self.comparisons} comparisons; near: within {NEAR:.0f} points."
        )
        return table("A format, by prompt and by training", columns, self.ways, caption, first="")


if __name__ == "__main__":
    print(render(drawn(FormatResult(run(Path(sys.argv[1]))).grid())))
