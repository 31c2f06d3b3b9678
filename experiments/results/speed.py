"""The records of the speed table, one a processor, which `python -m benchmarks.speed` measures, and what pages show."""

import re
from pathlib import Path

from experiments.processor import in_words
from minilora.errors import FormatError
from minilora.formats.atomic import read_json, show_path
from minilora.show.grids import Grid

FILES, KIND, VERSION = "speed-*.json", "speed", 2
TITLE = "How fast is it, beside transformers with PEFT and bitsandbytes, and PyTorch?"
LIBRARIES = {
    "minilora": "minilora",
    "before": "minilora before",
    "transformers": "transformers",
    "transformers, look-up": "transformers, look-up",
    "torch": "PyTorch",
    "torch.compile": "torch.compile",
    "bitsandbytes": "bitsandbytes",
}
GOALS = {  # {how the names of rows begin, in the order of the table: goal}
    "hidden 256, 4 layers": 1.05,
    "hidden 64, 2 layers": 1.3,
    "hidden 64, 8 x 64": 1.3,
    "SmolLM2-135M, 1 x 128": None,
    "SmolLM2-135M, 4 x 128, full": None,
    "SmolLM2-135M, 4 x 128, lora": 1.05,
    "SmolLM2-135M, 4 x 128, qlora": 1.0,
    "SmolLM2-135M, 1 x 512": None,
    "SmolLM2-135M, greedy": 1.3,
    "SmolLM2-135M, look-up": None,
    "dequantize": 2.0,
    "quantize": 4.0,
    "import minilora": 0.4,
    "minilora --help": 0.4,
    "share of products": 0.7,
    "all cores over one": 1.8,
    "plain loop over best way": 0.95,
}
ELSEWHERE = (
    "On two cores of an Intel processor with AVX-512, the first version was measured beside transformers with PEFT and "
    "bitsandbytes, and no record was kept: full, LoRA and QLoRA 0.70, 0.68 and 0.67 (hidden 256), 0.81, 0.77 and 0.86 "
    "(hidden 64); SmolLM2 LoRA 0.84, QLoRA 0.76, greedy decoding 1.02; products 50 to 58 % of a step."
)
SECONDS = ("import minilora", "minilora --help")  # not ratios: the less, the better


def file_of(machine: dict) -> str:
    """Return the name of the record's file: the processor's, with its family, model and matrix kernels."""
    processor = machine["processor"]
    parts = [processor["name"], *(processor.get(part, "") for part in ("family", "model")), _kernels(machine)]
    words = re.sub(r"\((r|tm)\)", "", " ".join(parts).lower())
    return f"speed-{re.sub('[^a-z0-9]+', '-', words).strip('-')}.json"


def read(path: Path) -> dict:
    """Return the record in the file at `path`. FormatError for any other file."""
    record = read_json(path)
    if record.get("minilora") != KIND or record.get("version") != VERSION:
        raise FormatError(f"{show_path(path)} is no record of speed of version {VERSION}")
    return record


def read_all(folder: Path) -> list[dict]:
    """Return the record of each processor."""
    return [read(path) for path in sorted(folder.glob(FILES))]


def grid(records: list[dict]) -> Grid:
    """Each row with its goal, one column a processor; a dash where it is not measured."""
    names = {row["name"]: None for record in records for row in record["rows"]}
    of_record = [{row["name"]: row for row in record["rows"]} for record in records]
    rows = [
        (name, _show(name, _goal(name)), *(_show(name, of_one.get(name, {}).get("value")) for of_one in of_record))
        for name in sorted(names, key=_place)
    ]
    caption = (
        "Training and decoding: how many times as fast as the faster of transformers (with PEFT for LoRA, and with "
        "bitsandbytes for QLoRA) and lean PyTorch, both eager; ours is the plain loop. Quantizing: as bitsandbytes. "
        "The start is in seconds. Share of products: of the step's time, what its matrix products take alone. All "
        "cores over one, and plain loop over best way (one thread, all cores): speeds, divided. Medians over the "
        "rounds, all sides taking turns."
    )
    return Grid("Speed", ("work", "goal", *map(heading, records)), rows, caption)


