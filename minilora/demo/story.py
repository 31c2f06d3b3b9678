"""The story in four steps: a text, a base pretrained on it, the base adapted to a domain, and what that bought.

`run_demo` measures cells into a file of records; the tables are functions of the records alone. The report is what was
told on the terminal as one HTML file.
"""

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from minilora import threads
from minilora.data import corpora
from minilora.demo import claims
from minilora.demo.base import PACKAGE_BASE, QUICK_BASE, Base
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import make_folder, read_json, show_path, write_atomic
from minilora.measure.lab import BASE_DATA, DOMAIN, SCRATCH, Lab
from minilora.measure.memory import peak_bytes, peak_of_steps
from minilora.measure.records import Records
from minilora.show.grids import NAMES, drawn
from minilora.train import load
from minilora.train.loop import TrainConfig

PAGE, RECORDS = "report.html", "results.jsonl"
KIND = "demo"  # of the records
PROMPT = "Parameters\n----------\na :"  # that the models go on with
RATES = {  # learning rates, in place of a search
    "text": {SCRATCH: 3e-3, "full": 5e-4, "lora": 7e-4},
    "task": {SCRATCH: 1e-3, "feature-extraction": 1e-2, "full": 2e-3, "lora": 5e-3},
}


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How much of everything the demo does."""

    base: Base  # what is pretrained in front of the reader
    go_on_with_package_base: bool  # adapt the longer trained base that comes with the package
    seeds: tuple[int, ...] = (0, 1, 2)  # of adapting to text; all else has the first
    characters: int = 12_000  # of the domain's text
    adapt: TrainConfig
    labels: int = 16  # labelled sentences per class
    label_curve: tuple[int, ...] = (128,)  # further numbers of them
    classify: TrainConfig
    epochs: int = 2  # of classification, and at least the steps of `classify`
    test_characters: int = 20_000  # of each held-out text
    validation_characters: int = 6_000  # that early stopping looks at


FULL = DemoSettings(
    base=replace(PACKAGE_BASE, config=replace(PACKAGE_BASE.config, steps=200, warmup=20, eval_every=20)),
    go_on_with_package_base=True,
    adapt=TrainConfig(steps=60, eval_every=5, patience=3, weight_decay=0.01, warmup=3, lr_floor=0.3),
    classify=TrainConfig(steps=40),
)
QUICK = replace(FULL, base=QUICK_BASE, go_on_with_package_base=False, seeds=(0,))


def run_demo(out: Path, quick: bool = False, seed: int = 0) -> Records:
    """Tell the story on the terminal and leave results.jsonl and report.html in `out`; returns the records."""
    started = perf_counter()
    settings = QUICK if quick else FULL
    settings = replace(settings, seeds=tuple(seed + one for one in settings.seeds))
    prepare_folder(out, PAGE, RECORDS)
    facts = asdict(settings) | {"command": command(quick, seed), "quick": quick}
    unfinished = out / f".{RECORDS}"  # so that a run that is interrupted leaves the report of before whole
    records = Records.open(unfinished, KIND, facts, overwrite=True)
    console = Console(width=80, highlight=False, record=True)
    console.print("\n[bold]1. Text[/bold]")
    base, domain = corpora.load(BASE_DATA), corpora.load(DOMAIN)
    sizes = {"base": (base, base.characters), "domain": (domain, settings.characters)}
    texts = {
        role: {"name": one.name, "characters": count, "sha256": one.sha256} for role, (one, count) in sizes.items()
    }
    records.add(("texts",), **texts)
    console.print(
        f"The base learns from {base.name}: {base.characters:,} characters that came with Python.\n"
        f"The domain is {domain.name}, of which adaptation sees {settings.characters:,} characters."
    )
    console.print("\n[bold]2. Pretrain: learn the language from much text[/bold]")
    story = _Story(settings, _pretrain(settings, records, console))
    console.print("\n[bold]3. Fine-tune: learn the domain from little text[/bold]")
    measure = lambda kind, *key: getattr(story, kind)(*key)  # noqa: E731
    records.complete(story.cells(), measure, "fine-tuning", "; the demo begins anew next time")
    console.print("\n[bold]4. What transfer bought[/bold]")
    result = claims.AdaptedResult(records)
    for grid in (claims.adaptation_grid(result), claims.classification_grid(result)):
        console.print(drawn(grid))
        console.print()
    for row in (row for row in records.of("text") if "continuation" in row):
        console.print(f"\n[bold]{NAMES[row['key'][1]]}[/bold] goes on after {PROMPT!r}:")
        console.print("\n".join(f"  {escape(line, 76)}" for line in row["continuation"].splitlines()[:8]), markup=False)
    seconds = records.add(("run",), seconds=round(perf_counter() - started, 1))["seconds"]
    write_atomic(out / PAGE, console.export_html())
    records.path = unfinished.replace(out / RECORDS)
    console.print(f"\nThe report: {out / PAGE} ({seconds:.0f} s in all)", markup=False)
    return records


def _pretrain(settings: DemoSettings, records: Records, console: Console) -> Path:
    """Return the folder of the base to adapt, after one was made in front of the reader."""
    base_folder, cached = settings.base.cached(settings.seeds[0])
    facts = read_json(base_folder / "manifest.json")
    first, last = facts["evaluations"][0][1], facts["evaluations"][-1][1]
    console.print(
        f"{facts['parameters']:,} parameters, {settings.base.config.steps} steps in {facts['seconds']} s"
        f"{' (from the cache)' if cached else ''}: "
        f"{first:.2f} -> {last:.2f} bits/character on held-out text. What it writes:"
    )
    for step, words in facts["samples"][:: max(1, (len(facts["samples"]) - 1) // 2)]:
        console.print(f"  step {step:>4}  {escape(' '.join(words.split()), 66)}", markup=False)
    records.add(
        ("pretraining",), cached=cached, **{name: facts[name] for name in ("seconds", "evaluations", "samples")}
    )
    if settings.go_on_with_package_base and (load.base_folder() / "config.json").is_file():
        base_folder = load.base_folder()
        manifest = read_json(base_folder / "manifest.json")
        console.print(
            f"The base in the package is this recipe at {manifest['train']['steps']} steps: "
            f"{manifest['validation_bits_per_character']:.2f}. We go on with that one."
        )
    return base_folder


class _Story:
    """Measures the cells of the third step, each by the method that its key begins with."""

    def __init__(self, settings: DemoSettings, base_folder: Path):
        self.settings, self.first = settings, settings.seeds[0]
        sizes = (settings.test_characters, settings.validation_characters)
        self.lab = Lab(base_folder, settings.base.seq_len, 8, *sizes)

    def cells(self) -> list[tuple]:
        settings = self.settings
        cells: list[tuple] = [("memory", "base"), ("text", "base", 0)]
        for method in RATES["text"]:
            cells += [("memory", method), *(("text", method, seed) for seed in settings.seeds)]
        amounts = (settings.labels, *settings.label_curve)
        return [*cells, ("classes",), *(("task", m, self.first, n) for m in RATES["task"] for n in amounts)]

    def memory(self, method: str) -> dict:
        """Return the most bytes alive in two training steps, weights included (for the base: in reading a batch)."""
        lab = self.lab
        model = lab.base() if method == "base" else lab.fresh(method, self.first)
        held = sum(p.data.nbytes for p in model.parameters())
        if method == "base":
            return {"peak": peak_bytes(lambda: lab.bits(model, lab.domain_validation), held)}
        with threads.using(1):  # whose steps need the same each time
            return {"peak": peak_of_steps(model, lab.batches(lab.domain_text(6_000, 0), lab.batch_size, 0), held)}

    def text(self, method: str, seed: int) -> dict:
        """Measure the base, or a model adapted to the domain's text, on held-out text of both."""
        lab, facts = self.lab, dict[str, Any]()
        if method == "base":
            model = lab.base()
            facts |= {"trainable": 0, "total": load.count_parameters(model)[1], "seconds": 0.0}
        else:
            config = replace(self.settings.adapt, peak_lr=RATES["text"][method], seed=seed)
            model, history = lab.adapt(method, lab.domain_text(self.settings.characters, seed), config)
            trainable, total = load.count_parameters(model)
            facts |= {"lr": config.peak_lr, "trainable": trainable, "total": total, "seconds": history.seconds}
            facts |= {"best_step": history.best_step, "curve": [[e["step"], e["value"]] for e in history.evaluations]}
        facts |= {"domain": lab.bits(model, lab.domain_test), "base_text": lab.bits(model, lab.base_test)}
        if method == "base" or method != SCRATCH and seed == self.first:
            ids = lab.tokenizer.encode(PROMPT)
            out = model.generate(ids[None], 70, temperature=0.5, seed=self.first)
            facts["continuation"] = lab.tokenizer.decode(out[0, len(ids) :])
        return facts

    def classes(self) -> dict:
        """Return the classes of the labelled task, and how many examples the test has."""
        return {"names": list(self.lab.task.classes), "test_examples": len(self.lab.test_examples)}

    def task(self, method: str, seed: int, labels: int) -> dict:
        """Measure a classifier trained on so many examples per class."""
        examples, rate = self.lab.task.few(labels, seed), RATES["task"][method]
        steps = max(self.settings.classify.steps, self.settings.epochs * len(examples) // 32)
        config = replace(self.settings.classify, steps=steps, warmup=steps // 10, peak_lr=rate, seed=seed)
        model, history = self.lab.classify(method, examples, config)
        facts = {"lr": rate, "trainable": load.count_parameters(model)[0], "seconds": history.seconds}
        return facts | {"accuracy": self.lab.accuracy(model)}


def command(quick: bool, seed: int, *options: str) -> str:
    """Return what runs a demo again."""
    return shlex.join(["minilora", "demo", *options, *["--seed", str(seed)] * bool(seed), *["--quick"] * quick])


def prepare_folder(folder: Path, file: str, beside: str) -> None:
    """Make the folder. Raises MiniloraError where it holds `file` and nothing `beside` it: a demo leaves both."""
    make_folder(folder)
    if (folder / file).exists() and not (folder / beside).exists():
        raise MiniloraError(f"{show_path(folder / file)} is no demo's: choose another --out")
