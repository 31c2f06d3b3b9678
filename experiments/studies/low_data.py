"""The study of how many labels pretraining saves."""

from collections.abc import Sequence
from itertools import product
from statistics import fmean
from typing import Any

from experiments.bench import Bench
from experiments.studies.study import TEN, Study, StudySettings, apart
from minilora.measure.lab import SCRATCH
from minilora.measure.lr_search import SEED
from minilora.measure.statistics import Interval
from minilora.show.grids import NAMES, Grid, Spread, listed
from minilora.show.style import LOOKS, single, styled, with_legend
from minilora.train import load
from minilora.train.config import TrainConfig
from notebooks.figures.labelled import Example
from notebooks.figures.pictures import label_curves
from notebooks.figures.topics import load_task

METHODS = (SCRATCH, "feature-extraction", "full", "lora")
ALL = 0  # the "number" that means all labels of the task
SEARCHED = (SEED, SEED + 1, SEED + 2)  # one seed once chose a rate at which more labels did not help


def most() -> int:
    """Return how many labels per class the task has."""
    task = load_task()
    return len(task.train) // len(task.classes)


class LowData(Study):
    name = "low-data"
    question = "How many labels does pretraining save?"
    published = (
        "With 100 labelled examples, fine-tuning a pretrained language model matches training from scratch on 10 times "
        "as many film reviews and 20 times as many news articles (Howard & Ruder 2018, ULMFiT, section 5)."
    )
    full = StudySettings(
        # Three rates, because one below the first is needed: with all labels, LoRA ended at chance at the first rate
        # and above.
        values=(8, 32, 128, ALL),
        kinds=METHODS,
        seeds=TEN,
        rates=3,
        classify=TrainConfig(steps=40, warmup=5),
    )
    quick = full.quick(values=(8, 32, 128))
    large = full.large(values=(8, 32))

    @staticmethod
    def cells(settings: StudySettings) -> list[tuple]:
        return list(product(settings.kinds, [labels or most() for labels in settings.values], settings.seeds))

    @staticmethod
    def trained(bench: Bench, method: str, rate: float, few: Sequence[Example], seed: int) -> tuple[Any, Any]:
        """Return a classifier, trained on every example at least once, and its history."""
        steps = max(bench.settings.classify.steps, len(few) // 32)
        return bench.classify(method, rate, few, seed, steps)

    @classmethod
    def rate(cls, bench: Bench, method: str, labels: int) -> float:
        """Return the learning rate with the fewest wrong validation sentences, a mean over three seeds."""
        task = bench.lab.task

        def error(rate: float) -> float:
            models = (cls.trained(bench, method, rate, task.few(labels, seed), seed)[0] for seed in SEARCHED)
            return fmean(1 - bench.lab.accuracy(model, task.validation) for model in models)

        return bench.rate((method, labels), bench.first_task_rate(method), error)

    @classmethod
    def measure(cls, bench: Bench, method: str, labels: int, seed: int) -> dict:
        rate = cls.rate(bench, method, labels)
        model, history = cls.trained(bench, method, rate, bench.lab.task.few(labels, seed), seed)
        trainable = load.count_parameters(model)[0]
        facts = {"lr": rate, "steps": len(history.steps), "trainable": trainable, "seconds": history.seconds}
        return facts | {"accuracy": bench.lab.accuracy(model), "classes": len(bench.lab.task.classes)}

    def amounts(self) -> list[int]:
        return sorted({key[1] for key in self.records.rows if key[0] in self.kinds})

    def rates(self, method: str) -> str:
        """Return the range of learning rates that the search chose for the amounts."""
        rates = [cell["lr"] for cell in self.records.of(method)]
        low, high = min(rates), max(rates)
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"

    def reached(self, method: str) -> dict[int, Spread]:
        """Return accuracy in percent by the number of labels per class."""
        return {labels: self.spread("accuracy", method, labels, scale=100) for labels in self.amounts()}

    def grid(self) -> Grid:
        curves = {method: self.reached(method) for method in self.kinds}
        rows = [
            (NAMES[method], self.rates(method), *(one.show(1) for one in curve.values()))
            for method, curve in curves.items()
        ]
        return Grid(
            "Accuracy by labels per class",
            ("method", "rate", *(f"{n} labels" for n in self.amounts())),
            rows,
            f"Percent of held-out sentences that are classified right; chance is {self.chance():.1f} %. The task has "
            f"at most {max(self.amounts())} labels per class. "
            f"{self.in_words()}",
        )

    @styled
    def figure(self):
        """Percent of held-out sentences that are classified right against the number of labels per class, for models
        trained from scratch and from the pretrained base.
        """
        figure, axes = single("Low data: what pretraining is worth in labels")
        curves = {NAMES[method]: self.reached(method) for method in self.kinds}
        label_curves(axes, curves, [LOOKS[method] for method in self.kinds], self.chance(), 1.04)
        axes.set_ylim(0, None)
        return with_legend(figure)

    def leads(self, beside: int | None = None) -> dict[int, Interval]:
        """Return {labels per class: by how many points full fine-tuning with them is ahead of scratch}. beside: the
        labels that scratch has (None: as many). Corrected for all comparisons of the sentence.
        """
        amounts, comparisons = self.amounts(), 2 * len(self.amounts()) - 1
        pairs = {n: (("full", n), (SCRATCH, beside or n)) for n in amounts}
        return {n: self.paired("accuracy", *pair, comparisons, 100) for n, pair in pairs.items()}

    def sentence(self) -> str:
        *few, many = self.amounts()
        leads = self.leads()
        fewer = [n for n, lead in self.leads(many).items() if n != many and lead.low > 0]
        full, scratch = ([self.reached(kind)[n].show(1) for n in (few[0], many)] for kind in ("full", SCRATCH))
        ahead, behind = apart(leads)
        words = "At no number is the base shown to be ahead"
        if ahead or behind:
            name = "Training from scratch" if behind else "The base"
            words = f"{name} is shown to be ahead at {listed(behind or ahead)}"
        saved = f"with {fewer[0]} labels it is ahead of scratch with {many}" if fewer else ""
        return (
            f"With {few[0]} labels per class, full fine-tuning of the base gets {full[0]} % right and training from "
            f"scratch {scratch[0]} %. With {many}, it is {full[1]} and {scratch[1]} %. {words}; "
            f"{saved or f'that it needs fewer labels than the {many} of training from scratch is not shown'}."
        )
