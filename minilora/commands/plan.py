"""`minilora plan`: its flags, and the facts that they ask for. The arithmetic is in `minilora.plan`."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path

from minilora import blas
from minilora.commands.common import Parser, add_json, choice, number, print_result, share, whole
from minilora.errors import MiniloraError, escape, flag_of
from minilora.formats.atomic import make_folder, write_atomic
from minilora.peft.method import METHODS, Options, find
from minilora.plan import planner
from minilora.plan.activations import Step
from minilora.plan.cluster import EFFICIENCY, LINKS, parse_link
from minilora.plan.devices import DEVICES, MEMORIES, measured_tflops
from minilora.plan.run import MOST_MACHINES, Run, run_facts
from minilora.plan.shapes import PRESETS, find_shape
from minilora.show.grids import show_time
from minilora.show.planned import largest_text, plan_figure, plan_text, run_text, show_rows
from minilora.show.style import write_png
from minilora.train.methods import add_option_flags, method_list, read_options

ASSUMPTIONS = {
    2: "AdamW's moments in float32, no second copy of the weights; fused attention; with checkpointing, each block "
    "keeps its input and is computed again. GB are 10^9 bytes; a driver takes about half a GB more.",
    4: "minilora's own engine, array by array; with checkpointing, the block that is computed again is workspace. "
    "Each kind is at its largest: they are not all alive at once, so the peak may be less than their sum.",
}
UNITS = {"": 1e9, "gb": 1e9, "g": 1e9, "gib": 2**30, "mb": 1e6, "m": 1e6, "mib": 2**20, "tb": 1e12}
COUNTS = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
BIT_RATES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
TOKENS = 1e9  # of a run of which no length is given


def add(parser: Parser) -> None:
    example = "minilora plan llama-65b --method qlora --rank 64"
    parser.epilog = f"models:\n  {', '.join(PRESETS)}\n\nmethods:\n{method_list()}\n\nexample: {example}"
    parser.add_argument("shape", nargs="?", metavar="model", help="a preset, a config.json or a model folder")
    parser.add_argument("--model", help="the same as a flag")
    parser.add_argument("--method", help="see below (default: all of them)")
    parser.add_argument("--all", action="store_true", help="all methods, in one table")
    parser.add_argument(
        "--batch-size", "--batch", type=int, default=1, help="sequences per step (default: %(default)s)"
    )
    parser.add_argument(
        "--seq-len", "--length", type=int, default=512, help="tokens per sequence (default: %(default)s)"
    )
    dtypes = "bfloat16, float16, or float32: minilora's own engine (default: %(default)s)"
    parser.add_argument("--dtype", type=choice(planner.DTYPES), default="bfloat16", help=dtypes)
    parser.add_argument("--workers", type=int, help="threads of minilora's engine (default: the cores there are)")
    size = _amount(UNITS, "a size such as 24GB or 700MB")
    parser.add_argument("--memory", type=size, help="which preset is the largest that fits, say 24GB")
    devices = f"tokens per second on it: {', '.join(DEVICES)}, or here, which measures"
    parser.add_argument("--device", type=choice([*DEVICES, "here"]), help=devices)
    rate = "tokens per second on a device of that many TFLOP/s"
    parser.add_argument("--tflops", type=number(above=0), help=rate)
    reached = "share of the device's TFLOP/s that is reached (default: %(default)s)"
    parser.add_argument("--utilization", "--utilisation", type=share, default=0.4, help=reached)
    sharing = "that share each batch, with a --device each: the time of a run"
    parser.add_argument("--machines", type=whole(1, MOST_MACHINES), help=sharing)
    parser.add_argument("--link", help="between them: 1Gbit, 10Gbit/50us, home, ethernet-10g, infiniband, nvlink, …")
    parser.add_argument("--link-efficiency", type=share, help="share of the link's rate that is reached (default: 0.9)")
    length = _amount(COUNTS, "a number such as 300M or 20B")
    parser.add_argument("--tokens", type=length, help="length of the run: 300M, 20B (default: 1B)")
    parser.add_argument("--steps", type=whole(1, 10**12), help="the same in steps")
    add_option_flags(parser)
    parser.add_argument("--out", help="a picture of the bytes by kind: FILE.png, or a folder")
    add_json(parser)


def _amount(units: dict[str, float], words: str) -> Callable[[str], float]:
    """A flag's type: a number with one of the units, of 1 to 10^18 in all."""

    def parse(text: str) -> float:
        found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([a-z]*)", text.strip().lower())
        amount = float(found[1]) * units.get(found[2], 0) if found else 0
        if not 1 <= amount <= 1e18:
            raise ArgumentTypeError(f"must be {words}, not {text}")
        return amount

    return parse


