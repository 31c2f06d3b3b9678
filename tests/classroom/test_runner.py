"""pytest tests/classroom/test_runner.py

Code that loops, crashes, floods, forges, deletes and hides must end in a verdict in time, and change nothing outside.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from minilora.classroom.sandbox import wire
from minilora.classroom.sandbox.runner import KINDS, TOO_MUCH_MEMORY, WAITED, Job, Raised, RunFailed, Sandbox

pytestmark = pytest.mark.host

START = """
import ctypes, os, signal, sys, time
import numpy as np
libc = ctypes.CDLL(None)  # past the hooks that only Python's own functions meet
"""
LIMIT = 1  # second of processor time, for what is to run out of it
PATIENCE = 60  # times as many on the clock, for a machine that is busy


def sandbox_of(seconds: float, kinds, patience: float = PATIENCE):
    with Sandbox(seconds=seconds, kinds=kinds, patience=patience) as sandbox:
        yield sandbox


@pytest.fixture(scope="module", params=[KINDS, ()], ids=["fenced", "limits"])
def sandbox(request):
    yield from sandbox_of(6, request.param)


@pytest.fixture(scope="module", params=[KINDS, ()], ids=["fenced", "limits"])
def brief(request):
    yield from sandbox_of(LIMIT, request.param)


@pytest.fixture(scope="module", params=[KINDS, ()], ids=["fenced", "limits"])
def impatient(request):
    yield from sandbox_of(10, request.param, patience=0.2)  # so that waiting ends long before processor time does


@pytest.fixture(scope="module")
def fenced():
    yield from sandbox_of(6, KINDS)


@pytest.fixture(scope="module")
def only_namespaces():
    yield from sandbox_of(LIMIT, ("namespaces",), patience=2)


def attempt(sandbox, body: str, *arguments, **job):
    """f(*arguments) with this body: its value, a Raised or a RunFailed. It came in time, and no process is left."""
    source = START + "def f(*x):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    begin = time.monotonic()
    try:
        with sandbox.start(Job(source, "/nowhere/exercise.py", **job)) as session:
            assert session.error is None
            result = session.call("f", *arguments)
    except RunFailed as failure:
        result = failure
    assert time.monotonic() - begin < sandbox.seconds * max(sandbox.patience, PATIENCE)
    assert processes(sandbox) <= 2  # the supervisor, and the one that waits for it outside the namespaces
    return result


def processes(sandbox) -> int:
    """How many have the supervisor's command line; its children inherit it."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            count += sandbox.scratch.encode() in path.read_bytes()
    return count


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
@pytest.mark.parametrize("body", ["while True: pass", "return sum(range(10**18))"], ids=["python", "c"])
def test_what_does_not_end_is_ended(brief, body):
    out_of_time(brief, body)


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        "a = np.ones((1500, 1500))\nwhile True: a = a @ a * 0",
        "for n in range(1, 32):\n    n not in (9, 19) and signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ],
    ids=["matmul", "signals ignored", "exceptions eaten"],
)
@pytest.mark.parametrize("brief", [KINDS], indirect=True, ids=["fenced"])
def test_what_resists_is_ended(brief, body):
    out_of_time(brief, body)


def out_of_time(sandbox, body: str):
    used, failure = sandbox.used, attempt(sandbox, body)
    assert isinstance(failure, RunFailed) and f"still running after {LIMIT} s of processor time" == str(failure)
    assert failure.hint == "Does a loop end?" and 0 < sandbox.used - used < LIMIT + 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(100)",
        "libc.sleep(100)",
        "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
        "r, w = os.pipe(); os.read(r, 1)",
        "while True:\n    try:\n        while True: time.sleep(1)\n    except BaseException: pass",
        "signal.raise_signal(signal.SIGSTOP)\nwhile True: pass",
    ],
    ids=["asleep", "asleep in C", "lock", "pipe", "exceptions eaten", "stopped"],
)
def test_what_waits_is_ended_and_is_not_asked_for_a_loop(impatient, body):
    failure = attempt(impatient, body)
    assert isinstance(failure, RunFailed) and str(failure).startswith(
        "no answer after 2 s, in which it computed for 0."
    )
    assert failure.hint == WAITED
    assert failure.line == (None if "SIGSTOP" in body else 8 if "try" in body else 6)


