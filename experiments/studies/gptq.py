"""Does GPTQ, which sees text, round weights to 4 bits better than the nearest code does?"""

from itertools import product

import numpy as np

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings
from minilora import nn
from minilora.backend import asarray, to_numpy
from minilora.data import corpora
from minilora.data.batches import evaluation_windows
from minilora.data.tokenizer import TokenStream, encode_documents
from minilora.measure.statistics import Interval, paired_interval
from minilora.quant.codebooks import midpoints, order, values_of
from minilora.show.grids import Grid, listed
from minilora.show.style import SERIES, single, styled
from minilora.tensor import no_grad

BLOCKSIZE = 64
DAMPING = 0.01  # added to the diagonal of the Hessian, as a share of its mean
SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))  # of a block
OFF = ("weights_off", "outputs_off")
WORDS = {"int4": "INT4", "nf4": "NF4", "nearest": "nearest code", "gptq": "GPTQ"}


def gptq(weight: np.ndarray, hessian: np.ndarray, quant_type: str) -> np.ndarray:
    """Round `weight` (out, in) to 4-bit codes column by column (Frantar et al. 2022, "GPTQ", algorithm 1).

    hessian: (in, in), the sum of x xᵀ over inputs of the layer. The error of a column is made up for by the columns to
    its right, as far as inputs go together: with a multiple of the identity there is nothing to make up for, and each
    weight takes its nearest code. Each block of a row is divided by its absmax, as `quantize_4bit` does it.
    """
    values, limits = values_of(quant_type)[order(quant_type)], midpoints(quant_type)
    weight, columns = weight.astype(np.float64), len(hessian)
    damped = hessian + DAMPING * hessian.diagonal().mean() * np.eye(columns)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T  # inverse = upperᵀ upper
    rounded = np.empty_like(weight)
    for j in range(columns):
        if j % BLOCKSIZE == 0:
            absmax = np.abs(weight[:, j : j + BLOCKSIZE]).max(axis=1).clip(1e-38)
        rounded[:, j] = values[np.searchsorted(limits, weight[:, j] / absmax)] * absmax
        error = (weight[:, j] - rounded[:, j]) / upper[j, j]
        weight[:, j + 1 :] -= np.outer(error, upper[j, j + 1 :])
    return rounded


class Watched(nn.Linear):
    """A Linear that adds up x xᵀ over its inputs."""

    hessian: np.ndarray

    def forward(self, x):
        rows = to_numpy(x.data).reshape(-1, self.in_features).astype(np.float64)
        self.hessian = getattr(self, "hessian", 0) + rows.T @ rows
        return super().forward(x)


def quantize(model, stream: TokenStream, seq_len: int, quant_type: str, rounding: str) -> dict[str, float]:
    """Round the linears of the model's blocks in place, in the order in which text passes them.

    Returns squared errors, as shares, of the weights and of the layers' outputs on `stream`. The inputs of a layer are
    those that the layers before it give, rounded already.
    """
    sums = np.zeros((2, 2))  # of the errors and of what they are shares of, by weights and by outputs
    for block, names in product(model.model.layers, SAME_INPUT):
        holder = block.self_attn if hasattr(block.self_attn, names[0]) else block.mlp
        first = getattr(holder, names[0])
        setattr(holder, names[0], watched := Watched.from_arrays(first.weight.data))
        with no_grad():
            for batch in evaluation_windows(stream.ids, seq_len, 16):
                model.model(batch["input_ids"])
        setattr(holder, names[0], first)
        seen = watched.hessian if rounding == "gptq" else np.eye(first.in_features)
        for linear in (getattr(holder, name) for name in names):
            weight = to_numpy(linear.weight.data)
            rounded = gptq(weight, seen, quant_type)
            for total, change in zip(sums, (rounded - weight, weight), strict=True):
                total += (change**2).sum(), (change @ watched.hessian * change).sum()
            linear.weight.data = asarray(rounded.astype(np.float32))
    weights, outputs = sums[0] / sums[1]
    return {"weights_off": float(weights), "outputs_off": float(outputs)}


