"""What is left of an update that is merged into a 4-bit base and rounded to 4 bits again?"""

from itertools import pairwise
from math import inf

from experiments.bench import Bench
from experiments.studies.study import NEAR, Study, StudySettings
from minilora.backend import xp
from minilora.measure.statistics import paired_interval, verdict
from minilora.palette import YELLOW
from minilora.peft.lora import LoraLinear
from minilora.quant import dequantize_4bit, dequantize_model, quantize_4bit, quantize_model
from minilora.show.grids import Grid, Spread, listed
from minilora.show.style import base_line, errorbar, figure_of, log_ticks, styled, with_legend

EXPECTED = {0.02: 2, 0.05: 32, 0.1: 84, 0.3: 99}  # percent of Δ that survive, for weights and updates that are normal
TRAINED = 0.0  # among the values: the update as large as training made it


def layers_of(model) -> dict[str, LoraLinear]:
    """Return the adapted layers by their path in the plain model."""
    found = {path: module for path, module in model.named_modules() if isinstance(module, LoraLinear)}
    return {path.removeprefix("base_model."): layer for path, layer in found.items()}


def with_updates(model):
    """Return the model and copies of its B, by path."""
    return model, {path: layer.lora_B.weight.data.copy() for path, layer in layers_of(model).items()}


def remains(base, delta):
    """What is left of an update after base + delta is rounded to NF4. base: values that NF4 has."""
    return dequantize_4bit(*quantize_4bit(base + delta)) - base


def norm(array) -> float:
    return float(xp.sqrt((array * array).sum()))


