"""What gradient checkpointing saves and costs: memory and time of a training step, plain and checkpointed.

    python -m benchmarks.memory                    the package's base, and SmolLM2-135M where it is in the cache
    python -m benchmarks.memory --out memory.json  and a record of it

A step is forward and backward, clipping and AdamW, by full fine-tuning, LoRA (q and v, and all linears) and QLoRA (all
linears), of rank 8. Columns, each plain and checkpointed:

    peak        the most bytes alive in a step, counted by tracemalloc on one worker; and the planner's figure for it
    kept        the most bytes alive in the forward pass beside the weights, and its share of plain full fine-tuning's
    process     the peak of a fresh process (resident set) that loads and does three steps on all cores
    ms          of a step on all cores, medians of rounds in which the two take turns; the median of their ratios, and
                the planner's figure for it
"""

import argparse
import json
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from benchmarks.harness import fresh, median_ratio
from minilora import threads

MODELS = {"base": "base", "smollm2": "smollm2-135m"}  # as `load_model` calls them -> as the planner does
METHODS = {
    "full": ("full", {}),
    "LoRA, q and v": ("lora", {"targets": ["q_proj", "v_proj"]}),
    "LoRA": ("lora", {}),
    "QLoRA": ("qlora", {}),
}
MODES = {"plain": False, "checkpointed": True}
MODULE = "benchmarks.memory"


def make_step(model_name: str, method: str, batch: int, length: int, checkpointing: bool):
    """Return the model, its token ids, and a function that does one step."""
    import numpy as np

    from minilora.optim import AdamW, clip_grad_norm_
    from minilora.train import load, methods

    name, options = METHODS[method]
    options = methods.Options(**options)
    model, _ = load.load_model(model_name, quantization=options.quantization if name == "qlora" else None)
    model = methods.adapt(model, name, options).train().gradient_checkpointing_enable(checkpointing)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=1e-3)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (batch, length))

    def step():
        model(ids, labels=ids).loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return model, ids, step


def counted(model_name: str, method: str, batch: int, length: int) -> dict:
    """Bytes at their most, by mode: alive in a step, and beside the weights in a forward pass."""
    from minilora.measure.memory import live_bytes, peak_bytes

    found = {}
    with threads.using(1):
        for mode, flag in MODES.items():
            model, ids, step = make_step(model_name, method, batch, length, flag)
            held = live_bytes(model)["weights"]
            peak = peak_bytes(lambda step=step: (step(), step()), held)
            kept = peak_bytes(lambda model=model, ids=ids: model(ids, labels=ids).loss)
            found[mode] = {"peak": peak, "kept": kept, "weights": held}
            del model, step
    return found


def process(model_name: str, method: str, batch: int, length: int, mode: str) -> dict:
    """Return the peak of this process after three steps."""
    from minilora.measure.footprint import peak_rss

    step = make_step(model_name, method, batch, length, MODES[mode])[-1]  # before a step keeps freed memory
    for _ in range(3):
        step()
    return {"resident": peak_rss()}


def seconds(model_name: str, method: str, batch: int, length: int, rounds: int) -> dict:
    """Seconds per step of each round, by mode."""

    found = {mode: [] for mode in MODES}
    model, _, step = make_step(model_name, method, batch, length, False)
    step()
    started = perf_counter()
    step()
    count = max(1, round(0.5 / (perf_counter() - started)))
    for _ in range(rounds):
        for mode, flag in MODES.items():
            model.gradient_checkpointing_enable(flag)
            started = perf_counter()
            for _ in range(count):
                step()
            found[mode].append((perf_counter() - started) / count)
    return found


PARTS = {"counted": counted, "process": process, "seconds": seconds}


def planned(model_name: str, method: str, batch: int, length: int) -> tuple[dict[str, float], float]:
    """Return the planner's peak, by mode, and its ratio of the seconds."""
    from minilora.plan.activations import Step
    from minilora.plan.planner import make_plan
    from minilora.plan.shapes import PRESETS
    from minilora.train.methods import Options

    name, options = METHODS[method]
    plan = make_plan(PRESETS[MODELS[model_name]], name, Options(**options), Step(batch, length))
    work = sum(plan.flops.values())
    return {"plain": plan.memory.peak, "checkpointed": plan.checkpointed.peak}, work / (work - plan.flops["again"])


def measure(model_name: str, method: str, batch: int, length: int, rounds: int, full: float | None) -> dict:
    """One row of the table. full: bytes kept by plain full fine-tuning, where it was measured before."""
    where = (model_name, method, batch, length)
    bytes_, times = fresh(MODULE, "counted", *where), fresh(MODULE, "seconds", *where, rounds)
    plan, ratio = planned(*where)
    row = {"model": model_name, "method": method, "ratio": median_ratio(times["checkpointed"], times["plain"])}
    row["planned_ratio"] = ratio
    for mode in MODES:
        row[mode] = bytes_[mode] | {"process": fresh(MODULE, "process", *where, mode)["resident"]}
        row[mode] |= {"seconds": statistics.median(times[mode]), "planned": round(plan[mode])}
        row[mode]["share"] = bytes_[mode]["kept"] / (full or bytes_["plain"]["kept"])
    return row


def show(row: dict) -> None:
    for mode in MODES:
        of_mode = row[mode]
        peak, plan, kept, rss = (of_mode[name] / 1e6 for name in ("peak", "planned", "kept", "process"))
        slower = f"{row['ratio']:>6.2f}{row['planned_ratio']:>6.2f}" if mode == "checkpointed" else ""
        print(
            f"{row['method'] if mode == 'plain' else '':<14}{mode:<12}{peak:>8,.1f}{plan:>8,.1f}{kept:>7,.1f}"
            f"{of_mode['share']:>6.0%}{rss:>8,.0f}{1000 * of_mode['seconds']:>7,.0f}{slower}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--method", choices=METHODS, help="only this one; shares are then of its own plain form")
    parser.add_argument("--batch", type=int, default=4, help="sequences per step (default: %(default)s)")
    parser.add_argument("--length", type=int, default=128, help="tokens per sequence (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of the seconds (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="write the record there, as JSON")
    parser.add_argument("--fresh", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fresh:
        part, *rest = arguments.fresh
        print(json.dumps(PARTS[part](*rest)))
        return

    from minilora import blas
    from minilora.errors import MiniloraError
    from minilora.formats.atomic import write_json
    from minilora.measure.records import machine
    from minilora.train.catalog import find

    rows = []
    for model_name in [arguments.model] if arguments.model else MODELS:
        try:
            _ = model_name == "base" or find(model_name)
        except MiniloraError as error:
            print(f"{model_name} is left out: {error}", file=sys.stderr)
            continue
        print(f"{model_name}, {arguments.batch} x {arguments.length} tokens, {blas.cores()} cores; MB and ms")
        print(f"{'':<26}{'peak':>8}{'plan':>8}{'kept':>7}{'share':>6}{'process':>8}{'ms':>7}{'ratio':>6}{'plan':>6}")
        full = None
        for method in [arguments.method] if arguments.method else METHODS:
            row = measure(model_name, method, arguments.batch, arguments.length, arguments.rounds, full)
            full = row["plain"]["kept"] if method == "full" else full
            show(row)
            rows.append(row)
    if arguments.out:
        settings = {"batch": arguments.batch, "length": arguments.length, "rounds": arguments.rounds, "rank": 8}
        head = {"benchmark": "memory", "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
        write_json(Path(arguments.out), head | {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