def run(arguments: Namespace) -> None:
    name = arguments.model if arguments.shape is None else arguments.shape
    _check_together(arguments, name)
    if arguments.method is None:  # each takes the flags that it reads
        options = {method: read_options(arguments, method, only_own=True) for method in METHODS}
    else:
        options = {(method := find(arguments.method)): read_options(arguments, method)}
    size = planner.DTYPES[arguments.dtype]
    workers = blas.cores() if arguments.workers is None else arguments.workers
    step = Step(arguments.batch_size, arguments.seq_len, size, fused=size == 2, workers=workers)
    planner.check_step(step)
    device, out = _device(arguments), _picture(arguments.out)
    facts: dict = {
        "batch_size": step.batch,
        "seq_len": step.length,
        "dtype": arguments.dtype,
        "workers": workers if size == 4 else None,
        "assumptions": ASSUMPTIONS[size],
    }
    rate = of_run = None
    if device is not None:
        facts |= {"device": device[0], "utilization": arguments.utilization}
        rate = device[1] * arguments.utilization
        if _asks_for_run(arguments):
            of_run, facts["run"] = _run(arguments, step, rate)
            step = of_run.share  # bytes are those of one machine
    said = []
    if name is not None:
        shape = find_shape(name)
        plans = [planner.make_plan(shape, *item, step) for item in options.items()]
        facts |= {"model": name, "parameters": shape.parameters}
        facts["plans"] = [_plan_facts(plan, step, rate, of_run) for plan in plans]
        said.append(plan_text(facts))
        said += [] if of_run is None else [run_text(facts)]
        if out is not None:
            figure = plan_figure(facts)
            make_folder(out.parent)
            write_atomic(out, partial(write_png, figure, dpi=150))
            facts["figure"] = str(out)
            said.append(f"saved {out}")
    if (budget := arguments.memory) is not None:
        facts |= {"memory": round(budget), "largest": [_largest(budget, *item, step) for item in options.items()]}
        said.append(largest_text(facts))
    print_result(arguments, facts, "\n".join(said))


# What the flags say


def _asks_for_run(arguments: Namespace) -> list[str]:
    """The flags that ask for the time of a run."""
    return [flag for flag in ("machines", "tokens", "steps") if getattr(arguments, flag) is not None]


def _check_together(arguments: Namespace, name: str | None) -> None:
    if arguments.model not in (None, name):
        raise MiniloraError(f"two models, {escape(repr(name))} and {escape(repr(arguments.model))}: give one")
    if name is None and arguments.memory is None:
        raise MiniloraError("plan needs a model, such as llama-7b or a config.json, or --memory, such as 24GB")
    if name is None and arguments.out is not None:
        raise MiniloraError("--out draws the plan of a model: name one")
    for one, other in (("all", "method"), ("device", "tflops"), ("tokens", "steps")):
        if getattr(arguments, one) and getattr(arguments, other) is not None:
            raise MiniloraError(f"--{one} and --{other} exclude each other")
    if arguments.dtype != "float32" and arguments.workers is not None:
        raise MiniloraError("--workers are those of minilora's own engine; add --dtype float32, or leave them out")
    for flag in ("link", "link_efficiency"):
        if arguments.machines is None and getattr(arguments, flag) is not None:
            raise MiniloraError(f"{flag_of(flag)} is of what joins machines: add --machines, or leave it out")
    if asked := _asks_for_run(arguments):
        if name is None:
            raise MiniloraError(f"--{asked[0]} plans the run of a model: name one")
        if arguments.device is None and arguments.tflops is None:
            raise MiniloraError(f"--{asked[0]} asks for time: add --device, such as a100 or here, or --tflops")


