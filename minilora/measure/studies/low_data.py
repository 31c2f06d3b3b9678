"""How many labels does pretraining save?"""

from dataclasses import replace

from minilora.data.tasks import load_task
from minilora.measure.lab import SCRATCH
from minilora.measure.records import Records
from minilora.measure.studies.study import FULL, QUICK, Bench, Plan, Study, base_in_words, listed, spread
from minilora.show.grids import NAMES, Grid, Spread, seeds_in_words
from minilora.show.style import base_line, errorbar, log_ticks, single, styled, with_legend
from minilora.train import recipes

METHODS = (SCRATCH, "feature-extraction", "full", "lora")
ALL = 0  # among the values: as many labels a class as the task has


def cells(plan: Plan) -> list[tuple]:
    amounts = [labels or most() for labels in plan.values]
    return [(method, labels, seed) for method in plan.kinds for labels in amounts for seed in plan.seeds]


def most() -> int:
    """Labels a class that the task has."""
    task = load_task()
    return len(task.train) // len(task.classes)


def measure(bench: Bench, method: str, labels: int, seed: int) -> dict:
    rate, lab = bench.label_rate(method), bench.lab
    few = lab.task.few(labels, seed)
    steps = max(bench.plan.classify.steps, len(few) // 32)  # every example is seen at least once
    model, history = bench.classify(method, rate, few, seed, steps)
    trainable = recipes.count_parameters(model)[0]
    facts = {"lr": rate, "steps": steps, "trainable": trainable, "seconds": history.seconds}
    return facts | {"accuracy": lab.accuracy(model), "classes": len(lab.task.classes)}


def amounts(records: Records) -> list[int]:
    return sorted({key[1] for key in records.rows if key[0] != "rate"})


def kinds(records: Records) -> list[str]:
    return records.header["settings"]["kinds"]


def reached(records: Records, method: str, labels: int) -> Spread:
    """Accuracy in percent."""
    return Spread.of(100 * row["accuracy"] for row in records.of(method, labels))


def chance(records: Records) -> float:
    return 100 / next(row["classes"] for row in records.rows.values() if "classes" in row)


def grid(records: Records) -> Grid:
    labels = amounts(records)
    rows = []
    for method in kinds(records):
        rate = next(records.of(method))["lr"]
        rows.append((NAMES[method], f"{rate:g}", *(reached(records, method, n).show(1) for n in labels)))
    counts = [spread(records, "accuracy", method, n).count for method in kinds(records) for n in labels]
    return Grid(
        "Accuracy by labels a class",
        ("method", "rate", *(f"{n} labels" for n in labels)),
        rows,
        f"Percent of held-out sentences; chance is {chance(records):.1f} %. {max(labels)} labels a class is the most "
        f"taken here; the task has too few sentences for 512. {base_in_words(records)} {seeds_in_words(counts)}",
    )


@styled
def figure(records: Records):
    """Accuracy against labels, from scratch and from the base."""
    figure, axes = single("Low data: what pretraining is worth in labels")
    methods = kinds(records)
    for index, method in enumerate(methods):
        aside = 1.04 ** (index - (len(methods) - 1) / 2)  # so that error bars stand beside each other
        found = [reached(records, method, n) for n in amounts(records)]
        errorbar(axes, method, [n * aside for n in amounts(records)], found, NAMES[method])
    base_line(axes, chance(records), "chance")
    log_ticks(axes, amounts(records))
    axes.set(xlabel="labels a class (logarithmic)", ylabel="accuracy on held-out sentences (%)")
    axes.set_ylim(0, None)
    return with_legend(figure)


def sentence(records: Records) -> str:
    labels = amounts(records)
    tuned = {n: reached(records, "full", n) for n in labels}
    fresh = {n: reached(records, SCRATCH, n) for n in labels}
    ahead = [n for n in labels if tuned[n].mean > fresh[n].mean and not tuned[n].overlaps(fresh[n])]
    behind = [n for n in labels if tuned[n].mean < fresh[n].mean and not tuned[n].overlaps(fresh[n])]
    few, many = labels[0], labels[-1]
    said = (
        f"Full fine-tuning of the base reaches {tuned[few].show(1)} % with {few} labels a class and "
        f"{tuned[many].show(1)} % with {many}; from scratch {fresh[few].show(1)} % and {fresh[many].show(1)} %. "
    )
    if behind:
        return said + f"From scratch is ahead at {listed(behind)} labels: unlike published, none are saved there."
    if not ahead:
        return (
            said + "At no amount is the base ahead by more than the seeds scatter: the published saving does not show."
        )
    enough = [n for n in labels if tuned[n].mean >= fresh[many].mean]
    if enough and enough[0] < many:
        factor = many / enough[0]
        return said + (
            f"With {enough[0]} labels the base is where scratch is with {many}: it saves {factor:.0f} times the "
            "labels, the published direction, if not its factor of 100."
        )
    return said + "The base is ahead, as published, but not by enough to save labels among the amounts measured."


STUDY = Study(
    name="low-data",
    question="How many labels does pretraining save?",
    published="With 100 labelled examples, fine-tuning a pretrained language model matches training from scratch on "
    "100 times as many (Howard & Ruder 2018, ULMFiT).",
    full=replace(FULL, values=(8, 32, 128, ALL), kinds=METHODS, rates=2, classify=replace(FULL.classify, steps=40)),
    quick=replace(QUICK, values=(8, 32, 128), kinds=METHODS, classify=replace(QUICK.classify, steps=40)),
    cells=cells,
    measure=measure,
    grid=grid,
    figure=figure,
    sentence=sentence,
)
