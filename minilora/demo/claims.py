"""The demo's records as two tables that fit 80 columns, and as the plain sentences that the numbers support."""

from math import exp, log

from minilora.measure.compare_report import (
    Compared,
    accuracies,
    by_amount,
    chance,
    compared,
    grid_of,
    show_percent,
    spreads_in_words,
)
from minilora.measure.records import Records
from minilora.show.grids import IN_SENTENCES, NAMES, Grid, Spread, listed, seeds_in_words, show_count, show_share

FROM_THE_BASE = ("full", "lora")  # the methods that start from the base and change how it reads text
PROMPT = "Parameters\n----------\na :"  # that the models go on with


# Summaries


def data_curve(records: Records) -> dict[str, dict[int, Spread]]:
    """Bits per character on the domain of each method, by the characters that it saw."""
    return by_amount(records, "data", "domain")


def crossover(records: Records, method: str) -> float | None:
    """The characters at which training from scratch catches up with `method`: interpolated on the logarithm of the
    characters, between the last amount at which it is behind and the next. None where that never happens."""
    points = _gaps(records, method)
    for (less, gap), (more, next_gap) in zip(points, points[1:], strict=False):
        if gap > 0 >= next_gap:
            return exp(log(less) + (log(more) - log(less)) * gap / (gap - next_gap))
    return None


def _gaps(records: Records, method: str) -> list[tuple[int, float]]:
    """How far from scratch is above `method`, in bits per character, at each amount of text measured for both."""
    curves = data_curve(records)
    scratch, other = curves.get("scratch", {}), curves.get(method, {})
    return [(amount, scratch[amount].mean - other[amount].mean) for amount in scratch if amount in other]


def continuations(records: Records) -> dict[str, str]:
    """What the base and the adapted models write after PROMPT."""
    return {row["key"][1]: row["continuation"] for row in records.of("text") if "continuation" in row}


# Tables


def adaptation_grid(records: Records) -> Grid:
    """What each way to adapt costs, what it learns of the domain and what it forgets of the base's own text."""
    texts = records.rows["texts",]
    domain, base_text = texts["domain"]["name"], texts["base"]["name"]
    return grid_of(
        records,
        "demo",
        f"Adaptation to {domain}, {texts['domain']['characters']:,} characters",
        f"Held-out text of {domain} (domain) and {base_text} (base text), after adaptation; less is better. "
        f"{spreads_in_words(records)} Forgot: bits/char lost on {base_text}. Peak memory: the most bytes alive in a "
        "training step, weights included (for the base: in reading).",
    )


def classification_grid(records: Records) -> Grid:
    """Accuracy of each way to learn the labelled task, by the number of labels per class."""
    methods, task = accuracies(records), records.rows["classes",]
    amounts = sorted({amount for of_method in methods.values() for amount in of_method})
    rows = [
        (
            NAMES[method],
            show_count(next(records.of("task", method))["trainable"]),
            *(show_percent(of_method[n]) if n in of_method else "–" for n in amounts),
        )
        for method, of_method in methods.items()
    ]
    return Grid(
        "Classification: accuracy",
        ("method", "trainable", *(f"{amount}\nlabels per class" for amount in amounts)),
        rows,
        f"{task['test_examples']:,} held-out sentences of {len(task['names'])} classes; chance is "
        f"{chance(records):.1f} %. "
        f"{seeds_in_words(one.count for of_method in methods.values() for one in of_method.values())}",
    )


# Sentences


def claims(records: Records) -> list[str]:
    """What the numbers say, a sentence each, and each with its numbers.

    Two means that lie no further apart than their seeds scatter are called level. Parts that were not run, and
    comparisons with a method that was not, are left out.
    """
    methods = compared(records)
    said = [
        *_own(records),
        *_against_the_base(methods),
        *_scratch_against(methods),
        *_forgetting(methods),
        *_cost(methods),
        *_catching_up(records),
        *_labels(records),
    ]
    parts = {
        "adaptation": [one.domain for method, one in methods.items() if method != "base"],
        "the data curve": [one for of_method in data_curve(records).values() for one in of_method.values()],
        "classification": [one for of_method in accuracies(records).values() for one in of_method.values()],
    }
    single = [part for part, spreads in parts.items() if any(one.count == 1 for one in spreads)]
    if said and single:
        said.append(f"In {listed(single)} there was one seed, so no spread is known: a small difference may be chance.")
    return said


def _own(records: Records) -> list[str]:
    """Whose code ran, and what merging by it did."""
    own = records.header["settings"]["own"]
    if not own:
        return []
    said = [f"In this run {own['what']} of {own['file']}; all else is minilora's."]
    said += [row["compared"] for row in records.of("own")]
    for bits in records.of("merged"):
        start = f"Merged by it, {IN_SENTENCES[bits['key'][1]]} reads the domain at {bits['after']:.3f} bits/character"
        is_same = abs(bits["after"] - bits["before"]) < 5e-4
        said.append(f"{start}, as before." if is_same else f"{start}, where it was {bits['before']:.3f} before.")
    return said


def _against_the_base(methods: dict[str, Compared]) -> list[str]:
    if "base" not in methods:
        return []
    base = methods["base"].domain
    return [
        f"{_capital(method)} ends {_comparison(methods[method].domain, base)} the base on the domain "
        f"({methods[method].domain.show(3)} against {base.show(3)} bits/character)."
        for method in FROM_THE_BASE
        if method in methods
    ]


