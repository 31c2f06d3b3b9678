"""The story in four steps: a text, a base pretrained on it, the base adapted to a domain, and what that bought.

`run_demo` measures everything into one dictionary (also written as results.json); tables, figures and the report are
functions of that dictionary alone.
"""

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console

from .. import __version__, blas
from ..data import corpora
from ..data.batches import ClassificationBatches, classification_windows
from ..data.tasks import load_task
from ..data.tokenizer import Tokenizer, TokenStream, encode_documents
from ..errors import show
from ..formats.atomic import read_json
from ..models.llama import LlamaForCausalLM, LlamaForSequenceClassification
from ..peft import LoraConfig, get_peft_model
from ..train import recipes
from ..train.evaluate import accuracy
from ..train.loop import TrainConfig, train
from ..train.parallel import Workers
from ..train.progress import progress_bar
from . import report, tables
from .base import PACKAGE_BASE, Base
from .memory import peak_bytes

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
    rank: int = 8
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
    base=Base(
        sizes=PACKAGE_BASE.sizes
        | {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"num_key_value_heads": 2},
        vocab_size=1024,
        config=replace(PACKAGE_BASE.config, steps=400, lr=6e-3, warmup=20, eval_every=40),
    ),
    go_on_with_package_base=False,
    curve_methods=("scratch", "full", "lora"),
    most_rounds=5,
    seeds=(0,),
)


def run_demo(out: Path, quick: bool = False, seed: int = 0, as_json: bool = False) -> dict:
    """Tell the story on the terminal and leave results.json, figures and report.html in `out`; returns the results."""
    plan = QUICK if quick else FULL
    started = perf_counter()
    console = Console(width=80, highlight=False, stderr=as_json)
    report.check_folder(out)
    with Workers() as workers:
        results = _Demo(plan, seed, workers, console).run()
    results |= {
        "command": f"minilora demo{' --quick' if quick else ''}{f' --seed {seed}' if seed else ''}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(perf_counter() - started, 1),
        "quick": quick,
        "machine": _machine(),
    }
    page = report.write_report(results, out)
    console.print(f"\nThe report: {page} ({results['seconds']:.0f} s in all)")
    if as_json:
        print(json.dumps(results))
    return results


