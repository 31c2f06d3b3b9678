"""Examples in the prompt, or examples to train on?"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from experiments.bench import Bench
from experiments.costs import seconds_in_turns
from experiments.prompts import classify_by_prompt
from experiments.studies.study import Study, StudySettings, apart
from minilora import threads
from minilora.data.tasks import Example
from minilora.measure.statistics import paired_interval
from minilora.show.grids import Grid, Spread, listed
from minilora.show.style import LOOKS, base_line, errorbar, figure_of, styled, with_legend
from minilora.tensor import no_grad


@dataclass(frozen=True)
class PromptingSettings(StudySettings):
    """values: how many examples."""

    values: tuple = (0, 1, 2, 4, 8, 16)
    labels: int = 2
    timed: int = 24  # queries whose time is taken, one by one


def examples(bench: Bench, k: int, seed: int) -> list[Example]:
    """The same k examples for both ways: the classes in turn, so that fewer than one per class leave some out."""
    task = bench.lab.task
    return task.few(ceil(k / len(task.classes)), seed)[:k] if k else []


def cost(bench: Bench, k: int) -> dict:
    """Milliseconds per query, one query at a time, of a prompt with k examples and of a classifier that was trained;
    the two take turns, on one thread, and the median counts.
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
        found = seconds_in_turns({"prompt_ms": prompt, "trained_ms": trained}, queries)
    return {name: 1000 * seconds for name, seconds in found.items()}


class Prompting(Study):
    name = "prompting"
    question = "k examples in the prompt or k examples trained: what is better, and what is cheaper?"
    published = (
        "Training few parameters on few examples is more accurate than putting them into the prompt, and far cheaper a "
        "query (Liu et al. 2022, T-Few); what a prompt teaches grows with the model (Brown et al. 2020)."
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
            found, tokens = classify_by_prompt(base, lab.tokenizer, lab.task.classes, shots, texts)
            right = found == np.array([example.label for example in lab.test_examples])
            return {"accuracy": float(right.mean()), "tokens": tokens, "classes": len(lab.task.classes)}
        rate = bench.task_rate("lora")
        model, history = bench.classify("lora", rate, examples(bench, k, seed), seed)
        mean = float(np.mean([len(ids) for ids in lab.tokenizer.encode_many(texts)]))
        return {"lr": rate, "accuracy": lab.accuracy(model), "tokens": mean, "seconds": history.seconds}

    def reached(self, kind: str, k: int) -> Spread:
        """Return accuracy in percent."""
        return self.spread("accuracy", kind, k, scale=100)

    def above_chance(self, kind: str, k: int) -> bool:
        """Return True if it is shown that more is right than by chance, and of a prompt than without examples."""
        floor = self.chance()
        if kind == "prompt" and 0 in self.values:
            floor = max(floor, self.reached("prompt", 0).mean)
        above = [100 * row["accuracy"] - floor for row in self.records.of(kind, k)]
        return paired_interval(above, comparisons=self.comparisons).low > 0

    @property
    def comparisons(self) -> int:
        """Return how many the sentence makes: for each number of examples two ways, and each of them with chance."""
        return 3 * len([k for k in self.values if k])

    def cost(self, k: int) -> dict:
        return self.records.rows["cost", k]

    def crossover(self, k: int) -> int | None:
        """Return queries after which the time that training k examples took is saved; None if a prompt is no slower."""
        saved = self.cost(k)["prompt_ms"] - self.cost(k)["trained_ms"]
        return ceil(1000 * self.spread("seconds", "trained", k).mean / saved) if saved > 0 else None

    def grid(self) -> Grid:
        rows = []
        for k in self.values:
            cost, tokens = self.cost(k), next(self.records.of("prompt", k))["tokens"]
            prompted = (str(k), self.reached("prompt", k).show(1), f"{tokens:.0f}", f"{cost['prompt_ms']:.1f}")
            if not k:
                rows.append((*prompted, *["–"] * 5))
                continue
            tokens = next(self.records.of("trained", k))["tokens"]
            queries = self.crossover(k) if self.above_chance("trained", k) else None
            trained = (self.reached("trained", k).show(1), f"{tokens:.0f}", f"{cost['trained_ms']:.1f}")
            seconds = f"{self.spread('seconds', 'trained', k).mean:.1f}"
            rows.append((*prompted, *trained, seconds, "–" if queries is None else f"{queries:,}"))
        return Grid(
            "k examples in the prompt, or k examples trained (LoRA)",
            ("k", "prompt\n%", "tokens", "ms", "trained\n%", "tokens", "ms", "train\ns", "pays off\nafter"),
            rows,
            f"Accuracy on held-out sentences (chance {self.chance():.1f} %), tokens and milliseconds per query, one at "
            "a time on one thread; seconds of training, and the queries after which they are saved, where training is "
            "above chance. "
            f"{self.in_words(self.reached('prompt', k).count for k in self.values if k)}",
        )

    @styled
    def figure(self):
        """Accuracy and cost a query against the number of examples, prompted and trained."""
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
        ahead, behind = apart(leads)
        most, chance = self.values[-1], self.chance()
        queries, cost = self.crossover(most), self.cost(most)
        said = f"With {most} examples, {self.reached('prompt', most).show(1)} % are right by prompt and "
        said += f"{self.reached('trained', most).show(1)} % after training, {leads[most].in_words(1)} points"
        per_query = f"A query takes {cost['prompt_ms']:.1f} ms by prompt and {cost['trained_ms']:.1f} ms trained"
        if not any(self.above_chance(kind, k) for kind in ("prompt", "trained") for k in shots):
            return f"{said}; neither is shown to be above chance ({chance:.1f} %) with any number. {per_query}."
        if not any(self.above_chance("prompt", k) for k in shots):
            said += f"; no prompt is shown to be above chance ({chance:.1f} %)"
        if ahead and behind:
            said += f". Training is ahead at k = {listed(ahead)}, the prompt, unlike published, at k = {listed(behind)}"
        elif ahead:
            said += f". Training is ahead at k = {listed(ahead)}, as published"
        elif behind:
            said += f". Unlike published, the prompt is ahead at k = {listed(behind)}"
        else:
            said += ". At no k is one of the two shown to be ahead"
        if queries is None:
            return said + ". A query by prompt is no slower here, so the time of training never pays off."
        return f"{said}. {per_query}, so that training has paid off after {queries:,} queries."