@pytest.mark.slow
def test_a_machine_that_gives_it_no_processor_fails_no_answer():
    stopped_for_a_while = "os.kill(pid, signal.SIGSTOP); time.sleep(2 * seconds); os.kill(pid, signal.SIGCONT)"
    with (
        Sandbox(seconds=1, kinds=()) as sandbox,
        sandbox.start(Job("import time\ndef f(): return 2", "e.py")) as session,
    ):
        (child,) = map(
            int, Path(f"/proc/{sandbox._process.pid}/task/{sandbox._process.pid}/children").read_text().split()
        )
        code = f"import os, signal, time; pid, seconds = {child}, 1; {stopped_for_a_while}"
        with subprocess.Popen([sys.executable, "-c", code]):
            time.sleep(1)
            assert session.call("f") == 2


@pytest.mark.slow
def test_the_line_that_does_not_end_is_named():
    with Sandbox(seconds=1, patience=PATIENCE) as sandbox:
        assert attempt(sandbox, "y = 1\nwhile True:\n    y += 1").line in (7, 8)
        with pytest.raises(RunFailed, match="still running") as caught:
            sandbox.start(Job("x = 1\nwhile True: pass", "/nowhere/exercise.py"))
        assert caught.value.line == 2


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
        ("os.kill is None or libc.exit(0)", "ended before"),
        ("ctypes.string_at(0)", "SIGSEGV"),
        ("os.abort()", "ended before|SIG"),
        ("libc.kill(os.getpid(), 9)", "the system killed"),  # as it does where its memory ends
        ("os.close(1)\nfor n in range(3, 64):\n    try: os.close(n)\n    except OSError: pass", "ended before"),
        ("while True: print('x' * 10000)", "printed more"),
        ("while True: os.write(2, b'x' * 10000)", "printed more"),
        ("while True: libc.write(1, b'y' * 4096, 4096)", "printed more"),
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
        ("return np.ones(10**10)", "MemoryError"),
        ("a = []\nwhile True: a.append(bytes(10**8))", "MemoryError"),
        ("g = lambda n: g(n + 1)\nreturn g(0)", "RecursionError"),
        ("return 1 / 0", "ArithmeticError"),
        ("os.fork()", "OSError"),
        ("os.system('true')", "OSError"),
        ("os.kill(os.getppid(), 9)", "OSError"),
    ],
)
def test_exceptions_come_back_with_their_line(sandbox, body, kind):
    raised = attempt(sandbox, body)
    assert isinstance(raised, Raised) and kind in raised.types
    assert raised.line in (6, 7)


def test_a_bomb_of_processes(only_namespaces):
    body = "while True:\n    if libc.fork() == 0: time.sleep(100)"
    assert isinstance(attempt(only_namespaces, body), RunFailed)


def test_a_bomb_of_processes_does_not_begin(fenced):
    assert attempt(fenced, "return libc.fork(), libc.vfork(), libc.fork()") == (-1, -1, -1)


ORPHANS = """
if libc.fork() == 0:
    os.setsid()
    if libc.fork() == 0:
        os.setsid()
    time.sleep(100)
time.sleep(0.1)  # both have left the group by now
return 1
"""


def test_orphans_are_found(sandbox, only_namespaces):
    for each in (sandbox, only_namespaces):
        assert attempt(each, ORPHANS) == 1  # and `attempt` finds no process