def heading(record: dict) -> str:
    """Return the processor, its cores and the matrix kernels, which no two records share."""
    machine = record["machine"]
    return f"{in_words(machine['processor'])}, {machine['cores']} cores, {_kernels(machine)} kernels"


def details(record: dict) -> Grid:
    """Milliseconds and peak memory of each library, for one processor."""
    rows = sorted((row for row in record["rows"] if "seconds" in row), key=lambda row: _place(row["name"]))
    found = {name: None for row in rows for part in ("seconds", "failed") for name in row.get(part, {})}
    libraries = [name for name in LIBRARIES if name in found]
    cells = [(row["name"], row["date"], *(_cell(row, name) for name in libraries)) for row in rows]
    caption = "Milliseconds of a step, of 64 tokens or of a matrix; then the peak of the process's memory, MiB."
    failed = {(name, why): None for row in rows for name, why in row.get("failed", {}).items()}
    caption += "".join(f" {LIBRARIES[name]}: {why}." for name, why in failed)
    if commits := {row["before"] for row in rows if "before" in row}:
        caption += f" Before: commit {', '.join(sorted(commits))}."
    if compiling := [row["compiling"] for row in rows if row.get("compiling")]:
        caption += f" The first two steps of torch.compile took {min(compiling):.0f} to {max(compiling):.0f} s."
    return Grid("Milliseconds; MiB", ("work", "measured", *(LIBRARIES[name] for name in libraries)), cells, caption)


def about(record: dict) -> str:
    """Return the machine, the versions of the peers, and how many goals are met, in sentences."""
    processor = record["machine"]["processor"]
    parts = [", ".join(processor.get("instruction_sets", []))]
    parts += [f"{name} {size // 1024:,} KiB" for name, size in processor.get("caches", {}).items()]
    peers = ", ".join(f"{name} {number}" for name, number in record["peers"].items())
    met = [_met(row) for row in record["rows"] if _goal(row["name"]) and row["value"] is not None]
    known = "; ".join(filter(None, parts))
    return f"{f'The processor: {known}. ' * bool(known)}The peers: {peers}. {sum(met)} of {len(met)} goals are met."


def profiles(record: dict) -> str:
    """Return the two lines of each profile, as a list for a page."""
    found = {row["name"]: row["profile"] for row in record["rows"] if row.get("profile")}
    return "\n".join(f"- **{name}**: {first}.\n  {second}." for name, (first, second) in found.items())


def _kernels(machine: dict) -> str:
    """Return the matrix library's kernels: what stands in brackets after its version."""
    found = re.search(r"\(([^)]*)\)", machine["blas"])
    return found[1] if found else "unknown"


def _place(name: str) -> tuple[int, str]:
    """Where a row stands in the table."""
    begins = [place for place, start in enumerate(GOALS) if name.startswith(start)]
    return (begins[0] if begins else len(GOALS), name)


def _goal(name: str) -> float | None:
    return next((goal for start, goal in GOALS.items() if name.startswith(start)), None)


def _met(row: dict) -> bool:
    name, goal = row["name"], _goal(row["name"]) or 0.0
    return row["value"] <= goal if name in SECONDS else row["value"] >= goal


def _show(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name.startswith("share"):
        return f"{value:.0%}".replace("%", " %")
    return f"{value:.2f} s" if name in SECONDS else f"{value:.2f}"


def _cell(row: dict, name: str) -> str:
    if name in row.get("failed", {}):
        return "failed"
    if name not in row["seconds"]:
        return "–"
    milliseconds = 1000 * row["seconds"][name]
    shown = f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.1f}"
    peak = row.get("peaks", {}).get(name)
    return f"{shown}; {peak:,.0f}" if peak else shown
