"""How long should a prefix be, and what should it start from?"""

from dataclasses import replace
from itertools import product

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings, apart
from minilora.measure import lr_search
from minilora.peft import PrefixTuningConfig, get_peft_model
from minilora.show.grids import Grid, listed
from minilora.show.style import base_line, errorbar, log_ticks, single, styled, with_legend

STARTS = {"tokens": "real tokens", "random": "random numbers"}
LOOK = {"tokens": {}, "random": {"color": "#D55E00", "marker": "s", "linestyle": (0, (1, 1.2))}}
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
        return self.learned_grid("Prefixes by length and start", ("start", "P"), rows, note)

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
        real, drawn = ({n: self.gained(kind, n) for n in self.values} for kind in ("tokens", "random"))
        ahead, behind = apart(real, drawn)
        far = max(self.values, key=lambda n: abs(real[n].mean - drawn[n].mean))
        if ahead or behind:
            parts = [f"{more} at {listed(at)} tokens" for more, at in (("more", ahead), ("less", behind)) if at]
            published = "unlike" if behind else "as" if len(ahead) == len(self.values) else "in part as"
            start = f"learns {' and '.join(parts)} than one from random numbers, {published} published"
        else:
            start = "learns as much as one from random numbers at every length, within the seeds' scatter"
        best = max(self.values, key=lambda n: real[n].mean)
        first, last = self.values[0], self.values[-1]
        if not real[best].above(real[first]):
            shape = f"its length makes no difference beyond the seeds' scatter from {first} to {best}, unlike published"
        elif real[best].above(real[last]):
            shape = f"it learns more up to {best} tokens and less beyond, as published"
        else:
            shape = f"the longer the better up to {best} tokens, as published"
        return (
            f"A prefix that starts from real tokens {start} (at {far} tokens {real[far].show(3)} against "
            f"{drawn[far].show(3)} bits/character gained). From real tokens, {shape} ({first}: {real[first].show(3)}, "
            f"{best}: {real[best].show(3)})."
        )