OUTSIDE = [
    "os.unlink(x[0])",
    "os.rename(x[0], x[0] + '.gone')",
    "open(x[0], 'w').write('changed')",
    "open(x[0], 'a').write('changed')",
    "open(x[0] + '.new', 'w').close()",
    "os.chmod(x[0], 0)",
    "os.mkdir(x[0] + '.folder')",
    "os.symlink('/', x[0] + '.link')",
    "os.truncate(x[0], 0)",
    "import shutil; shutil.rmtree(os.path.dirname(x[0]))",
    "import pathlib; pathlib.Path(x[0]).write_text('changed')",
    "np.save(x[0], np.ones(3))",
]
IN_C = [
    "return libc.unlink(x[0].encode())",
    "return libc.truncate(x[0].encode(), 0)",
    "return libc.rename(x[0].encode(), (x[0] + '.gone').encode())",
    "return libc.open((x[0] + '.new').encode(), os.O_CREAT | os.O_WRONLY, 0o600)",
    "return libc.mkdir((x[0] + '.folder').encode(), 0o700)",
]


@pytest.mark.parametrize("body", OUTSIDE)
def test_nothing_outside_changes(sandbox, tmp_path, body):
    unchanged(sandbox, tmp_path, body)


@pytest.mark.parametrize("body", IN_C)
def test_nothing_outside_changes_by_c_code(fenced, tmp_path, body):
    attempt(fenced, "return 1")
    if not set(fenced.held) & {"read-only files", "landlock"}:
        pytest.skip("this system offers neither namespaces nor Landlock")
    unchanged(fenced, tmp_path, body)


def unchanged(sandbox, tmp_path, body):
    (tmp_path / "kept").write_text("as it was")
    mode = (tmp_path / "kept").stat().st_mode
    result = attempt(sandbox, body, str(tmp_path / "kept"))
    assert result == -1 or isinstance(result, Raised), result
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "as it was" and (tmp_path / "kept").stat().st_mode == mode


@pytest.mark.parametrize("kind, held", [("landlock", "landlock"), ("namespaces", "read-only files")])
def test_each_fence_around_files_holds_alone(tmp_path, kind, held):
    (tmp_path / "kept").write_text("as it was")
    with Sandbox(kinds=(kind,)) as sandbox:
        result = attempt(sandbox, IN_C[0], str(tmp_path / "kept"))
        if held not in sandbox.held:
            pytest.skip(f"this system does not offer {kind}")
        assert sandbox.held[-1] == held
    assert result == -1 and (tmp_path / "kept").exists()


def test_the_scratch_folder_is_writable_and_each_time_empty(sandbox):
    for _ in range(2):
        assert attempt(sandbox, "open('a', 'w').write('b')\nos.makedirs('c/d')\nreturn os.listdir()") in (
            ["a", "c"],
            ["c", "a"],
        )


def test_a_large_file_is_refused(sandbox):
    raised = attempt(sandbox, "with open('a', 'wb') as file:\n    while True: file.write(bytes(10**6))")
    assert isinstance(raised, Raised) and "OSError" in raised.types


def test_one_session_does_not_see_another(sandbox):
    assert attempt(sandbox, "np.allclose = np.array_equal = lambda *a, **k: True\nsys.modules['mark'] = np") is None
    assert attempt(sandbox, "return np.allclose(1, 2), 'mark' in sys.modules") == (False, False)


FORGED = wire.pack({"value": "passed"})


@pytest.mark.parametrize("forged", [b"passed\n", b'{"verdict": "passed"}\n', b"mlc1" + b"\xff" * 12, FORGED[:20]])
def test_writing_to_every_open_file_gives_no_answer(sandbox, forged):
    body = f"for n in range(256):\n    try: os.write(n, {forged!r})\n    except OSError: pass\nos._exit(0)"
    assert isinstance(attempt(sandbox, body), RunFailed)


