"""A format by prompt and by training: orders in free text (`orders`), which SmolLM2 writes as JSON.

    python -m experiments.format runs/format     measures what is missing there, and prints the table

    ("trained", "lora", n, seed)   LoRA trained on n orders, as `minilora finetune` trains by default
    ("prompt", k, seed)            the model as it is, with k orders and their JSON in the prompt: with none, and with
                                   the k that had most fields right on validation orders
    ("validation", k)              the same on validation orders

64 orders are 6,000 of the 8,192 tokens that the model reads.

Margins, written before anything was measured: training is better (or worse) than a prompt if the interval of the
difference in exact matches, over seeds and orders, at 95 % for all comparisons together, excludes 0; the two are near
each other if it lies within NEAR points of 0.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.orders import WRITTEN, judged, written
from experiments.prompts import answers_after
from minilora.data import chat
from minilora.data.chat import Conversation
from minilora.measure.curve import RECORDS, Curve, CurveSettings, TaskData
from minilora.measure.lr_search import SEED
from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.measure.statistics import Interval, items_interval, verdict
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
    return max(SHOTS, key=lambda k: records.rows["validation", k]["fields"])


def run(out: Path) -> Records:
    """Measure what is missing in out/records.jsonl."""
    curve = Format()
    records = Records.open(out / RECORDS, KIND, curve.facts(), resume=True)
    cells: list[tuple] = [("trained", "lora", n, seed) for n in SIZES for seed in SEEDS]
    records.complete([*cells, ("prompt", 0, 0), *(("validation", k) for k in SHOTS)], curve.measure, "orders")
    records.complete([("prompt", best_shots(records), seed) for seed in SEEDS], curve.measure, "the best prompt")
    return records


class FormatResult(Result):
    """What the cells say. A way is what begins their keys: ("prompt", k) or ("trained", "lora", n)."""

    def __init__(self, records: Records):
        super().__init__(records)
        self.best = best_shots(records)
        self.trained = [("trained", "lora", n) for n in SIZES]
        self.ways: dict[str, tuple] = {
            "the instruction alone": ("prompt", 0),
            f"{self.best} orders in the prompt": ("prompt", self.best),
        }
        self.ways |= {f"LoRA on {way[-1]} orders": way for way in self.trained}

    def exact(self, way: tuple) -> np.ndarray:
        """Return (S, N) in points: 100 for each order that was right."""
        rows = [np.frombuffer(bytes.fromhex(one["exact_items"]), dtype=np.uint8) for one in self.records.of(*way)]
        return 100.0 * np.unpackbits(np.array(rows), axis=1)[:, : WRITTEN["test"]]

    def ahead(self, *way: Any) -> Interval | None:
        """Return by how many points of exact matches a way is ahead of the best prompt, order by order."""
        best = ("prompt", self.best)
        if way == best:
            return None
        return items_interval(self.exact(way) - self.exact(best), comparisons=len(self.ways) - 1)

    def verdict(self, *way: Any) -> str | None:
        interval = self.ahead(*way)
        if interval is None:
            return None
        if interval.excludes(0):
            return "better" if interval.mean > 0 else "worse"
        return "near" if verdict(interval, -NEAR, NEAR) == "shown" else "undecided"

    def grid(self) -> Grid:
        share = lambda name: lambda *way: self.spread(name, *way, scale=100)  # noqa: E731
        columns = [
            Column(words, share(name), lambda spread: spread.show(0))
            for words, name in (
                ("JSON with\nthese keys, %", "valid"),
                ("all right, %", "exact"),
                ("fields\nright, %", "fields"),
            )
        ]
        columns.append(Column("all right, beside\nthe best prompt", self.ahead, lambda interval: interval.show(0)))
        columns.append(Column("verdict", self.verdict))
        caption = (
            f"SmolLM2-135M on {WRITTEN['test']} orders in sentences that were in no prompt and no training, with half "
            "of the words new; greedy answers. Beside the best prompt: points and their 95 % interval over seeds and "
            f"orders, corrected for {len(self.ways) - 1} comparisons; near: within {NEAR:.0f} points."
        )
        return table("A format, by prompt and by training", columns, self.ways, caption, first="")


if __name__ == "__main__":
    print(render(drawn(FormatResult(run(Path(sys.argv[1]))).grid())))
