"""Examples in the prompt, or examples to train on?"""

from dataclasses import dataclass, replace
from math import ceil
from statistics import median
from time import perf_counter

import numpy as np

from minilora.data.tasks import Example
from minilora.measure.few_shot import classify_by_prompt
from minilora.measure.records import Records
from minilora.measure.studies.study import FULL, QUICK, Bench, Plan, Study, base_in_words, listed, spread
from minilora.show.grids import Grid, Spread, seeds_in_words
from minilora.show.style import GREY, LOOKS, figure_of, styled, with_legend
from minilora.tensor import no_grad
from minilora.train.parallel import Workers


@dataclass(frozen=True)
class PromptingPlan(Plan):
    """values: how many examples."""

    timed: int = 24  # queries whose time is taken, one by one


def cells(plan: PromptingPlan) -> list[tuple]:
    shots = [("prompt", k, seed) for k in plan.values for seed in (plan.seeds if k else plan.seeds[:1])]
    trained = [("trained", k, seed) for k in plan.values if k for seed in plan.seeds]
    return shots + trained + [("cost", k) for k in plan.values]


def measure(bench: Bench, kind: str, k: int, seed: int = 0) -> dict:
    lab = bench.lab
    if kind == "cost":
        return cost(bench, k)
    if kind == "prompt":
        texts = [example.text for example in lab.test_examples]
        base, shots = lab.base(), examples(bench, k, seed)
        found, tokens = classify_by_prompt(base, lab.tokenizer, lab.task.classes, shots, texts, lab.workers)
        right = found == np.array([example.label for example in lab.test_examples])
        return {"accuracy": float(right.mean()), "tokens": tokens, "classes": len(lab.task.classes)}
    rate = bench.label_rate("lora")
    model, history = bench.classify("lora", rate, examples(bench, k, seed), seed)
    mean = np.mean([len(ids) for ids in lab.tokenizer.encode_many([example.text for example in lab.test_examples])])
    return {"lr": rate, "accuracy": lab.accuracy(model), "tokens": float(mean), "seconds": history.seconds}


def examples(bench: Bench, k: int, seed: int) -> list[Example]:
    """The same k examples for both ways: the classes in turn, so that fewer than one a class leave some out."""
    task = bench.lab.task
    return task.few(ceil(k / len(task.classes)), seed)[:k] if k else []


def cost(bench: Bench, k: int) -> dict:
    """Milliseconds a query, one query at a time, of a prompt with k examples and of a classifier that was trained; the
    two take turns, on one thread, and the median counts.
    """
    lab, base, classifier = bench.lab, bench.lab.base(), bench.lab.classifier("lora", 0)
    shots = examples(bench, k, 0)
    seconds: dict[str, list[float]] = {"prompt_ms": [], "trained_ms": []}
    with Workers(1) as alone:

        def prompt(text: str) -> None:
            classify_by_prompt(base, lab.tokenizer, lab.task.classes, shots, [text], alone)

        def trained(text: str) -> None:
            with no_grad():
                classifier(lab.tokenizer.encode(text)[None]).logits.numpy()

        for number, example in enumerate([lab.test_examples[0], *lab.test_examples[: bench.plan.timed]]):
            for name, ask in (("prompt_ms", prompt), ("trained_ms", trained)):
                started = perf_counter()
                ask(example.text)
                if number:  # the first warms up
                    seconds[name].append(1000 * (perf_counter() - started))
    return {name: median(taken) for name, taken in seconds.items()}


def shots(records: Records) -> list[int]:
    return records.header["settings"]["values"]


def reached(records: Records, kind: str, k: int) -> Spread:
    """Accuracy in percent."""
    return Spread.of(100 * row["accuracy"] for row in records.of(kind, k))


def chance(records: Records) -> float:
    return 100 / next(records.of("prompt"))["classes"]


def crossover(records: Records, k: int) -> int | None:
    """Queries after which the time that training k examples took is saved; None where a prompt is no slower."""
    row = records.rows["cost", k]
    saved = row["prompt_ms"] - row["trained_ms"]
    return ceil(1000 * spread(records, "seconds", "trained", k).mean / saved) if saved > 0 else None


