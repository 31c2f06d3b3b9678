"""The demo: read a text, pretrain a base on it, adapt the base to a domain, and compare.

`run_demo` measures cells into a file of records, from which three numbers, a chart and a table are made, for the
terminal and for a single HTML file.
"""

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from minilora import threads
from minilora.data import corpora
from minilora.demo import claims, page
from minilora.demo.base import PACKAGE_BASE, QUICK_BASE, Base
from minilora.errors import MiniloraError, escape, line_width
from minilora.formats.atomic import make_folder, read_json, show_path, write_atomic
from minilora.measure.lab import BASE_DATA, DOMAIN, SCRATCH, Lab
from minilora.measure.memory import peak_bytes, peak_of_steps
from minilora.measure.records import Records
from minilora.show.grids import NAMES, drawn, show_signed
from minilora.train import load
from minilora.train.loop import TrainConfig

PAGE, RECORDS = "report.html", "results.jsonl"
KIND = "demo"  # kind of the records
CHART = "Learned and forgotten, in bits/character"
BEHIND = (
    "With --quick, LoRA stays far behind full fine-tuning: it trains at the learning rate of the longer demo, "
    "which has more steps."
)
NEXT = "docs/one-evening.md leads from here to a LoRA that you wrote yourself"
PROMPT = "Parameters\n----------\na :"  # for the models to continue
SAMPLES = (
    "What each model writes after the heading “Parameters” and “a :” (seed {}; unselected, so judge by the number)"
)
TITLE = "What does it take to teach a model something?"
LEAD = (
    "A small network has read Python's documentation. Then it learns a little of NumPy's: with all of its weights, by "
    "LoRA, and, to compare, from random weights."
)
RATES = {SCRATCH: 3e-3, "full": 5e-4, "lora": 7e-4}  # fixed learning rates, to save a search


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Settings of the demo: which base, how much text, how many seeds."""

    base: Base  # pretrained while the reader watches
    go_on_with_package_base: bool  # then adapt the base in the package, which was trained longer
    seeds: tuple[int, ...] = (0, 1, 2)  # seeds of adapting; everything else uses the first one
    characters: int = 12_000  # characters of the domain's text
    adapt: TrainConfig
    test_characters: int = 20_000  # characters of each held-out text
    validation_characters: int = 6_000  # for early stopping


FULL = DemoSettings(
    base=replace(PACKAGE_BASE, config=replace(PACKAGE_BASE.config, steps=200, warmup=20, eval_every=20)),
    go_on_with_package_base=True,
    adapt=TrainConfig(steps=60, eval_every=5, patience=3, weight_decay=0.01, warmup=3, lr_floor=0.3),
)
QUICK = replace(FULL, base=QUICK_BASE, go_on_with_package_base=False, seeds=(0,))


def run_demo(out: Path, quick: bool = False, seed: int = 0) -> Records:
    """Run the demo in the terminal, write results.jsonl and report.html to `out`, and return the records."""
    started = perf_counter()
    settings = QUICK if quick else FULL
    settings = replace(settings, seeds=tuple(seed + offset for offset in settings.seeds))
    prepare_folder(out, PAGE, RECORDS)
    facts = asdict(settings) | {"command": command(quick, seed), "quick": quick}
    records = Records.open(out / RECORDS, KIND, facts, overwrite=True)
    console = Console(width=line_width(), highlight=False, record=True)
    console.print("\n[bold]1. Text[/bold]")
    base, domain = corpora.load(BASE_DATA), corpora.load(DOMAIN)
    sizes = {"base": (base, base.characters), "domain": (domain, settings.characters)}
    texts = {
        role: {"name": text.name, "characters": count, "sha256": text.sha256} for role, (text, count) in sizes.items()
    }
    records.add(("texts",), **texts)
    console.print(
        f"The base is pretrained on {base.name}: {base.characters:,} characters that came with Python.\n"
        f"It is then adapted to {settings.characters:,} characters of the domain, {domain.name}."
    )
    console.print("\n[bold]2. Pretrain: learn the language from a lot of text[/bold]")
    story = _Story(settings, _pretrain(settings, records, console))
    beginning = console.export_text()
    console.print("\n[bold]3. Fine-tune: learn the domain from a little text[/bold]")
    measure = lambda kind, *key: getattr(story, kind)(*key)  # noqa: E731
    records.complete(story.cells(), measure, "measuring", "; the next demo starts from the beginning")
    console.print("\n[bold]4. Compare[/bold]")
    result = claims.AdaptedResult(records)
    numbers, grid = claims.three_numbers(result), claims.adaptation_grid(result)
    samples = "\n\n".join(map(_sample, (row for row in records.of("text") if "continuation" in row)))
    chart = CHART, claims.learned_and_forgot(result), show_signed
    page.tell(console, numbers, *chart)
    if quick:
        console.print(f"{BEHIND}\n")
    console.print(drawn(grid))
    console.print(f"\n[bold]{SAMPLES.format(seed)}[/bold]\n")
    console.print(samples, markup=False)
    seconds = records.add(("run",), seconds=round(perf_counter() - started, 1))["seconds"]
    below = [(SAMPLES.format(seed), samples), ("How it went", beginning), ("Next", NEXT)]
    bars = page.chart(*chart) + f"<p>{BEHIND}</p>" * quick
    write_atomic(out / PAGE, page.page(TITLE, LEAD, numbers, bars, grid, below))
    console.print(f"\nThe report: {out / PAGE} ({seconds:.0f} s in all)\nNext: {NEXT}", markup=False)
    return records


def _sample(row: dict) -> str:
    """Return what a model wrote, below its name and its bits per character."""
    caption = f"{NAMES[row['key'][1]]}, {row['domain']:.3f} bits/character on held-out text of {DOMAIN}:"
    return "\n".join([caption, *(f"  {escape(line, 76)}" for line in row["continuation"].splitlines()[:5])])


def _pretrain(settings: DemoSettings, records: Records, console: Console) -> Path:
    """Pretrain a base, print its progress, and return the folder of the base to adapt: this one, or the package's."""
    base_folder, cached = settings.base.cached(settings.seeds[0])
    facts = read_json(base_folder / "manifest.json")
    first, last = facts["evaluations"][0][1], facts["evaluations"][-1][1]
    console.print(
        f"{facts['parameters']:,} parameters, {settings.base.config.steps} steps in {facts['seconds']} s"
        f"{' (from the cache)' if cached else ''}: "
        f"{first:.2f} -> {last:.2f} bits/character on held-out text. Samples:"
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
            f"The package has a base trained by the same recipe for {manifest['train']['steps']} steps, to "
            f"{manifest['validation_bits_per_character']:.2f} bits/character. The demo continues with it."
        )
    console.print(
        "The table at the end measures the base on other pieces of that text, so its number there is another."
    )
    return base_folder


