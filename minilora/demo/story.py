"""The story in four steps: a text, a base pretrained on it, the base adapted to a domain, and what that bought.

`run_demo` measures cells into a file of records; tables, figures and the report are functions of the records alone.
"""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from minilora import threads
from minilora.data import corpora
from minilora.demo import claims, report
from minilora.demo.base import PACKAGE_BASE, QUICK_BASE, Base
from minilora.errors import escape
from minilora.formats.atomic import read_json
from minilora.measure.footprint import peak_of_steps
from minilora.measure.lab import BASE_DATA, DOMAIN, SCRATCH, Lab
from minilora.measure.memory import peak_bytes
from minilora.measure.records import Records
from minilora.show.grids import NAMES, drawn
from minilora.train import load
from minilora.train.loop import TrainConfig

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
QUICK = replace(
    FULL,
    base=QUICK_BASE,
    go_on_with_package_base=False,
    seeds=(0,),
)


@dataclass(frozen=True)
class Own:
    """The reader's own code in place of a part of the library.

    what: the part and its names, as "LoRA is LoraLayer, inject and merge"; file: where it is from; facts: more about
    it, for the records; adapts: {method: function of (model, options, seed)} that adapts in place; merges: {method:
    function of the model} that takes the update into the weights, in place.
    """

    what: str
    file: str
    facts: dict
    adapts: dict[str, Callable] = field(default_factory=dict)
    merges: dict[str, Callable] = field(default_factory=dict)


def run_demo(out: Path, quick: bool = False, seed: int = 0, as_json: bool = False, own: Own | None = None) -> Records:
    """Tell the story on the terminal and leave results.jsonl, figures and report.html in `out`; returns the records.

    own: code of the reader's, which runs where the library's would. What it prints goes beside the JSON.
    """
    settings = QUICK if quick else FULL
    settings = replace(settings, seeds=tuple(seed + one for one in settings.seeds))
    started = perf_counter()
    console = Console(width=80, highlight=False, stderr=as_json)
    report.check_folder(out)
    options = [" --quick" * quick, f" --seed {seed}" * bool(seed), f" --with {own.file}" if own else ""]
    facts = {"command": f"minilora demo{''.join(options)}", "quick": quick}
    facts["own"] = own.facts | {"what": own.what, "file": own.file} if own else None
    unfinished = out / f".{report.RECORDS}"  # so that a run that is interrupted leaves the report of before whole
    records = Records.open(unfinished, report.KIND, asdict(settings) | facts, overwrite=True)
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        _tell(settings, records, console, own)
    seconds = records.add(("run",), seconds=round(perf_counter() - started, 1))["seconds"]
    page = report.write_report(claims.AdaptedResult(records), out)
    records.path = unfinished.replace(out / report.RECORDS)
    console.print(f"\nThe report: {page} ({seconds:.0f} s in all)")
    if as_json:
        print(json.dumps(records.as_json()))
    return records


def _tell(settings: DemoSettings, records: Records, console: Console, own: Own | None) -> None:
    def say_title(number: int, title: str) -> None:
        console.print(f"\n[bold]{number}. {title}[/bold]")

    if own:
        console.print(
            f"\nIn this run {own.what} of {own.file}: your own code, which passed its lesson's checks. "
            "It now runs as any program of yours does, without the limits of minilora check.",
            markup=False,
        )
    say_title(1, "Text")
    _read_texts(settings, records, console)
    say_title(2, "Pretrain: learn the language from much text")
    base_folder = _pretrain(settings, records, console)
    say_title(3, "Fine-tune: learn the domain from little text")
    _Story(settings, records, base_folder, own).measure()
    say_title(4, "What transfer bought")
    result = claims.AdaptedResult(records)
    for grid in (claims.adaptation_grid(result), claims.classification_grid(result), claims.verdict_grid(result)):
        console.print(drawn(grid))
        console.print()
    for sentence in claims.own_code(result):
        console.print(f"- {sentence}", markup=False)
    for method, text in report.continuations(result).items():
        console.print(f"\n[bold]{NAMES[method]}[/bold] goes on after {claims.PROMPT!r}:")
        console.print("\n".join(f"  {escape(line, 76)}" for line in text.splitlines()[:8]), markup=False)


# 1. Text


