"""The record of data-parallel steps, which `python -m benchmarks.scaling` measures, and what pages show of it."""

from pathlib import Path

from minilora.measure.records import Records
from minilora.show.grids import Grid, show_bytes

FILE, KIND = "scaling.jsonl", "scaling"
TITLE = "What do more machines bring, and what does the link between them cost?"


def read(path: Path) -> list[dict]:
    """Return the measured points in the file at `path`, in order. FormatError for any other file.

    ranks of 0 are one process with a thread a core. mbit and delay (seconds) are of the link, None of memory. step,
    compute, sum (of gradients) and predicted are seconds.
    """
    return list(Records.read(path, KIND).rows.values())


def one_core(rows: list[dict], method: str) -> float:
    """Seconds of a step on one core."""
    return next(row["step"] for row in rows if row["method"] == method and row["ranks"] == 1)


def show_link(row: dict) -> str:
    if row["mbit"] is None:
        return "memory"
    rate = f"{row['mbit'] / 1000:g} Gbit/s" if row["mbit"] >= 1000 else f"{row['mbit']:g} Mbit/s"
    return rate + (f", {1000 * row['delay']:.0f} ms" if row["delay"] else "")


def _percent(number: float, form: str) -> str:
    return f"{number:{form}}".replace("%", " %").replace("-", "−")


def grid(rows: list[dict]) -> Grid:
    """Every point: what a step takes, how much of it is the sum, and what the cost model says."""
    lines = []
    for row in rows:
        several, step = row["ranks"] > 1, row["step"]
        sums = ["–", "–", "–"]
        if several:
            off = _percent(row["predicted"] / step - 1, "+.0%")
            sums = [_percent(row["sum"] / step, ".1%"), f"{1000 * row['predicted']:,.0f}", off]
        ranks = f"{row['ranks']} rank{'s' * several}" if row["ranks"] else "threads"
        method, link = "full" if row["method"] == "full" else "LoRA", show_link(row) if several else "–"
        speed = one_core(rows, row["method"]) / step
        lines.append((ranks, method, link, f"{1000 * step:,.0f}", f"{speed:.2f}", *sums))
    full, lora = (
        next(row["bytes"] for row in rows if row["method"] == m and row["ranks"] > 1) for m in ("full", "lora")
    )
    caption = (
        "Milliseconds of a step of 16 × 128 tokens, hidden size 256, 4 layers; LoRA of rank 8 on q and v. Threads: one "
        "process with two; a rank has one thread. Speed: as a multiple of one core's. Sum: the share of the step in "
        f"which gradients are summed: {show_bytes(full)} for full fine-tuning and {lora / 1000:.0f} kB for LoRA, "
        f"{full / lora:.0f} times fewer. Model: `notebooks.figures.cluster.step_seconds`."
    )
    header = ("ranks", "method", "link", "step", "speed", "sum", "model", "off")
    return Grid("Data-parallel steps", header, lines, caption)


def speeds(rows: list[dict]) -> Grid:
    """How many times as fast as one core two ranks are, over each link."""
    lines: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if row["ranks"] == 2:
            link = show_link(row)
            lines[link] = (*lines.get(link, (link,)), f"{one_core(rows, row['method']) / row['step']:.2f}")
    return Grid("Two ranks", ("link", "full fine-tuning", "LoRA"), list(lines.values()), "")


def sentence(rows: list[dict]) -> str:
    """What was found, in words that follow the numbers."""
    full, lora = (one_core(rows, method) / _step(rows, 2, method, 100) for method in ("full", "lora"))
    worst = max(abs(row["predicted"] / row["step"] - 1) for row in rows if row["ranks"] > 1)
    return (
        f"Over 100 Mbit/s, two ranks reach {full:.2f} times the speed of one core with full fine-tuning, and "
        f"{lora:.2f} times with LoRA. The cost model is at most {100 * worst:.0f} % off."
    )


def further(rows: list[dict]) -> str:
    """What the table says besides."""
    times = _step(rows, 0, "full", None) / _step(rows, 2, "full", None)
    return f"Two ranks of one thread reach {times:.2f} times the speed of one process with two threads."


def _step(rows: list[dict], ranks: int, method: str, mbit: int | None) -> float:
    """Seconds of a step over a link without delay."""
    setting = {"ranks": ranks, "method": method, "mbit": mbit, "delay": 0.0}
    return next(row["step"] for row in rows if setting.items() <= row.items())
