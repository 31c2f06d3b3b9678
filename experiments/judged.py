"""Generation judged by a program: docstrings that SmolLM2 writes as it is, after a prompt, and trained on NumPy's.

    python -m experiments.judged runs/judged     measures the missing cells and prints the table

    ("text",)          the held-out docstrings themselves, scored by the same judge
    ("base",)          the model as it is
    ("prompt", seed)   with whole docstrings of the training part before each beginning
    (row, seed)        trained as in `python -m experiments compare --model smollm2 --data numpy-docs`, at the best rate
                       of that comparison

Each continues the summaries of the same held-out docstrings with sections for TOKENS tokens at temperature 0.7. The
judge measures:

    kept       1 if there is a section in numpydoc's format, fully underlined, and no other underline, else 0
    terms      the share of the text's distinct words that occur in the training part of NumPy's docstrings
    repeated   the share of four-word sequences that occurred earlier in the text

Margins, set before the measurement: a row keeps the format better (or worse) than the prompt if the 95 % interval of
the paired difference over seeds and docstrings, corrected for all comparisons, excludes 0. It is near the prompt if the
interval lies within NEAR points of 0.
"""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.beside import Beside
from experiments.compare_model import KIND as COMPARED
from experiments.compare_model import ModelComparison, settings_for
from experiments.compare_model_report import LABELS
from experiments.results.founding import file_of
from minilora.data import corpora
from minilora.data.batches import padded_left
from minilora.measure.curve import RECORDS
from minilora.measure.records import Records
from minilora.measure.results import table
from minilora.show.grids import Grid, drawn, listed, render

KIND, CORPUS = "judged generation", "numpy-docs"
ROWS, SEEDS = ("prefix", "lora", "full"), (0, 1, 2)
NEAR = 10.0  # points: percent of docstrings that keep the format
TOKENS, TEMPERATURE, SHOTS, BATCH = 160, 0.7, 3, 13
SECTIONS = "Parameters|Returns|Yields|Other Parameters|Raises|Warns|Warnings|See Also|Notes|References|Examples"
SECTIONS += "|Receives|Attributes|Methods"
HEADING = re.compile(r"^([^\n]*)\n(--+)[ \t]*$", re.MULTILINE)
SECTION = re.compile(rf"^(?:{SECTIONS})\n--+$", re.MULTILINE)
WORD = re.compile(r"[A-Za-z_]{3,}")


def judge(written: str, vocabulary: set[str]) -> dict[str, float]:
    """Judge a text; returns numbers from 0 to 1."""
    headings = HEADING.findall(written.rpartition("\n")[0])  # the last line may be cut
    is_numpydoc = all(re.fullmatch(SECTIONS, name) and len(name) == len(line) for name, line in headings)
    words = set(map(str.lower, WORD.findall(written)))
    tokens = written.split()
    runs = [tuple(tokens[i : i + 4]) for i in range(len(tokens) - 3)]
    return {
        "kept": float(bool(headings) and is_numpydoc),
        "terms": len(words & vocabulary) / len(words) if words else 0.0,
        "repeated": 1 - len(set(runs)) / len(runs) if runs else 0.0,
    }


