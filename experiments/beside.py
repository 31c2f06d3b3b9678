"""Comparison of several ways to do a task with one of them, on the same items: differences, intervals and verdicts."""

from typing import Any, Literal

import numpy as np

from minilora.measure.records import Records
from minilora.measure.results import Column, Result
from minilora.measure.statistics import Interval, items_interval


def verdict(interval: Interval, low: float, high: float) -> Literal["shown", "refuted", "undecided"]:
    """Judge the claim that the true mean is in [low, high]: shown if all of the interval is, refuted if none of it."""
    if low <= interval.low and interval.high <= high:
        return "shown"
    return "refuted" if interval.low > high or interval.high < low else "undecided"


class Beside(Result):
    """Results whose cells have `NUMBER_items`: one bit per item, 1 if it was right, in hexadecimal.

    ways: {name: start of its keys; the seed comes last}. reference: the way that the others are compared with. fixed:
    ways that do not depend on the seed and have a single cell. near: the points within which two ways count as near
    each other.
    """

    def __init__(
        self,
        records: Records,
        ways: dict[str, tuple],
        reference: tuple,
        fixed: set,
        number: str,
        items: int,
        near: float,
    ):
        super().__init__(records)
        self.ways = {name: way for name, way in ways.items() if any(records.of(*way))}
        self.reference, self.fixed, self.number, self.items, self.near = reference, fixed, number, items, near
        self.comparisons = len(ways) - 1

    def right(self, way: tuple) -> dict[Any, np.ndarray]:
        """Return {seed: (N,)} in points: 100 for each right item, else 0."""
        name = f"{self.number}_items"
        bits = {one["key"][-1]: bytes.fromhex(one[name]) for one in self.records.of(*way) if name in one}
        return {seed: 100.0 * np.unpackbits(np.frombuffer(b, np.uint8))[: self.items] for seed, b in bits.items()}

    def ahead(self, *way: Any) -> Interval | None:
        """Return how many points a way is ahead of the reference, item by item and seed by seed."""
        ours, theirs = self.right(way), self.right(self.reference)
        if way in self.fixed and ours:
            ours = dict.fromkeys(theirs, *ours.values())
        seeds = ours.keys() & theirs.keys()
        if way == self.reference or not seeds:
            return None
        differences = np.array([ours[seed] - theirs[seed] for seed in sorted(seeds)])
        return items_interval(differences, comparisons=self.comparisons)

    def verdict(self, *way: Any) -> str | None:
        """Return "better" or "worse" if the interval excludes 0, "near" if it is within `near` points of 0,
        "undecided".

        None with a single seed, or if a cell does not record its items.
        """
        interval = self.ahead(*way)
        if interval is None or interval.count == 1:
            return None
        if interval.excludes(0):
            return "better" if interval.mean > 0 else "worse"
        return "near" if verdict(interval, -self.near, self.near) == "shown" else "undecided"

    def compared(self, name: str) -> str:
        """Compare the way called `name` with the prompt that is the reference, in a sentence."""
        words = {"better": "is shown to be better than", "worse": "is shown to be worse than"}
        words |= {"near": "is shown to be near"}
        way = self.ways[name]
        interval, verb = self.ahead(*way), words.get(self.verdict(*way) or "", "is not told apart from")
        return f"{name} {verb} that prompt: {interval.show(0)} points." if interval else f"{name} has no verdict."

    def percent(self, number: str, name: str) -> str:
        """Return a share of the way called `name` in percent, as mean ± standard deviation over its seeds."""
        return f"{self.spread(number, *self.ways[name], scale=100).show(0)} %"

    def share(self, header: str, number: str, digits: int = 0) -> Column:
        """Return the column of a share in percent."""
        return Column(header, lambda *way: self.spread(number, *way, scale=100), lambda spread: spread.show(digits))

    def columns(self, name: str) -> list[Column]:
        """Return the columns that compare with the reference, called `name`."""
        ahead = Column(f"beside\n{name}", self.ahead, lambda interval: interval.show(0))
        return [ahead, Column("verdict", self.verdict)]
