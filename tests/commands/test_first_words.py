"""pytest tests/commands/test_first_words.py: what each command says to somebody who types it for the first time.

The commands, their actions and flags are those of the parser, so a new one is tested here without a line more.
"""

import io
import os
import signal
import subprocess
import sys
from importlib import import_module

import pytest

from minilora.cli import MINILORA, main
from minilora.commands import doctor
from minilora.commands.common import FOREIGN
from minilora.train.run import RunFolder

pytestmark = pytest.mark.host

WRITTEN = ("--out", "course folder")  # flags and arguments that name what is made
BEGIN_AT_ONCE = ("demo", "check")  # without an argument these work for minutes: they are only parsed here


PARSERS = {name: MINILORA.parser(name) for name in ("", *MINILORA.commands)}
each_command = pytest.mark.parametrize("command", PARSERS, ids=lambda name: name or "minilora")


def text_flags() -> dict[str, list[str]]:
    """Yield, for each flag or argument that takes any text: its command, required flags, and the flag with a text.

    Each text is the path of a file that is not there.
    """
    lines = {}
    for command, parser in PARSERS.items():
        for action in parser._actions:
            takes_text = action.type is None and action.nargs in (None, "?")
            name = f"{command} {action.metavar or action.dest}"
            if takes_text and not {*action.option_strings, name} & {*WRITTEN}:
                others = [
                    one for one in parser._actions if one is not action and (one.required or one.dest == "action")
                ]
                lines[name] = [command, *(word for one in others for word in typed(one)), *typed(action)]
    return lines


