"""pytest tests/experiments/test_speed.py: records of the speed table, one per processor, and their tables."""

import pytest

from experiments.results import speed
from minilora.errors import FormatError
from minilora.formats.atomic import to_json, write_json

pytestmark = pytest.mark.host
AMD = {
    "processor": {"name": "AMD EPYC", "family": "26", "model": "2"},
    "cores": 2,
    "blas": "openblas 0.3.31 (SkylakeX)",
}
INTEL = {
    "processor": {
        "name": "Intel(R) Xeon(R) 6975P",
        "instruction_sets": ["avx512f", "amx_tile"],
        "caches": {"L1d": 48 * 1024, "L2": 2048 * 1024},
    },
    "cores": 2,
    "blas": "openblas 0.3.31 (SapphireRapids)",
}
STEP = {
    "name": "hidden 64, 2 layers, full",
    "value": 1.299,
    "against": "torch",
    "seconds": {"minilora": 0.3671, "transformers": 0.45, "torch": 0.385},
    "peaks": {"minilora": 512.4, "transformers": 1200, "torch": 900},
    "failed": {"torch.compile": "InvalidCxxCompiler"},
    "date": "2026-12-01",
}


def record(machine: dict, *rows: dict) -> dict:
    header = {"minilora": speed.KIND, "version": speed.VERSION, "machine": machine, "peers": {"torch": "2.13"}}
    return header | {"date": "2026-12-01T12:00:00+00:00", "rows": [*rows]}


def row(name: str, value: float | None) -> dict:
    return {"name": name, "value": value, "date": "2026-12-01"}


@pytest.fixture
def records(tmp_path):
    """Return the records of two processors, written and read again."""
    amd = record(AMD, row("import minilora", 0.41), STEP, row("share of products, hidden 256, 4 layers, full", 0.704))
    intel = record(
        INTEL, row("SmolLM2-135M, greedy", 1.3), row("hidden 256, 4 layers, lora", 0.89), row("an older row", None)
    )
    for one in (amd, intel):
        write_json(tmp_path / speed.file_of(one["machine"]), one)
    assert speed.read_all(tmp_path) == [amd, intel]
    return [amd, intel]


def test_a_file_for_each_processor_and_its_kernels():
    assert speed.file_of(AMD) == "speed-amd-epyc-26-2-skylakex.json"
    assert speed.file_of(AMD | {"blas": "openblas 0.3.31 (Haswell)"}) == "speed-amd-epyc-26-2-haswell.json"
    assert speed.file_of(INTEL) == "speed-intel-xeon-6975p-sapphirerapids.json"
    assert speed.file_of(AMD | {"blas": ""}) == "speed-amd-epyc-26-2-unknown.json"


def test_a_row_has_its_ratio_times_and_memory(records):
    grid = speed.grid(records[0])
    assert grid.title == "AMD EPYC (family 26, model 2), 2 cores, SkylakeX kernels"
    assert grid.header[1:4] == ("times as fast", "minilora, ms", "peer, ms")
    assert grid.rows == [("hidden 64, 2 layers, full", "1.30", "367", "385", "–", "512", "900")]
    assert speed.grid(records[1]).rows == []  # without a peer there is nothing to compare
    assert speed.ratio(records[0], "import minilora") == 0.41 and speed.ratio(records[0], "no such row") is None


def test_rows_stand_in_the_order_of_the_table():
    names = (
        "SmolLM2-135M, greedy",
        "SmolLM2-135M, 1 x 512, qlora",
        "hidden 64, 8 x 64, full",
        "hidden 64, 2 layers, lora",
    )
    compared = [STEP | {"name": name, "seconds": {"minilora": 0.0314, "torch": 0.05}} for name in names]
    rows = speed.grid(record(AMD, *compared)).rows
    assert [row[0] for row in rows] == [names[3], names[1], names[0]] and rows[0][2:4] == ("31.4", "50.0")


def test_goals_are_met_by_what_was_measured_and_not_by_what_is_shown(records):
    amd, intel = (speed.grid(one).caption for one in records)
    assert (
        "torch 2.13" in amd and "meets 1 of its 3 speed goals" in amd
    )  # 1.299 is shown as 1.30; less is better at start
    assert "meets 1 of its 2 speed goals" in intel


def test_another_file_is_not_a_speed_record(tmp_path):
    (tmp_path / "speed-x.json").write_bytes(to_json({"minilora": "speed", "version": 1}))
    with pytest.raises(FormatError, match="is not a speed record of version 2"):
        speed.read_all(tmp_path)
