"""Forgotten against learned, and against KL, for every way to adapt and every learning rate of a search.

Methods are compared at equal learning: where each has learned three quarters of what full fine-tuning learns at its
best rate, seed by seed. A method forgets more, or less, if the 95 % interval of the difference, corrected for all
comparisons at its length, excludes 0; "as much" needs an interval within a quarter of what full has forgotten. This was
written before the measurement. Two more columns came after a look at two seeds: a third of what full learns, since some
methods never learn three quarters, and an equal KL. A level is read between two trainings on either side of it, never
below the lowest.

Forgetting follows KL if the rank correlation over all trainings is above 0.9. It follows nothing else if no method has
forgotten more or less than full fine-tuning where both have moved by KL bits per token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from math import log
from typing import TYPE_CHECKING

import numpy as np

from experiments.bench import Bench
from experiments.beside import verdict
from experiments.compare_model import ROWS
from experiments.compare_model_report import LABELS
from experiments.retention import level_between, rank_correlation, rising_curve
from experiments.studies.study import Study, StudySettings
from minilora.errors import MiniloraError
from minilora.measure.lab import SCRATCH
from minilora.measure.statistics import Interval, paired_interval
from minilora.palette import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, YELLOW
from minilora.show import style
from minilora.show.grids import Grid, listed
from minilora.train.loop import TrainConfig, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EQUAL, KL, MARGIN = (1 / 3, 3 / 4), 0.5, 0.25  # shares of what full learns; bits per token; of what full forgot
WORDS = {1 / 3: "a third", 3 / 4: "three quarters", 0: f"KL {KL}"}
HALF_STEP = log(3) / 4  # half a step of the rates' logarithms, because the rates grow by √3
LEAST = 2e-3  # least forgetting that a logarithmic axis shows and the rising curve counts


LORAS = ("lora", "rslora", "lora-plus", "dora", "pissa", "qlora")
FAMILIES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {  # in the figure: each family's look and its rows
    "full": ({"color": BLUE, "marker": "o"}, ("full",)),
    "LoRA on all linears, and its variants": ({"color": GREEN, "marker": "^"}, LORAS),
    "LoRA on q and v, VeRA": ({"color": ORANGE, "marker": "v"}, ("lora-qv", "vera")),
    "adapters": ({"color": BLACK, "marker": "s"}, ("pfeiffer", "houlsby")),
    "norms, IA3": ({"color": YELLOW, "marker": "P"}, ("norms", "ia3")),
    "prompt and prefix tuning": ({"color": SKY, "marker": "X"}, ("prompt", "prefix")),
    "vocabulary head": ({"color": PINK, "marker": "D"}, ("feature-extraction",)),
}


REST = {  # the other verdicts, besides more and less: in words for one method and for several
    "as much": ("has forgotten as much", "have forgotten as much"),
    "never so far": ("never comes so far", "never come so far"),
    "not measured so low": ("was not measured so low", "were not measured so low"),
    "undecided": ("is undecided", "are undecided"),
}


@dataclass(frozen=True)
class RetentionSettings(StudySettings):
    """values: learning rates, as powers of √3 by which the method's own is multiplied."""

    kinds: tuple[str, ...] = tuple(row for row in ROWS if row != SCRATCH)
    values: tuple[int, ...] = (-3, -2, -1, 0, 1, 2)
    lower: tuple[int, ...] = (-8, -7, -6, -5, -4)  # further rates, for the methods that learn much at the lowest:
    lower_kinds: tuple[str, ...] = ("full", "feature-extraction", "pfeiffer", "houlsby", *LORAS)
    steps: tuple[int, ...] = (60, 240)
    more_seeds: tuple[int, ...] = (3, 4, 5)  # for the shortest trainings: three seeds decide little among 15 methods
    long: tuple[int, ...] = (960,)  # steps, for these methods:
    long_kinds: tuple[str, ...] = ("full", "lora", "ia3", "prefix")
    characters: int = 200_000
    batch_size: int = 4  # windows of 128 tokens
    test_characters: int = 20_000
    adapt: TrainConfig = field(default_factory=lambda: TrainConfig(steps=60))  # the rate ends at a tenth of its peak