def typed(action) -> list[str]:
    value = {"out": "not-there/out", "action": "info"}.get(action.dest, "not-there")
    return [*action.option_strings[:1], value]


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """Set up an empty working folder, home and cache, and nothing on standard input."""
    for name in ("home", "cache", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINILORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def first_words(capsys, folder, arguments) -> tuple[int, str, str]:
    """Return (exit code, output, error) of a command that succeeds, or fails with one line and writes nothing."""
    code = main(list(arguments))
    out, err = capsys.readouterr()
    if code != 0:
        assert (code, out) == (2, "") and err.startswith("minilora: ") and err.count("\n") == 1
        assert sorted(path.name for path in folder.rglob("*")) == ["cache", "here", "home"]
    return code, out, err


def test_no_command_shows_the_help(capsys, empty):
    typed = [first_words(capsys, empty, argv) for argv in ([], ["--help"])]
    assert typed[0] == typed[1] and typed[0][0] == 0


def test_a_missing_flag_comes_with_an_example(capsys, empty):
    _, _, err = first_words(capsys, empty, ["finetune"])
    assert err.startswith("minilora: --data and --out are missing; for example: minilora finetune --data numpy-docs ")
    _, _, err = first_words(capsys, empty, ["merge"])
    assert (
        err == "minilora: --out is missing; for example: minilora merge --adapter runs/numpy --out runs/numpy-merged\n"
    )


def test_an_error_is_wrapped_by_words_in_a_terminal(capsys, empty, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["finetune"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "minilora: --data and --out are missing; for example:",
        "minilora finetune --data numpy-docs --method lora --out runs/numpy",  # a command stays whole
    ]


def test_models_alone_lists_them(capsys, empty):
    assert first_words(capsys, empty, ["models"]) == first_words(capsys, empty, ["models", "list"])


def test_a_file_without_its_flag_names_the_flag(capsys, empty):
    _, _, err = first_words(capsys, empty, ["check", "08", "mine.py"])
    assert err == "minilora: a file needs its flag: --file mine.py (see minilora check --help)\n"
    _, _, err = first_words(capsys, empty, ["plan", "base", "mine.py"])
    assert err.startswith("minilora: unrecognized arguments: mine.py ")


@each_command
def test_nothing_and_a_wrong_flag(capsys, empty, monkeypatch, command):
    if command in BEGIN_AT_ONCE:
        monkeypatch.setattr(import_module(f"minilora.commands.{command}"), "run", lambda arguments: 0)
    first_words(capsys, empty, command.split())
    for flag in ("--no-such-flag", "-z", "--no_such_flag=3", "-z=3"):
        code, _, err = first_words(capsys, empty, [*command.split(), flag])
        assert code == 2 and f"unknown flag {flag.partition('=')[0]}" in err


@each_command
def test_help_is_a_screen_of_80_columns_and_42_lines(capsys, empty, command):
    code, out, _ = first_words(capsys, empty, [*command.split(), "--help"])
    assert code == 0 and out.startswith(f"usage: {' '.join(('minilora', *command.split()))} ")
    assert [line for line in out.splitlines() if len(line) > 80] == [] and out.count("\n") <= 42
    examples = [line for line in PARSERS[command].epilog.splitlines() if "minilora " in line]
    assert examples and all(line in out for line in examples)  # whole, so that they can be copied


def test_the_help_goes_on_below_its_column_in_a_narrow_terminal(capsys, empty, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = first_words(capsys, empty, ["--help"])
    assert max(map(len, out.splitlines())) <= 60
    assert "\n  check     check your answers to a lesson's exercise, or\n            show your progress\n" in out


@pytest.mark.parametrize("name", text_flags())
def test_a_file_that_is_not_there_and_a_value_that_is_empty(capsys, empty, name):
    """An unset shell variable gives an empty value: `--out "$OUT"` must not mean the current folder."""
    arguments = text_flags()[name]
    code, _, _ = first_words(capsys, empty, arguments)
    assert code == 2 or name == "generate prompt"
    code, _, err = first_words(capsys, empty, [*arguments[:-1], ""])
    assert code == 2 and "must not be empty" in err


@pytest.mark.parametrize(
    "command, flag, ours",
    [
        ("finetune", "--learning-rate", "--lr"),
        ("pretrain", "--learning_rate=1e-3", "--lr"),
        ("finetune", "-r", "--rank"),
        ("finetune", "--LoRA-Alpha", "--alpha"),
        ("finetune", "--output_dir", "--out"),
        ("finetune", "--max_length", "--seq-len"),
        ("generate", "--max_length", "--max-new-tokens"),
        ("plan", "--learning-rate", ""),  # "--length" is spelled alike
    ],
)
def test_a_flag_of_another_library_names_ours(capsys, empty, command, flag, ours):
    _, _, err = first_words(capsys, empty, [command, flag, "8"])
    meant = f"; did you mean '{ours}'?" if ours else ""
    assert f"unknown flag {flag.partition('=')[0]}{meant} (see minilora" in err


def test_the_flags_of_other_libraries_stand_for_flags_that_there_are():
    ours = {flag for parser in PARSERS.values() for flag in parser._option_string_actions}
    assert FOREIGN.keys() <= ours
    assert not {f"--{name}" for names in FOREIGN.values() for name in names.split()} & {*ours}


def start(*arguments, **options) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, without anything on standard input."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
    return subprocess.run([sys.executable, "-m", "minilora", *arguments], **options)


def test_a_table_where_the_encoding_has_no_lines_to_draw():
    done = start("plan", "base", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"") and b"?" * 70 in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_cannot_be_written(unbuffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as left, open("/dev/full", "wb") as full:
        gone, out_of_space = (start("models", "list", stdout=out, env=environment) for out in (left, full))
        assert start("finetune", stderr=full).returncode == 2
    assert (gone.returncode, gone.stderr) == (141, b"")
    assert (out_of_space.returncode, out_of_space.stderr) == (2, b"minilora: No space left on device\n")


INTERRUPTED_IMPORT = """
import os, signal, sys
from importlib.abc import MetaPathFinder
module, signum = sys.argv.pop(1), int(sys.argv.pop(1))
class Interrupt(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signum)
sys.meta_path.insert(0, Interrupt())
from minilora.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["minilora.cli", "minilora.commands.pretrain", "datetime"])
def test_a_signal_within_an_import_ends_the_command_without_a_traceback(empty, module, signum):
    """NumPy imports datetime from C; if a signal interrupts that, NumPy reports a broken installation."""
    reader, writer = os.pipe()  # the command waits for its text, so a signal that is lost is one that is missed
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, str(int(signum)), "pretrain", "--data", "-"]
    with open(reader, "rb") as text, open(writer, "wb"):
        done = subprocess.run([*command, "--out", "run"], stdin=text, capture_output=True, timeout=120)
    assert done.returncode == (130 if signum == signal.SIGINT else -signum)
    assert done.stderr == (b"minilora: interrupted\n" if signum == signal.SIGINT else b"")
    assert done.stdout == b"" and not list(empty.glob("here/*"))


def test_ctrl_c_is_ignored_if_it_was_when_the_command_started(capsys, monkeypatch):
    """The command ignores Ctrl-C if it was started with SIGINT ignored, as a script's background jobs are."""
    monkeypatch.setattr(doctor, "run", lambda arguments: os.kill(os.getpid(), signal.SIGINT))
    assert main(["doctor"]) == 130 and capsys.readouterr().err == "minilora: interrupted\n"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = main(["doctor"])
    signal.signal(signal.SIGINT, before)
    assert code == 0


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("models list", ""),
        ("show run", ""),  # matplotlib would say that it cannot keep its fonts there
        ("models get smollm2", "set MINILORA_CACHE to a folder that can be written\n"),
    ],
)
def test_a_home_that_cannot_be_written(empty, command, error):
    with RunFolder(empty / "here" / "run") as run:
        run.log({"step": 1, "loss": 2.0})
    elsewhere = ("MINILORA_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
    done = start(*command.split(), env=environment | {"HOME": "/dev/null/home"}, text=True)
    assert done.returncode == (2 if error else 0) and done.stderr.count("\n") == bool(error)
    assert done.stderr.endswith(error)


CUPY = """
import os
from pathlib import Path

Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy").mkdir(exist_ok=True)


class cuda:
    class runtime:
        def getDeviceCount():
            raise RuntimeError("CUDA driver version is insufficient")
"""


@pytest.mark.parametrize("home", ["home", "nowhere/home"])
def test_the_doctor_says_that_cupy_finds_no_gpu_and_leaves_nothing_in_the_home(empty, tmp_path, home):
    """The stand-in makes its cache folder when it is imported, as CuPy does, wherever that is."""
    (tmp_path / "cupy.py").write_text(CUPY)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {name: value for name, value in os.environ.items() if name not in ("CUPY_CACHE_DIR",)}
    done = start("doctor", env=environment | {"HOME": str(tmp_path / home), "PYTHONPATH": path}, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "cupy           the cupy backend finds no usable GPU: CUDA driver" in done.stdout
    assert not list((tmp_path / "home").iterdir())
