"""The study of how long a prefix should be and what it should start from."""

from dataclasses import replace
from itertools import product

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings
from minilora.measure import lr_search
from minilora.palette import ORANGE
from minilora.peft import PrefixTuningConfig, get_peft_model
from minilora.show.grids import Grid, listed
from minilora.show.style import base_line, errorbar, log_ticks, single, styled, with_legend

STARTS = {"tokens": "real tokens", "random": "random numbers"}
LOOK = {"tokens": {}, "random": {"color": ORANGE, "marker": "s", "linestyle": (0, (1, 1.2))}}
START = 0.1  # first rate of the search: short runs want more than the 1e-2 … 3e-2 of long ones
SEARCHED = 16  # length at which the learning rate of each start is searched


class PrefixLength(Study):
    name = "prefix-length"
    question = "How long should a prefix be, and what should it start from?"
    published = (
        "Longer is better up to a point (200 tokens for summaries, 10 for table-to-text) and slightly worse beyond; "
        "with little data, a start from real words is far better than a random one (Li & Liang 2021, sections 7.2 and "
        "7.4)."
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
        note = f"The rate of each start was searched at length {SEARCHED}. "
        return self.gains_grid("Prefixes by length and start", "length", STARTS, note)

    @styled
    def figure(self):
        """Bits per character gained on NumPy's documentation against the length of the prefix, for prefixes that start
        from real tokens and from random numbers.
        """
        figure, axes = single("Prefix length, and what a prefix starts from")
        for kind in self.kinds:
            gains = [self.gained(kind, length) for length in self.values]
            errorbar(axes, "prefix", self.values, gains, f"starts from {STARTS[kind]}", **LOOK[kind])
        base_line(axes, 0, "the base")
        log_ticks(axes, self.values)
        axes.set(xlabel="virtual tokens (logarithmic)", ylabel="bits/character gained on the domain\n(more is better)")
        return with_legend(figure)

    def sentence(self) -> str:
        first, last = self.values[0], self.values[-1]
        gains = [[self.gained(kind, length).show(3) for length in (first, last)] for kind in ("tokens", "random")]
        leads = {n: self.gains(("tokens", n), ("random", n), len(self.values)) for n in self.values}
        decided = [f"{lead.show(3)} at length {n}" for n, lead in leads.items() if lead.excludes(0)]
        undecided = [n for n, lead in leads.items() if not lead.excludes(0)]
        parts = [f"is {listed(decided)}"] if decided else []
        parts += [f"is undecided at length {listed(undecided)}"] if undecided else []
        return (
            f"A prefix that starts from real tokens gains {gains[0][0]} bits/character at length {first} and "
            f"{gains[0][1]} at length {last}. One that starts from random numbers gains {gains[1][0]} and "
            f"{gains[1][1]}. "
            f"The difference, real tokens less random numbers, {' and '.join(parts)}."
        )
