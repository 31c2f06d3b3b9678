"""`minilora plan`: estimate the memory of a training step, as text or JSON. The arithmetic is in `minilora.plan`."""

from __future__ import annotations

from argparse import Namespace
from textwrap import fill

from minilora import blas
from minilora.commands.common import DEFAULT, Parser, add_flag, choice, print_result
from minilora.commands.options import add_option_flags, read_options
from minilora.errors import escape, line_width
from minilora.peft.method import METHODS, find
from minilora.plan import planner
from minilora.plan.activations import Step
from minilora.plan.shapes import PRESETS, find_shape
from minilora.show.grids import Grid, drawn, render, show_share, show_size
from minilora.train import hub

ASSUMPTIONS = {
    2: "AdamW's moments in float32, no second copy of the weights, fused attention. With checkpointing (ckpt), each "
    "block keeps only its input and is recomputed. 1 GB is 10^9 bytes; a GPU's driver takes about half a GB more.",
    4: "minilora's own engine, array by array. With checkpointing (ckpt), the block that is recomputed is workspace. "
    "Each kind is at its largest; they are not all alive at once, so the peak may be less than their sum.",
}


CKPT = "with checkpointing"


def add(parser: Parser) -> None:
    example = "example: minilora plan llama-65b --method qlora --rank 64"
    parser.epilog = f"models: {', '.join(PRESETS)}\nmethods: {', '.join(METHODS)}\n\n{example}"
    parser.add_argument("model", help="one of the models below, a config.json, a model folder, or a Hub ORG/NAME")
    add_flag(parser, "--method", "plan one method; --method NAME --help has its flags (default: compare all)")
    add_flag(parser, "--batch-size", default=1)
    add_flag(parser, "--seq-len", default=512)
    words = f"bfloat16, float16, or float32, which plans for minilora's own engine {DEFAULT}"
    add_flag(parser, "--dtype", words, choice(planner.DTYPES), "bfloat16")
    add_flag(parser, "--json")
    add_option_flags(parser)


def run(arguments: Namespace) -> None:
    if arguments.method is None:  # each method takes the flags that it knows
        options = {method: read_options(arguments, method, only_own=True) for method in METHODS}
    else:
        options = {(method := find(arguments.method)): read_options(arguments, method)}
    size = planner.DTYPES[arguments.dtype]
    workers = blas.cores() if size == 4 else 1  # minilora's own; what a GPU takes does not depend on the cores here
    step = Step(arguments.batch_size, arguments.seq_len, size, fused=size == 2, workers=workers)
    shape = find_shape(str(hub.cached(arguments.model)) if hub.is_hub_name(arguments.model) else arguments.model)
    facts = {name: getattr(arguments, name) for name in ("model", "batch_size", "seq_len", "dtype")}
    facts |= {"workers": step.workers if size == 4 else None, "assumptions": ASSUMPTIONS[size]}
    plans = [_facts(planner.make_plan(shape, *item, step)) for item in options.items()]
    facts |= {"parameters": shape.parameters, "plans": plans}
    print_result(arguments, facts, plan_text(facts))


def _facts(plan: planner.Plan) -> dict:
    facts = {name: getattr(plan, name) for name in ("method", "trainable", "total", "saved_bytes")}
    for name, memory in (("memory", plan.memory), ("with_checkpointing", plan.checkpointed)):
        facts[name] = {kind: round(size) for kind, size in memory.kinds.items()} | {"peak": round(memory.peak)}
    facts["fits"] = {f"{memory} GB": plan.fits(memory * 1e9) for memory in planner.MEMORIES}
    return facts


def plan_text(facts: dict) -> str:
    """Format the plan of a model, for one method in detail or for all methods in a table."""
    plans, width = facts["plans"], line_width()
    single = plans[0] if len(plans) == 1 else None
    setting = f"{escape(facts['model'], 30)}, {facts['batch_size']:,} × {facts['seq_len']:,} tokens, {facts['dtype']}"
    if single:
        columns = [single["memory"], single["with_checkpointing"]]
        kinds = [kind for kind in columns[0] if any(memory[kind] for memory in columns)]
        rows = [(kind, *(show_size(memory[kind]) for memory in columns)) for kind in kinds]
        grid = Grid("", ("kind", "bytes", "with\ncheckpointing"), rows, "")
    else:
        grid = _several(plans)
    title = f"Memory of a training step: {single['method'] + ', ' if single else ''}{setting}"
    lines = [fill(title, width), render(drawn(grid))]
    lines += [fill(f"Assumptions: {facts['assumptions']}", width), ""]
    if single:
        counts = (single["trainable"], single["total"])
        trained, total = (f"{n:,}" if n < 1e9 else f"{n / 1e9:,.2f} billion" for n in counts)
        lines += [
            f"trains {trained} of {total} parameters ({show_share(counts[0] / counts[1])})",
            f"saves  {show_size(single['saved_bytes'])}",
            f"GPU:   {fits_from(single['fits'])}",
        ]
    else:
        by_words: dict[str, list[str]] = {}
        for plan in sorted(plans, key=lambda plan: [*plan["fits"].values()].count("no")):
            by_words.setdefault(f"{fits_from(plan['fits'])}: ", []).append(plan["method"])
        lines.append("On a GPU:")
        lines += [fill(words + ", ".join(names), width, subsequent_indent="  ") for words, names in by_words.items()]
    return "\n".join(lines)


def fits_from(fits: dict[str, str]) -> str:
    """Say from which memory on a step fits: "fits from 16 GB up with checkpointing, from 24 GB up without"."""
    any_way, plain = ([card for card, answer in fits.items() if answer in ok] for ok in (("yes", CKPT), ("yes",)))
    if not any_way:
        return f"does not fit into {[*fits][-1]}"
    if plain[:1] == any_way[:1]:
        return f"fits from {plain[0]} up"
    return f"fits from {any_way[0]} up with checkpointing{f', from {plain[0]} up without' if plain else ''}"


def _several(plans: list[dict]) -> Grid:
    rows: list[tuple[str, ...]] = []
    for plan in plans:
        kinds = plan["memory"]
        weights, states = kinds["weights"] + kinds["constants"], kinds["gradients"] + kinds["optimizer"]
        sizes = (weights, kinds["adapters"], states, kinds["activations"], kinds["peak"])
        share = show_share(plan["trainable"] / plan["total"])
        rows.append((plan["method"], share, *map(show_size, (*sizes, plan["with_checkpointing"]["peak"]))))
    header = ("method", "trains", "weights", "adapter", "grads,\nmoments", "activa-\ntions", "peak", "peak,\nckpt")
    return Grid("", header, rows, "")
