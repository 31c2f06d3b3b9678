"""The study of what a model gains by training on a text while it reads it."""

from itertools import product
from math import log

import numpy as np

from experiments.bench import Bench, measured
from experiments.studies.bracket import bracketed
from experiments.studies.study import Study, StudySettings
from minilora import backend
from minilora.data import corpora
from minilora.data.batches import IGNORED, evaluation_windows
from minilora.data.tokenizer import TokenStream, encode_documents
from minilora.errors import MiniloraError
from minilora.measure.statistics import Interval, paired_interval
from minilora.optim import SGD, AdamW, clip_grad_norm_
from minilora.show.grids import Grid
from minilora.show.style import LOOKS, base_line, figure_of, styled, with_legend
from minilora.train.loop import trainable

TEXTS = {"domain": "numpy-docs", "base_text": "python-docs"}
PARTS = 8  # parts of a text; the gain is recorded after each of them
PLAIN = "sgd"  # all weights by plain gradient descent; the others use Adam
WORDS = {"full": "all weights", PLAIN: "all weights, plain steps", "lora": "LoRA", "norms": "norms"}

LOOK = {kind: LOOKS["scratch" if kind == PLAIN else kind] for kind in WORDS}


def read(model, stream: TokenStream, seq_len: int, rate: float | None = None, plain: bool = False) -> np.ndarray:
    """Return the bits of each window of the stream.

    rate: learning rate of the step on each window after it is scored; None leaves the model as it is. plain: gradient
    descent instead of Adam. Raises MiniloraError if training diverges.
    """
    parameters, bits = list(trainable(model).values()), []
    step = SGD(parameters, rate or 1.0) if plain else AdamW(parameters, rate or 1.0, weight_decay=0.0)
    with backend.errstate():  # an overflow shows in the next loss
        for batch in evaluation_windows(stream.ids, seq_len, 1):
            loss = model(**batch).loss
            bits.append(float(loss) * int((batch["labels"] != IGNORED).sum()) / log(2))
            if not np.isfinite(bits[-1]):
                raise MiniloraError(f"the loss became {bits[-1]} after {len(bits) - 1} windows at a rate of {rate:g}")
            if rate is not None:
                loss.backward()
                clip_grad_norm_(parameters, 1.0)
                step.step()
                step.zero_grad()
    return np.array(bits)


def sample(lab, text: str, part: str, characters: int, seed: int) -> TokenStream:
    """Return documents from a held-out part of a text, drawn by the seed."""
    parts = lab.domain_parts if text == "domain" else lab.base_parts
    return encode_documents(lab.tokenizer, corpora.take(getattr(parts, part), characters, seed))


class DynamicEvaluation(Study):
    name = "dynamic-evaluation"
    question = "What does a model gain by training on a text while reading it?"
    published = (
        "With a step of gradient descent on each piece after it is read, character models need 1.08 instead of 1.24 "
        "bits per character on the Hutter prize's text, and 1.19 instead of 1.27 on text8 (Krause et al. 2018)."
    )
    full = StudySettings(kinds=("full", PLAIN, "lora", "norms"), values=tuple(TEXTS), seeds=(0, 1, 2, 3, 4))
    quick = full.quick()

    @staticmethod
    def cells(settings: StudySettings) -> list[tuple]:
        return [(*run, seed) for seed, run in product(settings.seeds, product(settings.values, settings.kinds))]

    @staticmethod
    def measure(bench: Bench, text: str, kind: str, seed: int) -> dict:
        lab, settings = bench.lab, bench.settings
        method = "full" if kind == PLAIN else kind

        def search(rate: float) -> float | None:
            stream = sample(lab, text, "validation", settings.validation_characters, seed=0)
            train = lambda: float(read(lab.fresh(method, 0), stream, lab.seq_len, rate, kind == PLAIN).sum())  # noqa: E731
            key = ("rate", text, kind, rate)
            return bench.records.measured(key, measured, lambda: train() / stream.characters)["loss"]

        losses = bracketed(bench.first_rate(method) / 3 * (100 if kind == PLAIN else 1), search)
        rate = min(losses, key=losses.__getitem__)
        stream, model = sample(lab, text, "test", settings.test_characters, seed), lab.fresh(method, seed)
        numbers = {"lr": rate, "trainable": sum(p.size for p in trainable(model).values())}
        static = read(lab.base(), stream, lab.seq_len)
        less = static - read(model, stream, lab.seq_len, rate, kind == PLAIN)
        parts = [float(part.sum()) / stream.characters for part in np.array_split(less, PARTS)]
        return numbers | {"static": float(static.sum()) / stream.characters, "parts": parts}

    def gain(self, text: str, kind: str) -> Interval:
        """Return the bits per character saved by training while reading, corrected for all texts and methods."""
        gains = [sum(row["parts"]) for row in self.records.of(text, kind)]
        return paired_interval(gains, comparisons=len(self.values) * len(self.kinds))

    def grid(self) -> Grid:
        rows = [(WORDS[kind], *(self.gain(text, kind).show(3) for text in self.values)) for kind in self.kinds]
        return Grid(
            "Training on a text while reading it",
            ("trained", *(TEXTS[text] for text in self.values)),
            rows,
            "Bits/char saved on held-out text, read in windows of 128 tokens, by a training step on each window after "
            "it is scored, at the rate that is best on validation text; 95 % intervals corrected for all cells. "
            f"{self.in_words()}",
        )

    @styled
    def figure(self):
        """Bits per character gained so far by training while reading, against the share of the text that was read, by
        what trains: NumPy's documentation (left), and Python's, which the base was pretrained on (right).
        """
        figure = figure_of("Training on a text while reading it", 4.2)
        for axes, text in zip(figure.subplots(1, 2, sharey=True), self.values, strict=True):
            for kind in self.kinds:
                parts = np.array([row["parts"] for row in self.records.of(text, kind)]).mean(axis=0)
                read_so_far = np.arange(1, PARTS + 1) / PARTS
                label = WORDS[kind] if text == self.values[0] else None
                axes.plot(100 * read_so_far, parts.cumsum() / read_so_far, **LOOK[kind], label=label)
            base_line(axes, 0)
            axes.set_title(TEXTS[text], fontsize=11, loc="left")
            axes.set_xlabel("percent of the text read")
        figure.axes[0].set_ylabel("bits/character gained so far\n(more is better)")
        return with_legend(figure)

    def sentence(self) -> str:
        words = (
            "The model takes a training step after each window; the gain is what these steps save on the text after it."
        )
        for text in self.values:
            best, *_, worst = sorted(self.kinds, key=lambda kind: -self.gain(text, kind).mean)
            before, gain = self.spread("static", text, best).mean, self.gain(text, best)
            words += (
                f" On {TEXTS[text]}, which costs {before:.3f} bits/character without such steps, the gain is largest "
                f"with {WORDS[best]}: {gain.show(3)}, or {100 * gain.mean / before:.0f} %. It is smallest with "
                f"{WORDS[worst]}: {self.gain(text, worst).show(3)}."
            )
        gains = [self.gain(text, kind) for text, kind in product(self.values, self.kinds)]
        unsure = sum(not gain.low > 0 for gain in gains)
        return f"{words} {unsure} of the {len(gains)} gains {'is' if unsure == 1 else 'are'} not shown to be above 0."