class _Demo:
    def __init__(self, plan: Plan, seed: int, workers: Workers, console: Console):
        self.plan, self.seed, self.workers, self.console = plan, seed, workers, console
        self.seq_len = plan.base.seq_len

    def run(self) -> dict:
        self.say_title(1, "Text")
        texts = self.read_texts()
        self.say_title(2, "Pretrain: learn the language from much text")
        pretraining = self.pretrain()
        self.tokenize()
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
        self.say_title(4, "What transfer bought")
        self.console.print(tables.adaptation_table(results))
        self.console.print()
        self.console.print(tables.classification_table(results))
        for claim in tables.claims(results):
            self.console.print(f"- {claim}", markup=False)
        for method, text in continuations.items():
            self.console.print(f"\n[bold]{tables.NAMES[method]}[/bold] goes on after {PROMPT!r}:")
            lines = text.splitlines()[:8]
            self.console.print("\n".join(f"  {show(line, 76)}" for line in lines), markup=False)
        return results

    def say_title(self, number: int, title: str) -> None:
        self.console.print(f"\n[bold]{number}. {title}[/bold]")

    # 1. Text

    def read_texts(self) -> dict:
        self.base_text, self.domain = corpora.load("python-docs"), corpora.load("numpy-docs")
        self.base_parts, self.domain_parts = corpora.split(self.base_text), corpora.split(self.domain)
        described = {}
        for role, corpus, parts in (
            ("base", self.base_text, self.base_parts),
            ("domain", self.domain, self.domain_parts),
        ):
            sample = next(d.text for d in parts.train if 200 < len(d.text) < 600)
            used = corpus.characters if role == "base" else self.plan.characters
            described[role] = {"name": corpus.name, "characters": used, "sha256": corpus.sha256, "sample": sample}
        self.console.print(
            f"The base learns from {self.base_text.name}: {self.base_text.characters:,} characters that came with "
            "Python.\n"
            f"The domain is {self.domain.name}, of which adaptation sees {self.plan.characters:,} characters."
        )
        return described

    # 2. Pretrain

    def pretrain(self) -> dict:
        base = self.plan.base
        folder = _cache_folder() / f"base-{_fingerprint(base, self.base_text.sha256, self.seed)}"
        cached = (folder / "model" / "config.json").is_file()
        if not cached:
            base.make(folder, self.workers, self.seed)
        facts = read_json(folder / "model" / "manifest.json")
        model, self.tokenizer = recipes.load_model(str(folder))
        first, last = facts["evaluations"][0][1], facts["evaluations"][-1][1]
        self.console.print(
            f"{facts['parameters']:,} parameters, {base.config.steps} steps in {facts['seconds']} s"
            f"{' (from the cache)' if cached else ''}: "
            f"{first:.2f} -> {last:.2f} bits/character on held-out text."
        )
        self.base_folder, package = folder / "model", None
        if self.plan.go_on_with_package_base and (recipes.base_folder() / "config.json").is_file():
            self.base_folder = recipes.base_folder()
            self.tokenizer = Tokenizer.from_file(self.base_folder / "tokenizer.json")
            manifest = read_json(self.base_folder / "manifest.json")
            package = {"name": "the base in the package", "steps": manifest["train"]["steps"]}
            package["bits"] = manifest["validation_bits_per_character"]
            self.console.print(
                f"The base in the package is this recipe at {package['steps']} steps: {package['bits']:.2f}. "
                "We go on with that one."
            )
        return {
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

    def tokenize(self) -> None:
        pick = lambda documents, n: encode_documents(self.tokenizer, corpora.take(documents, n, seed=0))  # noqa: E731
        self.domain_validation = pick(self.domain_parts.validation, self.plan.validation_characters)
        self.domain_test = pick(self.domain_parts.test, self.plan.test_characters)
        self.base_test = pick(self.base_parts.test, self.plan.test_characters)

    def domain_text(self, characters: int, seed: int) -> TokenStream:
        return encode_documents(self.tokenizer, corpora.take(self.domain_parts.train, characters, seed))

    def fresh(self, method: str, seed: int):
        """A model to train by `method`: the base, or for "scratch" an untrained model of its shape."""
        model = LlamaForCausalLM.from_pretrained(self.base_folder)
        if method == "scratch":
            return LlamaForCausalLM(model.config, seed=seed)
        if method == "lora":
            return get_peft_model(model, self.lora(), seed=seed)
        return model

    def lora(self, task_type: str | None = None) -> LoraConfig:
        rank = self.plan.rank
        return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type=task_type)

    def bits(self, model, stream: TokenStream) -> float:
        return recipes.evaluator(model, stream, self.seq_len, 2 * self.plan.batch_size, self.workers)()

    def adapt(self, method: str, characters: int, seed: int):
        """Train by `method` on so much of the domain, stopped early on validation; returns model and history."""
        plan = self.plan
        stream = self.domain_text(characters, seed)
        model = self.fresh(method, seed)
        steps = plan.adapt.steps * min(plan.most_rounds, max(1, round(characters / plan.characters)))
        config = replace(plan.adapt, lr=plan.learning_rates[method], steps=steps, seed=seed)
        seq_len = min(self.seq_len, len(stream.ids))
        batches = recipes.training_batches(stream, plan.batch_size, seq_len, seed)
        history = train(
            model,
            batches,
            config,
            evaluate=lambda: self.bits(model, self.domain_validation),
            workers=self.workers,
            show_progress=False,
        )
        return model, history

    def adapt_all(self) -> tuple[list[dict], dict[str, str]]:
        methods = ("scratch", "full", "lora")
        base = LlamaForCausalLM.from_pretrained(self.base_folder)
        rows = [
            {
                "method": "base",
                "seed": 0,
                "trainable": 0,
                "total": recipes.count_parameters(base)[1],
                "peak_bytes": self.peak_bytes("base"),
                "seconds": 0.0,
                "domain": self.bits(base, self.domain_test),
                "base_text": self.bits(base, self.base_test),
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
                            "domain": self.bits(model, self.domain_test),
                            "base_text": self.bits(model, self.base_test),
                            "best_step": history.best_step,
                            "curve": [[e["step"], e["value"]] for e in history.evaluations],
                        }
                    )
                    if method != "scratch" and seed == self.plan.seeds[0]:
                        continuations[method] = self.goes_on(model)
                    advance(1, f"{method} {rows[-1]['domain']:.2f}")
        return rows, continuations

    def peak_bytes(self, method: str) -> int:
        """The most bytes alive in two training steps, weights included (for the base: in reading a batch)."""
        model = self.fresh(method, self.seed)
        held = sum(p.data.nbytes for p in model.parameters())
        batch_size = self.plan.batch_size
        batches = recipes.training_batches(self.domain_text(6_000, 0), batch_size, self.seq_len, 0)
        if method == "base":
            return peak_bytes(lambda: self.bits(model, self.domain_validation), held)
        config = TrainConfig(steps=2)
        return peak_bytes(lambda: train(model, batches, config, workers=self.workers, show_progress=False), held)

    def goes_on(self, model) -> str:
        ids = self.tokenizer.encode(PROMPT)
        out = model.generate(ids[None], 70, temperature=0.5, seed=self.seed)
        return self.tokenizer.decode(out[0, len(ids) :])

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
                    bits = self.bits(model, self.domain_test)
                    rows.append({"characters": characters, "method": method, "seed": self.seed, "domain": bits})
                    advance(1, f"{method} {bits:.2f}")
        return rows

    # Classification

    def classify_all(self) -> dict:
        task = load_task()
        encode = lambda examples: self.tokenizer.encode_many([e.text for e in examples])  # noqa: E731
        labels_of = lambda examples: [e.label for e in examples]  # noqa: E731
        test_ids, test_labels = encode(task.test), labels_of(task.test)
        rows = []
        methods = ("scratch", "feature-extraction", "full", "lora")
        runs = [(n, s, m) for n in self.plan.labels for s in self.plan.classification_seeds for m in methods]
        with progress_bar("classifying", len(runs)) as advance:
            for labels, seed, method in runs:
                few = task.few(labels, seed)
                model = self.fresh_classifier(method, len(task.classes), seed)
                batches = ClassificationBatches(encode(few), labels_of(few), 32, self.seq_len, seed, 0)
                steps = max(40, self.plan.epochs * len(few) // 32)
                config = TrainConfig(
                    steps=steps, lr=self.plan.classification_rates[method], warmup=steps // 10, seed=seed
                )
                history = train(model, batches, config, workers=self.workers, show_progress=False)
                windows = classification_windows(test_ids, test_labels, self.seq_len, 64, 0)
                rows.append(
                    {
                        "method": method,
                        "labels": labels,
                        "seed": seed,
                        "accuracy": accuracy(model, windows, self.workers),
                        "seconds": round(history.seconds, 2),
                        "trainable": recipes.count_parameters(model)[0],
                    }
                )
                advance(1, f"{method} {rows[-1]['accuracy']:.0%}")
        return {
            "classes": list(task.classes),
            "chance": 1 / len(task.classes),
            "test_examples": len(task.test),
            "rows": rows,
        }

    def fresh_classifier(self, method: str, classes: int, seed: int):
        body = self.fresh("scratch" if method == "scratch" else "full", seed)
        model = LlamaForSequenceClassification.from_language_model(body, classes, seed=seed)
        if method == "lora":
            return get_peft_model(model, self.lora("SEQ_CLS"), seed=seed)
        if method == "feature-extraction":
            model.model.requires_grad_(False)
        return model


def _cache_folder() -> Path:
    """Where pretrained bases are kept between runs: MINILORA_CACHE, or `minilora` in the user's cache."""
    own = os.environ.get("MINILORA_CACHE")
    general = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(general) / "minilora"


def _fingerprint(base: Base, text_sha256: str, seed: int) -> str:
    facts = json.dumps([asdict(base), text_sha256, seed, __version__], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _machine() -> dict:
    kernels = "; ".join(f"{b['internal_api']} {b['version']} ({b.get('architecture', '?')})" for b in blas.describe())
    return {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "minilora": __version__,
        "cores": blas.cores(),
        "blas": kernels,
    }
