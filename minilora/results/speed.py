"""The record of the speed table, which `python -m benchmarks.speed` measures, and what the results page shows."""

from pathlib import Path

from minilora.errors import FormatError
from minilora.formats.atomic import read_json, show_path
from minilora.show.grids import Grid

FILE, KIND, VERSION = "speed.json", "speed", 1
TITLE = "How fast is it, beside PyTorch, PEFT, bitsandbytes and transformers?"


def read(path: Path) -> dict:
    """The record in the file at `path`. FormatError for any other file."""
    record = read_json(path)
    if record.get("minilora") != KIND or record.get("version") != VERSION:
        raise FormatError(f"{show_path(path)} is no record of speed of version {VERSION}")
    return record


def grid(record: dict) -> Grid:
    """Each row before and now, as it stands to its goal."""
    rows = [
        (row["name"], row["against"], *(_number(row, which) for which in ("goal", "before", "now")), _verdict(row))
        for row in record["rows"]
    ]
    caption = (
        "Ratios say how many times as fast as the peer, medians over the rounds, all taking turns; the start is in "
        f"seconds, and the share is that of the matrix products run alone. Before: commit {record['before_commit']}. "
        + ", ".join(f"{name} {number}" for name, number in record["peers"].items())
        + "."
    )
    return Grid("Speed", ("work", "against", "goal", "before", "now", "goal met"), rows, caption)


def profiles(record: dict) -> str:
    """The two lines of each profile, as a list for a page."""
    found: dict[tuple[str, str], str] = {}
    for row in record["rows"]:
        if row["profile"]:
            found.setdefault(tuple(row["profile"]), row["name"])
    return "\n".join(f"- **{name}**: {first}.\n  {second}." for (first, second), name in found.items())


def _number(row: dict, which: str) -> str:
    value = row[which]
    if value is None:
        return "–"
    if row["name"].startswith("share"):
        return f"{value:.0%}".replace("%", " %")
    return f"{value:.2f} s" if row.get("below") else f"{value:.2f}"


def _verdict(row: dict) -> str:
    if row["goal"] is None:
        return "–"
    met = row["now"] <= row["goal"] if row.get("below") else row["now"] >= row["goal"]
    return "yes" if met else "no"
