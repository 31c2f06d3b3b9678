"""The study of whether GPTQ, which sees text, rounds weights to 4 bits better than the nearest code."""

from itertools import product

from experiments.bench import Bench
from experiments.gptq import BLOCKSIZE, quantize
from experiments.studies.study import Study, StudySettings, compared
from minilora.data import corpora
from minilora.data.tokenizer import encode_documents
from minilora.show.grids import Grid
from minilora.show.style import GREY, SERIES, single, styled

OFF = ("weights_off", "outputs_off")
WORDS = {"int4": "INT4", "nf4": "NF4", "nearest": "nearest code", "gptq": "GPTQ"}


class Gptq(Study):
    name = "gptq"
    question = "Does GPTQ round better than the nearest code?"
    published = (
        "OPT-125M has a perplexity of 27.66 on WikiText2 in 16 bits, 37.28 if each weight takes the nearest of 16 "
        "even codes, and 31.12 if GPTQ chooses among the same codes (Frantar et al. 2022, table 3; one scale a row)."
    )
    full = StudySettings(values=("int4", "nf4"), kinds=("nearest", "gptq"), seeds=tuple(range(8)), characters=20_000)
    quick = full.quick()
    large = full.large(characters=10_000)

    @staticmethod
    def cells(settings: StudySettings) -> list[tuple]:
        return [(*run, seed) for seed, run in product(settings.seeds, product(settings.values, settings.kinds))]

    @staticmethod
    def measure(bench: Bench, quant_type: str, rounding: str, seed: int) -> dict:
        lab, model = bench.lab, bench.lab.base()
        sample = corpora.take(lab.base_parts.test, bench.settings.test_characters, seed)
        before = lab.bits(model, stream := encode_documents(lab.tokenizer, sample))
        ids = lab.base_text(bench.settings.characters, seed).ids
        rows = ids[: len(ids) // lab.seq_len * lab.seq_len].reshape(-1, lab.seq_len)
        errors = quantize(model, rows, quant_type, rounding)
        return errors | {"lost": lab.bits(model, stream) - before}

    def grid(self) -> Grid:
        rows = []
        for key in product(self.values, self.kinds):
            off = (f"{self.spread(number, *key, scale=100).mean:.2f} %" for number in OFF)
            rows.append((*(WORDS[part] for part in key), *off, self.spread("lost", *key).show(4)))
        return Grid(
            "4 bits by the nearest code and by GPTQ",
            ("codes", "rounding", "error of\nweights", "error of\noutputs", "lost\nbits/char"),
            rows,
            f"All linears of the blocks are rounded, with one absmax for {BLOCKSIZE} weights. Error: the relative "
            "squared error of the weights and of the layers' outputs on the text that GPTQ sees. Lost: bits/char "
            "against float32 on samples of held-out python-docs. "
            f"{self.in_words()}",
        )

    @styled
    def figure(self):
        """Bits per character that 4-bit weights cost on held-out text, by code and by rounding; each thin mark is one
        seed, the large mark their mean.
        """
        figure, axes = single("4 bits: what the nearest code and what GPTQ cost", 3.2)
        for look, (quant_type, rounding) in zip(SERIES, product(self.values, self.kinds), strict=False):
            lost = [row["lost"] for row in self.records.of(quant_type, rounding)]
            name = f"{WORDS[quant_type]}, {WORDS[rounding]}"
            axes.plot(lost, [name] * len(lost), linestyle="", marker="|", markersize=14, color=look["color"])
            axes.plot([sum(lost) / len(lost)], [name], **look | {"linestyle": "", "markersize": 9})
        axes.invert_yaxis()
        axes.margins(y=0.2)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_xlabel("bits/character lost on held-out text (less is better)")
        return figure

    def sentence(self) -> str:
        less = {n: self.paired("lost", (n, "gptq"), (n, "nearest"), 3) for n in self.values}
        across = self.paired("lost", ("int4", "gptq"), ("nf4", "nearest"), 3)
        order = compared(across, "loses more than", "loses less than", "is not told apart from")
        costs = " and by ".join(f"{one.show(4)} with {WORDS[name]}" for name, one in less.items())
        times = [self.first(n, "int4", "gptq") / self.first(n, "int4", "nearest") for n in OFF]
        return (
            "GPTQ does not give each weight its nearest code, but makes up for the rounding of one weight in those "
            f"that follow. It changes what 4 bits cost by {costs}, in bits/character; a minus sign means that GPTQ "
            f"costs less. INT4 by GPTQ {order} NF4 by the nearest code: {across.show(4)}. The weights of INT4 by GPTQ "
            f"have {times[0]:.1f} times the squared error of nearest codes, and the layers' outputs, which GPTQ is "
            f"after, {times[1]:.2f} times."
        )
