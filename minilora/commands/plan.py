"""`minilora plan`: its arguments, and the plan as a table, as JSON and as a picture. The arithmetic is in `plan.py`."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from minilora.commands.common import Parser, add_json
from minilora.errors import MiniloraError, escape, unknown
from minilora.show.grids import show_size
from minilora.train import methods

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minilora.plan.planner import Memory, Plan
    from minilora.plan.shapes import Shape
    from minilora.show.grids import Grid

ASSUMPTIONS = {
    "16": "AdamW's moments in float32, no second copy of the weights; fused attention; with checkpointing, each block "
    "keeps its input and is computed again. GB are 10^9 bytes; a driver takes about half a GB more.",
    "32": "minilora's own engine, array by array; with checkpointing, the block that is computed again is workspace. "
    "Each kind is at its largest: they are not all alive at once, so the peak may be less than their sum.",
}
UNITS = {"": 1e9, "gb": 1e9, "g": 1e9, "gib": 2**30, "mb": 1e6, "m": 1e6, "mib": 2**20, "tb": 1e12}
SHORT = {"yes": "yes", "with checkpointing": "ckpt", "no": "–"}
# Colours of Okabe and Ito (2008), in an order whose neighbours differ in grey, too; hatches tell the rest apart.
LOOKS = {
    "weights": ("#0072B2", ""),
    "constants": ("#56B4E9", "...."),
    "adapters": ("#009E73", "////"),
    "gradients": ("#F0E442", ""),
    "optimizer": ("#D55E00", "\\\\\\\\"),
    "activations": ("#CCCCCC", ""),
    "logits": ("#CC79A7", "xxxx"),
    "workspace": ("#FFFFFF", "----"),
}


# Arguments


def add(parser: Parser) -> None:
    from minilora.commands import plan_time

    example = "minilora plan llama-65b --method qlora --rank 64 --double-quantization"
    parser.epilog = f"models:\n{preset_list()}\n\nmethods:\n{methods.method_list()}\n\nexample: {example}"
    parser.add_argument("shape", nargs="?", metavar="model", help="a preset, a config.json or a model folder")
    parser.add_argument("--model", help="the same as a flag")
    parser.add_argument("--method", help="see below (default: all of them)")
    parser.add_argument("--all", action="store_true", help="all methods, in one table")
    parser.add_argument("--batch-size", "--batch", type=int, default=1, help="sequences a step (default: %(default)s)")
    parser.add_argument("--seq-len", "--length", type=int, default=512, help="tokens a sequence (default: %(default)s)")
    parser.add_argument(
        "--dtype",
        default="bfloat16",
        help="bfloat16, float16, or float32: minilora's own engine (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, help="threads of minilora's engine (default: the cores there are)")
    parser.add_argument("--memory", help="which preset is the largest that fits, say 24GB")
    parser.add_argument("--device", help="tokens a second on it: a100, h100, rtx-4090, …, or here, which measures")
    parser.add_argument("--tflops", type=float, help="tokens a second on a device of that many TFLOP/s")
    parser.add_argument(
        "--utilization",
        "--utilisation",
        type=float,
        default=0.4,
        help="share of the device's TFLOP/s that is reached (default: %(default)s)",
    )
    plan_time.add(parser)
    methods.add_option_flags(parser)
    parser.add_argument("--out", help="a picture of the bytes by kind: FILE.png, or a folder")
    add_json(parser)


def preset_list() -> str:
    from textwrap import fill

    from minilora.plan.shapes import PRESETS

    return fill(", ".join(PRESETS), 78, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def run(arguments: Namespace) -> None:
    from minilora.commands import plan_time
    from minilora.plan.planner import make_plan
    from minilora.plan.shapes import find_shape

    name = arguments.model if arguments.shape is None else arguments.shape
    if arguments.model not in (None, name):
        raise MiniloraError(f"two models, {escape(repr(name))} and {escape(repr(arguments.model))}: give one")
    if name is None and arguments.memory is None:
        raise MiniloraError("plan needs a model, such as llama-7b or a config.json, or --memory, such as 24GB")
    if arguments.all and arguments.method is not None:
        raise MiniloraError("--all and --method exclude each other")
    if arguments.method is None:
        options = {method: methods.read_options(arguments, method, only_own=True) for method in methods.METHODS}
    else:
        method = methods.find(arguments.method)
        options = {method: methods.read_options(arguments, method)}
    step, budget, rate = _step(arguments), _bytes_of(arguments.memory), _tflops(arguments)
    out, timed = _picture(arguments.out), plan_time.read(arguments, step, rate)

    facts = {
        "batch_size": step.batch,
        "seq_len": step.length,
        "dtype": arguments.dtype,
        "workers": step.workers if step.itemsize == 4 else None,
        "assumptions": ASSUMPTIONS["32" if step.itemsize == 4 else "16"],
    }
    said = []
    if timed is not None:
        facts["run"] = timed.facts
        step = timed.share  # bytes are those of one machine
    if name is not None:
        shape = find_shape(name)
        plans = [make_plan(shape, method, of_method, step) for method, of_method in options.items()]
        facts |= {"model": name, "parameters": shape.parameters}
        facts["plans"] = [_facts(plan, step, rate, arguments.utilization) for plan in plans]
        shown = facts | {"batch_size": step.batch}
        said.append(_text(name, shape, plans, shown, rate, arguments.utilization))
        if timed is not None:
            for fact, plan in zip(facts["plans"], plans, strict=True):
                fact["run"] = plan_time.facts_of(timed, plan)
            said += plan_time.text(timed, facts["plans"])
        if out is not None:
            _save(figure(name, plans, shown), out)
            facts["figure"] = str(out)
            said.append(f"saved {out}")
    elif out is not None:
        raise MiniloraError("--out draws the plan of a model: name one")
    if budget is not None:
        facts |= {"memory": round(budget), "largest": [_largest(budget, *item, step) for item in options.items()]}
        said.append(f"The largest preset of which a step fits {show_size(budget)}:")
        said += [f"  {fact['method']:<20}{_answer(fact)}" for fact in facts["largest"]]
    print(json.dumps(facts) if arguments.json else "\n".join(said), flush=True)


def _largest(budget: float, method: str, options, step) -> dict:
    from minilora.plan.planner import largest

    found = largest(budget, method, options, step)
    if found is None:
        return {"method": method, "model": None}
    name, plan = found
    fits = plan.fits(budget)
    peak = plan.memory.peak if fits == "yes" else plan.least
    return {"method": method, "model": name, "fits": fits, "peak": round(peak)}


def _answer(fact: dict) -> str:
    if fact["model"] is None:
        return "none"
    how = "" if fact["fits"] == "yes" else f", {fact['fits']}"
    return f"{fact['model']} ({show_size(fact['peak'])}{how})"


def _step(arguments: Namespace):
    from minilora import blas
    from minilora.plan.activations import Step
    from minilora.plan.planner import DTYPES

    if arguments.dtype not in DTYPES:
        raise MiniloraError(unknown("--dtype", arguments.dtype, DTYPES))
    size = DTYPES[arguments.dtype]
    if size != 4 and arguments.workers is not None:
        raise MiniloraError("--workers are those of minilora's own engine; add --dtype float32, or leave them out")
    workers = blas.cores() if arguments.workers is None else arguments.workers
    return Step(arguments.batch_size, arguments.seq_len, size, fused=size == 2, workers=workers)


def _bytes_of(text: str | None) -> float | None:
    """`24GB`, `24` (GB), `16GiB`, `700MB` in bytes."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]*)", text.strip().lower())
    if found is None or found[2] not in UNITS or not float(found[1]):
        raise MiniloraError(f"--memory must be a size such as 24GB or 700MB, not {escape(repr(text))}")
    return float(found[1]) * UNITS[found[2]]


