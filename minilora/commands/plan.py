"""`minilora plan`: its flags, and the facts that they ask for. The arithmetic is in `minilora.plan`."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError, Namespace

from minilora import blas
from minilora.commands.common import Parser, add_json, choice, print_result
from minilora.commands.options import add_option_flags, read_options
from minilora.errors import MiniloraError
from minilora.peft.method import METHODS, Options, find
from minilora.plan import planner
from minilora.plan.activations import Step
from minilora.plan.devices import DEVICES, MEMORIES
from minilora.plan.shapes import PRESETS, find_shape
from minilora.show.planned import largest_text, plan_text

ASSUMPTIONS = {
    2: "AdamW's moments in float32, no second copy of the weights; fused attention; with checkpointing, each block "
    "keeps its input and is computed again. GB are 10^9 bytes; a driver takes about half a GB more.",
    4: "minilora's own engine, array by array; with checkpointing, the block that is computed again is workspace. "
    "Each kind is at its largest: they are not all alive at once, so the peak may be less than their sum.",
}
UNITS = {"": 1e9, "gb": 1e9, "g": 1e9, "gib": 2**30, "mb": 1e6, "m": 1e6, "mib": 2**20, "tb": 1e12}
UTILIZATION = 0.4  # share of a device's TFLOP/s that training is taken to reach


def add(parser: Parser) -> None:
    example = "example: minilora plan llama-65b --method qlora --rank 64"
    parser.epilog = f"models: {', '.join(PRESETS)}\nmethods: {', '.join(METHODS)}\n\n{example}"
    parser.add_argument("model", nargs="?", help="a preset, a config.json or a model folder")
    words = "one, and its own flags, told by --method NAME --help (default: all of them)"
    parser.add_argument("--method", help=words)
    words = "sequences per step (default: %(default)s)"
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help=words)
    words = "tokens per sequence (default: %(default)s)"
    parser.add_argument("--seq-len", type=int, default=512, metavar="N", help=words)
    words = "bfloat16, float16, or float32: minilora's own engine (default: %(default)s)"
    parser.add_argument("--dtype", type=choice(planner.DTYPES), default="bfloat16", help=words)
    parser.add_argument("--memory", type=_size, help="which preset is the largest that fits, say 24GB")
    words = f"tokens per second on it: {', '.join(DEVICES)}"
    parser.add_argument("--device", type=choice(DEVICES), help=words)
    add_option_flags(parser)
    add_json(parser)


def _size(text: str) -> float:
    """A flag's type: bytes."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([a-z]*)", text.strip().lower())
    size = float(match[1]) * UNITS.get(match[2], 0) if match else 0
    if size < 1:
        raise ArgumentTypeError(f"must be a size such as 24GB or 700MB, not {text}")
    return size


def run(arguments: Namespace) -> None:
    name, budget = arguments.model, arguments.memory
    if name is None and budget is None:
        raise MiniloraError("plan needs a model, such as llama-7b or a config.json, or --memory, such as 24GB")
    if arguments.method is None:  # each takes the flags that it reads
        options = {method: read_options(arguments, method, only_own=True) for method in METHODS}
    else:
        options = {(method := find(arguments.method)): read_options(arguments, method)}
    size = planner.DTYPES[arguments.dtype]
    step = Step(arguments.batch_size, arguments.seq_len, size, fused=size == 2, workers=blas.cores())
    planner.check_step(step)
    rate = None
    facts: dict = {
        "batch_size": step.batch,
        "seq_len": step.length,
        "dtype": arguments.dtype,
        "workers": step.workers if size == 4 else None,
        "assumptions": ASSUMPTIONS[size],
    }
    if arguments.device is not None:
        tflops = DEVICES[arguments.device].tflops
        facts |= {"device": f"{tflops:g} TFLOP/s ({arguments.device})", "utilization": UTILIZATION}
        rate = tflops * UTILIZATION
    lines = []
    if name is not None:
        shape = find_shape(name)
        plans = [planner.make_plan(shape, *item, step) for item in options.items()]
        facts |= {"model": name, "parameters": shape.parameters, "plans": [_facts(plan, step, rate) for plan in plans]}
        lines.append(plan_text(facts))
    if budget is not None:
        facts |= {"memory": round(budget), "largest": [_largest(budget, *item, step) for item in options.items()]}
        lines.append(largest_text(facts))
    print_result(arguments, facts, "\n".join(lines))


def _facts(plan: planner.Plan, step: Step, tflops: float | None) -> dict:
    facts = {name: getattr(plan, name) for name in ("method", "trainable", "total", "saved_bytes")} | {
        "memory": _memory_facts(plan.memory),
        "with_checkpointing": _memory_facts(plan.checkpointed),
        "fits": {f"{memory} GB": plan.fits(memory * 1e9) for memory in MEMORIES},
        "flops": {kind: round(work) for kind, work in plan.flops.items()},
    }
    if tflops is not None:
        for flag, name in ((False, "tokens_per_second"), (True, "tokens_per_second_with_checkpointing")):
            facts[name] = planner.tokens_per_second(plan, step, tflops, 1.0, flag)
    return facts


def _memory_facts(memory: planner.Memory) -> dict:
    return {kind: round(size) for kind, size in memory.kinds.items()} | {"peak": round(memory.peak)}


def _largest(budget: float, method: str, options: Options, step: Step) -> dict:
    largest = planner.largest(budget, method, options, step)
    if largest is None:
        return {"method": method, "model": None}
    name, plan = largest
    fits = plan.fits(budget)
    peak = plan.memory.peak if fits == "yes" else plan.least
    return {"method": method, "model": name, "fits": fits, "peak": round(peak)}