class Gptq(Study):
    name = "gptq"
    question = "Does GPTQ, which sees text, round to 4 bits better than the nearest code?"
    published = (
        "OPT-125M has a perplexity of 27.66 on WikiText2 in 16 bits, 37.28 with each weight at the nearest of 16 even "
        "codes, 31.12 with the same codes chosen by GPTQ (Frantar et al. 2022, table 3; one scale a row)."
    )
    full = StudySettings(values=("int4", "nf4"), kinds=("nearest", "gptq"), seeds=tuple(range(8)), characters=20_000)
    quick = full.quick()

    @staticmethod
    def cells(settings: StudySettings) -> list[tuple]:
        return [(*run, seed) for seed, run in product(settings.seeds, product(settings.values, settings.kinds))]

    @staticmethod
    def measure(bench: Bench, quant_type: str, rounding: str, seed: int) -> dict:
        lab, model = bench.lab, bench.lab.base()
        sample = corpora.take(lab.base_parts.test, bench.settings.test_characters, seed)
        before = lab.bits(model, stream := encode_documents(lab.tokenizer, sample))
        text = lab.base_text(bench.settings.characters, seed)
        errors = quantize(model, text, lab.seq_len, quant_type, rounding)
        return errors | {"lost": lab.bits(model, stream) - before}

    def more(self, one: tuple, other: tuple) -> Interval:
        """Return how much more `one` loses than `other`, by pairs of one seed; there are three such comparisons."""
        pairs = zip(self.records.of(*one), self.records.of(*other), strict=False)  # a run may be cut off between them
        return paired_interval([a["lost"] - b["lost"] for a, b in pairs], comparisons=3)

    def grid(self) -> Grid:
        rows = []
        for key in (runs := list(product(self.values, self.kinds))):
            off = (f"{self.spread(number, *key, scale=100).mean:.2f} %" for number in OFF)
            rows.append((*(WORDS[part] for part in key), *off, self.spread("lost", *key).show(4)))
        return Grid(
            "4 bits by the nearest code and by GPTQ",
            ("codes", "rounding", "weights\noff", "outputs\noff", "lost\nbits/char"),
            rows,
            f"Linears of all blocks, one absmax for {BLOCKSIZE} weights. Off: squared error as a share of the squares, "
            "of the weights and of what the layers give on the text that GPTQ sees. Lost: bits/char more than in "
            "float32 on samples of held-out python-docs. A seed draws both texts. "
            f"{self.in_words(self.spread('lost', *key).count for key in runs)}",
        )

    @styled
    def figure(self):
        """Bits per character that 4 bits cost, by codes and by how they are chosen; a thin mark is one seed."""
        figure, axes = single("4 bits: what the nearest code and what GPTQ cost", 3.2)
        for look, (quant_type, rounding) in zip(SERIES, product(self.values, self.kinds), strict=False):
            lost = [row["lost"] for row in self.records.of(quant_type, rounding)]
            name = f"{WORDS[quant_type]}, {WORDS[rounding]}"
            axes.plot(lost, [name] * len(lost), linestyle="", marker="|", markersize=14, color=look["color"])
            axes.plot([sum(lost) / len(lost)], [name], **look | {"linestyle": "", "markersize": 9})
        axes.invert_yaxis()
        axes.margins(y=0.2)
        axes.set_xlim(0, None)
        axes.set_xlabel("bits/character lost on held-out text (less is better)")
        return figure

    def sentence(self) -> str:
        less = [f"{self.more((name, 'gptq'), (name, 'nearest')).show(4)} with {WORDS[name]}" for name in self.values]
        across = self.more(("int4", "gptq"), ("nf4", "nearest"))
        order = "loses less than" if across.high < 0 else "loses more than" if across.low > 0 else "cannot be told from"
        times = [self.first(n, "int4", "gptq") / self.first(n, "int4", "nearest") for n in OFF]
        return (
            f"GPTQ changes what 4 bits cost by {listed(less)} bits/character (95 % intervals, corrected for three "
            f"comparisons). INT4 by GPTQ {order} NF4 by the nearest code: {across.show(4)}. Its weights have "
            f"{times[0]:.1f} times the squared error of nearest codes, but the layers' outputs {times[1]:.2f} times."
        )