def _tflops(arguments: Namespace) -> tuple[str, float] | None:
    """(device in words, its TFLOP/s), where one was asked for."""
    from minilora.plan.planner import DEVICES, measured_tflops

    if not 0 < arguments.utilization <= 1:
        raise MiniloraError(f"--utilization must be above 0 and at most 1, not {arguments.utilization}")
    if arguments.tflops is not None:
        if arguments.device is not None:
            raise MiniloraError("--device and --tflops exclude each other")
        if not 0 < arguments.tflops <= 1e9:
            raise MiniloraError(f"--tflops must be a positive number, not {arguments.tflops}")
        return f"{arguments.tflops:,g} TFLOP/s", arguments.tflops
    device = arguments.device
    if device is None:
        return None
    if device == "here":
        rate = measured_tflops()
        return f"{rate:.3g} TFLOP/s (this machine's float32 products)", rate
    if device not in DEVICES:
        raise MiniloraError(unknown("--device", device, [*DEVICES, "here"]))
    return f"{DEVICES[device]:g} TFLOP/s ({device})", DEVICES[device]


def _picture(out: str | None) -> Path | None:
    if out is None:
        return None
    path = Path(out)
    if path.suffix.lower() == ".png":
        return path
    if path.suffix and not path.is_dir():
        raise MiniloraError(f"--out writes a PNG: give a name that ends in .png, or a folder, not {escape(repr(out))}")
    return path / "plan.png"


