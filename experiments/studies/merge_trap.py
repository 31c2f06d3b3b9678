"""The study of what is left of an update that is merged into a 4-bit base and rounded to 4 bits again."""

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings
from minilora.backend import xp
from minilora.palette import YELLOW
from minilora.peft.lora import LoraLinear
from minilora.quant import dequantize_4bit, dequantize_model, quantize_4bit, quantize_model
from minilora.show.grids import Grid, Spread, listed
from minilora.show.style import base_line, errorbar, figure_of, log_ticks, styled, with_legend

EXPECTED = {0.02: 2, 0.05: 32, 0.1: 84, 0.3: 99}  # percent of Δ that survive for normal weights and updates
TRAINED = 0.0  # the "size" of the update as training left it, unscaled


def layers_of(model) -> dict[str, LoraLinear]:
    """Return the adapted layers by their path in the plain model."""
    layers = {path: module for path, module in model.named_modules() if isinstance(module, LoraLinear)}
    return {path.removeprefix("base_model."): layer for path, layer in layers.items()}


def with_updates(model):
    """Return the model and copies of its B, by path."""
    return model, {path: layer.lora_B.weight.data.copy() for path, layer in layers_of(model).items()}


def remains(base, delta):
    """Return what is left of the update `delta` after base + delta is rounded to NF4. base: a weight from NF4."""
    return dequantize_4bit(*quantize_4bit(base + delta)) - base


def norm(array) -> float:
    return float(xp.sqrt((array * array).sum()))


class MergeTrap(Study):
    name = "merge-trap"
    question = "What is left of an update that is rounded to 4 bits?"
    published = (
        "There is no published figure; the column *normal* is computed for normally distributed weights and updates. "
        "Rounding moves a weight only if the update passes half the distance between two codes."
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
        surviving = total = weights = 0.0
        for path, layer in layers.items():
            base = layer.base_layer.dequantize()
            layer.lora_B.weight.data = trained[path]
            delta = layer.changed_weight() - base
            if size != TRAINED:
                layer.lora_B.weight.data = trained[path] * xp.float32(size * norm(base) / norm(delta))
                delta = layer.changed_weight() - base
            surviving += float((remains(base, delta) * delta).sum())
            total += float((delta * delta).sum())
            weights += float((base * base).sum())
        plain = quantize_model(lab.base())
        for path, layer in layers.items():
            plain.replace(path, layer.merged())
        plain = dequantize_model(plain)
        facts = {"lr": rate, "relative": (total / weights) ** 0.5, "survives": surviving / total}
        facts |= {"adapter": lab.bits(model, lab.domain_test), "float": lab.bits(plain, lab.domain_test)}
        return facts | {"requantized": lab.bits(quantize_model(plain), lab.domain_test)}

    def of_size(self, number: str, size: float, scale: float = 1) -> Spread:
        return self.spread(number, "merged", size, scale=scale)

    def sizes(self) -> list[float]:
        """Return the sizes in order, the trained one among them."""
        return sorted(self.values, key=lambda size: self.of_size("relative", size).mean)

    def scaled(self) -> list[float]:
        """Return the sizes in order, without the trained one."""
        return [size for size in self.sizes() if size != TRAINED]

    def percent(self, size: float) -> Spread:
        """Return the percentage of the update that survives."""
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
            "A LoRA update over NF4, scaled to a share of each weight's norm. Survives: ⟨what rounding leaves, "
            "Δ⟩/‖Δ‖²; normal: the same, computed for normally distributed weights and updates. The last columns are "
            f"bits/char on held-out numpy-docs: of the adapter on its 4-bit base ({self.base['domain']:.3f} without), "
            "merged into floats, and rounded to 4 bits again. "
            f"{self.overshoot()}{self.in_words()}",
        )

    def overshoot(self) -> str:
        """Name the sizes beyond the trained one at which a larger update makes the model worse."""
        trained = self.of_size("adapter", TRAINED).mean if TRAINED in self.values else 0.0
        scaled = self.sizes()[self.sizes().index(TRAINED) + 1 :] if trained else []
        further = [f"{100 * size:g} %" for size in scaled if self.of_size("adapter", size).mean > trained]
        return f"At {listed(further)} the update goes too far, and less of it is better. " if further else ""

    @styled
    def figure(self):
        """Share of an update that survives rounding to 4 bits (left), and the model's bits per character on NumPy's
        documentation (right), against the size of the update relative to the weight.
        """
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
        survives = {size: self.percent(size).mean for size in self.scaled()}
        least, most = min(survives), max(survives)
        sentence = (
            f"If an update has {100 * least:g} % of the weight's norm ‖W‖, rounding to 4 bits again leaves "
            f"{survives[least]:.0f} % of it; at {100 * most:g} % of the norm, it leaves {survives[most]:.0f} %."
        )
        if TRAINED not in self.values:
            return sentence
        merged, rounded = (self.of_size(column, TRAINED) for column in ("float", "requantized"))
        left = (self.base["domain"] - rounded.mean) / (self.base["domain"] - merged.mean)
        return (
            f"{sentence} The update that training left is {self.of_size('relative', TRAINED, 100).mean:.1f} % of ‖W‖. "
            f"Merged into floats, it brings the base from {self.base['domain']:.3f} to {merged.show(3)} "
            f"bits/character; if the result is rounded to 4 bits again, the model has {rounded.show(3)}. So "
            f"{self.percent(TRAINED).show(0)} % of the update and {100 * left:.0f} % of the gain are left."
        )
