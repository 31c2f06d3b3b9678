"""The demo's results as two tables that fit 80 columns, and as the plain sentences that the numbers support.

Everything here is a function of the results dictionary (also saved as results.json).
"""

from dataclasses import dataclass
from math import exp, log

from rich.table import Table

from minilora.show.grids import (
    IN_SENTENCES,
    NAMES,
    Grid,
    Spread,
    drawn,
    in_order,
    seeds_in_words,
    show_bytes,
    show_count,
    show_seconds,
    show_share,
    show_signed,
)

FROM_THE_BASE = ("full", "lora")  # the methods that start from the base and change how it reads text


@dataclass(frozen=True)
class Adapted:
    """One method of adaptation over its seeds. domain and base_text: bits a character on held-out text, afterwards."""

    trainable: int
    total: int
    peak_bytes: int
    seconds: float
    domain: Spread
    base_text: Spread


# Summaries


def by_method(rows: list[dict]) -> dict[str, list[dict]]:
    """The rows of each method, the methods in the order of NAMES."""
    methods = in_order(row["method"] for row in rows)
    return {method: [row for row in rows if row["method"] == method] for method in methods}


def adapted(results: dict) -> dict[str, Adapted]:
    """What the seeds of each method came to."""
    return {
        method: Adapted(
            rows[0]["trainable"],
            rows[0]["total"],
            max(row["peak_bytes"] for row in rows),
            Spread.of(row["seconds"] for row in rows).mean,
            Spread.of(row["domain"] for row in rows),
            Spread.of(row["base_text"] for row in rows),
        )
        for method, rows in by_method(results.get("adaptation") or []).items()
    }


def accuracies(results: dict) -> dict[str, dict[int, Spread]]:
    """Accuracy (0 to 1) of each method, by the number of labels a class."""
    rows = (results.get("classification") or {}).get("rows") or []
    return {method: _grouped(of_method, "labels", "accuracy") for method, of_method in by_method(rows).items()}


def data_curve(results: dict) -> dict[str, dict[int, Spread]]:
    """Bits a character on the domain of each method, by the characters that it saw."""
    rows = results.get("data_curve") or []
    return {method: _grouped(of_method, "characters", "domain") for method, of_method in by_method(rows).items()}


def _grouped(rows: list[dict], key: str, value: str) -> dict[int, Spread]:
    amounts = sorted({row[key] for row in rows})
    return {amount: Spread.of(row[value] for row in rows if row[key] == amount) for amount in amounts}


def crossover(results: dict, method: str) -> float | None:
    """The characters at which training from scratch catches up with `method`: interpolated on the logarithm of the
    characters, between the last amount at which it is behind and the next. None where that never happens."""
    points = _gaps(results, method)
    for (less, gap), (more, next_gap) in zip(points, points[1:], strict=False):
        if gap > 0 >= next_gap:
            return exp(log(less) + (log(more) - log(less)) * gap / (gap - next_gap))
    return None


def _gaps(results: dict, method: str) -> list[tuple[int, float]]:
    """How far from scratch is above `method`, in bits a character, at each amount of text measured for both."""
    curves = data_curve(results)
    scratch, other = curves.get("scratch", {}), curves.get(method, {})
    return [(amount, scratch[amount].mean - other[amount].mean) for amount in scratch if amount in other]


# Tables


def adaptation_table(results: dict) -> Table:
    """What each way to adapt costs, what it learns of the domain and what it forgets of the base's own text."""
    return drawn(adaptation_grid(results))


def classification_table(results: dict) -> Table:
    """Accuracy of each way to learn the labelled task, by the number of labels a class."""
    return drawn(classification_grid(results))


