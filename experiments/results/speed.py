"""The records of the speed table, one per processor, which `python -m benchmarks.speed` measures, and their tables."""

import re
from pathlib import Path

from experiments.processor import in_words
from minilora.errors import FormatError
from minilora.formats.atomic import read_json, show_path
from minilora.show.grids import Grid

FILES, KIND, VERSION = "speed-*.json", "speed", 2
TITLE = "How fast is minilora?"
GOALS = {  # {prefix of row names: goal}
    "hidden 256, 4 layers": 1.05,
    "hidden 64, 2 layers": 1.3,
    "hidden 64, 8 x 64": 1.3,
    "SmolLM2-135M, 4 x 128, lora": 1.05,
    "SmolLM2-135M, 4 x 128, qlora": 1.0,
    "SmolLM2-135M, greedy": 1.3,
    "dequantize": 2.0,
    "quantize": 4.0,
    "import minilora": 0.4,
    "minilora --help": 0.4,
    "share of products": 0.7,
    "all cores over one": 1.8,
    "plain loop over best way": 0.95,
}
SHOWN = (  # prefixes of the rows in the table; the others are in the record, and in the count of goals
    "hidden 64, 2 layers",
    "SmolLM2-135M, 4 x 128",
    "SmolLM2-135M, 1 x 512",
    "SmolLM2-135M, greedy",
    "dequantize 4096 x 4096, all cores",
    "quantize 4096 x 4096, all cores",
)
SECONDS = ("import minilora", "minilora --help")  # seconds, not ratios: less is better


def file_of(machine: dict) -> str:
    """Return the name of the record's file: processor, family, model and matrix kernels."""
    processor = machine["processor"]
    parts = [processor["name"], *(processor.get(part, "") for part in ("family", "model")), _kernels(machine)]
    words = re.sub(r"\((r|tm)\)", "", " ".join(parts).lower())
    return f"speed-{re.sub('[^a-z0-9]+', '-', words).strip('-')}.json"


def read(path: Path) -> dict:
    """Return the record in the file at `path`. Raises FormatError for any other file."""
    record = read_json(path)
    if record.get("minilora") != KIND or record.get("version") != VERSION:
        raise FormatError(f"{show_path(path)} is not a speed record of version {VERSION}")
    return record


def read_all(folder: Path) -> list[dict]:
    """Return the record of each processor."""
    return [read(path) for path in sorted(folder.glob(FILES))]


def heading(record: dict) -> str:
    """Return the processor, its number of cores and its matrix kernels, which identify a record."""
    machine = record["machine"]
    return f"{in_words(machine['processor'])}, {machine['cores']} cores, {_kernels(machine)} kernels"


def grid(record: dict) -> Grid:
    """Compare minilora with the faster of its peers in the rows of SHOWN: milliseconds, and peak memory."""
    rows = {row["name"]: row for row in record["rows"] if row.get("against") and row["value"] is not None}
    names = sorted((name for name in rows if name.startswith(SHOWN)), key=_place)
    peers = ", ".join(f"{name} {version}" for name, version in record["peers"].items())
    met = [_is_met(row) for row in record["rows"] if _goal(row["name"]) and row["value"] is not None]
    caption = (
        "Milliseconds to do a training step, to generate 64 tokens, or to convert a matrix; MiB: peak memory of the "
        "process. Peer: the faster of transformers (with PEFT, and with bitsandbytes for QLoRA) and plain PyTorch, "
        "both eager; for a matrix, bitsandbytes. All sides take turns, and the times are medians over the rounds. "
        f"Peers: {peers}. minilora meets {sum(met)} of its {len(met)} speed goals on this machine."
    )
    header = ("work", "times as fast", "minilora, ms", "peer, ms", "torch.compile, ms", "minilora, MiB", "peer, MiB")
    return Grid(heading(record), header, [_cells(rows[name]) for name in names], caption)


def ratio(record: dict, name: str) -> float | None:
    """Return how many times as fast as its peer minilora is in the row called `name`, None if it was not measured."""
    return next((row["value"] for row in record["rows"] if row["name"] == name), None)


def _cells(row: dict) -> tuple[str, ...]:
    sides = ("minilora", row["against"])
    times = [row["seconds"].get(side) for side in (*sides, "torch.compile")]
    peaks = [(row.get("peaks") or {}).get(side) for side in sides]
    return (
        row["name"],
        f"{row['value']:.2f}",
        *("–" if seconds is None else _milliseconds(seconds) for seconds in times),
        *("–" if peak is None else f"{peak:,.0f}" for peak in peaks),
    )


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.1f}"


def _kernels(machine: dict) -> str:
    """Return the matrix library's kernels, which stand in brackets after its version."""
    match = re.search(r"\(([^)]*)\)", machine["blas"])
    return match[1] if match else "unknown"


def _place(name: str) -> tuple[int, str]:
    """Return the key that sorts rows in the order of SHOWN."""
    return next((place for place, prefix in enumerate(SHOWN) if name.startswith(prefix)), len(SHOWN)), name


def _goal(name: str) -> float | None:
    return next((goal for prefix, goal in GOALS.items() if name.startswith(prefix)), None)


def _is_met(row: dict) -> bool:
    goal = _goal(row["name"]) or 0.0
    return row["value"] <= goal if row["name"] in SECONDS else row["value"] >= goal