def grid(records: Records) -> Grid:
    rows = []
    for k in shots(records):
        cost, prompt = records.rows["cost", k], next(records.of("prompt", k))
        trained = next(records.of("trained", k), None)
        queries = crossover(records, k) if k else None
        rows.append(
            (
                str(k),
                reached(records, "prompt", k).show(1),
                f"{prompt['tokens']:.0f}",
                f"{cost['prompt_ms']:.1f}",
                reached(records, "trained", k).show(1) if k else "–",
                f"{trained['tokens']:.0f}" if trained else "–",
                f"{cost['trained_ms']:.1f}" if k else "–",
                f"{spread(records, 'seconds', 'trained', k).mean:.1f}" if k else "–",
                "–" if queries is None else f"{queries:,}",
            )
        )
    counts = [reached(records, "prompt", k).count for k in shots(records) if k]
    return Grid(
        "k examples in the prompt, or k examples trained (LoRA)",
        ("k", "prompt\n%", "tokens", "ms", "trained\n%", "tokens", "ms", "train\ns", "pays off\nafter"),
        rows,
        f"Accuracy on held-out sentences (chance {chance(records):.1f} %), tokens and milliseconds a query, one at a "
        "time on one thread; seconds of training, and the queries after which they are saved. "
        f"{base_in_words(records)} {seeds_in_words(counts)}",
    )


@styled
def figure(records: Records):
    """Accuracy and cost a query against the number of examples, prompted and trained."""
    figure = figure_of("Prompting against fine-tuning: k examples", 4.2)
    left, right = figure.subplots(1, 2)
    every, some = shots(records), [k for k in shots(records) if k]
    looks = {"prompt": LOOKS["few-shot"], "trained": LOOKS["lora"]}
    for kind, amounts in (("prompt", every), ("trained", some)):
        found = [reached(records, kind, k) for k in amounts]
        words = "in the prompt" if kind == "prompt" else "trained (LoRA)"
        look = looks[kind]
        left.errorbar(amounts, [one.mean for one in found], [one.half_range for one in found], **look, label=words)
        right.plot(amounts, [records.rows["cost", k][f"{kind}_ms"] for k in amounts], **look)
    left.axhline(chance(records), color=GREY, linestyle=LOOKS["base"]["linestyle"], linewidth=1.4, label="chance")
    left.set(xlabel="examples k", ylabel="accuracy (%)", ylim=(0, None))
    right.set(xlabel="examples k", ylabel="milliseconds a query", ylim=(0, None))
    for axes in (left, right):
        axes.set_xscale("symlog", base=2, linthresh=1)
        axes.set_xticks(every, [str(k) for k in every])
        axes.set_xticks([], minor=True)
        axes.set_xlim(-0.4, 1.3 * every[-1])
    return with_legend(figure)


def sentence(records: Records) -> str:
    some = [k for k in shots(records) if k]
    both = {k: (reached(records, "prompt", k), reached(records, "trained", k)) for k in some}
    ahead = [k for k, (prompt, trained) in both.items() if trained.mean > prompt.mean and not trained.overlaps(prompt)]
    behind = [k for k, (prompt, trained) in both.items() if trained.mean < prompt.mean and not trained.overlaps(prompt)]
    most = some[-1]
    prompt, trained = both[most]
    said = f"With {most} examples, {prompt.show(1)} % are right by prompt and {trained.show(1)} % after training"
    if all(prompt.mean - prompt.half_range <= chance(records) for prompt, _ in both.values()):
        said += f"; no prompt is clearly above chance ({chance(records):.1f} %)"
    if ahead and behind:
        said += f". Training is ahead at k = {listed(ahead)}, the prompt, unlike published, at k = {listed(behind)}"
    elif ahead:
        said += f". Training is ahead at k = {listed(ahead)}, as published"
    elif behind:
        said += f". Unlike published, the prompt is ahead at k = {listed(behind)}"
    else:
        said += ". At no k are they apart by more than the seeds scatter, unlike published"
    queries, cost = crossover(records, most), records.rows["cost", most]
    if queries is None:
        return said + ". A query by prompt is no slower here, so the time of training never pays off."
    return said + (
        f". A query takes {cost['prompt_ms']:.1f} ms by prompt and {cost['trained_ms']:.1f} ms trained, so that "
        f"training has paid off after {queries:,} queries."
    )


STUDY = Study(
    name="prompting",
    question="k examples in the prompt or k examples trained: what is better, and what is cheaper?",
    published="Training few parameters on few examples is more accurate than putting them into the prompt, and far "
    "cheaper a query (Liu et al. 2022, T-Few); what a prompt teaches grows with the model (Brown et al. 2020).",
    full=PromptingPlan(**vars(replace(FULL, values=(0, 1, 2, 4, 8, 16), labels=2))),
    quick=PromptingPlan(**vars(replace(QUICK, values=(0, 1, 2, 4, 8, 16), labels=2))),
    cells=cells,
    measure=measure,
    grid=grid,
    figure=figure,
    sentence=sentence,
)