class MergeTrap(Study):
    name = "merge-trap"
    question = "What is left of an update that is merged into a 4-bit base and rounded to 4 bits again?"
    published = (
        "No published figure; for normal weights and updates, arithmetic gives 2, 32, 84 and 99 % of an update of 2, "
        "5, 10 and 30 % of the weight's norm. Rounding moves a weight only where the update passes half the distance "
        "between two codes."
    )
    full = StudySettings(values=(TRAINED, *EXPECTED))
    quick = full.quick()

    @staticmethod
    def cells(settings: StudySettings) -> list[tuple]:
        return [("base",), *(("merged", size, seed) for seed in settings.seeds for size in settings.values)]

    @staticmethod
    def measure_base(bench: Bench) -> dict:
        return {"domain": bench.lab.bits(quantize_model(bench.lab.base()), bench.lab.domain_test)}

    @staticmethod
    def measure(bench: Bench, kind: str, size: float, seed: int) -> dict:
        lab, rate = bench.lab, bench.text_rate("qlora")
        model, trained = bench.once(seed, lambda: with_updates(bench.adapt("qlora", rate, seed)[0]))
        layers = layers_of(model)
        kept = total = weights = 0.0
        for path, layer in layers.items():
            base = layer.base_layer.dequantize()
            layer.lora_B.weight.data = trained[path]
            delta = layer.changed_weight() - base
            if size != TRAINED:
                layer.lora_B.weight.data = trained[path] * xp.float32(size * norm(base) / norm(delta))
                delta = layer.changed_weight() - base
            kept += float((remains(base, delta) * delta).sum())
            total += float((delta * delta).sum())
            weights += float((base * base).sum())
        plain = quantize_model(lab.base())
        for path, layer in layers.items():
            plain.replace(path, layer.merged())
        plain = dequantize_model(plain)
        facts = {"lr": rate, "relative": (total / weights) ** 0.5, "survives": kept / total}
        facts |= {"adapter": lab.bits(model, lab.domain_test), "float": lab.bits(plain, lab.domain_test)}
        return facts | {"requantized": lab.bits(quantize_model(plain), lab.domain_test)}

    def of_size(self, number: str, size: float, scale: float = 1) -> Spread:
        return self.spread(number, "merged", size, scale=scale)

    def sizes(self) -> list[float]:
        """By size, the trained one where it falls."""
        return sorted(self.values, key=lambda size: self.of_size("relative", size).mean)

    def scaled(self) -> list[float]:
        """By size, without the trained one."""
        return [size for size in self.sizes() if size != TRAINED]

    def percent(self, size: float) -> Spread:
        """Of the update that survives."""
        return self.of_size("survives", size, 100)

    def grid(self) -> Grid:
        rows = []
        for size in self.sizes():
            name = f"{100 * self.of_size('relative', size).mean:.0f} %{' (trained)' * (size == TRAINED)}"
            expected = f"{EXPECTED[size]} %" if size in EXPECTED else "–"
            numbers = [self.of_size(column, size).show(3) for column in ("adapter", "float", "requantized")]
            rows.append((name, f"{self.percent(size).show(0)} %", expected, *numbers))
        return Grid(
            "An update merged into a 4-bit base",
            ("‖Δ‖/‖W‖", "survives", "normal", "adapter", "float", "4 bits"),
            rows,
            "A LoRA update over NF4, scaled to a share of each weight's norm. Survives: ⟨what requantizing leaves, "
            "Δ⟩/‖Δ‖², and what it is for normal weights and updates. Bits/char on held-out numpy-docs of the adapter "
            f"on its 4-bit base ({self.base['domain']:.3f} without), merged into floats, and rounded to 4 bits again. "
            f"{self.overshoot()}{self.in_words(self.of_size('adapter', size).count for size in self.values)}",
        )

    def overshoot(self) -> str:
        """Return the sizes past the trained one at which the model is worse for it."""
        trained = self.of_size("adapter", TRAINED).mean if TRAINED in self.values else 0.0
        scaled = self.sizes()[self.sizes().index(TRAINED) + 1 :] if trained else []
        further = [f"{100 * size:g} %" for size in scaled if self.of_size("adapter", size).mean > trained]
        return f"At {listed(further)} the update goes too far, and less of it is better. " if further else ""

    @styled
    def figure(self):
        """What survives of an update by its size, and what the model then is."""
        figure = figure_of("The merge trap: an update rounded to 4 bits", 4.4)
        left, right = figure.subplots(1, 2)
        x = [100 * size for size in self.scaled()]
        errorbar(left, "qlora", x, [self.percent(size) for size in self.scaled()], "survives")
        normal = {100 * size: EXPECTED[size] for size in self.scaled() if size in EXPECTED}
        look = {"color": YELLOW, "marker": "x", "linestyle": ":", "markersize": 9}
        left.plot(normal.keys(), normal.values(), **look, label="of normal numbers")
        left.set(ylabel="survives of the update (%)", ylim=(-3, 105))
        for column, like, words in (
            ("float", "lora", "merged into floats"),
            ("requantized", "scratch", "rounded to 4 bits again"),
        ):
            errorbar(right, like, x, [self.of_size(column, size) for size in self.scaled()], words)
        base_line(right, self.base["domain"], "4-bit base")
        right.set(ylabel="domain, bits/character\n(less is better)")
        for axes in (left, right):
            log_ticks(axes, x)
            axes.set_xticks(x, [f"{value:g}" for value in x])
            axes.set_xlabel("size of the update (% of ‖W‖)")
        return with_legend(figure)

    def sentence(self) -> str:
        sizes = self.scaled()
        count = 2 * len(sizes)  # comparisons: each size with the next and with normal numbers, and the trained one
        kept = {size: self.percent(size).mean for size in sizes}
        least, most = (f"{kept[size]:.0f} % of an update of {100 * size:g} % of ‖W‖" for size in (min(kept), max(kept)))
        grows = all(self.paired("survives", ("merged", b), ("merged", a), count).low > 0 for a, b in pairwise(sizes))
        said = f"Requantizing leaves {least}, and {most}"
        if len(self.settings["seeds"]) > 1:
            said += ": the larger, the more survives" if grows else ": that more survives of a larger one is not shown"
        verdicts = {size: self.as_normal(size, count) for size in sizes if size in EXPECTED}
        for word, where in (
            ("shown", "within 10 points of what normal numbers give at"),
            ("refuted", "further from it at"),
        ):
            if at := [f"{100 * size:g} %" for size in verdicts if verdicts[size] == word]:
                said += f", {where} {listed(at)}"
        if TRAINED not in self.values:
            return f"{said}."
        whole, rounded = (self.of_size(column, TRAINED) for column in ("float", "requantized"))
        gain = self.base["domain"] - whole.mean
        differences = [row["requantized"] - row["float"] for row in self.records.of("merged", TRAINED)]
        costs = paired_interval(differences, comparisons=count)
        lost = verdict(costs, -inf, NEAR * gain)
        said += (
            f". The update that training left is {self.of_size('relative', TRAINED, 100).mean:.1f} % of ‖W‖: merged "
            f"into floats, it brings the base from {self.base['domain']:.3f} to {whole.show(3)} bits/character. "
            f"Rounded to 4 bits again it comes to {rounded.show(3)}, {costs.in_words(3)} more"
        )
        if lost == "shown":
            return f"{said}, less than {100 * NEAR:.0f} % of the gain."
        return said + (
            f"{f', more than {100 * NEAR:.0f} % of the gain' if lost == 'refuted' else ''}: "
            f"{self.percent(TRAINED).show(0)} % of the update and "
            f"{100 * (self.base['domain'] - rounded.mean) / gain:.0f} % of the gain are left."
            f"{' One seed gives no verdict.' * (costs.count == 1)}"
        )

    def as_normal(self, size: float, comparisons: int) -> str:
        """Return the verdict on as much surviving as of normal numbers, within 10 points."""
        off = [100 * row["survives"] - EXPECTED[size] for row in self.records.of("merged", size)]
        return verdict(paired_interval(off, comparisons=comparisons), -10, 10)