def _device(arguments: Namespace) -> tuple[str, float] | None:
    """(device in words, its TFLOP/s), where one was asked for."""
    if (rate := arguments.tflops) is not None:
        return f"{rate:,g} TFLOP/s", rate
    if (device := arguments.device) is None:
        return None
    if device == "here":
        rate = measured_tflops()
        return f"{rate:.3g} TFLOP/s (this machine's float32 products)", rate
    tflops = DEVICES[device].tflops
    return f"{tflops:g} TFLOP/s ({device})", tflops


def _picture(out: str | None) -> Path | None:
    if out is None:
        return None
    path = Path(out)
    if path.suffix.lower() == ".png":
        return path
    if path.suffix and not path.is_dir():
        raise MiniloraError(f"--out writes a PNG: give a name that ends in .png, or a folder, not {escape(repr(out))}")
    return path / "plan.png"


def _run(arguments: Namespace, step: Step, tflops: float) -> tuple[Run, dict]:
    """The run on machines that the flags ask for, and its facts."""
    machines, link, efficiency = arguments.machines or 1, None, arguments.link_efficiency or EFFICIENCY
    if machines > step.batch:
        raise MiniloraError(
            f"{machines:,} machines cannot share a batch of {show_rows(step.batch)}, each needs at least one: add "
            f"--batch-size {machines} or more, or take fewer machines"
        )
    if arguments.link is not None:
        link = parse_link(arguments.link)
    elif machines > 1:
        names = ", ".join(LINKS)
        raise MiniloraError(f"--machines {machines} needs --link, what joins them: a rate such as 1Gbit, or {names}")
    steps = arguments.steps or ceil((arguments.tokens or TOKENS) / (step.batch * step.length))
    of_run = Run(machines, step, steps, tflops, link and link.at(efficiency))
    facts: dict = {"machines": machines, "rows_a_machine": of_run.share.batch, "steps": steps}
    facts |= {"tokens": steps * of_run.tokens, "link": None}
    words = ""
    if link is not None:
        facts["link"] = {"bytes_per_second": link.bandwidth, "latency_seconds": link.latency, "efficiency": efficiency}
        name = arguments.link.strip()
        known = name.lower().partition("/")[0].strip()
        maker = f" ({LINKS[known][1]})" if known in LINKS else ""
        size, unit = next(item for item in BIT_RATES if 8 * link.bandwidth >= item[0])
        words = (
            f"Each machine has a link of its own, {escape(name, 30)}{maker}: {100 * efficiency:g} % of "
            f"{8 * link.bandwidth / size:g} {unit}bit/s each way, and {show_time(link.latency)} a message. After "
            f"backward, not beside it, the gradients are added up in {step.itemsize} bytes per number, by a ring or "
            "by Rabenseifner's allreduce, whichever is faster. "
        )
    facts["assumptions"] = (
        f"Assumed: {100 * arguments.utilization:g} % of each device's TFLOP/s, without checkpointing. {words}Left out: "
        "the optimizer's step, reading, starting, saving, faults, and energy."
    )
    return of_run, facts


# Facts


def _plan_facts(plan: planner.Plan, step: Step, tflops: float | None, of_run: Run | None) -> dict:
    facts = {name: getattr(plan, name) for name in ("method", "trainable", "total", "saved_bytes")} | {
        "memory": _memory_facts(plan.memory),
        "with_checkpointing": _memory_facts(plan.checkpointed),
        "fits": {f"{memory} GB": plan.fits(memory * 1e9) for memory in MEMORIES},
        "flops": {kind: round(work) for kind, work in plan.flops.items()},
    }
    if tflops is not None:
        for flag, name in ((False, "tokens_per_second"), (True, "tokens_per_second_with_checkpointing")):
            facts[name] = planner.tokens_per_second(plan, step, tflops, 1.0, flag)
    if of_run is not None:
        facts["run"] = run_facts(of_run, plan)
    return facts


def _memory_facts(memory: planner.Memory) -> dict:
    return {kind: round(size) for kind, size in memory.kinds.items()} | {"peak": round(memory.peak)}


def _largest(budget: float, method: str, options: Options, step: Step) -> dict:
    found = planner.largest(budget, method, options, step)
    if found is None:
        return {"method": method, "model": None}
    name, plan = found
    fits = plan.fits(budget)
    peak = plan.memory.peak if fits == "yes" else plan.least
    return {"method": method, "model": name, "fits": fits, "peak": round(peak)}