def _scratch_against(methods: dict[str, Compared]) -> list[str]:
    others = [method for method in FROM_THE_BASE if method in methods]
    if "scratch" not in methods or not others:
        return []
    scratch = methods["scratch"].domain
    parts = [f"{_comparison(scratch, methods[method].domain)} {IN_SENTENCES[method]}" for method in others]
    return [
        f"From scratch ends {' and '.join(parts)} on the domain, with the same text and the same limit on steps "
        f"({scratch.show(3)} bits/character)."
    ]


def _forgetting(methods: dict[str, Compared]) -> list[str]:
    full, lora = (methods.get(method) for method in FROM_THE_BASE)
    if full is None or lora is None or full.forgot is None or lora.forgot is None:
        return []
    text = f"Of the base's own text, full fine-tuning forgets {_lost(full.forgot)}, LoRA {_lost(lora.forgot)}"
    if round(full.forgot, 3) <= 0 or round(lora.forgot, 3) <= 0:
        return [f"{text}."]
    text += f": {show_share(lora.forgot / full.forgot)} of what full fine-tuning forgets"
    is_level = lora.base_text.overlaps(full.base_text)
    return [f"{text} (level, within the spread over seeds)." if is_level else f"{text}."]


def _lost(bits: float) -> str:
    bits = round(bits, 3)
    if bits > 0:
        return f"{bits:.3f} bits/character"
    return f"nothing (it reads it {-bits:.3f} bits/character better than before)" if bits < 0 else "nothing"


def _cost(methods: dict[str, Compared]) -> list[str]:
    full, lora = (methods.get(method) for method in FROM_THE_BASE)
    if full is None or lora is None or not full.seconds or lora.seconds is None:
        return []
    peaks = lora.memory["peak"] / full.memory["peak"]
    shares = [show_share(s) for s in (lora.trainable / full.trainable, peaks, lora.seconds / full.seconds)]
    return [
        f"LoRA trains {shares[0]} of the parameters that full fine-tuning trains ({lora.trainable:,} of "
        f"{full.trainable:,}), with {shares[1]} of its peak memory and {shares[2]} of its time."
    ]


def _catching_up(records: Records) -> list[str]:
    """Where training from scratch on more of the domain's text becomes as good as adapting the base."""
    said = []
    curves = data_curve(records)
    for method in FROM_THE_BASE:
        gaps, name = _gaps(records, method), IN_SENTENCES[method]
        if not gaps:
            continue
        where = crossover(records, method)
        (least, first), (most, last) = gaps[0], gaps[-1]
        if where is not None:
            text = f"From scratch catches up with {name} at about {rounded(where):,} characters of the domain"
            text += "." if last <= 0 else f", but is behind again at {most:,}."
        elif first <= 0:
            text = f"From scratch is no worse than {name} from the smallest amount measured, {least:,} characters"
            text += "." if last <= 0 else f", and {last:.3f} bits/character behind at {most:,}."
        else:
            text = f"From scratch does not catch up with {name} within the {most:,} characters measured: there it is "
            text += f"still {show_share(last / curves[method][most].mean)} above."
        said.append(text)
    return said


def _labels(records: Records) -> list[str]:
    """Accuracy: the base's worth at few and at many labels, in labels, and what a frozen body costs."""
    methods = accuracies(records)
    scratch, said = methods.get("scratch", {}), []
    pretrained = {method: of_method for method, of_method in methods.items() if method != "scratch"}
    best = {}  # by number of labels: the pretrained method with the highest mean
    for labels in scratch:
        measured = {method: of_method[labels] for method, of_method in pretrained.items() if labels in of_method}
        if not measured:
            continue
        best[labels] = max(measured, key=lambda method: measured[method].mean)
        one, other = measured[best[labels]], scratch[labels]
        said.append(
            f"With {labels} labels per class, the best from the base ({IN_SENTENCES[best[labels]]}) reaches "
            f"{one.show(1)} % and from scratch {other.show(1)} %: {_points(one, other)} "
            f"(chance is {chance(records):.1f} %)."
        )
    if len(best) > 1:
        few, many = min(best), max(best)
        one, other = pretrained[best[few]][few], scratch[many]
        verdict = "as well as" if one.overlaps(other) else "better than" if one.mean > other.mean else "worse than"
        said.append(
            f"From the base, {few} labels per class do {verdict} {many} from scratch "
            f"({one.show(1)} % against {other.show(1)} %)."
        )
    frozen, full = methods.get("feature-extraction", {}), methods.get("full", {})
    both = [labels for labels in frozen if labels in full]
    if both:
        labels = both[-1]
        said.append(
            f"With {labels} labels per class, feature extraction reaches {frozen[labels].show(1)} % and full "
            f"fine-tuning {full[labels].show(1)} %: {_points(frozen[labels], full[labels])}."
        )
    return said


def _comparison(one: Spread, other: Spread) -> str:
    """`8.1 % below`, `23 % above` or `level (within the spread over seeds) with`."""
    if one.overlaps(other):
        return "level (within the spread over seeds) with"
    change = one.mean / other.mean - 1
    return f"{show_share(abs(change))} {'above' if change > 0 else 'below'}"


def _points(one: Spread, other: Spread) -> str:
    if one.overlaps(other):
        return "level, within the spread over seeds"
    return f"{abs(one.mean - other.mean):.1f} points {'more' if one.mean > other.mean else 'less'}"


def rounded(characters: float) -> int:
    """Two digits: more would promise what an interpolation cannot hold."""
    return int(float(f"{characters:.1e}"))


def _capital(method: str) -> str:
    name = IN_SENTENCES[method]
    return name[0].upper() + name[1:]
