"""pytest tests/classroom/test_runner.py

Code that loops, crashes, floods and forges must end in a verdict in time; for marks, it must change and see nothing
outside. The latter needs bubblewrap (apt install bubblewrap).
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from minilora.classroom.sandbox import isolated, runner, wire
from minilora.classroom.sandbox.isolated import Isolated
from minilora.classroom.sandbox.runner import TOO_MUCH_MEMORY, WAITED, Job, Raised, RunFailed, Sandbox
from minilora.cli import main
from minilora.errors import MiniloraError

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[2]
START = """
import ctypes, os, signal, sys, time
import numpy as np
libc = ctypes.CDLL(None)  # past the hooks that only Python's own functions meet
"""
LIMIT = 1  # second of processor time, for what is to run out of it
PATIENCE = 60  # times as many on the clock, for a machine that is busy


# The quick tier runs on machines without bubblewrap
BOTH = [pytest.param(Sandbox, id="check"), pytest.param(Isolated, id="marks", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=BOTH)
def sandbox(request):
    with request.param(6, patience=PATIENCE) as sandbox:
        yield sandbox


@pytest.fixture(scope="module", params=BOTH)
def brief(request):
    with request.param(LIMIT, patience=PATIENCE) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def impatient():
    with Sandbox(10, patience=0.2) as sandbox:  # so that waiting ends long before processor time does
        yield sandbox


@pytest.fixture(scope="module")
def marks():
    with Isolated(6, patience=PATIENCE) as sandbox:
        yield sandbox


def attempt(sandbox, body: str, *arguments):
    """Run f(*arguments) with this body in time and without leaving a process; return its value, Raised or RunFailed."""
    source = START + "def f(*x):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    begin = time.monotonic()
    try:
        with sandbox.start(Job(source, "/nowhere/exercise.py")) as session:
            assert session.error is None
            result = session.call("f", *arguments)
    except RunFailed as failure:
        result = failure
    assert time.monotonic() - begin < sandbox.seconds * max(sandbox.patience, PATIENCE)
    # at most bubblewrap's two, and the server
    while sandbox._process is not None and len(descendants(sandbox._process.pid)) > 3:
        assert time.monotonic() - begin < 2 * PATIENCE  # who was killed may take a moment to be gone
        time.sleep(0.01)
    return result


def test_a_checker_that_ends_early_leaves_no_traceback(capfd):
    """Ctrl-C ends the checker while the server is still starting, whose answer then finds nobody."""
    with Sandbox() as sandbox:
        sandbox._launch()
        sandbox._control.sendall(b"q")
    assert capfd.readouterr().err == ""


def test_without_a_folder_for_temporary_files_a_sentence_says_what_to_do(monkeypatch, capfd):
    words = "minilora: there is no folder for temporary files: set TMPDIR to one that you can write to\n"
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
        patch.setattr(runner.subprocess, "Popen", None)  # the server would end with a traceback
        assert main(["check", "08"]) == 2
    assert capfd.readouterr() == ("", words)


def descendants(pid: int) -> list[int]:
    """Return the ids of the process and its descendants, without orphans."""
    pids = [pid]
    for process in pids:
        with suppress(OSError):
            pids += map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
    return pids


def test_values_go_there_and_back(sandbox):
    values = [
        np.arange(6.0).reshape(2, 3).T,
        np.float32(1.5),
        np.zeros((0, 3), dtype="int8"),
        [1, 2.5, None, True, "äöü\n", (np.array([True]), {"a": 1, 2: -(10**30)})],
        float("inf"),
    ]
    for value in values:
        back = attempt(sandbox, "return x[0]", value)
        np.testing.assert_equal(back, np.asarray(value) if isinstance(value, np.generic) else value)
        if isinstance(value, np.ndarray):
            assert back.dtype == value.dtype and back.shape == value.shape


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "return sum(range(10**18))",
        "for n in range(1, 32):\n    n not in (9, 19) and signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ],
    ids=["python", "c", "signals ignored", "exceptions eaten"],
)
def test_what_does_not_end_is_ended(brief, body):
    used, failure = brief.used, attempt(brief, body)
    assert isinstance(failure, RunFailed) and f"still running after {LIMIT} s of processor time" == str(failure)
    assert failure.hint == "Is there an endless loop?" and 0 < brief.used - used < LIMIT + 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        "libc.sleep(100)",
        "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
        "while True:\n    try:\n        while True: time.sleep(1)\n    except BaseException: pass",
        "signal.raise_signal(signal.SIGSTOP)\nwhile True: pass",
    ],
    ids=["asleep", "lock", "exceptions eaten", "stopped"],
)
def test_what_waits_is_ended_and_is_not_asked_for_a_loop(impatient, body):
    failure = attempt(impatient, body)
    assert isinstance(failure, RunFailed) and str(failure).startswith("no answer after 2 s (0.")
    assert failure.hint == WAITED and "a loop that never ends looks the same" in WAITED
    assert failure.line == (None if "SIGSTOP" in body else 8 if "try" in body else 6)


@pytest.mark.parametrize("end", ["while True: pass", "import os; os._exit(0)"])
def test_the_statement_that_a_file_ended_in_is_told(brief, end):
    source = f"x = 1\ndef loop():\n    {end}\n\nloop()\ny = 2"
    with pytest.raises(RunFailed) as caught:
        brief.start(Job(source, "/nowhere/exercise.py"))
    assert caught.value.statement == 5
    assert attempt(brief, "os._exit(0)").statement is None  # the file came to its end


@pytest.mark.parametrize(
    "body, says",
    [
        ("os._exit(0)", "ended before"),
        ("ctypes.string_at(0)", "SIGSEGV"),
        ("os.abort()", "ended before|SIG"),
        ("os.close(1)\nfor n in range(3, 64):\n    try: os.close(n)\n    except OSError: pass", "ended before"),
    ],
)
def test_what_breaks_the_process_is_a_failure(sandbox, body, says):
    failure = attempt(sandbox, body)
    assert isinstance(failure, RunFailed), failure
    assert any(word in str(failure) for word in says.split("|"))


@pytest.mark.parametrize(
    "body, kind",
    [
        ("sys.exit(0)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("a = []\nwhile True: a.append(bytes(10**8))", "MemoryError"),
        ("g = lambda n: g(n + 1)\nreturn g(0)", "RecursionError"),
        ("return 1 / 0", "ArithmeticError"),
        ("with open('a', 'wb') as file:\n    while True: file.write(bytes(10**6))", "OSError"),
    ],
)
def test_exceptions_come_back_with_their_line(sandbox, body, kind):
    raised = attempt(sandbox, body)
    assert isinstance(raised, Raised) and kind in raised.types
    assert raised.line in (6, 7)


OUTSIDE = [
    "open(x[0], 'w').write('changed')",
    "return libc.unlink(x[0].encode())",
    "return open(x[0]).read()",
    "import socket; socket.create_connection(('127.0.0.1', int(x[1])), 1)",
    "os.kill(int(x[2]), 9)",
    "import ctypes; return -1 if libc.mount(b'a', b'/scratch', b'tmpfs', 0, None) else 0",
]


@pytest.mark.slow
@pytest.mark.parametrize("body", OUTSIDE)
def test_what_gets_marks_neither_sees_nor_changes_anything_outside(marks, tmp_path, body):
    (tmp_path / "kept").write_text("as it was")
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = attempt(marks, body, str(tmp_path / "kept"), server.getsockname()[1], os.getpid())
    assert result == -1 or isinstance(result, Raised), result
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "as it was"


@pytest.mark.slow
def test_what_gets_marks_sees_python_packages_and_minilora_alone(marks, monkeypatch):
    monkeypatch.setenv("SECRET", "a password")
    look = "try: return os.listdir(x[0])\nexcept OSError: return []"
    assert not {"home", "work", "proc", "sys", "var"} & set(attempt(marks, look, "/"))
    assert all(attempt(marks, look, str(ROOT / answers)) == [] for answers in ("lessons", "tests"))
    assert set(attempt(marks, look, str(ROOT))) <= {"minilora", "lessons", "tests", ".venv"}
    assert attempt(marks, "return list(os.environ)").count("SECRET") == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/dev/shm/a", "/scratch/a", str(Path(np.__file__).parent / "a")])
def test_nothing_of_a_run_is_there_in_the_next(marks, path):
    attempt(marks, "open(x[0], 'w').close()\nos.mkdir('/scratch/b')", path)
    assert attempt(marks, "return os.path.exists(x[0]) or os.path.exists('/scratch/b')", path) is False


@pytest.mark.parametrize(
    "which, says",
    [
        (lambda name: None, "which is not installed: apt install bubblewrap, or grade in a Linux container"),
        (lambda name: "/bin/false", "which does not work here"),
    ],
)
def test_without_bubblewrap_there_are_no_marks_and_checks_all_the_same(monkeypatch, which, says):
    monkeypatch.setattr(isolated.shutil, "which", which)
    isolated.bubblewrap.cache_clear()
    try:
        with Isolated() as sandbox, pytest.raises(MiniloraError, match=says):
            sandbox.start(Job("x = 1", "e.py"))
    finally:
        isolated.bubblewrap.cache_clear()
    with Sandbox() as sandbox:
        assert attempt(sandbox, "return 1") == 1


def test_one_session_does_not_see_another(sandbox):
    assert attempt(sandbox, "np.allclose = lambda *a: True\nopen('a', 'w').write('b')\nos.makedirs('c/d')") is None
    assert attempt(sandbox, "return np.allclose(1, 2), os.listdir()") == (False, [])


FORGED = wire.pack({"value": "passed"})


@pytest.mark.parametrize("forged", [FORGED, b"passed\n", b'{"verdict": "passed"}\n', b"\xff" * 12, FORGED[:20]])
def test_a_forged_answer_is_none_or_a_value_like_any_other(sandbox, forged):
    body = f"for n in range(3, 256):\n    try: os.write(n, {forged!r})\n    except OSError: pass\nos._exit(0)"
    answer = attempt(sandbox, body)
    assert answer == "passed" if forged is FORGED else isinstance(answer, RunFailed)  # which the checker compares


def test_an_object_that_equals_everything_is_sent_as_its_types_name(sandbox):
    equal = "class Equal(float):\n    def __eq__(self, other): return True\n"
    assert attempt(sandbox, equal + "return Equal(1)").kind == "Equal"
    inner = attempt(sandbox, equal + "return [np.array([Equal(1)], dtype=object), {'a': Equal(2)}]")
    assert inner[0].kind == "ndarray" and inner[1]["a"].kind == "Equal"
    array = "class Array(np.ndarray):\n    def __eq__(self, other): return True\n"
    back = attempt(sandbox, array + "return np.ones(2).view(Array)")
    assert type(back) is np.ndarray


@pytest.mark.parametrize(
    "body",
    [
        "a = []\na.append(a)\nreturn a",
        "return np.broadcast_to(1.0, (10**6, 10**6))",
        "return 10**5000",
        "return object()",
        "return np.array(['a'])",
    ],
)
def test_what_cannot_be_sent_is_odd(sandbox, body):
    back = attempt(sandbox, body)
    while isinstance(back, list):
        (back,) = back
    assert isinstance(back, wire.Unserializable)


@pytest.mark.parametrize(
    "body",
    [
        "libc.kill(os.getpid(), 9)",  # as the system does where its memory ends
        "def full(*a): raise MemoryError\n__import__('builtins').isinstance = full",  # not even room for the answer
    ],
)
def test_what_a_memory_bomb_killed_is_called_one(sandbox, body):
    assert attempt(sandbox, body).hint == TOO_MUCH_MEMORY


def test_lines_that_fail_do_no_harm_to_the_rest(sandbox):
    source = "from __future__ import annotations\nx = 1 / 0\ndef f(a: int): return 3\nprint(undefined)"
    with sandbox.start(Job(source, "exercise.py")) as session:
        assert session.call("f", 1) == 3
        assert session.error.types[0] == "ZeroDivisionError" and session.error.line == 2


@pytest.mark.parametrize(
    "kind", ["runner import Sandbox", pytest.param("isolated import Isolated", marks=pytest.mark.slow)]
)
def test_a_killed_checker_leaves_no_process_and_no_folder(tmp_path, kind):
    code = (
        f"from minilora.classroom.sandbox.{kind} as Kind\nfrom minilora.classroom.sandbox.runner import Job\n"
        "k = Kind(60)\ns = k.start(Job('def f():\\n    while True: pass', 'e.py'))\n"
        "print(k._process.pid, flush=True)\ns.call('f')"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as checker:
        left = descendants(int(checker.stdout.readline()))
        assert len(left) >= 2 and len(list(tmp_path.iterdir())) == (kind.startswith("runner"))
        checker.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (alive := [pid for pid in left if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive and not list(tmp_path.iterdir())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_server_that_died_is_replaced():
    with Sandbox() as sandbox:
        attempt(sandbox, "return 1")
        os.killpg(sandbox._process.pid, signal.SIGKILL)
        attempt(sandbox, "return 1")  # it may be seen now or have been seen before
        assert attempt(sandbox, "return 2") == 2


@pytest.mark.parametrize(
    "line",
    [
        b"1 " * wire.LINE_LIMIT,
        b"[" * 100_000,
        b'{"array": ["<f8", [1000000000, 1000000000], "AAAAAAAAAAA="]}',
        b'{"array": ["O", [1], "AAAAAAAAAAA="]}',
        b'{"dict": [[[], 1]]}',
        b'{"more": 1}',
        FORGED[:-3],
    ],
)
def test_a_line_that_claims_too_much_is_refused(line):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        threading.Thread(target=theirs.send, args=[line[: 2**26] + b"\n"]).start()
        with pytest.raises(ValueError):
            wire.receive(ours, time.monotonic() + 10)
