"""A plan in words, tables and a picture: functions of what `minilora plan --json` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from minilora.errors import escape
from minilora.show import style
from minilora.show.grids import Grid, drawn, render, show_share, show_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHORT = {"yes": "yes", "with checkpointing": "ckpt", "no": "–"}
WIDTH = 79
# Kinds of memory, in colours whose neighbours differ in grey, too; hatches tell the rest apart.
MEMORY = {
    "weights": ("#0072B2", ""),
    "constants": ("#56B4E9", "...."),
    "adapters": ("#009E73", "////"),
    "gradients": ("#F0E442", ""),
    "optimizer": ("#D55E00", "\\\\\\\\"),
    "activations": ("#CCCCCC", ""),
    "logits": ("#CC79A7", "xxxx"),
    "workspace": ("#FFFFFF", "----"),
}


# A step


def plan_text(facts: dict) -> str:
    """The plan of a model in lines."""
    plans = facts["plans"]
    one = plans[0] if len(plans) == 1 else None
    grid = _one(one) if one else _several(plans)
    what = f"{one['method']}, " if one else ""
    said = [f"A training step: {what}{_title(facts)}", render(drawn(grid)), fill(facts["assumptions"], WIDTH), ""]
    if one:
        work = sum(work for kind, work in one["flops"].items() if kind != "again")
        said += [
            f"trains {_count(one['trainable'])} of {_count(one['total'])} parameters ({_share(one)})",
            f"saves  {show_size(one['saved_bytes'])}",
            f"takes  {f'{work / 1e12:,.3g} T' if work >= 1e11 else f'{work / 1e9:,.3g} G'}FLOP a step",
        ]
        said += [f"{card:>6}: {answer.replace('with', 'yes, with')}" for card, answer in one["fits"].items()]
    else:
        said.append(render(drawn(_fitting(plans))))
    if "device" in facts:
        said.append(f"Tokens per second at {100 * facts['utilization']:g} % of {facts['device']}:")
        for plan in plans:
            again = f"({plan['tokens_per_second_with_checkpointing']:,.0f} with checkpointing)"
            said.append(f"  {plan['method']:<20}{plan['tokens_per_second']:,.0f} {again}")
    return "\n".join(said)


def largest_text(facts: dict) -> str:
    """Which preset is the largest that fits, by each method."""
    said = [f"The largest preset of which a step fits {show_size(facts['memory'])}:"]
    for found in facts["largest"]:
        answer = "none"
        if found["model"] is not None:
            how = "" if found["fits"] == "yes" else f", {found['fits']}"
            answer = f"{found['model']} ({show_size(found['peak'])}{how})"
        said.append(f"  {found['method']:<20}{answer}")
    return "\n".join(said)


def _title(facts: dict) -> str:
    return f"{escape(facts['model'], 30)}, {facts['batch_size']:,} × {facts['seq_len']:,} tokens, {facts['dtype']}"


def _one(plan: dict) -> Grid:
    columns = [plan["memory"], plan["with_checkpointing"]]
    kinds = [kind for kind in columns[0] if any(memory[kind] for memory in columns)]
    rows = [(kind, *(show_size(memory[kind]) for memory in columns)) for kind in kinds]
    return Grid("", ("kind", "bytes", "with\ncheckpointing"), rows, "")


def _several(plans: list[dict]) -> Grid:
    rows: list[tuple[str, ...]] = []
    for plan in plans:
        kinds = plan["memory"]
        weights, states = kinds["weights"] + kinds["constants"], kinds["gradients"] + kinds["optimizer"]
        sizes = (weights, kinds["adapters"], states, kinds["activations"], kinds["peak"])
        rows.append((plan["method"], _share(plan), *map(show_size, (*sizes, plan["with_checkpointing"]["peak"]))))
    header = ("method", "trains", "weights", "adapter", "grads,\nmoments", "activa-\ntions", "peak", "peak,\nckpt")
    return Grid("", header, rows, "")


def _fitting(plans: list[dict]) -> Grid:
    rows = [(plan["method"], *(SHORT[answer] for answer in plan["fits"].values())) for plan in plans]
    caption = "ckpt: with checkpointing." if any("ckpt" in row for row in rows) else ""
    return Grid("What fits on a GPU of so much memory", ("method", *plans[0]["fits"]), rows, caption)


def _count(number: int) -> str:
    return f"{number:,}" if number < 1e9 else f"{number / 1e9:,.2f} billion"


def _share(plan: dict) -> str:
    share = plan["trainable"] / plan["total"]
    return show_share(share) if share >= 0.0000995 else f"{100 * share:.4f} %"


def plan_figure(facts: dict) -> Figure:
    """Bytes by kind: one method with and without checkpointing, or several with it; in float32, without it.

    In float32 each kind is at its largest, and a mark shows the peak.
    """
    plans, is_own = facts["plans"], facts["dtype"] == "float32"
    if len(plans) == 1:
        how = plans[0]["method"]
        bars = {"as it is": plans[0]["memory"], "with check-\npointing": plans[0]["with_checkpointing"]}
    else:
        how = "every method" + ("" if is_own else ", with checkpointing")
        bars = {plan["method"]: plan["memory" if is_own else "with_checkpointing"] for plan in plans}
    peaks = [memory["peak"] for memory in bars.values()] if is_own else []
    gpus = [int(name.split()[0]) for name in plans[0]["fits"]]
    return memory_bars(f"Memory of a training step, {how}\n{_title(facts)}", bars, gpus, peaks)


@style.styled
def memory_bars(
    title: str, memories: Mapping[str, Mapping[str, float]], gpus: Sequence[int], peaks: Sequence[float] = ()
) -> Figure:
    """Bytes of a training step {name: {kind of MEMORY: bytes}} as stacked bars. gpus: GB that GPUs have, as lines.

    peaks: the most bytes alive at once, as marks, where the kinds are not all at their largest together.
    """
    figure, axes = style.single(title, 2.2 + 0.34 * len(memories))
    sums = [sum(kinds.get(kind, 0) for kind in MEMORY) for kinds in memories.values()]
    most = max([*sums, *peaks])
    scale, unit = next(((s, u) for s, u in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if most >= s), (1e3, "KB"))
    widths = {kind: [kinds.get(kind, 0) / scale for kinds in memories.values()] for kind in MEMORY}
    looks = {
        kind: {"color": color, "hatch": hatch, "edgecolor": "black", "linewidth": 0.5, "height": 0.72}
        for kind, (color, hatch) in MEMORY.items()
        if any(kinds.get(kind, 0) > 0.002 * whole for kinds, whole in zip(memories.values(), sums, strict=True))
    }
    style.stack_bars(axes, list(memories), widths, looks)
    axes.set_xlim(0, 1.04 * most / scale)
    gpus = [size for size in gpus if 0.08 * most < size * 1e9 < 1.04 * most]
    for size in gpus:
        axes.axvline(size * 1e9 / scale, color=style.GREY, linestyle=(0, (4, 2)), linewidth=1, zorder=0.8)
        named = {"textcoords": "offset points", "ha": "center", "fontsize": 8, "color": style.GREY}
        axes.annotate(f"{size} GB", (size * 1e9 / scale, 1), (0, 2), ("data", "axes fraction"), **named)
    if peaks:
        axes.plot([peak / scale for peak in peaks], list(memories), "kD", markersize=5, mec="white", label="peak")
    axes.set_xlabel(f"{unit} (dashed: GPUs)" if gpus else unit)
    entries = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda entry: entry[1] == "peak")
    figure.legend(*zip(*entries, strict=True), loc="outside lower center", ncols=4, handlelength=1.6)
    return figure
