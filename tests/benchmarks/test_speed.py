"""pytest tests/benchmarks/test_speed.py: the rows of the speed table, of runners without a process, and the record."""

import sys

import pytest

from benchmarks import harness, speed, step
from experiments.results import speed as results
from minilora.formats.atomic import read_json
from tests.benchmarks.conftest import FakeRunner

pytestmark = pytest.mark.host


@pytest.fixture
def seconds() -> dict[str, list[float]]:
    """Return canned answers of the runners, by name. The first two are warm-up runs."""
    peers = {"transformers": [9, 1, 6, 2], "torch": [9, 1, 3, 7], "torch.compile": [20, 1, 2, 4]}
    return {"minilora": [9, 1, 1, 2]} | peers


@pytest.fixture(autouse=True)
def runners(seconds, monkeypatch):
    """Return a clock by which the runners take `seconds`."""
    runner = lambda name, *arguments, folder=None: FakeRunner(name, seconds[name])  # noqa: E731
    monkeypatch.setattr(harness, "Runner", runner)
    monkeypatch.setattr(step, "Runner", runner)


def test_a_row_is_beside_the_faster_eager_peer(seconds, tmp_path):
    seconds["before"] = [9, 1, 2, 2]
    (row,) = speed.of_step("hidden 64, 8 x 64", "lora", tmp_path, 2)
    assert row["name"] == "hidden 64, 8 x 64, lora" and row["against"] == "transformers"
    assert row["seconds"] == {"minilora": 1.5, "transformers": 4, "torch": 5, "torch.compile": 3, "before": 2}
    assert row["value"] == row["ratios"]["transformers"] == 3.5  # the median of 6 / 1 and 2 / 2
    assert row["ratios"]["torch"] == 3.25 and row["ratios"]["before"] == 1.5
    assert row["peaks"].keys() == row["seconds"].keys()
    assert row["failed"] == {} and row["compiling"] == 40  # two steps of 20 seconds


def test_a_peer_that_fails_has_its_reason_in_the_row(seconds):
    seconds["torch.compile"] = []
    for name in ("minilora", "transformers", "torch"):
        seconds[name] = [9, 1, *seconds[name]]  # the others begin again
    (row,) = speed.of_step("hidden 64, 8 x 64", "full", None, 2)
    assert row["failed"] == {"torch.compile": "ended with status 1"} and "compiling" not in row
    assert row["seconds"] == {"minilora": 1.5, "transformers": 4, "torch": 5}


def test_how_a_step_uses_the_cores(seconds):
    seconds |= {"products": [9, 1, 0.6, 1.4], "one thread": [9, 1, 1.7, 3.8], "all threads": [9, 1, 0.9, 1.8]}
    rows = {row["name"]: row["value"] for row in speed.in_depth("hidden 64, 2 layers", "full", None, 2)}
    assert rows == pytest.approx(
        {
            "share of products, hidden 64, 2 layers, full": (0.6 + 0.7) / 2,
            "all cores over one, hidden 64, 2 layers, full": (1.7 + 1.9) / 2,
            "plain loop over best way, hidden 64, 2 layers, full": 0.9,
        }
    )


@pytest.mark.parametrize(
    "stderr, word",
    [
        ("UserWarning: x\nModuleNotFoundError: No module named 'peft'\n", "ModuleNotFoundError"),
        (
            "torch._inductor.exc.InductorError: InvalidCxxCompiler: none in (None, 'g++')\n\nSet X=1",
            "InvalidCxxCompiler",
        ),
        ("Note: ValueError: no\n  raise OSError\nkilled", "ended with status -9"),
        ("", "ended with status -9"),
    ],
)
def test_why_a_peer_ended(stderr, word):
    error = harness.RunnerError("torch", -9, stderr)
    assert speed.reason(error) == word


def test_the_record_is_filled_in_several_sittings(monkeypatch, tmp_path, capsys):
    measured = []

    def measure(name, before, rounds):
        measured.append(name)
        yield {"name": name, "value": 1.0}

    monkeypatch.setattr(
        speed, "groups", lambda: {name: lambda *a, n=name: measure(n, *a) for name in ("a b", "b c", "c")}
    )
    monkeypatch.setattr(speed, "commit_of", lambda folder: "abc")
    monkeypatch.setattr(speed.profile, "works", lambda: {"c": None})
    monkeypatch.setattr(speed.harness, "fresh", lambda function, name: {"words": ["x", "y"]})
    run = lambda *arguments: monkeypatch.setattr(sys, "argv", ["speed", *arguments]) or speed.main()  # noqa: E731
    assert run("--out", str(tmp_path), "--row", "b") == 0 and measured == ["a b", "b c"]
    assert run("--out", str(tmp_path), "--missing") == 0 and measured == ["a b", "b c", "c"]
    (path,) = tmp_path.iterdir()
    record = results.read(path)
    assert path.name == results.file_of(record["machine"])
    assert [(row["name"], row["commit"], row.get("profile")) for row in record["rows"]] == [
        ("a b", "abc", None),
        ("b c", "abc", None),
        ("c", "abc", ["x", "y"]),
    ]
    assert run("--row", "a") == 0 and results.read(path) == record  # prints only
    monkeypatch.setattr(speed, "PACKAGES", ("numpy",))
    with pytest.raises(SystemExit):
        run("--out", str(tmp_path))
    assert "measured with different peers" in capsys.readouterr().err and read_json(path) == record


def test_each_row_has_a_place_in_the_table():
    names = [name.removeprefix("in depth: ") for name in speed.groups()]
    assert all(any(name.startswith(start) or start.startswith(name) for name in names) for start in results.SHOWN)
    assert {name for name in speed.profile.works()} <= set(names)
