"""pytest tests/test_study_sweep.py: processes side by side measure what one would, and end with the one that keeps the
file."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from test_study_compare import TINY, cache, tiny  # noqa: F401 (fixtures)

from minilora.cli import main
from minilora.errors import MiniloraError
from minilora.study import compare, compare_views, sweep
from minilora.study.records import Records
from minilora.train.loop import Stopped

pytestmark = pytest.mark.host
TIMES = ("seconds", "speed", "memory", "time")


def measured(path) -> dict[tuple, dict]:
    """The cells without those that only measure time or memory, and without their seconds."""
    rows = Records.read(path / compare.RECORDS, compare.KIND).rows
    return {k: {n: v for n, v in row.items() if n not in TIMES} for k, row in rows.items() if k[0] not in TIMES}


def tables(path, cost_columns: slice) -> list[tuple[str, ...]]:
    records = Records.read(path / compare.RECORDS, compare.KIND)
    costs = compare_views.cost_grid(records).rows
    return compare_views.quality_grid(records).rows + [row[cost_columns] for row in costs]


def cut(path, lines: int) -> None:
    """Only so many cells, and the next one cut off."""
    file = path / compare.RECORDS
    kept = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(kept[: lines + 1]) + kept[lines + 1][:-5])


def test_two_processes_measure_what_one_does_and_go_on_for_each_other(tiny, monkeypatch):  # noqa: F811
    monkeypatch.setattr(compare, "QUICK", compare.replace(TINY, methods=("base", "few-shot", "lora", "prefix")))
    monkeypatch.setattr(compare, "memory_of", lambda *a: dict.fromkeys((*compare_views.KINDS, "peak", "process"), 1))
    run = lambda name, jobs, *flags: main(  # noqa: E731
        ["compare", "--quick", "--out", str(tiny / name), "--jobs", str(jobs), *flags]
    )
    assert run("one", 1) == run("two", 2) == 0
    expected, rows = measured(tiny / "one"), Records.read(tiny / "two" / compare.RECORDS, compare.KIND).rows
    assert measured(tiny / "two") == expected and len(expected) == 28
    assert tables(tiny / "two", slice(0, 8)) == tables(tiny / "one", slice(0, 8))
    for key, row in rows.items():  # what another process disturbed was not timed, and is timed later
        assert row.get("seconds") in (None, 0.0) or key[0] == "time"
    assert {key for key in rows if key[0] in ("time", "speed", "memory")} == {
        *(("time", "lora"), ("time", "prefix"), ("speed", "base")),
        *((kind, method) for kind in ("speed", "memory") for method in ("lora", "prefix")),
    }
    assert [row[8] for row in tables(tiny / "two", slice(0, 11)) if len(row) == 11][2] != "–"

    cut(tiny / "one", 14)
    cut(tiny / "two", 20)
    assert run("one", 2, "--resume") == run("two", 1, "--resume") == 0
    assert measured(tiny / "one") == measured(tiny / "two") == expected


@pytest.mark.parametrize(
    ("jobs", "said"),
    [("0", "from 1 to 64, not 0"), ("-2", "not -2"), ("1000000", "not 1,000,000"), ("two", "invalid int value: 'two'")],
)
def test_a_number_of_processes_that_cannot_be_is_one_line(tiny, capsys, jobs, said):  # noqa: F811
    assert main(["compare", "--quick", "--out", str(tiny), "--jobs", jobs]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not tiny.exists()


def test_without_joblib_it_says_how_to_get_it(tiny, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sweep, "find_spec", lambda name: None)
    assert main(["compare", "--quick", "--out", str(tiny), "--jobs", "2"]) == 2
    assert 'pip install "minilora[sweep]"' in capsys.readouterr().err and not tiny.exists()
    sweep.refuse_jobs(1)


# The processes, with other work


def alive(pids) -> list[int]:
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}") or not os.path.exists("/proc")]


def doing(what: str, first: str, tell) -> None:
    """Work of two cells: the first says which process it is, the second does `what`, or waits to be ended."""
    tell((first, 1), None)
    tell((first, 1), {"pid": os.getpid()})
    tell((first, 2), None)
    if what == "dies":
        time.sleep(0.5)  # until the other one is at its second cell
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fails":
        raise MiniloraError("no such thing: 'x'")
    if what != "ends":
        time.sleep(60)
    tell((first, 2), {"pid": os.getpid()})


def swept(*tasks: tuple[str, str], take=None) -> dict:
    rows = {}
    try:
        sweep.side_by_side(doing, tasks, 2, take or (lambda key, numbers: rows.update({key: numbers["pid"]})))
    finally:
        assert not alive(rows.values())
    return rows


def test_all_that_was_told_is_there_at_the_end():
    rows = swept(*(("ends", name) for name in "abcde"))
    assert rows.keys() == {(name, i) for name in "abcde" for i in (1, 2)}
    assert os.getpid() not in rows.values() and len(set(rows.values())) <= 2


def test_a_process_that_is_killed_is_named_by_its_cell():
    with pytest.raises(MiniloraError, match="the process that measured a 2 was killed.*--resume"):
        swept(("dies", "a"), ("waits", "b"))


def test_an_error_comes_out_as_it_was_and_ends_the_others():
    started = time.monotonic()
    with pytest.raises(MiniloraError, match="^no such thing: 'x'$"):
        swept(("waits", "a"), ("fails", "b"))
    assert time.monotonic() - started < 30


def test_a_row_that_cannot_be_kept_ends_the_sweep():
    def full(key, numbers):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        swept(("waits", "a"), ("waits", "b"), take=full)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_is_told(signum):
    pids = []

    def take(key, numbers):
        pids.append(numbers["pid"])
        if len(pids) == 2:  # both processes are at work: the terminal sends its signal to each
            for pid in (*pids, os.getpid()):
                os.kill(pid, signum)

    with pytest.raises(Stopped) as stopped:
        swept(("waits", "a"), ("waits", "b"), take=take)
    assert stopped.value.signum == signum and str(stopped.value) == "stopped" and not alive(pids)


def test_the_first_process_is_killed_and_the_others_leave():
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from test_study_sweep import doing; "
        "from minilora.study import sweep\n"
        "sweep.side_by_side(doing, [('waits', 'a'), ('waits', 'b')], 2, lambda k, n: print(n['pid'], flush=True))"
    )
    command = [sys.executable, "-c", code, os.path.dirname(__file__)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
        pids = [json.loads(first.stdout.readline()) for _ in range(2)]
        assert alive(pids) == pids
        first.kill()
    for _ in range(100):
        if not alive(pids):
            break
        time.sleep(0.1)
    assert not alive(pids)
