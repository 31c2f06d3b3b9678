"""The demo's records as two tables that fit 80 columns, and as the plain sentences that the numbers support."""

from typing import Any

from minilora.measure.records import Records
from minilora.measure.results import Column, Result, table
from minilora.show import grids
from minilora.show.grids import IN_SENTENCES, NAMES, Grid, Spread, listed, seeds_in_words, show_count, show_share

FROM_THE_BASE = ("full", "lora")  # the methods that start from the base and change how it reads text
UNSHARED = ("base", "few-shot", "scratch")  # which have nothing to forget
PROMPT = "Parameters\n----------\na :"  # that the models go on with


class AdaptedResult(Result):
    """What adapting one base to a text and to a labelled task came to: of the demo, and of the comparison of methods.

    Raises MiniloraError for a method whose name the tables do not have.
    """

    def __init__(self, records: Records):
        super().__init__(records)
        self.methods, self.on_task, self.base = self.parts("text"), self.parts("task"), next(records.of("text", "base"))

    # Each number of a method, None where there is none

    def trainable(self, method: str) -> int | None:
        return next(self.records.of("text", method))["trainable"] or None

    def share(self, method: str) -> float | None:
        """Return what trains as a share of the base's parameters."""
        trainable = self.trainable(method)
        return trainable / self.base["total"] if trainable else None

    def seconds(self, method: str) -> float | None:
        """Return the seconds of training on text."""
        return self.spread("seconds", "text", method).mean or None

    def peak(self, method: str) -> int | None:
        """Return the most bytes alive at once in a training step."""
        return self.records.rows.get(("memory", method), {}).get("peak")

    def domain(self, method: str) -> Spread:
        """Return bits per character on the domain's held-out text."""
        return self.spread("domain", "text", method)

    def base_text(self, method: str) -> Spread:
        """Return bits per character on held-out text of what the base was pretrained on."""
        return self.spread("base_text", "text", method)

    def forgot(self, method: str) -> float | None:
        """Return bits per character more on the base's own text than the base itself needs."""
        return None if method in UNSHARED else self.base_text(method).mean - self.base["base_text"]

    def accuracies(self) -> dict[str, dict[int, Spread]]:
        """Return accuracy in percent of each method, by the number of labels per class."""
        by_method: dict[str, dict[int, list[float]]] = {method: {} for method in self.on_task}
        for row in self.records.of("task"):
            _, method, _, labels = row["key"]
            by_method[method].setdefault(labels, []).append(100 * row["accuracy"])
        return {m: {n: Spread.of(of_method[n]) for n in sorted(of_method)} for m, of_method in by_method.items()}

    def chance(self) -> float:
        """Return the percentage of the labelled task that a guess gets right."""
        return 100 / len(self.records.rows["classes",]["names"])

    def spreads_in_words(self) -> str:
        """Say what ± means, for the text that the methods were trained on."""
        return seeds_in_words(self.domain(method).count for method in self.methods if method != "base")


# Tables


def show_bits(spread: Spread) -> str:
    return spread.show(3)


def show_percent(spread: Spread) -> str:
    return f"{spread.show(1)} %"


COLUMNS = (
    Column("trainable", AdaptedResult.trainable, show_count),
    Column("share", AdaptedResult.share, show_share),
    Column("peak\nmemory", AdaptedResult.peak, grids.show_bytes),
    Column("time", AdaptedResult.seconds, grids.show_seconds),
    Column("domain\nbits/char", AdaptedResult.domain, show_bits),
    Column("base text\nbits/char", AdaptedResult.base_text, show_bits),
    Column("forgot", AdaptedResult.forgot, grids.show_signed),
)


def adaptation_grid(result: AdaptedResult) -> Grid:
    """Tabulate what each way to adapt costs, learns of the domain and forgets of the base's own text."""
    texts = result.records.rows["texts",]
    domain, base_text = texts["domain"]["name"], texts["base"]["name"]
    return table(
        f"Adaptation to {domain}, {texts['domain']['characters']:,} characters",
        COLUMNS,
        {NAMES[method]: (result, method) for method in result.methods},
        f"Held-out text of {domain} (domain) and {base_text} (base text), after adaptation; less is better. "
        f"{result.spreads_in_words()} Forgot: bits/char lost on {base_text}. Peak memory: the most bytes alive in a "
        "training step, weights included (for the base: in reading).",
    )


def classification_grid(result: AdaptedResult) -> Grid:
    """Return accuracy of each way to learn the labelled task, by the number of labels per class."""
    accuracies, task = result.accuracies(), result.records.rows["classes",]
    amounts = sorted({amount for of_method in accuracies.values() for amount in of_method})
    trainable = Column(
        "trainable", lambda method: next(result.records.of("task", method))["trainable"], grids.show_count
    )

    def column(labels: int) -> Column:
        return Column(f"{labels}\nlabels per class", lambda method: accuracies[method].get(labels), show_percent)

    return table(
        "Classification: accuracy",
        [trainable, *map(column, amounts)],
        {NAMES[method]: (method,) for method in accuracies},
        f"{task['test_examples']:,} held-out sentences of {len(task['names'])} classes; chance is "
        f"{result.chance():.1f} %. "
        f"{seeds_in_words(one.count for of_method in accuracies.values() for one in of_method.values())}",
    )


# Sentences


