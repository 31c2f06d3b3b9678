"""pytest tests/measure/test_sweep.py: processes side by side tell all that they find, and end with the first one."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from minilora.errors import MiniloraError, Stopped
from minilora.measure import sweep

pytestmark = pytest.mark.host


def alive(pids) -> list[int]:
    found = []
    for pid in pids:
        with suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
            found += [pid] * (state not in "ZX")
    return found


def doing(what: str, first: str, tell) -> None:
    """Work of two cells: the first says which process it is, the second does `what`, or waits to be ended."""
    if what == "trains":  # SIGTERM is kept for the end of a step that takes long
        signal.signal(signal.SIGTERM, lambda *_: None)
    tell((first, 1), None)
    ignores = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    tell((first, 1), {"pid": os.getpid(), "ignores": ignores})
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
        sweep.side_by_side(doing, tasks, 2, take or (lambda key, numbers: rows.update({key: numbers})))
    finally:
        assert not alive(numbers["pid"] for numbers in rows.values())
    return rows


@pytest.mark.slow
def test_all_that_was_told_is_there_at_the_end():
    rows = {}

    def take(key, numbers):
        time.sleep(0.05)  # so that the processes are done long before
        rows[key] = numbers

    swept(*(("ends", name) for name in "abcde"), take=take)
    assert rows.keys() == {(name, i) for name in "abcde" for i in (1, 2)}
    pids = {numbers["pid"] for numbers in rows.values()}
    assert os.getpid() not in pids and len(pids) <= 2 and not alive(pids)


@pytest.mark.slow
def test_the_processes_leave_the_terminals_signals_to_the_first():
    assert swept(("ends", "a"), ("ends", "b"))["a", 1]["ignores"]


@pytest.mark.slow
def test_a_process_that_is_killed_is_named_by_its_cell():
    with pytest.raises(MiniloraError, match="the process that measured a 2 was killed.*--resume"):
        swept(("dies", "a"), ("waits", "b"))


@pytest.mark.slow
def test_an_error_comes_out_as_it_was_and_ends_the_others():
    rows = {}
    with pytest.raises(MiniloraError, match="^no such thing: 'x'$"):
        swept(("waits", "a"), ("fails", "b"), take=lambda key, numbers: rows.update({key: numbers}))
    assert ("a", 2) not in rows


@pytest.mark.slow
def test_a_row_that_cannot_be_kept_ends_the_sweep():
    def full(key, numbers):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        swept(("waits", "a"), ("waits", "b"), take=full)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["waits", "trains"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_is_told(signum, what, capfd):
    pids, sent = [], []

    def take(key, numbers):
        pids.append(numbers["pid"])
        if len(pids) == 2:  # both processes are at work: the terminal sends its signal to each
            sent.append(time.monotonic())
            for pid in (*pids, os.getpid()):
                os.kill(pid, signum)

    with pytest.raises(Stopped) as stopped:
        swept((what, "a"), (what, "b"), take=take)
    assert time.monotonic() - sent[0] < 30  # and not the minute that the work takes
    assert stopped.value.signum == signum and str(stopped.value) == "stopped; go on with --resume" and not alive(pids)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_the_first_process_is_killed_and_the_others_leave():
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from tests.measure.test_sweep import doing; "
        "from minilora.measure import sweep\n"
        "sweep.side_by_side(doing, [('waits', 'a'), ('waits', 'b')], 2, lambda k, n: print(n['pid'], flush=True))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parents[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
        pids = [json.loads(first.stdout.readline()) for _ in range(2)]
        assert alive(pids) == pids
        first.kill()
    for _ in range(100):
        if not alive(pids):
            break
        time.sleep(0.1)
    assert not alive(pids)