def adaptation_grid(results: dict) -> Grid:
    methods = adapted(results)
    base = methods.get("base")
    rows = []
    for method, one in methods.items():
        forgot = one.base_text.mean - base.base_text.mean if base and method in FROM_THE_BASE else None
        rows.append(
            (
                NAMES[method],
                show_count(one.trainable) if one.trainable else "–",
                show_share(one.trainable / one.total) if one.trainable else "–",
                show_bytes(one.peak_bytes),
                show_seconds(one.seconds) if one.seconds else "–",
                one.domain.show(3),
                one.base_text.show(3),
                "–" if forgot is None else show_signed(forgot),
            )
        )
    domain, base_text = _text_name(results, "domain"), _text_name(results, "base")
    characters = ((results.get("texts") or {}).get("domain") or {}).get("characters")
    return Grid(
        f"Adaptation to {domain}" + (f", {characters:,} characters" if characters else ""),
        ("method", "trainable", "share", "peak\nmemory", "time", "domain\nbits/char", "base text\nbits/char", "forgot"),
        rows,
        f"Held-out text of {domain} (domain) and {base_text} (base text), after adaptation; less is better. "
        f"{seeds_in_words(one.domain.count for method, one in methods.items() if method != 'base')} "
        f"Forgot: bits/char lost on {base_text}. Peak memory: the most bytes alive in a training step, weights "
        "included (for the base: in reading).",
    )


def classification_grid(results: dict) -> Grid:
    task = results.get("classification") or {}
    methods = accuracies(results)
    trainable = {row["method"]: row["trainable"] for row in task.get("rows") or []}
    amounts = sorted({amount for of_method in methods.values() for amount in of_method})
    rows = [
        (
            NAMES[method],
            show_count(trainable[method]),
            *(f"{of_method[n].show(1, 100)} %" if n in of_method else "–" for n in amounts),
        )
        for method, of_method in methods.items()
    ]
    return Grid(
        "Classification: accuracy",
        ("method", "trainable", *(f"{amount}\nlabels a class" for amount in amounts)),
        rows,
        f"{task.get('test_examples', 0):,} held-out sentences of {len(task.get('classes') or [])} classes; chance is "
        f"{100 * task.get('chance', 0):.1f} %. "
        f"{seeds_in_words(one.count for of_method in methods.values() for one in of_method.values())}",
    )


def _text_name(results: dict, role: str) -> str:
    fallback = {"domain": "the domain", "base": "the base text"}[role]
    return ((results.get("texts") or {}).get(role) or {}).get("name", fallback)


# Sentences


def claims(results: dict) -> list[str]:
    """What the numbers say, a sentence each, and each with its numbers.

    Two means that lie no further apart than their seeds scatter are called level. Parts that were not run, and
    comparisons with a method that was not, are left out.
    """
    methods = adapted(results)
    said = [
        *_own(results),
        *_against_the_base(methods),
        *_scratch_against(methods),
        *_forgetting(methods),
        *_cost(methods),
        *_catching_up(results),
        *_labels(results),
    ]
    parts = {
        "adaptation": [one.domain for method, one in methods.items() if method != "base"],
        "the data curve": [one for of_method in data_curve(results).values() for one in of_method.values()],
        "classification": [one for of_method in accuracies(results).values() for one in of_method.values()],
    }
    single = [part for part, spreads in parts.items() if any(one.count == 1 for one in spreads)]
    if said and single:
        named = f"{', '.join(single[:-1])}{' and ' if single[1:] else ''}{single[-1]}"
        said.append(f"In {named} there was one seed, so no spread is known: a small difference may be chance.")
    return said


def _own(results: dict) -> list[str]:
    """Whose code ran, and what merging by it did."""
    own = results.get("own")
    if not own:
        return []
    said = [f"In this run {own['what']} of {own['file']}; all else is minilora's."]
    said += [own["compared"]] if own["compared"] else []
    for method, bits in own["merged"].items():
        start = f"Merged by it, {IN_SENTENCES[method]} reads the domain at {bits['after']:.3f} bits/character"
        is_same = abs(bits["after"] - bits["before"]) < 5e-4
        said.append(f"{start}, as before." if is_same else f"{start}, where it was {bits['before']:.3f} before.")
    return said


def _against_the_base(methods: dict[str, Adapted]) -> list[str]:
    if "base" not in methods:
        return []
    base = methods["base"].domain
    return [
        f"{_capital(method)} ends {_comparison(methods[method].domain, base)} the base on the domain "
        f"({methods[method].domain.show(3)} against {base.show(3)} bits/character)."
        for method in FROM_THE_BASE
        if method in methods
    ]


def _scratch_against(methods: dict[str, Adapted]) -> list[str]:
    others = [method for method in FROM_THE_BASE if method in methods]
    if "scratch" not in methods or not others:
        return []
    scratch = methods["scratch"].domain
    parts = [f"{_comparison(scratch, methods[method].domain)} {IN_SENTENCES[method]}" for method in others]
    return [
        f"From scratch ends {' and '.join(parts)} on the domain, with the same text and the same limit on steps "
        f"({scratch.show(3)} bits/character)."
    ]