def claims(result: AdaptedResult) -> list[str]:
    """Return what the numbers say, a sentence each, and each with its numbers.

    Two means that lie no further apart than their seeds scatter are called level.
    """
    sentences = [*_own(result), *_on_the_domain(result), _forgetting(result), _cost(result), *_labels(result)]
    parts = {
        "adaptation": [result.domain(method) for method in result.methods if method != "base"],
        "classification": [one for of_method in result.accuracies().values() for one in of_method.values()],
    }
    single = [part for part, spreads in parts.items() if any(one.count == 1 for one in spreads)]
    if single:
        chance = "so no spread is known: a small difference may be chance"
        sentences.append(f"In {listed(single)} there was one seed, {chance}.")
    return sentences


def _own(result: AdaptedResult) -> list[str]:
    """Say whose code ran, and what merging by it did."""
    own = result.settings["own"]
    if not own:
        return []
    sentences = [f"In this run {own['what']} of {own['file']}; all else is minilora's."]
    for bits in result.records.of("merged"):
        start = f"Merged by it, {IN_SENTENCES[bits['key'][1]]} reads the domain at {bits['after']:.3f} bits/character"
        is_same = abs(bits["after"] - bits["before"]) < 5e-4
        sentences.append(f"{start}, as before." if is_same else f"{start}, where it was {bits['before']:.3f} before.")
    return sentences


def _on_the_domain(result: AdaptedResult) -> list[str]:
    """Return the methods from the base beside the base, and training from scratch beside them."""
    base, scratch = result.domain("base"), result.domain("scratch")
    sentences, beside = [], []
    for method in FROM_THE_BASE:
        one, name = result.domain(method), IN_SENTENCES[method]
        sentences.append(
            f"{name[0].upper()}{name[1:]} ends {_comparison(one, base)} the base on the domain "
            f"({one.show(3)} against {base.show(3)} bits/character)."
        )
        beside.append(f"{_comparison(scratch, one)} {name}")
    return [
        *sentences,
        f"From scratch ends {' and '.join(beside)} on the domain, with the same text and the same limit on steps "
        f"({scratch.show(3)} bits/character).",
    ]


def _forgetting(result: AdaptedResult) -> str:
    full, lora = (result.forgot(method) or 0.0 for method in FROM_THE_BASE)
    text = f"Of the base's own text, full fine-tuning forgets {_lost(full)}, LoRA {_lost(lora)}"
    if round(full, 3) <= 0 or round(lora, 3) <= 0:
        return f"{text}."
    text += f": {show_share(lora / full)} of what full fine-tuning forgets"
    is_level = result.base_text("lora").overlaps(result.base_text("full"))
    return f"{text} (level, within the spread over seeds)." if is_level else f"{text}."


def _lost(bits: float) -> str:
    bits = round(bits, 3)
    if bits > 0:
        return f"{bits:.3f} bits/character"
    return f"nothing (it reads it {-bits:.3f} bits/character better than before)" if bits < 0 else "nothing"


def _cost(result: AdaptedResult) -> str:
    def share(number: Any) -> str:
        return show_share(number("lora") / number("full"))

    return (
        f"LoRA trains {share(result.trainable)} of the parameters that full fine-tuning trains "
        f"({result.trainable('lora'):,} of {result.trainable('full'):,}), with {share(result.peak)} of its peak memory "
        f"and {share(result.seconds)} of its time."
    )


def _labels(result: AdaptedResult) -> list[str]:
    """Say what the base is worth at few and at many labels, in labels, and what a frozen body costs."""
    methods, sentences, best = result.accuracies(), [], {}
    scratch = methods.pop("scratch")
    for labels, fresh in scratch.items():
        best[labels] = max(methods, key=lambda method: methods[method][labels].mean)
        one = methods[best[labels]][labels]
        sentences.append(
            f"With {labels} labels per class, the best from the base ({IN_SENTENCES[best[labels]]}) reaches "
            f"{one.show(1)} % and from scratch {fresh.show(1)} %: {_points(one, fresh)} "
            f"(chance is {result.chance():.1f} %)."
        )
    few, many = min(scratch), max(scratch)
    if few < many:
        one, fresh = methods[best[few]][few], scratch[many]
        verdict = "as well as" if one.overlaps(fresh) else "better than" if one.mean > fresh.mean else "worse than"
        sentences.append(
            f"From the base, {few} labels per class do {verdict} {many} from scratch "
            f"({one.show(1)} % against {fresh.show(1)} %)."
        )
    frozen, full = methods["feature-extraction"][many], methods["full"][many]
    sentences.append(
        f"With {many} labels per class, feature extraction reaches {frozen.show(1)} % and full "
        f"fine-tuning {full.show(1)} %: {_points(frozen, full)}."
    )
    return sentences


def _comparison(one: Spread, other: Spread) -> str:
    """Return `8.1 % below`, `23 % above` or `level (within the spread over seeds) with`."""
    if one.overlaps(other):
        return "level (within the spread over seeds) with"
    change = one.mean / other.mean - 1
    return f"{show_share(abs(change))} {'above' if change > 0 else 'below'}"


def _points(one: Spread, other: Spread) -> str:
    if one.overlaps(other):
        return "level, within the spread over seeds"
    return f"{abs(one.mean - other.mean):.1f} points {'more' if one.mean > other.mean else 'less'}"