def test_a_forged_answer_is_a_value_like_any_other(sandbox):
    body = f"for n in range(3, 256):\n    try: os.write(n, {FORGED!r})\n    except OSError: pass\nos._exit(0)"
    assert attempt(sandbox, body) == "passed"  # which the checker compares, as it would have if it were returned


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
        "return [0] * 10**6",
        "return np.broadcast_to(1.0, (10**6, 10**6))",
        "return 10**5000",
        "return object()",
        "return (i for i in range(3))",
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
        "import minilora.peft",
        "from minilora.peft.lora import LoraLinear",
        "from minilora import peft",
        "import importlib; importlib.import_module('minilora.peft')",
        "__import__('minilora.peft')",
        "sys.modules['minilora.functional'].low_rank_linear",
        "import minilora.functional as F; F.low_rank_linear",
        "import minilora; minilora.peft",
        "from minilora.nn.layers import F",
        "from minilora import nn; getattr(nn.layers, 'F')",
        "import minilora.classroom.lessons.checking",
    ],
)
def test_the_rest_of_the_library_is_closed(sandbox, body):
    result = attempt(sandbox, body, uses=("minilora.Tensor", "minilora.nn", "minilora.functional.linear"))
    assert isinstance(result, Raised) and {"ImportError", "AttributeError", "KeyError"} & set(result.types), result
    if "ModuleNotFoundError" in result.types or "importlib" in body:
        assert "this lesson may not use" in result.message


def test_what_the_lesson_uses_is_open(sandbox):
    body = (
        "import minilora.functional as F\nfrom minilora import Tensor, nn\n"
        "layer = nn.Linear(2, 2)\ny = F.linear(Tensor(x[0]), layer.weight)\ny.sum().backward()\n"
        "return y, layer.weight.grad"
    )
    y, gradient = attempt(
        sandbox, body, np.ones((3, 2)), uses=("minilora.Tensor", "minilora.nn", "minilora.functional.linear")
    )
    assert y.shape == (3, 2) and np.array_equal(gradient, np.full((2, 2), 3))


def test_nothing_of_minilora_is_open_where_nothing_is_used(sandbox):
    for body in ("import minilora", "import minilora.tensor", "from minilora import Tensor"):
        assert "ImportError" in attempt(sandbox, body).types


READING = {
    "open": "return open(x[0]).read()",
    "caught": "try: open(x[0]).read()\nexcept OSError: return 1",
    "pathlib": "import pathlib; return pathlib.Path(x[0]).read_text()",
    "bytes": "import io; return io.FileIO(x[0].encode()).read()",
    "a path": "import io, pathlib; return io.FileIO(pathlib.Path(x[0])).read()",
    "a path that changes": "x = [x[0]] * 2\nclass P: __fspath__ = lambda self: x.pop()\n__import__('io').FileIO(P())",
    "os.open": "return os.read(os.open(x[0], os.O_RDONLY), 100)",
    "other text": "class S(str):\n    split = partition = __getitem__ = startswith = lambda *a: '/'\nopen(S(x[0]))",
    "other os": "os.chdir(os.path.dirname(x[0])); os.getcwd = lambda: '/usr'; return open('solution.py').read()",
    "link": "libc.symlink(x[0].encode(), b'link'); return open('link').read()",
    "hard link": "libc.link(x[0].encode(), b'link'); return open('link').read()",
    "runpy": "import runpy; return runpy.run_path(x[0])",
    "importlib": "from importlib import util\nutil.spec_from_file_location('s', x[0]).loader.get_code('s')",
    "loader": "return np.__loader__.get_data(x[0])",
    "sys.path": "sys.path.insert(0, os.path.dirname(x[0])); import solution",
    "__import__": "return __import__('solution').f()",
    "numpy": "return np.fromfile(x[0], 'uint8')",
    "linecache": "import linecache; return linecache.getlines(x[0])",
    "copy": "import shutil; shutil.copy(x[0], 'copy.py')",
    "compile": "import py_compile; return py_compile.compile(x[0], 'a.pyc', doraise=True)",
}