def _read_texts(settings: DemoSettings, records: Records, console: Console) -> None:
    base, domain = corpora.load(BASE_DATA), corpora.load(DOMAIN)
    described = {}
    for role, corpus, used in (("base", base, base.characters), ("domain", domain, settings.characters)):
        described[role] = {"name": corpus.name, "characters": used, "sha256": corpus.sha256}
    records.add(("texts",), **described)
    console.print(
        f"The base learns from {base.name}: {base.characters:,} characters that came with Python.\n"
        f"The domain is {domain.name}, of which adaptation sees {settings.characters:,} characters."
    )


# 2. Pretrain


def _pretrain(settings: DemoSettings, records: Records, console: Console) -> Path:
    """Return the folder of the base to adapt, after one was made in front of the reader."""
    base = settings.base
    base_folder, cached = base.cached(settings.seeds[0])
    facts, package = read_json(base_folder / "manifest.json"), None
    first, last = facts["evaluations"][0][1], facts["evaluations"][-1][1]
    console.print(
        f"{facts['parameters']:,} parameters, {base.config.steps} steps in {facts['seconds']} s"
        f"{' (from the cache)' if cached else ''}: "
        f"{first:.2f} -> {last:.2f} bits/character on held-out text."
    )
    if settings.go_on_with_package_base and (load.base_folder() / "config.json").is_file():
        base_folder = load.base_folder()
        manifest = read_json(base_folder / "manifest.json")
        package = {"name": "the base in the package", "steps": manifest["train"]["steps"]}
        package["bits"] = manifest["validation_bits_per_character"]
        console.print(
            f"The base in the package is this recipe at {package['steps']} steps: {package['bits']:.2f}. "
            "We go on with that one."
        )
    shown = {name: facts[name] for name in ("parameters", "seconds", "losses", "samples")}
    shown |= {"steps": base.config.steps, "cached": cached, "curve": facts["evaluations"], "base": package}
    records.add(("pretraining",), **shown)
    return base_folder


# 3. Fine-tune


class _Story:
    """Measures the cells, each by the method that its key begins with."""

    def __init__(self, settings: DemoSettings, records: Records, base_folder: Path, own: Own | None):
        self.settings, self.records, self.own, self.first = settings, records, own, settings.seeds[0]
        self.lab = Lab(
            base_folder,
            settings.base.seq_len,
            test_characters=settings.test_characters,
            validation_characters=settings.validation_characters,
            own=own.adapts if own else None,
        )

    def measure(self) -> None:
        self.records.complete(
            self.cells(),
            lambda kind, *key: getattr(self, kind)(*key),
            "fine-tuning",
            "; the demo begins anew next time",
        )

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
        """Measure the base, or a model adapted to the domain's text."""
        if method == "base":
            model = self.lab.base()
            counts = {"trainable": 0, "total": load.count_parameters(model)[1], "seconds": 0.0}
            return counts | self.quality(model) | {"continuation": self.goes_on(model)}
        rate = RATES["text"][method]
        config = replace(self.settings.adapt, peak_lr=rate, seed=seed)
        model, history = self.lab.adapt(method, self.lab.domain_text(self.settings.characters, seed), config)
        trainable, total = load.count_parameters(model)
        curve = [[e["step"], e["value"]] for e in history.evaluations]
        facts: dict = {"lr": rate, "trainable": trainable, "total": total}
        facts |= {"seconds": history.seconds, "best_step": history.best_step, "curve": curve} | self.quality(model)
        if method == SCRATCH or seed != self.first:
            return facts
        if self.own and method in self.own.merges:
            self.own.merges[method](model)
            after = self.lab.bits(model, self.lab.domain_test)
            self.records.add(("merged", method), before=facts["domain"], after=after)
        return facts | {"continuation": self.goes_on(model)}

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

    # What cells are made of

    def quality(self, model: Any) -> dict:
        """Return bits per character on held-out text of the domain, and of what the base was pretrained on."""
        lab = self.lab
        return {"domain": lab.bits(model, lab.domain_test), "base_text": lab.bits(model, lab.base_test)}

    def goes_on(self, model: Any) -> str:
        ids = self.lab.tokenizer.encode(claims.PROMPT)
        out = model.generate(ids[None], 70, temperature=0.5, seed=self.first)
        return self.lab.tokenizer.decode(out[0, len(ids) :])
