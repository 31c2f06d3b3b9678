"""SmolLM2-135M in minilora beside transformers and PEFT: equal results, files both ways, loading, and memory.

    pip install -e ".[parity,gguf]" && minilora models get smollm2 && python -m benchmarks.smollm2

Equal and out again: see `benchmarks.smollm2_checks`. Load: from the GGUF file in a fresh process, its tokenizer
included in minilora, in medians over the rounds and the median of the rounds' ratios; "from the shell" is that with the
start of Python and the imports. Memory: fresh processes that load, do three steps of 512 tokens with adapters of rank 8
on all linears, and say the peak of their resident set ("ckpt": with gradient checkpointing); what it is made of is
counted in another process, where the counting (tracemalloc) takes memory itself. The speed of steps and of decoding is
measured by `benchmarks.speed`.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from benchmarks import step
from benchmarks.harness import fresh, median_ratio
from minilora import threads

MODULE, NAME = "benchmarks.smollm2", "smollm2"
PARTS = ("equal", "out", "load", "memory")
NEEDED = ("torch", "transformers", "peft", "bitsandbytes", "gguf")  # the extras parity and gguf
SIZE = step.SMOLLM2 | {"pretrained": NAME, "targets": step.ALL_LINEAR}
GOALS = {"load": 3.0, "memory": 700e6}  # seconds, bytes


# What is timed


def load(library: str, method: str) -> dict:
    """Seconds of loading in this process, once everything is imported. method: "lora" for float32, or "qlora"."""
    if library == "minilora":
        import gguf.quants  # noqa: F401

        from minilora.train.load import load_model

        started = perf_counter()
        load_model(NAME, quantization={"quant_type": "nf4"} if method == "qlora" else None)
    else:
        import torch
        from transformers import AutoModelForCausalLM  # noqa: F401

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        started = perf_counter()
        step.transformers_model(SIZE)
    return {"seconds": perf_counter() - started}


# What takes memory


def peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident() -> int:
    """Bytes of the resident set now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def sized(rows: int) -> dict:
    """512 tokens in so many rows."""
    return SIZE | {"batch": rows, "length": 512 // rows}


def minilora_memory(method: str, rows: int, count: int, counted: bool, checkpointing: bool) -> dict:
    """Bytes at the stages of three steps; where `counted`, of the kinds of arrays instead."""
    import tracemalloc

    import gguf.quants  # noqa: F401

    import minilora.models.llama
    import minilora.optim
    import minilora.peft
    import minilora.quant

    size, found = sized(rows), {"rest": resident()}
    model = step.minilora_model(size, method)  # before the first step, from which on the process keeps freed memory
    model.gradient_checkpointing_enable(checkpointing)
    found |= {"loaded": resident(), "peak of loading": peak()}
    with threads.using(count):
        one_step = step.minilora_loop(model, step.token_ids(size))
        if not counted:
            for _ in range(3):
                one_step()
            return found | {"peak": peak()}
        one_step()  # the optimizer makes its arrays in the first
        tracemalloc.start()
        one_step()
        found = {"step": tracemalloc.get_traced_memory()[1]}
        tracemalloc.stop()
    layers = [module for _, module in model.named_modules() if isinstance(module, minilora.quant.Linear4bit)]
    frozen = {id(p.data): p.data.nbytes for p in model.parameters() if not p.requires_grad}
    trained = sum(p.data.nbytes for p in model.parameters() if p.requires_grad)
    return found | {
        "codes": sum(layer.nbytes for layer in layers),
        "frozen": sum(frozen.values()),
        "trained": 3 * trained,
    }


def torch_memory(method: str, rows: int) -> dict:
    one_step = step.transformers_step(sized(rows), method)
    for _ in range(3):
        one_step()
    return {"peak": peak()}


MEMORY = {"minilora": minilora_memory, "transformers": torch_memory}


# The parts: each gives its results and prints them


def show_equal(say) -> dict:
    from benchmarks import smollm2_checks as checks

    with tempfile.TemporaryDirectory() as folder:
        found = checks.equal(Path(folder))
    say(f"Equal: logits (goal {checks.GOAL:.0e} of the largest) and {checks.NEW_TOKENS} greedy tokens")
    say(f"{'transformers has its weights from':<36}{'bits':>6}{'10 answers':>12}{'long text':>11}{'texts':>10}")
    names = {"saved": "the folder that minilora saved", "gguf": "the GGUF file, read by itself"}
    for key, row in found["transformers"].items():
        texts = f"{row['texts_equal']} of {row['texts']}"
        bits = "equal" if row["weights_equal"] else "differ"
        say(f"{names[key]:<36}{bits:>6}{row['answers']:>12.1e}{row['long']:>11.1e}{texts:>10}")
        for other in row["differing"]:
            say(f"  prompt {other['prompt']} differs at token {other['token']}, its two best {other['gap']:.1e} apart")
    say(f"{checks.QUESTION} {found['answer']}")
    return found


def show_out(say) -> list[dict]:
    from benchmarks import smollm2_checks as checks

    say(f"Out again: logits apart (goal {checks.GOAL:.0e}), and how far training had moved them")
    say(f"{'what':<22}{'from':<14}{'opens in':<14}{'apart':>10}{'moved':>10}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in checks.out_again(Path(folder)):
            what = f"{row['kind']}, {row['what']}"
            say(f"{what:<22}{row['from']:<14}{row['to']:<14}{row['distance']:>10.1e}{row['moved']:>10.1e}")
            rows.append(row)
    return rows


def show_load(say, rounds: int) -> dict:
    from minilora import blas

    found = {}
    kinds = {"load": ("minilora", "lora"), "load in 4 bits": ("minilora", "qlora"), "other": ("transformers", "lora")}
    turns = [{kind: fresh(MODULE, "load", *of_kind) for kind, of_kind in kinds.items()} for _ in range(rounds)]
    for name, key in (("", "seconds"), (", from the shell", "process")):
        of_kind = {kind: [turn[kind][key] for turn in turns] for kind in kinds}
        for kind in ("load", "load in 4 bits"):
            row = {"minilora": statistics.median(of_kind[kind]), "transformers": statistics.median(of_kind["other"])}
            found[kind + name] = row | {"ratio": median_ratio(of_kind["other"], of_kind[kind])}
    say(f"Load: seconds, medians of {rounds} rounds, {blas.cores()} cores")
    say(f"{'work':<32}{'minilora':>10}{'transformers':>14}{'ratio':>8}{'goal':>12}")
    for name, row in found.items():
        goal = f"{GOALS['load']:.0f} s" if name == "load" else ""
        say(f"{name:<32}{row['minilora']:>10.2f}{row['transformers']:>14.2f}{row['ratio']:>8.2f}{goal:>12}")
    return found


def show_memory(say) -> dict:
    settings = {"1 x 512, 1 worker": (1, 1), "4 x 128, 1 worker": (4, 1), "4 x 128, 2 workers": (4, 2)}
    settings = {name: (*sizes, False) for name, sizes in settings.items()} | {
        f"{name}, ckpt": (*sizes, True) for name, sizes in settings.items() if "4 x 128, 1" not in name
    }
    found = {}
    for name, (rows, count, checkpointing) in settings.items():
        plain = fresh(MODULE, "memory", "minilora", "qlora", rows, count, False, checkpointing)
        found[name] = plain | fresh(MODULE, "memory", "minilora", "qlora", rows, count, True, checkpointing)
    for method in ("lora", "qlora"):
        found[f"transformers {method}"] = fresh(MODULE, "memory", "transformers", method, 4)

    say(f"Memory: MB of QLoRA, 512 tokens, rank {step.RANK} on all linears (goal: {GOALS['memory'] / 1e6:.0f})")
    labels = {
        "peak": "peak of the process",
        "peak of loading": "  peak of loading",
        "rest": "  Python and libraries at rest",
        "codes": "  linears in 4 bits",
        "frozen": "  embeddings (the head, too) and norms",
        "trained": "  adapters and their two moments",
        "step": "  gradients and activations, at their most",
        "other": "  not accounted for",
    }
    columns = list(settings)
    for i in range(3):  # what a column's name is made of, below each other
        say(f"{'':<44}" + "".join(f"{[*column.split(', '), ''][i]:>12}" for column in columns))
    for column in columns:
        parts = ("rest", "codes", "frozen", "trained", "step")
        found[column]["other"] = found[column]["peak"] - sum(found[column][part] for part in parts)
    for key, label in labels.items():
        say(f"{label:<44}" + "".join(f"{found[column][key] / 1e6:>12.0f}" for column in columns))
    lora, qlora = (found[f"transformers {method}"]["peak"] / 1e6 for method in ("lora", "qlora"))
    say(f"transformers + PEFT, 4 x 128: LoRA {lora:,.0f}; QLoRA, which loads in float32, {qlora:,.0f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=7, help="of the loading (default: 7)")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the tables")
    parser.add_argument("--fresh", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fresh:
        kind, library, *rest = arguments.fresh
        print(json.dumps(load(library, *rest) if kind == "load" else MEMORY[library](*rest)))
        return 0

    from minilora.errors import MiniloraError

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f'{", ".join(missing)} missing: pip install -e ".[parity,gguf]"', file=sys.stderr)
        return 2
    try:
        step.file_of_model(SIZE)
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")  # PEFT's and transformers', of which none is ours to mend
    say = (lambda line: None) if arguments.json else (lambda line: print(line, flush=True))
    run = {
        "equal": lambda: show_equal(say),
        "out": lambda: show_out(say),
        "load": lambda: show_load(say, arguments.rounds),
        "memory": lambda: show_memory(say),
    }
    found = {}
    for part in [arguments.only] if arguments.only else PARTS:
        if found:
            say("")
        found[part] = run[part]()
    if arguments.json:
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
