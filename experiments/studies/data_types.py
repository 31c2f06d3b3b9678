"""The study of which 4-bit codes harm a model least."""

from itertools import pairwise, product
from typing import Any

from experiments.bench import Bench
from experiments.studies.study import TEN, Study, StudySettings, ends
from minilora.backend import xp
from minilora.data import corpora
from minilora.data.tokenizer import encode_documents
from minilora.measure.statistics import Interval
from minilora.nn import Linear
from minilora.quant import Linear4bit, linears_of_blocks, quantize_model
from minilora.show.grids import Grid, Spread
from minilora.show.style import LOOKS, figure_of, styled
from minilora.train.methods import Options

FLOAT = "float32"
TYPES: dict[str, dict[str, Any]] = {
    "nf4": {"quant_type": "nf4"},
    "nf4+dq": {"quant_type": "nf4", "double_quantization": True},
    "fp4": {"quant_type": "fp4"},
    "int4": {"quant_type": "int4"},
}
WORDS = {FLOAT: "float32", "nf4": "NF4", "nf4+dq": "NF4 + DQ", "fp4": "FP4", "int4": "INT4"}
PUBLISHED = ("nf4+dq", "fp4", "int4")  # in the order of perplexity, the lowest first
BLOCKSIZE = 64
BAR = {"color": LOOKS["prompt"]["color"], "edgecolor": "black", "capsize": 3}


def quantized(bench: Bench, name: str, seed: int) -> dict:
    """Quantize the base and measure it on a sample of its own held-out text, which the seed draws.

    Returns its bits per character and perplexity per token, the bits per weight, and the relative error of the weights.
    """
    lab, model = bench.lab, bench.lab.base()
    linears = {path: model.get_submodule(path) for path in linears_of_blocks(model)}
    weights = {path: linear.weight.data for path, linear in linears.items() if isinstance(linear, Linear)}
    bits, error = 32.0, 0.0
    if name != FLOAT:
        kind = TYPES[name]
        quantize_model(model, BLOCKSIZE, kind["quant_type"], kind.get("double_quantization", False))
        layers = {path: module for path, module in model.named_modules() if isinstance(module, Linear4bit)}
        off = sum(float(xp.abs(layer.dequantize() - weights[path]).sum()) for path, layer in layers.items())
        error = off / sum(float(xp.abs(weight).sum()) for weight in weights.values())
        bits = 8 * sum(layer.nbytes for layer in layers.values()) / sum(w.size for w in weights.values())
    documents = lab.base_parts.test
    stream = encode_documents(lab.tokenizer, corpora.take(documents, bench.settings.test_characters, seed))
    base_text = lab.bits(model, stream)
    perplexity = 2 ** (base_text * stream.characters / (len(stream.ids) - 1))
    return {"base_text": base_text, "bits": bits, "error": error, "perplexity": perplexity}


class DataTypes(Study):
    name = "data-types"
    question = "Which 4-bit codes harm a model least, before and after QLoRA?"
    published = (
        "Mean perplexity of models of 125 M to 13 B parameters: INT4 34.34, FP4 31.07 (E2M1) and 29.48 (E3M0), NF4 "
        "with double quantization 27.41 (Dettmers et al. 2023, table 2); QLoRA then matches 16-bit fine-tuning."
    )
    full = StudySettings(values=(FLOAT, *TYPES), seeds=TEN)
    quick = full.quick()

    @staticmethod
    def cells(settings: StudySettings) -> list[tuple]:
        return list(product(("base", "adapted"), settings.values, settings.seeds))

    @staticmethod
    def measure(bench: Bench, kind: str, name: str, seed: int) -> dict:
        if kind == "base":
            return quantized(bench, name, seed)
        rate = bench.text_rate("lora")
        if name == FLOAT:
            return bench.adapted("lora", rate, seed)
        return bench.adapted("qlora", rate, seed, Options(blocksize=BLOCKSIZE, **TYPES[name]))

    def lost(self, name: str) -> Spread:
        """Return the bits per character that quantizing costs the base, over samples of its own text."""
        in_float = {row["key"][2]: row["base_text"] for row in self.records.of("base", FLOAT)}
        return Spread.of(row["base_text"] - in_float[row["key"][2]] for row in self.records.of("base", name))

    def adapted(self, name: str) -> Spread:
        """Return the bits per character on the domain after LoRA over this base."""
        return self.spread("domain", "adapted", name)

    def grid(self) -> Grid:
        rows = []
        for name in self.values:
            base = next(self.records.of("base", name))
            rows.append(
                (
                    WORDS[name],
                    f"{base['bits']:.3f}",
                    f"{100 * base['error']:.1f} %" if base["error"] else "–",
                    f"{self.spread('perplexity', 'base', name).mean:.2f}",
                    self.lost(name).show(4) if name != FLOAT else "–",
                    self.adapted(name).show(3),
                )
            )
        return Grid(
            "A base in 4 bits",
            ("type", "bits per\nweight", "error", "base\nperplexity", "lost\nbits/char", "adapted\nbits/char"),
            rows,
            f"Blocks of {BLOCKSIZE}. Error: the mean relative error of a weight. Base perplexity, and the bits/char "
            "lost by rounding, are measured on samples of held-out python-docs. Adapted: bits/char on held-out "
            f"numpy-docs after LoRA. {self.in_words()}",
        )

    @styled
    def figure(self):
        """Bits per character that 4-bit codes cost the base on its own text (left), and bits per character on NumPy's
        documentation after QLoRA (right).
        """
        figure = figure_of("Data types: what 4 bits cost", 3.6)
        left, right = figure.subplots(1, 2, sharey=True)
        words, costs = [WORDS[name] for name in self.values], [self.lost(name) for name in self.values]
        left.barh(words, [one.mean for one in costs], xerr=[one.deviation for one in costs], height=0.6, **BAR)
        left.set_title("the base, on its own text", fontsize=11, loc="left")
        left.set_xlabel("bits/character lost")
        left.invert_yaxis()
        adapted = [self.adapted(name) for name in self.values]
        look = LOOKS["qlora"] | {"linestyle": "", "markersize": 8}
        right.errorbar([one.mean for one in adapted], words, xerr=[one.deviation for one in adapted], **look)
        right.set_title("after QLoRA, on the domain", fontsize=11, loc="left")
        right.set_xlabel("bits/character (less is better)")
        right.margins(x=0.15)
        right.locator_params(axis="x", nbins=4)
        return figure

    def harms(self) -> dict[str, Interval]:
        """Return how many more bits per character each code costs than the one before it in the published order."""
        pairs = [*pairwise(name for name in PUBLISHED if name in self.values)]
        return {b: self.paired("base_text", ("base", b), ("base", a), len(pairs)) for a, b in pairs}

    def sentence(self) -> str:
        names = [name for name in self.values if name != FLOAT]
        lost, adapted = ({WORDS[name]: number(name) for name in names} for number in (self.lost, self.adapted))
        return (
            f"Rounding the base to 4 bits costs from {ends(lost, 4)} bits/character on its own text. LoRA then trains "
            f"on new text: over the base in float32 it reaches {self.adapted(FLOAT).show(3)} bits/character there, and "
            f"over a base in 4 bits from {ends(adapted)}."
        )