class _Story:
    """The measurement of step 3's cells. The first part of a cell's key names the method that measures it."""

    def __init__(self, settings: DemoSettings, base_folder: Path):
        self.settings, self.first = settings, settings.seeds[0]
        sizes = (settings.test_characters, settings.validation_characters)
        self.lab = Lab(base_folder, settings.base.seq_len, 8, *sizes)

    def cells(self) -> list[tuple]:
        settings = self.settings
        cells: list[tuple] = [("memory", "base"), ("text", "base", 0)]
        for method in RATES:
            cells += [("memory", method), *(("text", method, seed) for seed in settings.seeds)]
        return cells

    def memory(self, method: str) -> dict:
        """Measure the peak bytes of two training steps, weights included (for the base: of an evaluation)."""
        lab = self.lab
        model = lab.base() if method == "base" else lab.fresh(method, self.first)
        held = sum(p.data.nbytes for p in model.parameters())
        if method == "base":
            return {"peak": peak_bytes(lambda: lab.bits(model, lab.domain_validation), held)}
        with threads.using(1):  # so that every run needs the same memory
            return {"peak": peak_of_steps(model, lab.batches(lab.domain_text(6_000, 0), lab.batch_size, 0), held)}

    def text(self, method: str, seed: int) -> dict:
        """Measure the base, or a model adapted to the domain's text, on held-out text of both."""
        lab, facts = self.lab, dict[str, Any]()
        if method == "base":
            model = lab.base()
            facts |= {"trainable": 0, "total": load.count_parameters(model)[1], "seconds": 0.0}
        else:
            config = replace(self.settings.adapt, peak_lr=RATES[method], seed=seed)
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


def command(quick: bool, seed: int, *options: str) -> str:
    """Return the command that runs this demo again."""
    return shlex.join(["minilora", "demo", *options, *["--seed", str(seed)] * bool(seed), *["--quick"] * quick])


def prepare_folder(folder: Path, file: str, other: str) -> None:
    """Make the folder. Raises MiniloraError if the folder has `file` but not `other`, since the demo would have left
    both.
    """
    make_folder(folder)
    if (folder / file).exists() and not (folder / other).exists():
        raise MiniloraError(f"{show_path(folder / file)} was not written by the demo: choose another --out")
