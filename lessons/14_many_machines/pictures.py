"""The diagrams of lesson 14: python -m lessons.diagrams"""

import numpy as np

from experiments.results import page, scaling
from lessons.drawing import FOURTH, SECOND, SMALL, THIRD, Diagram
from notebooks.figures.cluster import Link, best_ranks


def ring() -> Diagram:
    d = Diagram(
        520,
        546,
        "Three ranks, each with pieces a, b and c, in four frames. In two steps pieces are handed on and added, so "
        "that each rank has one sum of all three; in two more steps these sums are handed on and replace what is "
        "there.",
    )
    ranks, wide, high = 3, 58, 40
    held = [[{rank} for _ in range(ranks)] for rank in range(ranks)]  # [rank][piece]: whose numbers are in it
    for step in range(4):
        left, top = 52 + 262 * (step % 2), 82 + 264 * (step // 2)
        adds = step < ranks - 1
        sent = {rank: (rank - step) % ranks for rank in range(ranks)}
        for rank, piece in sent.items():
            target = (rank + 1) % ranks
            held[target][piece] = held[rank][piece] | (held[target][piece] if adds else set())
        d.text(left + 1.5 * wide, top - 58, f"step {step + 1}: {'add' if adds else 'replace'}", look="bold")
        for rank in range(ranks):
            y = top + rank * (high + 20)
            d.text(left - 28, y + high / 2, f"rank\n{rank}", SMALL, look="soft")
            for piece, kind in enumerate((SECOND, THIRD, FOURTH)):
                whose = held[rank][piece]
                words = "all" if len(whose) == ranks else "+".join(map(str, sorted(whose)))
                d.box(left + piece * wide, y, wide, high, words, kind, SMALL, corner=0)
        for rank, piece in sent.items():
            x, y = left + (piece + 0.5) * wide, top + (rank + 1) * high + rank * 20
            if rank < ranks - 1:
                d.arrow((x, y), (x, y + 20))
            else:
                side = left + ranks * wide + 12
                d.arrow((x, y), (x, y + 14), (side, y + 14), (side, top - 20), (x, top - 20), (x, top))
        for piece, name in enumerate("abc"):
            d.text(left + (piece + 0.5) * wide - 16, top - 10, name, SMALL, look="soft")
    return d


def step() -> Diagram:
    rows = [r for r in scaling.read(page.ROOT / page.PACKAGED / scaling.FILE) if r["delay"] == 0]
    d = Diagram(
        520,
        330,
        "Six bars of time, full fine-tuning above LoRA. One rank takes 675 and 508 milliseconds, all of it computing. "
        "Two ranks compute half as long. Over 1 Gbit/s, full fine-tuning sends for another 130 milliseconds; over 100 "
        "Mbit/s it sends four times as long as it computes. LoRA's sending is too short to be seen.",
    )
    left, unit = 70, 220  # per second
    for i, (ranks, mbit, title) in enumerate(
        ((1, None, "one rank"), (2, 1000, "two ranks, 1 Gbit/s"), (2, 100, "two ranks, 100 Mbit/s"))
    ):
        y = 22 + 94 * i
        d.text(left, y, title, anchor="start", look="bold")
        for j, (method, name) in enumerate((("full", "full"), ("lora", "LoRA"))):
            row = next(r for r in rows if (r["method"], r["ranks"], r["mbit"]) == (method, ranks, mbit))
            top = y + 14 + 32 * j
            computed = unit * (row["compute"] + row["fixed"])
            sent = unit * row["step"] - computed  # and waited for
            d.text(left - 10, top + 13, name, anchor="end")
            d.box(left, top, computed, 26, "", SECOND, corner=0)
            if sent > 2:
                d.box(left + computed, top, sent, 26, "", FOURTH, corner=0)
            d.text(left + computed + sent + 8, top + 13, f"{1000 * row['step']:,.0f} ms", SMALL, "start", "soft")
    for x, words, kind in ((left, "compute", SECOND), (left + 120, "send and wait", FOURTH)):
        d.box(x, 298, 20, 20, "", kind, corner=0)
        d.text(x + 28, 308, words, SMALL, "start")
    return d


def curve() -> Diagram:
    d = Diagram(
        520,
        330,
        "The time of a step over the number of ranks from 1 to 200. It falls from 3 seconds to its least, 1.4 seconds "
        "at 10 ranks, and rises again to 3 seconds at 100. A dashed line is the floor at 1 second.",
    )
    compute, nbytes, link = 3.0, 500_000, Link(bandwidth=1e6, latency=0.010)  # as on the page
    most, left, right, bottom, unit = 200, 50, 500, 270, 70

    def at(n: float, seconds: float) -> tuple[float, float]:
        return left + (right - left) * np.log(n) / np.log(most), bottom - unit * seconds

    def takes(n: float) -> float:
        return compute / n + 2 * (n - 1) * (link.latency + nbytes / n / link.bandwidth)

    best = best_ranks(compute, nbytes, link, most)
    floor = 2 * nbytes / link.bandwidth
    d.line((left, 16), (left, bottom), (right, bottom))
    for seconds in (1, 2, 3):
        d.text(left - 10, at(1, seconds)[1], str(seconds), SMALL, "end")
    d.text(14, 24, "s", SMALL, look="soft")
    for n in (1, 2, 5, 10, 20, 50, 100, 200):
        x, _ = at(n, 0)
        d.line((x, bottom), (x, bottom + 6))
        d.text(x, bottom + 20, str(n), SMALL)
    d.text(left, bottom + 46, "ranks n", SMALL, "start", "soft")
    d.line(at(1, floor), at(most, floor), look="faint")
    d.text(at(1, floor)[0] + 12, at(1, floor)[1] + 16, "floor  2 b / W", SMALL, "start")
    d.line(at(1, compute), at(most, compute), look="faint")
    d.line(*(at(n, takes(n)) for n in np.geomspace(1, 128, 60)))
    for n, words, beside in (
        (1, "alone", (12, -12, "start")),
        (best, "n*", (0, -22, "middle")),
        (best**2, "n*²", (-12, -16, "end")),
    ):
        x, y = at(n, takes(n))
        d.circle(x, y, 6, "", FOURTH)
        d.text(x + beside[0], y + beside[1], words, anchor=beside[2], look="bold")
    d.text(at(2, 0)[0] + 24, at(1, 2.35)[1], "T(n)", anchor="start")
    return d
