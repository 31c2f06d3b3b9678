"""Forgotten against learned, and against KL, for every way to adapt and every learning rate of a search."""

from dataclasses import dataclass, field, replace
from itertools import product

from experiments.bench import Bench
from experiments.compare_model import ROWS
from experiments.studies.study import Study, StudySettings
from minilora.errors import MiniloraError
from minilora.measure.lab import SCRATCH
from minilora.train.loop import TrainConfig, train

LEFT_OUT = (SCRATCH,)


@dataclass(frozen=True)
class RetentionSettings(StudySettings):
    """values: learning rates, as powers of √3 by which the method's own is multiplied."""

    kinds: tuple[str, ...] = tuple(row for row in ROWS if row not in LEFT_OUT)
    values: tuple[int, ...] = (-3, -2, -1, 0, 1, 2)
    steps: tuple[int, ...] = (60, 240)
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
    large = RetentionSettings(
        model="smollm2",
        kinds=("full", "lora", "lora-qv", "ia3", "prefix"),
        values=(-2, -1, 0, 1),
        long=(),
        seeds=(0, 1),
        batch_size=2,
        test_characters=10_000,
        validation_characters=6_000,
    )

    @classmethod
    def cells(cls, settings: RetentionSettings) -> list[tuple]:
        """Return the keys, a seed of all methods after the other, so that a run that is cut off is balanced."""
        runs = []
        for steps, seed in product(settings.steps + settings.long, settings.seeds):
            kinds = settings.long_kinds if steps in settings.long else settings.kinds
            runs += [(row, steps, value, seed) for row, value in product(kinds, settings.values)]
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
