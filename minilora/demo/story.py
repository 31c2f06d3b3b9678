"""The story in four steps: a text, a base pretrained on it, the base adapted to a domain, and what that bought.

`run_demo` measures everything into one dictionary (also written as results.json); tables, figures and the report are
functions of that dictionary alone.
"""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from rich.console import Console

from minilora.data import corpora
from minilora.demo import report, tables
from minilora.errors import escape
from minilora.formats.atomic import read_json
from minilora.measure.base import PACKAGE_BASE, QUICK_BASE, Base
from minilora.measure.lab import BASE_DATA, DOMAIN, Lab
from minilora.measure.memory import peak_bytes
from minilora.measure.records import machine
from minilora.show import grids
from minilora.train import recipes
from minilora.train.loop import TrainConfig, train
from minilora.train.methods import Options
from minilora.train.parallel import Workers
from minilora.train.progress import progress_bar

PROMPT = "Parameters\n----------\na :"


@dataclass(frozen=True)
class Plan:
    """How much of everything the demo does."""

    base: Base  # what is pretrained in front of the reader
    go_on_with_package_base: bool  # adapt the longer trained base that comes with the package
    adapt: TrainConfig
    characters: int  # of the domain that adaptation sees
    data_curve: tuple[int, ...]  # further amounts of domain text to compare on, in characters
    curve_methods: tuple[str, ...]
    most_rounds: int  # with more text there are more steps, up to so many times those of `adapt`
    seeds: tuple[int, ...]
    labels: tuple[int, ...]  # labelled sentences a class
    classification_seeds: tuple[int, ...]
    epochs: int  # of classification, and at least 40 steps
    test_characters: int = 20_000  # of each held-out text
    validation_characters: int = 6_000  # that early stopping looks at
    batch_size: int = 8
    options: Options = Options()
    learning_rates = {"scratch": 3e-3, "full": 5e-4, "lora": 7e-4}
    classification_rates = {"scratch": 1e-3, "feature-extraction": 1e-2, "full": 2e-3, "lora": 5e-3}


FULL = Plan(
    base=replace(PACKAGE_BASE, config=replace(PACKAGE_BASE.config, steps=200, warmup=20, eval_every=20)),
    go_on_with_package_base=True,
    adapt=TrainConfig(steps=60, eval_every=5, patience=3, weight_decay=0.01, warmup=3, lr_floor=0.3),
    characters=12_000,
    data_curve=(2_000, 60_000),
    curve_methods=("scratch", "full"),
    most_rounds=2,
    seeds=(0, 1, 2),
    labels=(16, 128),
    classification_seeds=(0,),
    epochs=2,
)
QUICK = replace(
    FULL,
    base=QUICK_BASE,
    go_on_with_package_base=False,
    curve_methods=("scratch", "full", "lora"),
    most_rounds=5,
    seeds=(0,),
)


@dataclass(frozen=True)
class Own:
    """The reader's own code in place of a part of the library.

    what: the part and its names, as "LoRA is LoraLayer, inject and merge"; file: where it is from; facts: more about
    it, for results.json; adapts: {method: function of (model, options, seed)} that adapts in place; merges: {method:
    function of the model} that takes the update into the weights, in place; remake: puts parts of its own into a model,
    in place, before anything else; compare: a sentence on how it does beside the library's, measured in the Lab.
    """

    what: str
    file: str
    facts: dict
    adapts: dict[str, Callable] = field(default_factory=dict)
    merges: dict[str, Callable] = field(default_factory=dict)
    remake: Callable | None = None
    compare: Callable[[Lab], str] | None = None


def run_demo(out: Path, quick: bool = False, seed: int = 0, as_json: bool = False, own: Own | None = None) -> dict:
    """Tell the story on the terminal and leave results.json, figures and report.html in `out`; returns the results.

    own: code of the reader's, which runs where the library's would. What it prints goes beside the JSON.
    """
    plan = QUICK if quick else FULL
    started = perf_counter()
    console = Console(width=80, highlight=False, stderr=as_json)
    report.check_folder(out)
    with Workers() as workers, redirect_stdout(sys.stderr) if as_json else nullcontext():
        results = _Demo(plan, seed, workers, console, own).run()
    options = [" --quick" * quick, f" --seed {seed}" * bool(seed), f" --with {own.file}" if own else ""]
    results |= {
        "command": f"minilora demo{''.join(options)}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(perf_counter() - started, 1),
        "quick": quick,
        "machine": machine(),
    }
    page = report.write_report(results, out)
    console.print(f"\nThe report: {page} ({results['seconds']:.0f} s in all)")
    if as_json:
        print(json.dumps(results))
    return results


