"""Measure the cells of a file of records with today's code, for `experiments.check`."""

from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from typing import Any

from experiments import compare_model, comparison, rates, windows
from experiments.results import jargon
from experiments.studies import STUDIES
from minilora.errors import MiniloraError
from minilora.measure import curve
from minilora.measure.records import Records
from minilora.train import load

TIMES = ("curves", "scaling")  # kinds of records that hold times alone, without a training


class Stale(Exception):
    """The reason why a file of records is stale."""


class Kept(Records):
    """Records whose measured cells are only read, never measured again."""

    def measured(self, key: tuple, measure: Callable[..., dict], *arguments: Any) -> dict:
        if key not in self:
            raise Stale(f"its command also measures {' '.join(map(str, key))} today")
        return self.rows[key]


def at_the_same_rate(on_model: Any, records: Records, kind: str, *key: Any) -> dict:
    """Measure a cell of a comparison whose search still chooses the recorded rate: first losses would not show it."""
    if kind == "trained" and (rate := on_model.rate(key[0])) != (then := records.rows[kind, *key]["lr"]):
        raise Stale(f"{key[0]} was trained at {then:g}, and its search chooses {rate:g} today")
    return on_model.measure(kind, *key)


def today(records: Records) -> tuple[dict, Callable[..., dict]] | None:
    """Return today's settings of a file's command, and the function that measures a cell; None for a file that holds
    times alone.
    """
    kind, recorded = records.header["minilora"], records.header["settings"]

    def as_recorded(settings: type) -> Any:
        names = {field.name for field in fields(settings)} & recorded.keys() - {"columns"}
        return settings(**{n: tuple(recorded[n]) if isinstance(recorded[n], list) else recorded[n] for n in names})

    if kind.startswith("study "):
        study = STUDIES[kind.removeprefix("study ")]
        settings = study.large if recorded.get("model") else study.full
        bench = study.bench(settings, records)

        def trained_anew(*key: Any) -> dict:
            bench.forget()  # or a cell of the same training as the last one would train nothing
            return study.measure(bench, *key)

        return asdict(settings), trained_anew
    if kind == comparison.KIND:
        full = comparison.FULL
        return asdict(full), comparison.Comparison(full, comparison.lab_of(full), records).measure
    if kind == compare_model.KIND:
        on_model = compare_model.ModelComparison(as_recorded(compare_model.ModelSettings))
        on_model.records = records
        return on_model.facts(), partial(at_the_same_rate, on_model, records)
    if kind == windows.KIND:
        rate_of = {key[1]: row["lr"] for key, row in records.rows.items() if "lr" in row}
        in_windows = windows.Windows(as_recorded(compare_model.ModelSettings), rate_of)
        return in_windows.facts(), in_windows.measure
    if kind == curve.KIND:
        on_task = curve.Curve(as_recorded(curve.CurveSettings), curve.read_task(recorded["data"], recorded["test"]))
        return on_task.facts(), on_task.measure
    if kind == rates.KIND:
        empty = Records(records.path, records.header, {})  # no training ends, so nothing is written
        return {}, lambda model, data, method, rate, *seed: {"lr": rates.measure(empty, model, method, data)}
    if kind == jargon.KIND:
        load.path_of_model(recorded["model"])  # raises if it is not on this machine
        return asdict(jargon.Teaching()), lambda _, seed: jargon.measure(recorded["model"], seed)
    if kind in TIMES:
        return None
    raise MiniloraError(f"nothing here measures cells of {kind!r}")
