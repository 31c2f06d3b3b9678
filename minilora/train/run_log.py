"""What a run folder says of its training, read back: while it runs, after it was broken off, or when it is done."""

import os
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

from minilora.errors import FormatError
from minilora.formats import atomic
from minilora.train.run import METRICS, RECORD, parse_metrics, read_record

SERIES = ("loss", "evaluation", "lr", "norm")  # what the loop logs
Points = dict[int, float]  # by step, in order; NaN where a number was asked for and there was none


@dataclass(frozen=True)
class RunMetrics:
    """The settings of a run, what it came to (None before its end), and its numbers, {name of SERIES: points}."""

    config: dict[str, Any]
    result: dict[str, Any] | None
    series: dict[str, Points]

    @property
    def step(self) -> int:
        """The last that is known; 0 before the first."""
        return max((step for points in self.series.values() for step in points), default=0)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Of each series that has a number: first, last, min, max, the step of the min, and how many are no number."""
        found = {}
        for name, points in self.series.items():
            if numbers := {step: value for step, value in points.items() if isfinite(value)}:
                values, best = list(numbers.values()), min(numbers, key=numbers.__getitem__)
                found[name] = {
                    "first": values[0], "last": values[-1], "min": numbers[best], "max": max(values),
                    "min_step": best, "not_numbers": len(points) - len(numbers),
                }  # fmt: skip
        return found


def read_metrics(folder: str | os.PathLike[str]) -> RunMetrics:
    """The metrics of the run in a folder. Lines that are no records, as a killed writer leaves one, are passed over.

    FormatError for what is no run folder.
    """
    where = atomic.show_path(folder)
    if not os.path.lexists(path := Path(folder) / RECORD):
        raise FormatError(f"{where} is no run folder: there is no {RECORD} in it")
    record = read_record(path)
    result = record.get("result")
    series: dict[str, Points] = {name: {} for name in SERIES}
    last = -1
    if os.path.lexists(path := Path(folder) / METRICS):
        with atomic.open_regular(path) as file:
            for line in file:
                row = parse_metrics(line)
                if last < (step := row.get("step", -1)) < 2**53:  # each step once
                    last = step
                    for name in SERIES & row.keys():
                        series[name][step] = _number(row[name])
    return RunMetrics(record["config"], result if isinstance(result, dict) else None, series)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else nan
