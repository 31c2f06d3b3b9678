"""The study of k examples in the prompt against k examples to train on."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from experiments.bench import Bench
from experiments.costs import seconds_in_turns
from experiments.prompts import classify_by_prompt
from experiments.studies.study import Study, StudySettings, apart
from minilora import threads
from minilora.measure.statistics import paired_interval
from minilora.show.grids import Grid, Spread, listed
from minilora.show.style import LOOKS, base_line, errorbar, figure_of, styled, with_legend
from minilora.tensor import no_grad
from notebooks.figures.labelled import Example


@dataclass(frozen=True)
class PromptingSettings(StudySettings):
    """values: how many examples."""

    values: tuple = (0, 1, 2, 4, 8, 16)
    labels: int = 2
    timed: int = 24  # queries that are timed, one by one


def examples(bench: Bench, k: int, seed: int) -> list[Example]:
    """Return the same k examples for both ways, the classes in turn; if k is below their number, some classes have
    none.
    """
    task = bench.lab.task
    return task.few(ceil(k / len(task.classes)), seed)[:k] if k else []


def cost(bench: Bench, k: int) -> dict:
    """Time a query, one at a time, by a prompt with k examples and by a trained classifier.

    Returns the medians in milliseconds; the two take turns, on one thread.
    """
    lab, base, classifier = bench.lab, bench.lab.base(), bench.lab.classifier("lora", 0)
    shots = examples(bench, k, 0)
    with threads.using(1):

        def prompt(text: str) -> None:
            classify_by_prompt(base, lab.tokenizer, lab.task.classes, shots, [text])

        def trained(text: str) -> None:
            with no_grad():
                classifier(lab.tokenizer.encode(text)[None]).logits.numpy()

        queries = [example.text for example in lab.test_examples[: bench.settings.timed]]
        times = seconds_in_turns({"prompt_ms": prompt, "trained_ms": trained}, queries)
    return {name: 1000 * seconds for name, seconds in times.items()}


class Prompting(Study):
    name = "prompting"
    question = "k examples in the prompt, or k examples trained?"
    published = (
        "Training few parameters on few examples is more accurate than putting them into the prompt, and far cheaper "
        "per query (Liu et al. 2022, T-Few); larger models learn more from a prompt (Brown et al. 2020)."
    )
    full = PromptingSettings()
    quick = full.quick()

    @staticmethod
    def cells(settings: PromptingSettings) -> list[tuple]:
        seeds = settings.seeds
        shots = [("prompt", k, seed) for k in settings.values for seed in (seeds if k else seeds[:1])]
        trained = [("trained", k, seed) for k in settings.values if k for seed in seeds]
        return shots + trained + [("cost", k) for k in settings.values]

    @staticmethod
    def measure(bench: Bench, kind: str, k: int, seed: int = 0) -> dict:
        lab = bench.lab
        if kind == "cost":
            return cost(bench, k)
        texts = [example.text for example in lab.test_examples]
        if kind == "prompt":
            base, shots = lab.base(), examples(bench, k, seed)
            predicted, tokens = classify_by_prompt(base, lab.tokenizer, lab.task.classes, shots, texts)
            right = predicted == np.array([example.label for example in lab.test_examples])
            return {"accuracy": float(right.mean()), "tokens": tokens, "classes": len(lab.task.classes)}
        rate = bench.task_rate("lora")
        model, history = bench.classify("lora", rate, examples(bench, k, seed), seed)
        mean = float(np.mean([len(ids) for ids in lab.tokenizer.encode_many(texts)]))
        return {"lr": rate, "accuracy": lab.accuracy(model), "tokens": mean, "seconds": history.seconds}

    def reached(self, kind: str, k: int) -> Spread:
        """Return accuracy in percent."""
        return self.spread("accuracy", kind, k, scale=100)

    def above_chance(self, kind: str, k: int) -> bool:
        """Return True if accuracy is shown to be above chance and, for a prompt, above that without examples."""
        floor = self.chance()
        if kind == "prompt" and 0 in self.values:
            floor = max(floor, self.reached("prompt", 0).mean)
        above = [100 * row["accuracy"] - floor for row in self.records.of(kind, k)]
        return paired_interval(above, comparisons=self.comparisons).low > 0

    @property
    def comparisons(self) -> int:
        """The number of comparisons: at each k, training with the prompt, and each of them with chance."""
        return 3 * len([k for k in self.values if k])

    def cost(self, k: int) -> dict:
        return self.records.rows["cost", k]

    def crossover(self, k: int) -> int | None:
        """Return the queries after which training on k examples has paid off; None if a prompt is not slower."""
        saved = self.cost(k)["prompt_ms"] - self.cost(k)["trained_ms"]
        return ceil(1000 * self.spread("seconds", "trained", k).mean / saved) if saved > 0 else None

    def grid(self) -> Grid:
        rows = []
        for k in self.values:
            cost, tokens = self.cost(k), next(self.records.of("prompt", k))["tokens"]
            prompted = (str(k), self.reached("prompt", k).show(1), f"{tokens:.0f}", f"{cost['prompt_ms']:.1f}")
            if not k:
                rows.append((*prompted, *["–"] * 3))
                continue
            queries = self.crossover(k) if self.above_chance("trained", k) else None
            trained = (self.reached("trained", k).show(1), f"{cost['trained_ms']:.1f}")
            rows.append((*prompted, *trained, "–" if queries is None else f"{queries:,}"))
        return Grid(
            "k examples in the prompt, or k examples trained (LoRA)",
            ("k", "prompt\n%", "tokens", "ms", "trained\n%", "ms", "pays off\nafter"),
            rows,
            f"Accuracy on held-out sentences (chance {self.chance():.1f} %); tokens of the prompt; milliseconds per "
            "query, asked one at a time on one thread. Training pays off after the number of queries that save as "
            "much time as it took, if its accuracy is above chance. "
            f"{self.in_words()}",
        )

    @styled
    def figure(self):
        """Accuracy on held-out sentences (left) and milliseconds per query (right) against the number of examples, in
        the prompt and trained on.
        """
        figure = figure_of("Prompting against fine-tuning: k examples", 4.2)
        left, right = figure.subplots(1, 2)
        looks = {"prompt": ("in the prompt", "few-shot"), "trained": ("trained (LoRA)", "lora")}
        for kind, (words, method) in looks.items():
            amounts = [k for k in self.values if k or kind == "prompt"]
            errorbar(left, method, amounts, [self.reached(kind, k) for k in amounts], words)
            right.plot(amounts, [self.cost(k)[f"{kind}_ms"] for k in amounts], **LOOKS[method])
        base_line(left, self.chance(), "chance")
        left.set(xlabel="examples k", ylabel="accuracy (%)", ylim=(0, None))
        right.set(xlabel="examples k", ylabel="milliseconds per query", ylim=(0, None))
        for axes in (left, right):
            axes.set_xscale("symlog", base=2, linthresh=1)
            axes.set_xticks(self.values, [str(k) for k in self.values])
            axes.set_xticks([], minor=True)
            axes.set_xlim(-0.4, 1.3 * self.values[-1])
        return with_legend(figure)

    def sentence(self) -> str:
        shots = [k for k in self.values if k]
        leads = {k: self.paired("accuracy", ("trained", k), ("prompt", k), self.comparisons, 100) for k in shots}
        most, chance = self.values[-1], f"chance ({self.chance():.1f} %)"
        by_kind = zip(("training", "the prompt"), apart(leads), strict=True)
        verdicts = [f"{kind} is shown to be ahead with {listed(ks)}" for kind, ks in by_kind if ks]
        if not any(self.above_chance(kind, k) for kind in ("prompt", "trained") for k in shots):
            verdicts = [f"neither is shown to be above {chance} with any number of examples"]
        prompted, trained = self.reached("prompt", most).show(1), self.reached("trained", most).show(1)
        cost, queries = self.cost(most), self.crossover(most)
        pays_off = "" if queries is None else f", so that training has paid off after {queries:,} queries"
        return (
            f"With {most} examples, {prompted} % are right by prompt and {trained} % after training; "
            f"{'; '.join(verdicts or ['neither is shown to be ahead with any number'])}. A query takes "
            f"{cost['prompt_ms']:.1f} ms by prompt and {cost['trained_ms']:.1f} ms trained"
            f"{pays_off * self.above_chance('trained', most)}."
        )
