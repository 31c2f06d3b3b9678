"""What is forgotten for what is learned, and what replay saves."""

from dataclasses import dataclass, replace
from itertools import product

from experiments.bench import Bench
from experiments.studies.study import Point, Study, StudySettings, compared, draw_curve, seen
from minilora.data.batches import MixedBatches
from minilora.measure.statistics import paired_interval
from minilora.show.grids import NAMES, Grid, Spread
from minilora.show.style import GREY, LOOKS, single, styled, with_legend

REPLAY = {"full": "v", "lora": "P"}  # markers of the curves; their colours are the methods'


@dataclass(frozen=True)
class ForgettingSettings(StudySettings):
    """values: learning rates, in multiples of the method's own."""

    kinds: tuple[str, ...] = ("full", "lora")
    replay: tuple[float, ...] = (0.1, 0.5)  # shares of a batch that are the base's text
    replay_at: float = 1.0  # the learning rate of these, as in values
    base_characters: int = 24_000  # of the base's text to replay


def forgot_at(points: list[tuple[float, float]], learned: float) -> float | None:
    """Return what a curve of learning rates forgets where it has learned so much: between its points, None outside."""
    start = (0.0, 0.0)  # with no training, nothing is learned or forgotten
    for end in points:
        if start[0] <= learned <= end[0] and end[0] > start[0]:
            return start[1] + (end[1] - start[1]) * (learned - start[0]) / (end[0] - start[0])
        start = end
    return None


