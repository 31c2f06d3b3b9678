"""How long should a prefix be, and what should it start from?"""

from dataclasses import replace
from itertools import pairwise, product

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings, apart, compared, seen
from minilora.measure import lr_search
from minilora.measure.statistics import Interval
from minilora.palette import ORANGE
from minilora.peft import PrefixTuningConfig, get_peft_model
from minilora.show.grids import Grid, listed
from minilora.show.style import base_line, errorbar, log_ticks, single, styled, with_legend

STARTS = {"tokens": "real tokens", "random": "random numbers"}
LOOK = {"tokens": {}, "random": {"color": ORANGE, "marker": "s", "linestyle": (0, (1, 1.2))}}
START = 0.1  # of the search: so few steps want more than the 1e-2 … 3e-2 of long runs
SEARCHED = 16  # the length whose learning rate all lengths of a start have


class PrefixLength(Study):
    name = "prefix-length"
    question = "How long should a prefix be, and what should it start from?"
    published = (
        "Longer is better up to a point (200 tokens for summaries, 10 for table-to-text), slightly worse beyond; with "
        "little data a start from real words is far better and steadier than a random one (Li & Liang 2021, sections "
        "7.2 and 7.4)."
    )
    full = StudySettings(values=(1, 4, 16, 64), kinds=tuple(STARTS))
    quick = full.quick()

    @staticmethod
    def runs(settings: StudySettings) -> list[tuple]:
        return list(product(settings.kinds, settings.values))

    @staticmethod
    def measure(bench: Bench, kind: str, length: int, seed: int) -> dict:
        def adapt(rate: float, length: int, seed: int):
            stream, lab = bench.lab.domain_text(bench.settings.characters, seed), bench.lab
            start = [int(token) for token in stream.ids[:length]] if kind == "tokens" else None
            config = PrefixTuningConfig(num_virtual_tokens=length, init_token_ids=start, task_type="CAUSAL_LM")
            model = get_peft_model(lab.base(), config, seed=seed)
            training = replace(bench.settings.adapt, peak_lr=rate, seed=seed)
            return model, lab.train_on(model, lab.batches(stream, lab.batch_size, seed), training)

        rate = bench.rate((kind,), START, lambda rate: adapt(rate, SEARCHED, lr_search.SEED)[1].best)
        model, history = adapt(rate, length, seed)
        return bench.facts(model, history, rate)

    def grid(self) -> Grid:
        rows = {(STARTS[kind], str(length)): (kind, length) for kind in self.kinds for length in self.values}
        note = f"Each start has the rate that was searched at {SEARCHED} tokens: another may suit other lengths. "
        return self.learned_grid("Prefixes by length and start", ("start", "P"), rows, note=note)

    @styled
    def figure(self):
        """What prefixes learn against their length, from both starts."""
        figure, axes = single("Prefix length, and what a prefix starts from")
        for kind in self.kinds:
            found = [self.gained(kind, length) for length in self.values]
            errorbar(axes, "prefix", self.values, found, f"starts from {STARTS[kind]}", **LOOK[kind])
        base_line(axes, 0, "the base")
        log_ticks(axes, self.values)
        axes.set(xlabel="virtual tokens (logarithmic)", ylabel="bits/character gained on the domain\n(more is better)")
        return with_legend(figure)

    def sentence(self) -> str:
        pairs = [*pairwise(self.values)]
        comparisons = len(self.values) + len(pairs)
        starts = {n: self.gains(("tokens", n), ("random", n), comparisons) for n in self.values}
        steps = {pair: self.gains(("tokens", pair[1]), ("tokens", pair[0]), comparisons) for pair in pairs}
        ahead, behind = apart(starts)
        published = "as published" if len(ahead) == len(starts) else "in part as published" if ahead else "undecided"
        signs = [compared(step, "more", "less", "undecided") for step in steps.values()]
        shape = {
            ("less", "more"): "longer is better up to a point, as published",
            ("more",): "longer is better where it is told apart, as published",
            ("less",): "longer is worse, unlike published",
        }.get(tuple(sorted({*signs} - {"undecided"})), "what a longer one brings is undecided")
        return (
            "In bits/character, a prefix that starts from real tokens gains beside one from random numbers "
            f"{_decided({f'at length {n}': one for n, one in starts.items()})}: "
            f"{'unlike published' if behind else published}. From real tokens {shape}: "
            f"{_decided({f'from {a} to {b}': one for (a, b), one in steps.items()})}."
            f"{seen([*starts.values(), *steps.values()])}"
        )


def _decided(differences: dict[str, Interval]) -> str:
    """Return the differences that are told from 0, and where they are not."""
    shown = [f"{one.show(3)} {where}" for where, one in differences.items() if one.excludes(0)]
    rest = [where for where, one in differences.items() if not one.excludes(0)]
    return "; ".join([*shown, *([f"undecided {listed(rest)}"] if rest else [])])