# Words


def _facts(plan: Plan, step, rate: tuple[str, float] | None, utilization: float) -> dict:
    from minilora.plan.planner import CARDS, tokens_a_second

    facts = {
        "method": plan.method,
        "trainable": plan.trainable,
        "total": plan.total,
        "saved_bytes": round(plan.saved_bytes),
        "memory": _memory_facts(plan.memory),
        "with_checkpointing": _memory_facts(plan.checkpointed),
        "fits": {f"{card} GB": plan.fits(card * 1e9) for card in CARDS},
        "flops": {kind: round(work) for kind, work in plan.flops.items()},
    }
    if rate is not None:
        facts["tokens_per_second"] = tokens_a_second(plan, step, rate[1], utilization, False)
        facts["tokens_per_second_with_checkpointing"] = tokens_a_second(plan, step, rate[1], utilization, True)
    return facts


def _memory_facts(memory: Memory) -> dict:
    return {kind: round(size) for kind, size in memory.kinds.items()} | {"peak": round(memory.peak)}


def _text(name: str, shape: Shape, plans: list[Plan], facts: dict, rate, utilization: float) -> str:
    from textwrap import fill

    from minilora.show.grids import drawn, render

    grid = _one(plans[0]) if len(plans) == 1 else _several(plans)
    what = f"{plans[0].method}, " if len(plans) == 1 else ""
    said = [f"A training step: {what}{_title(name, facts)}", render(drawn(grid)), fill(facts["assumptions"], 79), ""]
    if len(plans) == 1:
        plan, fact = plans[0], facts["plans"][0]
        share = _share(plan)
        said.append(f"trains {_numbers(plan.trainable)} of {_numbers(plan.total)} parameters ({share})")
        said.append(f"saves  {show_size(plan.saved_bytes)}")
        said.append(f"takes  {_work(sum(work for kind, work in plan.flops.items() if kind != 'again'))} a step")
        said += [f"{card:>6}: {answer.replace('with', 'yes, with')}" for card, answer in fact["fits"].items()]
    else:
        said.append(render(drawn(_fitting(facts))))
    if rate is not None:
        said.append(f"Tokens a second at {100 * utilization:g} % of {rate[0]}:")
        for fact in facts["plans"]:
            again = f"({fact['tokens_per_second_with_checkpointing']:,.0f} with checkpointing)"
            said.append(f"  {fact['method']:<20}{fact['tokens_per_second']:,.0f} {again}")
    return "\n".join(said)


def _title(name: str, facts: dict) -> str:
    return f"{escape(name, 30)}, {facts['batch_size']:,} × {facts['seq_len']:,} tokens, {facts['dtype']}"


def _one(plan: Plan) -> Grid:
    from minilora.show.grids import Grid

    columns = [plan.memory, plan.checkpointed]
    kinds = [kind for kind in plan.memory.kinds if any(memory.kinds[kind] for memory in columns)]
    rows = [(kind, *(show_size(memory.kinds[kind]) for memory in columns)) for kind in kinds]
    rows.append(("peak", *(show_size(memory.peak) for memory in columns)))
    return Grid("", ("kind", "bytes", "with\ncheckpointing"), rows, "")


def _several(plans: list[Plan]) -> Grid:
    from minilora.show.grids import Grid

    rows = []
    for plan in plans:
        kinds = plan.memory.kinds
        weights, states = kinds["weights"] + kinds["constants"], kinds["gradients"] + kinds["optimizer"]
        cells = [show_size(size) for size in (weights, kinds["adapters"], states, kinds["activations"])]
        peaks = [show_size(memory.peak) for memory in (plan.memory, plan.checkpointed)]
        rows.append((plan.method, _share(plan), *cells, *peaks))
    header = ("method", "trains", "weights", "adapter", "grads,\nmoments", "activa-\ntions", "peak", "peak,\nckpt")
    return Grid("", header, rows, "")