class Forgetting(Study):
    name = "forgetting"
    question = "What is forgotten for what is learned, and what does replay save?"
    published = (
        "LoRA learns less and forgets less than full fine-tuning on code and mathematics; for the same learning both "
        "forget about as much, LoRA rather less (Biderman et al. 2024, sections 4.1 to 4.3). A few per cent of "
        "replayed text hold most forgetting off (Ibrahim et al. 2024)."
    )
    full = ForgettingSettings(values=(1 / 9, 1 / 3, 1.0, 3.0))
    quick = full.quick(values=(1 / 3, 1.0, 3.0, 9.0), replay_at=3.0)

    @staticmethod
    def runs(settings: ForgettingSettings) -> list[tuple]:
        plain = product(settings.kinds, settings.values, (0.0,))
        return [*plain, *product(settings.kinds, (settings.replay_at,), settings.replay)]

    @staticmethod
    def measure(bench: Bench, method: str, factor: float, share: float, seed: int) -> dict:
        lab, settings, rate = bench.lab, bench.settings, float(f"{factor * bench.first_rate(method):.2g}")
        stream = lab.domain_text(settings.characters, seed)
        model = lab.fresh(method, seed)
        domain = lab.batches(stream, 1, seed)
        replayed = lab.batches(lab.base_text(settings.base_characters, seed), 1, seed)
        mixed = MixedBatches(domain, replayed, share, lab.batch_size)
        history = lab.train_on(model, mixed, replace(settings.adapt, peak_lr=rate, seed=seed))
        return bench.facts(model, history, rate)

    def point(self, method: str, factor: float, share: float = 0.0) -> Point:
        return self.gained(method, factor, share), self.forgot(method, factor, share)

    def by_rate(self, method: str) -> list[Point]:
        return [self.point(method, factor) for factor in self.values]

    def shares(self) -> list[float]:
        """Of replay, from none on."""
        return [0.0, *self.settings["replay"]]

    def grid(self) -> Grid:
        rows, counts = [], []
        for method in self.kinds:
            runs = [(factor, 0.0) for factor in self.values]
            for run in runs + [(self.settings["replay_at"], share) for share in self.settings["replay"]]:
                rate, (won, lost) = next(self.records.of(method, *run))["lr"], self.point(method, *run)
                counts.append(won.count)
                step = self.spread("best_step", method, *run).mean
                replay = f"{100 * run[1]:.0f} %" if run[1] else "–"
                rows.append((NAMES[method], f"{rate:g}", replay, won.show(3), lost.show(3), f"{step:.0f}"))
        return Grid(
            "Learned and forgotten, by learning rate and replay",
            ("method", "rate", "replay", "gained", "forgot", "best\nstep"),
            rows,
            "Bits/char gained on held-out numpy-docs and lost on held-out python-docs, at the step that validation "
            f"text of the domain found best. Replay: share of each batch. {self.in_words(counts)}",
        )

    @styled
    def figure(self):
        """Bits forgotten against bits learned: a curve of learning rates for each method, and one of replay."""
        figure, axes = single("Forgetting: right is learned, up is forgotten")
        axes.axhline(0, color=GREY, linewidth=1)
        words = ", ".join(f"{100 * share:.0f}" for share in self.shares())
        for method in self.kinds:
            draw_curve(axes, self.by_rate(method), f"{NAMES[method]}, by learning rate", LOOKS[method])
            points = [self.point(method, self.settings["replay_at"], share) for share in self.shares()]
            hollow = {"marker": REPLAY.get(method, "X"), "markerfacecolor": "white", "linestyle": ":", "markersize": 8}
            draw_curve(axes, points, f"{NAMES[method]}, {words} % replay", LOOKS[method] | hollow)
        axes.set(xlabel="bits/character gained on the domain", ylabel="bits/character\nlost on the base's text")
        axes.margins(0.1)
        return with_legend(figure)

    def curve(self, method: str, seed: int) -> list[tuple[float, float]]:
        """Return what was learned and forgotten with one seed, by learning rate."""
        rows = [self.records.rows[method, factor, 0.0, seed] for factor in self.values]
        return [(self.base["domain"] - row["domain"], row["base_text"] - self.base["base_text"]) for row in rows]

    def sentence(self) -> str:
        count = 5  # comparisons
        full, lora = ((m, max(self.values, key=lambda f: self.gained(m, f, 0.0).mean), 0.0) for m in ("full", "lora"))
        learns, forgets = self.gains(lora, full, count), self.paired("base_text", lora, full, count)
        orders = [compared(one, "more", "less", "undecided") for one in (learns, forgets)]
        published = "as published" if orders == ["less", "less"] else "undecided"
        said = (
            f"Compared with full fine-tuning, each at the rate at which it gains most, LoRA gains {learns.show(3)} "
            f"bits/character and forgets {forgets.show(3)}: {'unlike published' if 'more' in orders else published}. "
        )
        level = 0.9 * min(self.gained(*full).mean, self.gained(*lora).mean)  # past it more training only forgets
        lost = {m: [forgot_at(self.curve(m, s), level) for s in self.settings["seeds"]] for m in ("full", "lora")}
        pairs = [(a, b) for a, b in zip(*lost.values(), strict=True) if a is not None and b is not None]
        intervals = [learns, forgets]
        if len(pairs) == len(self.settings["seeds"]):
            intervals.append(paired_interval([b - a for a, b in pairs], comparisons=count))
            forgotten = Spread.of(a for a, _ in pairs).show(3)
            said += (
                f"Where both have gained {level:.3f}, full fine-tuning has forgotten {forgotten}, and LoRA "
                f"{intervals[-1].show(3)} more. "
            )
        factor, share = self.settings["replay_at"], self.shares()[1]
        plain, replayed = ("full", factor, 0.0), ("full", factor, share)
        intervals += [self.paired("base_text", replayed, plain, count), self.gains(replayed, plain, count)]
        return said + (
            f"Full fine-tuning at a rate of {self.first('lr', *plain):g} forgets {self.forgot(*plain).show(3)}; with "
            f"{100 * share:.0f} % replay it forgets {intervals[-2].show(3)} and gains {intervals[-1].show(3)} beside "
            f"that. Where it gains most, it forgets {self.forgot(*full).show(3)} without replay.{seen(intervals)}"
        )