class Retention(Study):
    name = "retention"
    question = "What does each method forget, for what it learns and for how far it moves?"
    published = (
        "Across ways to train, forgetting follows the KL divergence between base and trained model on the new task "
        "(Shenfeld et al. 2025, RL's Razor); LoRA learns less and forgets less (Biderman et al. 2024)."
    )
    full = RetentionSettings()
    quick = full.quick(
        kinds=("full", "lora", "prefix"), values=(-1, 0, 1), lower=(), steps=(60,), more_seeds=(), long=()
    )
    large = RetentionSettings(
        model="smollm2",
        kinds=("full", "lora", "lora-qv", "ia3", "prefix"),
        values=(-2, -1, 0, 1),
        lower=(-6, -4),
        long=(),
        seeds=(0, 1),
        more_seeds=(),
        batch_size=2,
        test_characters=10_000,
        validation_characters=6_000,
    )

    @classmethod
    def cells(cls, settings: RetentionSettings) -> list[tuple]:
        """Return the keys: one seed of all methods, then the next, so that an interrupted run has the same seeds of
        each.
        """
        runs = []
        lengths = settings.steps + settings.long
        trainings = [(lengths[0], seed) for seed in settings.seeds + settings.more_seeds]
        for steps, seed in trainings + list(product(lengths[1:], settings.seeds)):
            kinds = settings.long_kinds if steps in settings.long else settings.kinds
            runs += [(row, steps, value, seed) for row, value in product(kinds, settings.values)]
            lower = (row for row in settings.lower_kinds if row in kinds)
            runs += [(row, steps, value, seed) for row, value in product(lower, settings.lower)]
        return [("base",), *runs]

    @staticmethod
    def measure_base(bench: Bench) -> dict:
        return Study.measure_base(bench) | bench.retention.measure(bench.lab.base())

    @staticmethod
    def measure(bench: Bench, row: str, steps: int, value: int, seed: int) -> dict:
        lab, settings, (method, options) = bench.lab, bench.settings, ROWS[row]
        rate = float(f"{bench.first_rate(method) * 3 ** (value / 2):.3g}")
        stream = bench.once(("stream", seed), lambda: lab.domain_text(settings.characters, seed))
        config = bench.trained_by(replace(settings.adapt, steps=steps, warmup=steps // 20), method, rate, seed)
        model = lab.fresh(method, seed, options, stream.ids)
        try:
            history = train(model, lab.batches(stream, settings.batch_size, seed), config, show_progress=False)
        except MiniloraError as error:  # it diverged
            return {"lr": rate, "error": str(error)}
        validation = {"validation": lab.bits(model, lab.domain_validation)}
        return bench.facts(model, history, rate) | validation | bench.retention.measure(model)

    # What the records say

    def __init__(self, records):
        super().__init__(records)
        self.large_model = self.settings["model"] is not None
        # Training on any plain text improves a chat model's plain English, so its forgetting shows only in the quiz.
        self.number, self.unit = ("quiz_bits", "bits per question") if self.large_model else ("base_text", "bits/char")
        self.lengths = sorted({key[1] for key in records.rows if len(key) == 4})
        self.rows = [row for row in ROWS if any(True for _ in records.of(row))]
        self.others = [row for row in self.rows if row != "full"]

    def trainings(self, row: str, steps: int, seed: int) -> Iterator[dict]:
        """Return the cells of one method by rising rate, without those that diverged."""
        cells = sorted(self.records.of(row, steps), key=lambda cell: cell["key"][2])
        return (cell for cell in cells if cell["key"][3] == seed and "domain" in cell)

    def learned(self, cell: dict) -> float:
        return self.base["domain"] - cell["domain"]

    def forgotten(self, cell: dict) -> float:
        return cell[self.number] - self.base[self.number]

    def seeds(self, row: str, steps: int) -> list[int]:
        """Return the complete seeds: those with which every rate was trained."""
        counts = Counter(cell["key"][3] for cell in self.records.of(row, steps))
        return sorted(seed for seed, count in counts.items() if count == max(counts.values()))

    def best(self, row: str, steps: int) -> list[dict]:
        """Return one cell per seed, at the learning rate with the lowest mean validation loss."""
        by_value: dict[int, list[dict]] = {}
        for seed in self.seeds(row, steps):
            for cell in self.trainings(row, steps, seed):
                by_value.setdefault(cell["key"][2], []).append(cell)
        whole = [cells for cells in by_value.values() if len(cells) == len(self.seeds(row, steps))]
        return min(whole, key=lambda cells: sum(cell["validation"] for cell in cells), default=[])

    def measured_by(self, share: float) -> Callable[[dict], float]:
        """Return what `at_equal` holds equal: what was learned, or, for a share of 0, KL."""
        return self.learned if share else lambda cell: cell["kl"]

    def level(self, steps: int, share: float) -> float:
        return share * float(np.mean([self.learned(cell) for cell in self.best("full", steps)])) if share else KL

    def at_equal(self, row: str, steps: int, share: float) -> dict[int, float | None]:
        """Return {seed: what a method has forgotten at a level}; None for a seed without trainings on both sides of it.

        share: the level is this share of what full fine-tuning learns at its best rate; 0: it is the constant KL.
        """
        measure, level, forgotten = self.measured_by(share), self.level(steps, share), {}
        for seed in self.seeds(row, steps):
            cells = list(self.trainings(row, steps, seed))
            forgotten[seed] = level_between([*map(measure, cells)], [*map(self.forgotten, cells)], level)
        return forgotten

    def against_full(self, row: str, steps: int, share: float) -> Interval | None:
        """Return how much more a method has forgotten than full fine-tuning at the level of `at_equal`.

        Corrected for all comparisons of the length. None if, with some seed, either was not measured at that level.
        """
        differences = self.differences_from_full(row, steps, share)
        return paired_interval(differences, comparisons=len(WORDS) * len(self.others)) if differences else None

    def differences_from_full(self, row: str, steps: int, share: float) -> list[float]:
        """Return, seed by seed, how much more a method has forgotten than full fine-tuning at the level of `at_equal`.

        Empty if, with some seed, either was not measured at that level.
        """
        ours, full = self.at_equal(row, steps, share), self.at_equal("full", steps, share)
        pairs = [(ours[seed], full[seed]) for seed in ours if seed in full]
        measured = [one - other for one, other in pairs if one is not None and other is not None]
        return measured if len(measured) == len(pairs) else []

    @property
    def steps(self) -> int:
        """The training length with the most seeds; the longer one in a tie."""
        return max(self.lengths, key=lambda n: (min(len(self.best(row, n)) for row in self.rows), n))

    def pairs(
        self,
        value: Callable[[dict], float],
        row: str,
        other: str,
        share: float = 1.0,
        comparisons: int = 1,
        steps: int | None = None,
    ) -> Interval:
        """Return by how much `value` of a row exceeds a share of another's, each at its best rate, paired by seed.

        steps: the length of the trainings (default: the shortest).
        """
        of_length = [self.best(name, steps or self.steps) for name in (row, other)]
        ours, theirs = ({cell["key"][3]: value(cell) for cell in cells} for cells in of_length)
        return paired_interval([ours[s] - share * theirs[s] for s in ours if s in theirs], comparisons=comparisons)

    def gain(self, row: str) -> float:
        return float(np.mean([self.learned(cell) for cell in self.best(row, self.steps)]))

    def rate_ratio(self, row: str, other: str) -> Interval:
        """Return the logarithm of the ratio of two methods' best rates, which are searched with each seed separately.

        A best rate is known to half a step of the grid.
        """
        logs = []
        for seed in sorted({*self.seeds(row, self.steps)} & {*self.seeds(other, self.steps)}):
            ours, theirs = (
                min(self.trainings(name, self.steps, seed), key=lambda cell: cell["validation"])["lr"]
                for name in (row, other)
            )
            logs.append(float(np.log(ours / theirs)))
        return paired_interval(logs, rounding=2 * HALF_STEP)

    def judged(self, row: str, steps: int, share: float) -> str:
        """Say whether a method forgets less, as much or more than full fine-tuning at the level of `at_equal`."""
        interval = self.against_full(row, steps, share)
        if interval is None:
            return self.why_not(row, steps, share)
        if interval.excludes(0):
            return "more" if interval.mean > 0 else "less"
        margin = self.margin(steps, share)
        return "as much" if verdict(interval, -margin, margin) == "shown" else "undecided"

    def why_not(self, row: str, steps: int, share: float) -> str:
        """Say why a method has no interval: no rate takes it that far, or its lowest rate already goes beyond."""
        measure, level = self.measured_by(share), self.level(steps, share)
        most = [max(map(measure, self.trainings(row, steps, seed)), default=0.0) for seed in self.seeds(row, steps)]
        return "never so far" if most and min(most) < level else "not measured so low"

    def margin(self, steps: int, share: float) -> float:
        """Return the margin within which a method has forgotten "as much": a quarter of what full has forgotten."""
        full = [value for value in self.at_equal("full", steps, share).values() if value is not None]
        return MARGIN * float(np.mean(full)) if full else 0.0

    def trained(self, steps: int) -> list[dict]:
        """Return the trainings of a length that did not diverge, from seeds that are complete."""
        return [c for row in self.rows for s in self.seeds(row, steps) for c in self.trainings(row, steps, s)]

    def law(self, steps: int) -> tuple[dict[int, float], float]:
        """Compare forgetting with KL over all trainings of a length.

        Returns the rank correlation by seed, and how much of the variance of log(forgotten) the best rising curve
        explains, among trainings that forgot more than LEAST.
        """
        cells = self.trained(steps)
        kl, lost = np.array([cell["kl"] for cell in cells]), np.array([self.forgotten(cell) for cell in cells])
        seeds = np.array([cell["key"][3] for cell in cells])
        ranks = {int(s): rank_correlation(kl[seeds == s], lost[seeds == s]) for s in sorted(set(seeds))}
        kl, logs = kl[lost > LEAST], np.log(lost[lost > LEAST])
        return ranks, 1 - float((logs - rising_curve(kl, logs)).var() / max(logs.var(), 1e-12)) if len(logs) else 0.0

    def grid(self) -> Grid:
        lines = []
        for steps, row in product(self.lengths, self.rows):
            if not (cells := self.best(row, steps)):
                continue
            mean = lambda value, cells=cells: float(np.mean([value(cell) for cell in cells]))  # noqa: E731
            numbers = (f"{mean(self.learned):.3f}", f"{mean(self.forgotten):+.3f}", f"{mean(lambda c: c['kl']):.2f}")
            equal = ("–",) * len(WORDS) if row == "full" else (self._beside(row, steps, share) for share in WORDS)
            name = LABELS[row] if len(self.lengths) == 1 else f"{LABELS[row]}, {steps}"
            lines.append((name, f"{cells[0]['lr']:g}", *numbers, *equal))
        titles = (f"more than full\nat {words}" for words in WORDS.values())
        lost = "on a quiz" if self.large_model else "on held-out python-docs"
        seeds = (len(self.seeds("full", steps)) for steps in self.lengths)
        caption = (
            f"A row is a method, trained for {listed(f'{steps:,}' for steps in self.lengths)} steps at the learning "
            "rate that is best on validation text. Learned is what it has gained on held-out numpy-docs, in bits/char. "
            f"Forgot is what it has lost {lost}, in {self.unit}. KL(base ‖ adapted) is how far its predictions on "
            "numpy-docs have moved from the base's, in bits per token. Methods learn different amounts, so the last "
            "columns compare each with full fine-tuning at the same point: where both have learned a third of what "
            f"full learns at its best, or three quarters, or where both have moved by a KL of {KL}. The number there "
            "is how much more the method has forgotten, paired by seed, with an interval corrected for all comparisons"
            f"{' of its length' * (len(self.lengths) > 1)}. As "
            "much: the interval lies within a quarter of what full has forgotten there. Never so far: with at least "
            "one seed, no rate of the method reaches this point. Not measured so low: its lowest rate is already "
            f"beyond it. {self.diverged()} {self.in_words(*seeds)}"
        )
        header = ("method" if len(self.lengths) == 1 else "method, steps", "rate", "learned", "forgot", "KL", *titles)
        return Grid("Learned, forgotten, and how far it moved", header, lines, caption)

    def _beside(self, row: str, steps: int, share: float) -> str:
        interval = self.against_full(row, steps, share)
        judged = self.judged(row, steps, share)
        return judged if interval is None else f"{interval.show(3)} {judged}"

    def diverged(self) -> str:
        """Say how many trainings diverged, by method; nothing else is shown of them."""
        trainings = [key for key in self.records.rows if len(key) == 4]
        counts = Counter(LABELS[key[0]] for key in trainings if "error" in self.records.rows[key])
        by_method = f", and are left out: {listed(f'{label} {n}' for label, n in counts.items())}" if counts else ""
        return f"Of {len(trainings):,} trainings, {counts.total() or 'none'} diverged{by_method}."

    @style.styled
    def figure(self) -> Figure:
        """Left: what was forgotten against KL from the base, a point for every training. Right: what was forgotten
        where a method has learned a third (hollow) and three quarters (filled) of what full fine-tuning learns, a point
        for each seed.
        """
        figure = style.figure_of("Forgotten against KL, and at equal learning", 6.2)
        points, equal = figure.subplots(1, 2, width_ratios=(5, 4))
        steps, looks = self.steps, {row: look for look, rows in FAMILIES.values() for row in rows}
        cells = [cell for cell in self.trained(steps) if self.forgotten(cell) > LEAST]
        for family, (look, rows) in FAMILIES.items():
            own = [cell for cell in cells if cell["key"][0] in rows]
            x, y = [cell["kl"] for cell in own], [self.forgotten(cell) for cell in own]
            points.plot(x, y, **look, linestyle="", markersize=5, alpha=0.7, label=family)
        scale = "log" if cells else "linear"  # a logarithmic axis without a point is an error
        points.set(xscale=scale, yscale=scale, xlabel="KL(base ‖ adapted),\nbits per token")
        points.set_ylabel(f"forgotten, {self.unit} (above {LEAST})")
        points.axvline(KL, color=style.GREY, linewidth=1, linestyle="--", label=f"KL {KL}")
        for place, row in enumerate(reversed(self.rows)):
            for share, fill in zip(EQUAL, ("white", looks[row]["color"]), strict=True):
                values = [value for value in self.at_equal(row, steps, share).values() if value is not None]
                dots = looks[row] | {"linestyle": "", "markersize": 6, "markerfacecolor": fill}
                equal.plot(values, [place] * len(values), **dots)
        equal.set_yticks(range(len(self.rows)), [LABELS[row] for row in reversed(self.rows)], fontsize=9)
        equal.yaxis.tick_right()
        equal.margins(x=0.08)
        equal.set_xlabel("forgotten where ⅓ (hollow),\n¾ (filled) of full's is learned", fontsize=10)
        return style.with_legend(figure, 2)

    def sentence(self) -> str:
        (ranks, explained), steps = self.law(self.steps), self.steps
        low, high = (f"{value:.2f}" for value in (min(ranks.values()), max(ranks.values())))
        words = (
            f"After {steps} steps, the further a model's predictions have moved from the base's (KL), the more it has "
            f"forgotten. Over all methods and rates, the rank correlation of the two is {low}"
            f"{f' to {high}, depending on the seed' * (high != low)}, and one rising curve explains "
            f"{100 * explained:.0f} % of the variance (of logarithms). To see what the method itself adds, "
            f"{len(self.others)} methods are compared with full fine-tuning at the same point."
        )
        learned = f"Where both have learned {WORDS[3 / 4]} of what full fine-tuning learns"
        for share, condition in ((3 / 4, learned), (0, f"Where both have moved by a KL of {KL} bits per token")):
            counts = Counter(self.judged(row, steps, share) for row in self.others)
            more, less = (counts.pop(word, "none") for word in ("more", "less"))
            rest = listed(f"{count} {REST[word][count > 1]}" for word, count in counts.items()) if counts else ""
            words += f" {condition}, {more} {'has' if more in (1, 'none') else 'have'} forgotten more and {less} less"
            words += f"; {rest}." if rest else "."
        return words + "".join(self.at_other_length(n) for n in self.lengths if n != steps)

    def at_other_length(self, steps: int) -> str:
        """Count what was seen at a length that has too few seeds for verdicts on so many methods."""
        ranks, seeds = self.law(steps)[0].values(), len(self.seeds("full", steps))
        low, high = (f"{value:.2f}" for value in (min(ranks), max(ranks)))
        methods = [row for row in self.others if self.seeds(row, steps)]
        some = [*(LABELS[row] for row in methods), "full fine-tuning"] if len(methods) < len(self.others) else []
        names = f", with {listed(some)} alone" if some else ""
        counts = []
        for share, place in ((3 / 4, WORDS[3 / 4]), (0, f"the KL of {KL}")):
            compared = [d for row in methods if (d := self.differences_from_full(row, steps, share))]
            more = sum(min(differences) > 0 for differences in compared)
            counts.append(f"at {place} {f'{more} of {len(compared)}' if compared else 'none was measured'}")
        return (
            f" After {steps} steps{names}, the rank correlation is {low}{f' to {high}' * (high != low)}. With {seeds} "
            "seeds the intervals are wide, so we only count, of the methods measured there, those that have forgotten "
            f"more than full fine-tuning with every seed: {', '.join(counts)}."
        )