@pytest.mark.parametrize("way", READING)
def test_who_reads_a_lessons_answers_fails(sandbox, tmp_path, way):
    (tmp_path / "solution.py").write_text("def f(): return 1")
    result = attempt(sandbox, READING[way], str(tmp_path / "solution.py"), hidden=str(tmp_path))
    if way == "hard link" and isinstance(result, Raised):  # Landlock makes none
        assert "FileNotFoundError" in result.types and "landlock" in sandbox.held
        return
    assert isinstance(result, RunFailed), result
    assert str(result) == "it tried to read the lesson's solution.py" and result.line is not None


FOLDER = "d = os.open(os.path.dirname({}), os.O_RDONLY)\nreturn os.read(os.open({!r}, os.O_RDONLY, dir_fd=d), 99)"


@pytest.mark.parametrize(
    "body",
    [
        FOLDER.format("x[0]", "solution.py"),
        FOLDER.format("os.path.dirname(x[0])", "lessons/solution.py"),
        FOLDER.format("os.getcwd()", "../lessons/solution.py"),
        "os.link(x[0], 'link')",
        "os.rename(x[0], 'mine.py')",
        "import subprocess; return subprocess.check_output(['cat', x[0]])",
    ],
)
def test_a_lessons_files_are_not_reached_by_folders_links_or_programs(sandbox, tmp_path, body):
    (tmp_path / "lessons").mkdir()
    path = tmp_path / "lessons" / "solution.py"
    path.write_text("def f(): return 1")
    result = attempt(sandbox, body, str(path), hidden=str(path.parent))
    assert isinstance(result, Raised) and "OSError" in result.types, result


@pytest.mark.parametrize("way", ["open(x[0])", "import sqlite3; sqlite3.connect(x[0])"])
def test_further_files_may_not_be_read(sandbox, tmp_path, way):
    for path in (tmp_path / "lessons", tmp_path / "course" / "submitted"):
        path.mkdir(parents=True)
        (path / "a.txt").write_text("1")
    closed = (str(tmp_path / "course" / "submitted"), str(tmp_path / "gradebook.db"))
    for path in (closed[1], f"{closed[0]}/a.txt", str(tmp_path / "other")):
        Path(path).write_text("1")
        result = attempt(sandbox, way, path, hidden=str(tmp_path / "lessons"), closed=closed)
        if path.endswith("other") and "sqlite" not in way:
            assert not isinstance(result, Raised)
        else:
            assert "PermissionError" in result.types


def test_c_code_does_not_read_a_lessons_files(fenced, tmp_path):
    (tmp_path / "solution.py").write_text("def f(): return 1")
    (tmp_path / "other.py").write_text("1")
    body = "return [libc.open(path.encode(), os.O_RDONLY) for path in x]"
    paths = [str(tmp_path / "solution.py"), str(tmp_path / "other.py"), "/etc/passwd", os.__file__]
    result = attempt(fenced, body, *paths, hidden=str(tmp_path))
    if "landlock" not in fenced.held:
        pytest.skip("this system does not offer Landlock")
    assert result[:2] == [-1, -1] and min(result[2:]) > 2
    assert min(attempt(fenced, body, *paths)) > 2  # where nothing is hidden


def test_a_submission_may_read_and_show_its_own_lines(sandbox, tmp_path):
    (tmp_path / "exercise.py").write_text("x = 1")
    body = "import warnings; warnings.warn_explicit('w', UserWarning, x[0], 1); return len(open(os.__file__).read(3))"
    assert attempt(sandbox, body, str(tmp_path / "exercise.py"), hidden=str(tmp_path)) == 3


@pytest.mark.parametrize(
    "body",
    [
        "libc.kill(os.getpid(), 9)",  # as the system does where its memory ends
        "def full(*a): raise MemoryError\n__import__('builtins').isinstance = full",  # not even room for the answer
    ],
)
def test_what_a_memory_bomb_killed_is_called_one(sandbox, body):
    assert attempt(sandbox, body).hint == TOO_MUCH_MEMORY