class Judged:
    """Measures the cells: has the model write docstrings, and the judge score them."""

    def __init__(self) -> None:
        self.comparison = ModelComparison(settings_for("smollm2", CORPUS))
        self.base, self.tokenizer = self.comparison.subject.base, self.comparison.subject.tokenizer
        self.parts = corpora.split(corpora.load(CORPUS))
        matches = [(one.text, SECTION.search(one.text)) for one in self.parts.test]
        cut = [(text[: m.start()], text[m.start() :]) for text, m in matches if m and 20 < m.start() < 400]
        self.beginnings, self.rests = zip(*cut, strict=True)
        path = Path(__file__).parent / "records" / file_of(CORPUS)
        compared = Records.read(path, COMPARED).rows
        self.rates = {row: compared["trained", row, 0]["lr"] for row in ROWS}

        self.vocabulary = {word.lower() for one in self.parts.train for word in WORD.findall(one.text)}

    def facts(self) -> dict:
        facts = {"rates": self.rates, "docstrings": len(self.beginnings), "tokens": TOKENS, "shots": SHOTS}
        return facts | self.comparison.facts()

    def measure(self, row: str, seed: int = 0) -> dict:
        if row == "text":
            return self.judged([self.tokenizer.decode(self.tokenizer.encode(rest)[:TOKENS]) for rest in self.rests])
        model = self.comparison.train(row, self.rates[row], seed)[0].eval() if row in ROWS else self.base
        return self.judged(self.written(model, self.shots(seed) if row == "prompt" else np.empty(0, int)))

    def shots(self, seed: int) -> np.ndarray:
        """Return the tokens of whole docstrings with sections, each ended as in training."""
        whole = [one for one in self.parts.train if SECTION.search(one.text) and 300 < len(one.text) < 1200]
        places = np.random.default_rng(seed).permutation(len(whole))[:SHOTS]
        ids = [np.append(self.tokenizer.encode(whole[i].text), self.tokenizer.eos_token_id) for i in places]
        return np.concatenate(ids)

    def written(self, model: Any, before: np.ndarray) -> list[str]:
        """Return the model's continuation of each beginning, preceded by the tokens `before`, up to a docstring's
        end.
        """
        prompts = [np.append(before, ids) for ids in self.tokenizer.encode_many(list(self.beginnings))]
        end, texts = self.tokenizer.eos_token_id, []
        for first in range(0, len(prompts), BATCH):
            part = padded_left(prompts[first : first + BATCH])
            ids, mask, seeds = *part.values(), list(range(first, first + len(part["input_ids"])))
            rows = model.generate(ids, TOKENS, mask, TEMPERATURE, eos_token_id=end, seed=seeds)[:, ids.shape[1] :]
            texts += [self.tokenizer.decode(row[: int(np.argmax(row == end))] if end in row else row) for row in rows]
        return texts

    def judged(self, texts: list[str]) -> dict:
        items = [judge(text, self.vocabulary) for text in texts]
        numbers = {name: float(np.mean([item[name] for item in items])) for name in items[0]}
        bits = np.packbits([item["kept"] > 0 for item in items]).tobytes().hex()
        return numbers | {"kept_items": bits, "sample": texts[0]}


def run(out: Path) -> Records:
    """Measure the cells that out/records.jsonl lacks; return the records."""
    judged = Judged()
    records = Records.open(out / RECORDS, KIND, judged.facts(), resume=True)
    cells: list[tuple] = [("text",), ("base",), *((row, seed) for seed in SEEDS for row in ("prompt", *ROWS))]
    records.complete(cells, judged.measure, "generation")
    return records


class JudgedResult(Beside):
    """The comparison of each row with the prompt."""

    def __init__(self, records: Records):
        names = {"text": "the docstrings themselves", "prompt": f"prompt of {SHOTS} docstrings"}
        ways = {names.get(row, LABELS.get(row, row)): (row,) for row in ("text", "base", "prompt", *ROWS)}
        super().__init__(
            records, ways, ("prompt",), {("text",), ("base",)}, "kept", records.header["settings"]["docstrings"], NEAR
        )

    def sentence(self) -> str:
        prompt, *trained = (name for name, way in self.ways.items() if way[0] in ("prompt", "lora", "full"))
        shares = [f"{self.percent('kept', name)} after training ({name})" for name in trained]
        return (
            f"SmolLM2-135M, asked to continue {self.items} held-out docstrings of NumPy, keeps their format in "
            f"{self.percent('kept', prompt)} of them with a {prompt}, and in {listed(shares)}. "
            f"{self.compared(LABELS['lora'])}"
        )

    def grid(self) -> Grid:
        columns = [self.share("format\nkept, %", "kept"), self.share("terms\nknown, %", "terms")]
        columns += [self.share("repeated, %", "repeated"), *self.columns("the prompt")]
        caption = (
            f"SmolLM2-135M continues the summaries of {self.items} held-out docstrings of NumPy for {TOKENS} tokens. "
            "Beside the prompt: the difference in points of format kept, with 95 % intervals over seeds and "
            f"docstrings, corrected for {self.comparisons} comparisons; near: within {NEAR:.0f} points."
        )
        return table("Generation, judged by a program", columns, self.ways, caption, first="")


if __name__ == "__main__":
    print(render(drawn(JudgedResult(run(Path(sys.argv[1]))).grid())))