class _Demo:
    def __init__(self, plan: Plan, seed: int, workers: Workers, console: Console, own: Own | None = None):
        self.plan, self.seed, self.workers, self.console, self.own = plan, seed, workers, console, own
        self.merged: dict[str, dict] = {}  # by method of `own`: bits of the domain before and after merging

    def run(self) -> dict:
        if self.own:
            self.console.print(
                f"\nIn this run {self.own.what} of {self.own.file}: your own code, which passed its lesson's checks. "
                "It now runs as any program of yours does, without the limits of minilora check.",
                markup=False,
            )
        self.say_title(1, "Text")
        texts = self.read_texts()
        self.say_title(2, "Pretrain: learn the language from much text")
        base_folder, pretraining = self.pretrain()
        plan = self.plan
        self.lab = Lab(
            base_folder,
            self.workers,
            plan.base.seq_len,
            plan.batch_size,
            plan.test_characters,
            plan.validation_characters,
            own=self.own.adapts if self.own else None,
            remake=self.own.remake if self.own else None,
        )
        self.say_title(3, "Fine-tune: learn the domain from little text")
        adaptation, continuations = self.adapt_all()
        data_curve = self.measure_data_curve(adaptation)
        classification = self.classify_all()
        results = {
            "texts": texts,
            "pretraining": pretraining,
            "adaptation": adaptation,
            "data_curve": data_curve,
            "classification": classification,
            "continuations": {"prompt": PROMPT, "texts": continuations},
        }
        if self.own:
            results["own"] = self.own.facts | {"what": self.own.what, "file": self.own.file, "merged": self.merged}
            results["own"]["compared"] = self.own.compare(self.lab) if self.own.compare else ""
        self.say_title(4, "What transfer bought")
        self.console.print(tables.adaptation_table(results))
        self.console.print()
        self.console.print(tables.classification_table(results))
        for claim in tables.claims(results):
            self.console.print(f"- {claim}", markup=False)
        for method, text in continuations.items():
            self.console.print(f"\n[bold]{grids.NAMES[method]}[/bold] goes on after {PROMPT!r}:")
            lines = text.splitlines()[:8]
            self.console.print("\n".join(f"  {escape(line, 76)}" for line in lines), markup=False)
        return results

    def say_title(self, number: int, title: str) -> None:
        self.console.print(f"\n[bold]{number}. {title}[/bold]")

    # 1. Text

    def read_texts(self) -> dict:
        base, domain = corpora.load(BASE_DATA), corpora.load(DOMAIN)
        described = {}
        for role, corpus, used in (("base", base, base.characters), ("domain", domain, self.plan.characters)):
            sample = next(d.text for d in corpora.split(corpus).train if 200 < len(d.text) < 600)
            described[role] = {"name": corpus.name, "characters": used, "sha256": corpus.sha256, "sample": sample}
        self.console.print(
            f"The base learns from {base.name}: {base.characters:,} characters that came with Python.\n"
            f"The domain is {domain.name}, of which adaptation sees {self.plan.characters:,} characters."
        )
        return described

    # 2. Pretrain

    def pretrain(self) -> tuple[Path, dict]:
        """The folder of the base to adapt, and how the one made in front of the reader came out."""
        base = self.plan.base
        base_folder, cached = base.cached(self.workers, self.seed)
        facts, package = read_json(base_folder / "manifest.json"), None
        first, last = facts["evaluations"][0][1], facts["evaluations"][-1][1]
        self.console.print(
            f"{facts['parameters']:,} parameters, {base.config.steps} steps in {facts['seconds']} s"
            f"{' (from the cache)' if cached else ''}: "
            f"{first:.2f} -> {last:.2f} bits/character on held-out text."
        )
        if self.plan.go_on_with_package_base and (recipes.base_folder() / "config.json").is_file():
            base_folder = recipes.base_folder()
            manifest = read_json(base_folder / "manifest.json")
            package = {"name": "the base in the package", "steps": manifest["train"]["steps"]}
            package["bits"] = manifest["validation_bits_per_character"]
            self.console.print(
                f"The base in the package is this recipe at {package['steps']} steps: {package['bits']:.2f}. "
                "We go on with that one."
            )
        return base_folder, {
            "parameters": facts["parameters"],
            "steps": base.config.steps,
            "seconds": facts["seconds"],
            "cached": cached,
            "curve": facts["evaluations"],
            "losses": facts["losses"],
            "samples": facts["samples"],
            "base": package,
        }

    # 3. Fine-tune

    def adapt(self, method: str, characters: int, seed: int):
        """Train by `method` on so much of the domain, stopped early on validation; returns model and history."""
        plan = self.plan
        steps = plan.adapt.steps * min(plan.most_rounds, max(1, round(characters / plan.characters)))
        config = replace(plan.adapt, lr=plan.learning_rates[method], steps=steps, seed=seed)
        return self.lab.adapt(method, self.lab.domain_text(characters, seed), config, plan.options)

    def adapt_all(self) -> tuple[list[dict], dict[str, str]]:
        methods = ("scratch", "full", "lora")
        lab, base = self.lab, self.lab.base()
        rows = [
            {
                "method": "base",
                "seed": 0,
                "trainable": 0,
                "total": recipes.count_parameters(base)[1],
                "peak_bytes": self.peak_bytes("base"),
                "seconds": 0.0,
                "domain": lab.bits(base, lab.domain_test),
                "base_text": lab.bits(base, lab.base_test),
                "best_step": 0,
                "curve": [],
            }
        ]
        continuations = {"base": self.goes_on(base)}
        with progress_bar("adapting", len(methods) * len(self.plan.seeds)) as advance:
            for method in methods:
                peak = self.peak_bytes(method)
                for seed in self.plan.seeds:
                    model, history = self.adapt(method, self.plan.characters, self.seed + seed)
                    trainable, total = recipes.count_parameters(model)
                    rows.append(
                        {
                            "method": method,
                            "seed": self.seed + seed,
                            "trainable": trainable,
                            "total": total,
                            "peak_bytes": peak,
                            "seconds": round(history.seconds, 2),
                            "domain": lab.bits(model, lab.domain_test),
                            "base_text": lab.bits(model, lab.base_test),
                            "best_step": history.best_step,
                            "curve": [[e["step"], e["value"]] for e in history.evaluations],
                        }
                    )
                    if method != "scratch" and seed == self.plan.seeds[0]:
                        if self.own and method in self.own.merges:
                            self.own.merges[method](model)
                            self.merged[method] = {
                                "before": rows[-1]["domain"],
                                "after": lab.bits(model, lab.domain_test),
                            }
                        continuations[method] = self.goes_on(model)
                    advance(1, f"{method} {rows[-1]['domain']:.2f}")
        return rows, continuations

    def peak_bytes(self, method: str) -> int:
        """The most bytes alive in two training steps, weights included (for the base: in reading a batch)."""
        lab = self.lab
        model = lab.base() if method == "base" else lab.fresh(method, self.seed, self.plan.options)
        held = sum(p.data.nbytes for p in model.parameters())
        if method == "base":
            return peak_bytes(lambda: lab.bits(model, lab.domain_validation), held)
        batches = recipes.training_batches(lab.domain_text(6_000, 0), lab.batch_size, lab.seq_len, 0)
        config = TrainConfig(steps=2)
        return peak_bytes(lambda: train(model, batches, config, workers=self.workers, show_progress=False), held)

    def goes_on(self, model) -> str:
        ids = self.lab.tokenizer.encode(PROMPT)
        out = model.generate(ids[None], 70, temperature=0.5, seed=self.seed)
        return self.lab.tokenizer.decode(out[0, len(ids) :])

    def measure_data_curve(self, adaptation: list[dict]) -> list[dict]:
        """Domain bits after training on more and less text; the amount that `adaptation` had is taken from there."""
        methods = self.plan.curve_methods
        rows = [
            {"characters": self.plan.characters} | {name: row[name] for name in ("method", "seed", "domain")}
            for row in adaptation
            if row["method"] in methods
        ]
        with progress_bar("data curve", len(methods) * len(self.plan.data_curve)) as advance:
            for characters in self.plan.data_curve:
                for method in methods:
                    model, _ = self.adapt(method, characters, self.seed)
                    bits = self.lab.bits(model, self.lab.domain_test)
                    rows.append({"characters": characters, "method": method, "seed": self.seed, "domain": bits})
                    advance(1, f"{method} {bits:.2f}")
        return rows

    # Classification

    def classify_all(self) -> dict:
        lab, plan, rows = self.lab, self.plan, []
        methods = ("scratch", "feature-extraction", "full", "lora")
        runs = [(n, s, m) for n in plan.labels for s in plan.classification_seeds for m in methods]
        with progress_bar("classifying", len(runs)) as advance:
            for labels, seed, method in runs:
                few = lab.task.few(labels, seed)
                steps = max(40, plan.epochs * len(few) // 32)
                rate = plan.classification_rates[method]
                config = TrainConfig(steps=steps, lr=rate, warmup=steps // 10, seed=seed)
                model, history = lab.classify(method, few, config, plan.options)
                rows.append(
                    {
                        "method": method,
                        "labels": labels,
                        "seed": seed,
                        "accuracy": lab.accuracy(model),
                        "seconds": round(history.seconds, 2),
                        "trainable": recipes.count_parameters(model)[0],
                    }
                )
                advance(1, f"{method} {rows[-1]['accuracy']:.0%}")
        return {
            "classes": list(lab.task.classes),
            "chance": 1 / len(lab.task.classes),
            "test_examples": len(lab.test_examples),
            "rows": rows,
        }