def test_prints_are_kept_apart(sandbox):
    with sandbox.start(Job("print('loading')\ndef f():\n    print('running')\n    return 2", "exercise.py")) as session:
        assert session.call("f") == 2
    assert session.printed == b"loading\nrunning\n"


def test_lines_that_fail_do_no_harm_to_the_rest(sandbox):
    source = "from __future__ import annotations\nx = 1 / 0\ndef f(a: Unknown): return 3\nprint(undefined)"
    with sandbox.start(Job(source, "exercise.py")) as session:
        assert session.call("f", 1) == 3
        assert session.error.types[0] == "ZeroDivisionError" and session.error.line == 2


def test_a_line_that_wants_too_much_memory_ends_the_run(sandbox):
    with pytest.raises(RunFailed, match="MemoryError") as caught:
        sandbox.start(Job("1 / 0\n\nx = bytes(10**13)\nprint(1)", "exercise.py"))
    assert (caught.value.line, caught.value.statement, caught.value.hint) == (3, 3, TOO_MUCH_MEMORY)


def test_the_sandbox_leaves_nothing():
    with Sandbox() as sandbox:
        attempt(sandbox, "return 1")
        assert processes(sandbox) >= 1 and os.path.isdir(sandbox.scratch)
    assert processes(sandbox) == 0 and not os.path.exists(sandbox.scratch)


@pytest.mark.parametrize("kinds", [KINDS, ()], ids=["fenced", "limits"])
def test_a_killed_checker_leaves_no_process_and_no_folder(kinds):
    code = (
        "from minilora.classroom.sandbox.runner import *\n"
        f"k = Sandbox(60, kinds={kinds})\ns = k.start(Job('def f():\\n    while True: pass', 'e.py'))\n"
        "print(k.scratch, flush=True)\ns.call('f')"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as checker:
        scratch = checker.stdout.readline().strip()
        sandbox = type("Seen", (), {"scratch": scratch})
        assert processes(sandbox) >= 2
        checker.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while processes(sandbox) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes(sandbox) == 0 and not os.path.exists(scratch)


def test_a_supervisor_that_died_is_replaced():
    with Sandbox() as sandbox:
        attempt(sandbox, "return 1")
        os.killpg(sandbox._process.pid, signal.SIGKILL)
        attempt(sandbox, "return 1")  # it may be seen now or have been seen before
        assert attempt(sandbox, "return 2") == 2


@pytest.mark.parametrize("seed", range(20))
def test_damaged_frames_are_refused_or_read(seed):
    rng = np.random.default_rng(seed)
    frame = bytearray(wire.pack({"value": [np.arange(4.0), "text", (1, None, {"a": 2.5})]}))
    for _ in range(50):
        damaged = frame.copy()
        for place in rng.integers(0, len(frame), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        reader = wire.read_frame()
        wanted = next(reader)
        try:
            while damaged:
                piece = bytes(damaged[:wanted])
                damaged = damaged[len(piece) :]
                wanted = reader.send(piece)
                assert wanted <= wire.PAYLOAD_LIMIT
        except (wire.WireError, StopIteration):
            pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "lengths, header",
    [
        ((2**31, 0), b""),
        ((10, 2**60), b""),
        ((None, 8), b'{"tree": {"array": 0}, "arrays": [["<f8", [1000000000, 1000000000]]]}'),
        ((None, 0), b'{"tree": ' + b"[" * 100_000 + b"}"),
    ],
)
def test_a_frame_that_claims_too_much_is_refused_before_memory_is_asked_for(lengths, header):
    reader = wire.read_frame()
    next(reader)
    with pytest.raises(wire.WireError):
        reader.send(wire.PREFIX.pack(wire.MAGIC, lengths[0] or len(header), lengths[1]))
        reader.send(header)
