"""The record of data-parallel steps, which `python -m benchmarks.scaling` measures, and what pages show of it."""

from pathlib import Path

from minilora.measure.records import Records
from minilora.show.grids import Grid, show_bytes

FILE, KIND = "scaling.jsonl", "scaling"
TITLE = "What do more machines bring?"


def read(path: Path) -> list[dict]:
    """Return the measured points in the file at `path`, in order. Raises FormatError for any other file.

    0 ranks: one process with one thread per core. mbit and delay (in seconds) describe the link; mbit is None for
    shared memory. step, compute, sum (of the gradients) and predicted are in seconds.
    """
    return list(Records.read(path, KIND).rows.values())


def one_core(rows: list[dict], method: str) -> float:
    """Return the seconds of a step on one core."""
    return next(row["step"] for row in rows if row["method"] == method and row["ranks"] == 1)


def show_link(row: dict) -> str:
    if row["mbit"] is None:
        return "memory"
    rate = f"{row['mbit'] / 1000:g} Gbit/s" if row["mbit"] >= 1000 else f"{row['mbit']:g} Mbit/s"
    return rate + (f", {1000 * row['delay']:.0f} ms" if row["delay"] else "")


def speeds(rows: list[dict]) -> Grid:
    """Tabulate how many times as fast as one core two ranks are, over each link."""
    lines: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if row["ranks"] == 2:
            link = show_link(row)
            lines[link] = (*lines.get(link, (link,)), f"{one_core(rows, row['method']) / row['step']:.2f}")
    sizes = (next(row["bytes"] for row in rows if row["method"] == m and row["ranks"] > 1) for m in ("full", "lora"))
    full, lora = sizes
    caption = (
        "The speed of a training step (16 × 128 tokens, hidden size 256, 4 layers) as a multiple of one core's; LoRA "
        f"of rank 8 on q and v. A step sums {show_bytes(full)} of gradients with full fine-tuning and "
        f"{lora / 1000:.0f} kB with LoRA."
    )
    return Grid("Two ranks", ("link", "full fine-tuning", "LoRA"), list(lines.values()), caption)


def speedup(rows: list[dict], method: str, mbit: int) -> float:
    """Return how many times as fast as one core two ranks are over a link without delay."""
    link = {"ranks": 2, "method": method, "mbit": mbit, "delay": 0.0}
    return one_core(rows, method) / next(row["step"] for row in rows if link.items() <= row.items())


def sentence(rows: list[dict]) -> str:
    """Summarize the table and the accuracy of the cost model."""
    worst = max(abs(row["predicted"] / row["step"] - 1) for row in rows if row["ranks"] > 1)
    return (
        f"Over 100 Mbit/s, two ranks reach {speedup(rows, 'full', 100):.2f} times the speed of one core with full "
        f"fine-tuning, and {speedup(rows, 'lora', 100):.2f} times with LoRA. The cost model's step times are at most "
        f"{100 * worst:.0f} % off."
    )
