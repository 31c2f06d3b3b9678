"""Which 4-bit codes harm a model least?"""

from itertools import pairwise, product
from typing import Any

from experiments.bench import Bench
from experiments.studies.study import TEN, Study, StudySettings, compared, nearness, seen
from minilora.backend import xp
from minilora.data import corpora
from minilora.data.tokenizer import encode_documents
from minilora.measure.statistics import Interval
from minilora.nn import Linear
from minilora.quant import Linear4bit, linears_of_blocks, quantize_model
from minilora.show.grids import Grid, Spread, listed
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
PUBLISHED = ("nf4+dq", "fp4", "int4")  # from the least perplexity on
BLOCKSIZE = 64
SAME = 0.01  # of the bits per character after LoRA: what is surely no further behind it matches it
BAR = {"color": LOOKS["prompt"]["color"], "edgecolor": "black", "capsize": 3}


def quantized(bench: Bench, name: str, seed: int) -> dict:
    """The base in these codes: bits per character and perplexity per token on a sample of its own held-out text, which
    the seed draws, the bits that a weight takes, and how far it is off.
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
        """Return bits per character that quantizing costs the base on its own text, over samples of it."""
        in_float = {row["key"][2]: row["base_text"] for row in self.records.of("base", FLOAT)}
        return Spread.of(row["base_text"] - in_float[row["key"][2]] for row in self.records.of("base", name))

    def adapted(self, name: str) -> Spread:
        """Return bits per character on the domain after LoRA over it."""
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
            f"Blocks of {BLOCKSIZE}. Bits per weight and its mean error: of the blocks' linears. Base: the quantized "
            "base on samples of held-out python-docs, perplexity per token and bits/char lost against float32. "
            "Adapted: bits/char on held-out numpy-docs after LoRA over it. "
            f"{self.in_words(self.adapted(name).count for name in self.values)}",
        )

    @styled
    def figure(self):
        """What 4-bit codes cost the base, and what is left of it after adapting."""
        figure = figure_of("Data types: what 4 bits cost", 3.6)
        left, right = figure.subplots(1, 2, sharey=True)
        words, costs = [WORDS[name] for name in self.values], [self.lost(name) for name in self.values]
        left.barh(words, [one.mean for one in costs], xerr=[one.deviation for one in costs], height=0.6, **BAR)
        left.set_title("the base, on its own text", fontsize=11, loc="left")
        left.set_xlabel("bits/character lost")
        left.invert_yaxis()
        found = [self.adapted(name) for name in self.values]
        look = LOOKS["qlora"] | {"linestyle": "", "markersize": 8}
        right.errorbar([one.mean for one in found], words, xerr=[one.deviation for one in found], **look)
        right.set_title("after QLoRA, on the domain", fontsize=11, loc="left")
        right.set_xlabel("bits/character (less is better)")
        right.margins(x=0.15)
        right.locator_params(axis="x", nbins=4)
        return figure

    def harms(self) -> dict[str, Interval]:
        """Return by how many bits per character each code costs more than the one before it in the published order."""
        pairs = [*pairwise(name for name in PUBLISHED if name in self.values)]
        return {b: self.paired("base_text", ("base", b), ("base", a), len(pairs)) for a, b in pairs}

    def sentence(self) -> str:
        four = sorted((name for name in self.values if name != FLOAT), key=lambda name: self.lost(name).mean)
        least, most = (f"{self.lost(name).show(4)} ({WORDS[name]})" for name in (four[0], four[-1]))
        steps = self.harms()
        signs = [compared(step, "more", "less", "undecided") for step in steps.values()]
        order = "undecided" if "undecided" in signs else "as published"
        before = dict(zip(PUBLISHED[1:], PUBLISHED, strict=False))
        words = listed(f"{WORDS[b]} {step.show(4)} beside {WORDS[before[b]]}" for b, step in steps.items())
        bits = self.adapted(FLOAT)
        behind = {WORDS[n]: self.gains(("adapted", n), ("adapted", FLOAT), len(four)) for n in four}
        near = nearness(behind, SAME * bits.mean, f"within {100 * SAME:.0f} % of its bits")[1]
        return (
            f"Quantizing costs the base from {least} to {most} bits/character on its own text, {words}: the order is "
            f"{'unlike published' if 'less' in signs else order}. LoRA over float32 comes to "
            f"{bits.show(3)}. QLoRA beside it: {near[0].lower()}{near[1:]}"
            f"{seen([*steps.values(), *behind.values()], 4)}"
        )
