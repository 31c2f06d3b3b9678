"""A plan in words and tables: functions of what `minilora plan --json` prints."""

from __future__ import annotations

from textwrap import fill

from minilora.errors import escape
from minilora.show.grids import Grid, drawn, render, show_share, show_size

SHORT = {"yes": "yes", "with checkpointing": "ckpt", "no": "–"}


def plan_text(facts: dict) -> str:
    """Write the plan of a model in lines."""
    plans = facts["plans"]
    one = plans[0] if len(plans) == 1 else None
    of = f"{escape(facts['model'], 30)}, {facts['batch_size']:,} × {facts['seq_len']:,} tokens, {facts['dtype']}"
    if one:
        columns = [one["memory"], one["with_checkpointing"]]
        kinds = [kind for kind in columns[0] if any(memory[kind] for memory in columns)]
        rows = [(kind, *(show_size(memory[kind]) for memory in columns)) for kind in kinds]
        grid = Grid("", ("kind", "bytes", "with\ncheckpointing"), rows, "")
    else:
        grid = _several(plans)
    lines = [f"A training step: {one['method'] + ', ' if one else ''}{of}", render(drawn(grid))]
    lines += [fill(facts["assumptions"], 79), ""]
    if one:
        trained, total = (f"{n:,}" if n < 1e9 else f"{n / 1e9:,.2f} billion" for n in (one["trainable"], one["total"]))
        lines += [
            f"trains {trained} of {total} parameters ({show_share(one['trainable'] / one['total'])})",
            f"saves  {show_size(one['saved_bytes'])}",
        ]
        lines += [f"{card:>6}: {answer.replace('with', 'yes, with')}" for card, answer in one["fits"].items()]
    else:
        rows = [(plan["method"], *(SHORT[answer] for answer in plan["fits"].values())) for plan in plans]
        caption = "ckpt: with checkpointing." if any("ckpt" in row for row in rows) else ""
        header = ("method", *plans[0]["fits"])
        lines.append(render(drawn(Grid("What fits on a GPU of so much memory", header, rows, caption))))
    return "\n".join(lines)


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