def _fitting(facts: dict) -> Grid:
    from minilora.show.grids import Grid

    rows = [(fact["method"], *(SHORT[answer] for answer in fact["fits"].values())) for fact in facts["plans"]]
    caption = "ckpt: with checkpointing." if any("ckpt" in row for row in rows) else ""
    return Grid("What fits on a GPU of so much memory", ("method", *facts["plans"][0]["fits"]), rows, caption)


def _numbers(count: int) -> str:
    return f"{count:,}" if count < 1e9 else f"{count / 1e9:,.2f} billion"


def _work(flops: float) -> str:
    return f"{flops / 1e12:,.3g} TFLOP" if flops >= 1e11 else f"{flops / 1e9:,.3g} GFLOP"


def _share(plan: Plan) -> str:
    percent = 100 * plan.trainable / plan.total
    return f"{percent:.{0 if percent >= 9.95 else 1 if percent >= 0.995 else 2 if percent >= 0.00995 else 4}f} %"


# Picture


def figure(name: str, plans: list[Plan], facts: dict) -> Figure:
    """Bytes by kind as stacked bars: one method with and without checkpointing, or several side by side, with it; in
    float32, without it. There each kind is at its largest, and a mark shows the peak.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    from minilora.plan.planner import CARDS
    from minilora.show.style import GREY, WIDTH

    own = facts["dtype"] == "float32"
    bars = {plan.method: plan.memory if own else plan.checkpointed for plan in plans}
    how = "every method" + ("" if own else ", with checkpointing")
    if len(plans) == 1:
        how = plans[0].method
        bars = {"as it is": plans[0].memory, "with check-\npointing": plans[0].checkpointed}
    sums = [sum(memory.kinds.values()) for memory in bars.values()]
    largest = max(sums)
    scale, unit = next(((s, u) for s, u in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if largest >= s), (1e3, "KB"))
    with style.context(_style(), after_reset=True):
        drawn = Figure(figsize=(WIDTH, 2.2 + 0.34 * len(bars)), layout="constrained")
        title = f"Memory of a training step, {how}\n{_title(name, facts)}"
        drawn.suptitle(title, x=0.01, horizontalalignment="left", parse_math=False)
        axes = drawn.subplots()
        left = [0.0] * len(bars)
        for kind, (color, hatch) in LOOKS.items():
            sizes = [memory.kinds[kind] for memory in bars.values()]
            if any(size > 0.002 * whole for size, whole in zip(sizes, sums, strict=True)):
                look = {"color": color, "hatch": hatch, "edgecolor": "black", "linewidth": 0.5}
                starts = [start / scale for start in left]
                axes.barh(list(bars), [size / scale for size in sizes], 0.72, starts, label=kind, **look)
            left = [start + size for start, size in zip(left, sizes, strict=True)]
        axes.set_xlim(0, 1.04 * largest / scale)
        cards = [card for card in CARDS if 0.08 * largest < card * 1e9 < 1.04 * largest]
        for card in cards:
            x = card * 1e9 / scale
            axes.axvline(x, color=GREY, linestyle=(0, (4, 2)), linewidth=1, zorder=0.8)
            place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"{card} GB", (x, 1), (0, 2), **place, fontsize=8, color=GREY)
        if own:
            peaks = [memory.peak / scale for memory in bars.values()]
            axes.plot(peaks, list(bars), "kD", markersize=5, markeredgecolor="white", label="peak")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{unit} (dashed: GPUs)" if cards else unit)
        handles, labels = axes.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda i: labels[i] == "peak")
        legend = [handles[i] for i in order], [labels[i] for i in order]
        drawn.legend(*legend, loc="outside lower center", ncols=4, handlelength=1.6)
    return drawn


def _style() -> dict:
    from minilora.show.style import STYLE

    return STYLE | {"hatch.linewidth": 0.6}


def _save(drawn: Figure, path: Path) -> None:
    from matplotlib import style

    from minilora.formats.atomic import make_folder, write_atomic

    make_folder(path.parent)
    with style.context(_style(), after_reset=True):
        write_atomic(path, lambda file: drawn.savefig(file, format="png", dpi=150, metadata={"Software": None}))
