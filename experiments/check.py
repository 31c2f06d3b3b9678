"""Check that today's code would reproduce each file of records: `python -m experiments check`.

Measuring everything again takes days, so the check is a small one. The settings in a file's header must be those that
its command uses today, and its searches must try the same rates. For each method one training is started again: its
model, the rows that it reads, and its first losses must be those of `fingerprints.json`. A file that fails is listed in
`stale.json` with the reason, and docs/results.md marks it. `--update` replaces the fingerprints. So that they do not
hide a record that was stale already, trainings on the package's base then run to their end, and `worst` is the largest
relative difference between their numbers and the record's.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest import mock

from experiments import rates
from experiments.again import Kept, Stale, today
from experiments.results import jargon
from minilora.errors import MiniloraError
from minilora.measure.records import Records, machine
from minilora.peft import base_fingerprint
from minilora.train import loop

ROOT = Path(__file__).parents[1]
FOLDERS = (Path("experiments") / "records", Path("minilora") / "assets" / "results")
FINGERPRINTS, STALE = (FOLDERS[0] / name for name in ("fingerprints.json", "stale.json"))
LOSSES, LARGE_LOSSES = 10, 3  # steps whose losses are compared; on SmolLM2 a step takes seconds
HERE, ELSEWHERE = 1e-6, 1e-4  # relative tolerance of losses on the same processor and on another; three kinds of
WHOLE = 1e-2  # kernels differed by 3e-7 after ten steps. WHOLE: relative tolerance at the end of a training
RENAMED = {"adapt.lr": "adapt.peak_lr", "classify.lr": "classify.peak_lr"}  # {name in the oldest files: name today}
LIBRARIES = ("python", "numpy")  # studies read their documentation
CHOSEN = {"seeds", "methods", "model", "sizes"}  # settings given on the command line


class Enough(Exception):
    """An exception that ends a training once its first losses are known."""


def plain(settings: dict) -> dict:
    """Return settings as JSON values under today's names, those of a training flattened."""
    flat: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(settings)).items():
        within = {f"{name}.{part}": of for part, of in value.items()} if isinstance(value, dict) else {name: value}
        flat |= {RENAMED.get(one, one): of for one, of in within.items() if one not in CHOSEN}
    return flat


def cells(records: Records) -> list[tuple]:
    """Choose the cells to train: the first of each method; without methods, the first and the last."""
    by_method: dict[tuple, list[tuple]] = {}
    for key, row in records.rows.items():  # the words of a key name its method; numbers are ranks, amounts and seeds
        if "lr" in row or records.header["minilora"] in (rates.KIND, jargon.KIND):
            by_method.setdefault(tuple(takewhile(lambda part: isinstance(part, str), key)), []).append(key)
    both_ends = not records.header["settings"].get("model")
    lasts = [keys[-1] for words, keys in by_method.items() if len(words) == 1 and both_ends]
    return list(dict.fromkeys([keys[0] for keys in by_method.values()] + lasts))


def begin(records: Records, key: tuple, measure: Callable[..., dict], most: int, to_the_end: bool) -> dict:
    """Train a cell and return its fingerprint, from its first `most` steps; with `worst` if it ran to the end."""
    fingerprint: dict[str, Any] = {"losses": []}
    losses, rows, gradients = fingerprint["losses"], hashlib.sha256(), loop.batch_gradients

    def counted(model: Any, parts: list, *arguments: Any) -> Any:
        """Do the work of the function that every training step calls, and note the loss."""
        if not losses:
            fingerprint["model"] = base_fingerprint(model)
        loss = gradients(model, parts, *arguments)
        if len(losses) < most:
            losses.append(float(f"{float(loss):.7g}"))
            rows.update(b"".join(part[name].tobytes() for part in parts for name in sorted(part)))
            fingerprint["rows"] = rows.hexdigest()
            if len(losses) == most and not to_the_end:
                raise Enough
        return loss

    with mock.patch.object(loop, "batch_gradients", counted), suppress(Enough):
        row, numbers = records.rows[key], measure(*key)
        names = [name for name in numbers if isinstance(row.get(name), float) and name != "seconds"]
        pairs = [(row[name], numbers[name]) for name in names]
        fingerprint["worst"] = max(abs(now - then) / max(abs(now), abs(then), 1e-9) for then, now in pairs)
    return fingerprint


def check(path: Path, known: dict, update: bool = False) -> int:
    """Count the trainings of a file that agree with their fingerprints. Raises Stale if one does not.

    known: {file: its fingerprints}; update: replace them.
    """
    with path.open() as lines:
        records = Kept.read(path, json.loads(next(lines))["minilora"])
    if (command := today(records)) is None:
        return 0
    before, now = plain(records.header["settings"]), plain(command[0])
    if names := sorted(name for name in before.keys() & now.keys() if before[name] != now[name]):
        raise Stale(f"its command has other settings today: {', '.join(names)}")
    here = {part: machine()[part] for part in ("processor", "blas", *LIBRARIES)}
    if update:
        known[path.name] = {"machine": here, "trainings": {}}
    there = known.get(path.name, {"machine": here, "trainings": {}})
    same = all(there["machine"][part] == here[part] for part in ("processor", "blas"))
    large = bool(records.header["settings"].get("model"))
    whole = update and not large and records.header["minilora"] != rates.KIND
    for key in cells(records):
        name = " ".join(map(str, key))
        try:
            new = begin(records, key, command[1], LARGE_LOSSES if large else LOSSES, whole)
        except MiniloraError as error:
            raise Stale(f"{name} does not train: {error}") from error
        if path.name not in known:  # raised only now, because a training also shows whether the search has changed
            raise MiniloraError(f"it has no fingerprints; add them with check --update {path.name}")
        then = there["trainings"].setdefault(name, new) if update else there["trainings"].get(name)
        if then is None:
            raise Stale(f"there is no fingerprint of {name}")
        if parts := [
            part for part in ("model", "rows") if new.get(part) != then.get(part) and (same or part == "rows")
        ]:
            if other := [f"{part} {here[part]}" for part in LIBRARIES if here[part] != there["machine"][part]]:
                raise MiniloraError(f"with {' and '.join(other)} it reads another text than its fingerprint")
            raise Stale(f"{name} trains with other {' and '.join(parts)}")
        losses = zip(new["losses"], then["losses"], strict=True)
        if steps := [step for step, (a, b) in enumerate(losses, 1) if abs(a - b) > (HERE if same else ELSEWHERE) * b]:
            raise Stale(f"{name} has another loss from step {steps[0]} on")
        if then.get("worst", 0) > WHOLE:
            raise Stale(f"{name} ends {100 * then['worst']:.1f} % from the record")
    return len(there["trainings"])
