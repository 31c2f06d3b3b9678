"""A format, taught by a prompt and by training: SmolLM2 turns orders in free text (`orders`) into JSON.

    python -m experiments.format runs/format     measures the missing cells and prints the table

    ("trained", "lora", n, seed)   LoRA trained on n orders, as `minilora finetune` trains by default
    ("prompt", k, seed)            the model as it is, with k orders and their JSON in the prompt; k is 0, or the number
                                   with the most fields right on validation orders
    ("validation", k)              the same on validation orders

64 orders take 5,400 of the 8,192 tokens that the model can read.

Margins, set before the measurement: training is better (or worse) than a prompt if the 95 % interval of the difference
in exact matches over seeds and orders, corrected for all comparisons, excludes 0. The two are near each other if the
interval lies within NEAR points of 0.
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
from minilora.show.grids import Grid, drawn, listed, render
from minilora.train.metrics import TaskScore, after

KIND = "format"
NEAR = 5.0  # points of exact matches
SHOTS, SIZES, SEEDS = (4, 16, 64), (32, 128), (0, 1, 2)


class Format(Curve):
    """Measures the cells. It trains as `minilora curve` does, and reads the common beginning of all prompts once."""

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
    fields = {k: records.rows["validation", k]["fields"] for k in SHOTS if ("validation", k) in records}
    return max(fields, key=fields.__getitem__, default=SHOTS[0])


def run(out: Path) -> Records:
    """Measure the cells that out/records.jsonl lacks; return the records."""
    curve = Format()
    records = Records.open(out / RECORDS, KIND, curve.facts(), resume=True)
    cells: list[tuple] = [("trained", "lora", n, seed) for n in SIZES for seed in SEEDS]
    records.complete([*cells, ("prompt", 0, 0), *(("validation", k) for k in SHOTS)], curve.measure, "orders")
    records.complete([("prompt", best_shots(records), seed) for seed in SEEDS], curve.measure, "the best prompt")
    return records


class FormatResult(Beside):
    """The comparison of each way with the best prompt."""

    def __init__(self, records: Records):
        best = ("prompt", best_shots(records))
        ways: dict[str, tuple] = {"the instruction alone": ("prompt", 0), f"{best[1]} orders in the prompt": best}
        ways |= {f"LoRA on {n} orders": ("trained", "lora", n) for n in SIZES}
        super().__init__(records, ways, best, {("prompt", 0)}, "exact", WRITTEN["test"], NEAR)

    def sentence(self) -> str:
        _, prompt, *trained = self.ways
        shares = [f"{self.percent('exact', name)} after {name}" for name in trained]
        return (
            f"Of {self.items} orders in free text, SmolLM2-135M turns {self.percent('exact', prompt)} into exactly the "
            f"right JSON with {prompt}, and {listed(shares)}. {self.compared(trained[-1])}"
        )

    def grid(self) -> Grid:
        columns = [self.share("JSON with\nthese keys, %", "valid"), self.share("all\nright, %", "exact")]
        columns += [self.share("fields\nright, %", "fields"), *self.columns("best prompt")]
        caption = (
            f"Greedy answers of SmolLM2-135M to {self.items} orders in sentences that no prompt and no training had, "
            "with half of the words new. Beside the best prompt: the difference in points of exact matches, with 95 % "
            f"intervals over seeds and orders, corrected for {self.comparisons} comparisons; near: within {NEAR:.0f} "
            "points."
        )
        return table("A format, by prompt and by training", columns, self.ways, caption, first="")


if __name__ == "__main__":
    print(render(drawn(FormatResult(run(Path(sys.argv[1]))).grid())))