def _forgetting(methods: dict[str, Adapted]) -> list[str]:
    if not {"base", "full", "lora"} <= methods.keys():
        return []
    base, full, lora = (methods[method].base_text for method in ("base", "full", "lora"))
    full_lost, lora_lost = full.mean - base.mean, lora.mean - base.mean
    text = f"Of the base's own text, full fine-tuning forgets {_lost(full_lost)}, LoRA {_lost(lora_lost)}"
    if round(full_lost, 3) <= 0 or round(lora_lost, 3) <= 0:
        return [f"{text}."]
    text += f": {show_share(lora_lost / full_lost)} of what full fine-tuning forgets"
    return [f"{text} (level, within the spread over seeds)." if lora.overlaps(full) else f"{text}."]


def _lost(bits: float) -> str:
    bits = round(bits, 3)
    if bits > 0:
        return f"{bits:.3f} bits/character"
    return f"nothing (it reads it {-bits:.3f} bits/character better than before)" if bits < 0 else "nothing"


def _cost(methods: dict[str, Adapted]) -> list[str]:
    if not {"full", "lora"} <= methods.keys():
        return []
    full, lora = methods["full"], methods["lora"]
    text = f"LoRA trains {show_share(lora.trainable / full.trainable)} of the parameters that full fine-tuning trains "
    text += f"({lora.trainable:,} of {full.trainable:,}), with {show_share(lora.peak_bytes / full.peak_bytes)} of its "
    return [f"{text}peak memory and {show_share(lora.seconds / full.seconds)} of its time."]


def _catching_up(results: dict) -> list[str]:
    """Where training from scratch on more of the domain's text becomes as good as adapting the base."""
    said = []
    curves = data_curve(results)
    for method in FROM_THE_BASE:
        gaps, name = _gaps(results, method), IN_SENTENCES[method]
        if not gaps:
            continue
        where = crossover(results, method)
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


def _labels(results: dict) -> list[str]:
    """Accuracy: the base's worth at few and at many labels, in labels, and what a frozen body costs."""
    methods = accuracies(results)
    scratch, said = methods.get("scratch", {}), []
    pretrained = {method: of_method for method, of_method in methods.items() if method != "scratch"}
    chance = (results.get("classification") or {}).get("chance", 0)
    best = {}  # by number of labels: the pretrained method with the highest mean
    for labels in scratch:
        measured = [method for method in pretrained if labels in pretrained[method]]
        if not measured:
            continue
        best[labels] = max(measured, key=lambda method, n=labels: pretrained[method][n].mean)
        one, other = pretrained[best[labels]][labels], scratch[labels]
        said.append(
            f"With {labels} labels a class, the best from the base ({IN_SENTENCES[best[labels]]}) reaches "
            f"{one.show(1, 100)} % and from scratch {other.show(1, 100)} %: {_points(one, other)} "
            f"(chance is {100 * chance:.1f} %)."
        )
    if len(best) > 1:
        few, many = min(best), max(best)
        one, other = pretrained[best[few]][few], scratch[many]
        verdict = "as well as" if one.overlaps(other) else "better than" if one.mean > other.mean else "worse than"
        said.append(
            f"From the base, {few} labels a class do {verdict} {many} from scratch "
            f"({one.show(1, 100)} % against {other.show(1, 100)} %)."
        )
    frozen, full = methods.get("feature-extraction", {}), methods.get("full", {})
    both = [labels for labels in frozen if labels in full]
    if both:
        labels = both[-1]
        said.append(
            f"With {labels} labels a class, feature extraction reaches {frozen[labels].show(1, 100)} % and full "
            f"fine-tuning {full[labels].show(1, 100)} %: {_points(frozen[labels], full[labels])}."
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
    points = 100 * (one.mean - other.mean)
    return f"{abs(points):.1f} points {'more' if points > 0 else 'less'}"


def rounded(characters: float) -> int:
    """Two digits: more would promise what an interpolation cannot hold."""
    return int(float(f"{characters:.1e}"))


def _capital(method: str) -> str:
    name = IN_SENTENCES[method]
    return name[0].upper() + name[1:]
