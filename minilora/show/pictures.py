"""The picture of a training step's memory. (Those of notebooks alone are in notebooks/figures.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from minilora.show import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
