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

from minilora.cli import _parser, main
from minilora.commands import doctor
from minilora.commands.common import FOREIGN, Parser, adapter_folder
from minilora.train.run import RunFolder

pytestmark = pytest.mark.host

WRITTEN = ("--out", "course folder")  # flags and arguments that name what is made
BEGIN_AT_ONCE = ("demo", "check")  # without an argument these work for minutes: they are only parsed here


def parsers(parser: Parser, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Parser]:
    """Every command and action below `parser`, by what is typed for it."""
    parser.complete()
    groups = parser._subparsers._group_actions if parser._subparsers else []
    below = [parsers(one, (*path, name)) for group in groups for name, one in group.choices.items()]
    return {path: parser} | {path: one for found in below for path, one in found.items()}


PARSERS = parsers(_parser())
COMMANDS = {" ".join(path) or "minilora": path for path in PARSERS}
each_command = pytest.mark.parametrize("path", COMMANDS.values(), ids=COMMANDS)


def text_flags() -> dict[str, list[str]]:
    """For each flag or argument that takes any text: its command, what that requires, and last the flag with a text.

    Each text is the path of a file that is not there.
    """
    lines = {}
    for command, path in COMMANDS.items():
        for action in PARSERS[path]._actions:
            takes_text = action.type in (None, adapter_folder) and action.nargs in (None, "?") and not action.choices
            name = f"{command} {action.metavar or action.dest}"
            if takes_text and not {*action.option_strings, name} & {*WRITTEN}:
                others = [one for one in PARSERS[path]._actions if one.required and one is not action]
                lines[name] = [*path, *(word for one in others for word in typed(one)), *typed(action)]
    return lines


def typed(action) -> list[str]:
    return [*action.option_strings[:1], "not-there/out" if action.dest == "out" else "not-there"]


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """An empty folder to stand in, an empty home, an empty cache, and nothing on standard input."""
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
    """Exit code, output and error of a command that succeeds, or is refused in one line and writes nothing."""
    code = main(list(arguments))
    out, err = capsys.readouterr()
    if code != 0:
        assert (code, out) == (2, "") and err.startswith("minilora: ") and err.count("\n") == 1
        assert sorted(path.name for path in folder.rglob("*")) == ["cache", "here", "home"]
    return code, out, err


@each_command
def test_nothing(capsys, empty, monkeypatch, path):
    if path and path[0] in BEGIN_AT_ONCE:
        monkeypatch.setattr(import_module(f"minilora.commands.{path[0]}"), "run", lambda arguments: 0)
    first_words(capsys, empty, path)


@each_command
def test_help_is_a_screen_of_80_columns_and_40_lines(capsys, empty, path):
    code, out, _ = first_words(capsys, empty, [*path, "--help"])
    assert code == 0 and out.startswith(f"usage: {' '.join(('minilora', *path))} ")
    assert [line for line in out.splitlines() if len(line) > 80] == [] and out.count("\n") <= 40
    examples = [line for line in PARSERS[path].epilog.splitlines() if "minilora " in line]
    assert examples and all(line in out for line in examples)  # whole, so that they can be copied


@each_command
def test_a_wrong_flag(capsys, empty, path):
    for flag in ("--no-such-flag", "-z", "--no_such_flag=3", "-z=3"):
        code, _, err = first_words(capsys, empty, [*path, flag])
        assert code == 2 and f"unknown flag {flag.partition('=')[0]}" in err


@pytest.mark.parametrize("name", text_flags())
def test_a_file_that_is_not_there(capsys, empty, name):
    code, _, _ = first_words(capsys, empty, text_flags()[name])
    assert code == 2 or name == "generate prompt"


@pytest.mark.parametrize("name", text_flags())
def test_a_value_that_is_empty(capsys, empty, name):
    """As the shell makes it of a variable that is not set: `--out "$OUT"` is not the folder in which one stands."""
    code, _, err = first_words(capsys, empty, [*text_flags()[name][:-1], ""])
    assert code == 2 and (name.endswith(("TEXT", "SECRET")) or "must not be empty" in err)


@pytest.mark.parametrize(
    ("command", "flag", "ours"),
    [
        ("finetune", "--learning-rate", "--lr"),
        ("pretrain", "--learning_rate=1e-3", "--lr"),
        ("finetune", "--lora_r", "--rank"),
        ("finetune", "-r", "--rank"),
        ("finetune", "--LoRA-Alpha", "--alpha"),
        ("finetune", "--num_train_epochs", "--epochs"),
        ("finetune", "--per_device_train_batch_size", "--batch-size"),
        ("finetune", "--output_dir", "--out"),
        ("finetune", "--max_length", "--seq-len"),
        ("generate", "--max_length", "--max-new-tokens"),
        ("plan", "--batch_size", "--batch-size"),
        ("finetune", "--stpes", "--steps"),
    ],
)
def test_a_flag_of_another_library_or_a_typing_error_names_ours(capsys, empty, command, flag, ours):
    code, _, err = first_words(capsys, empty, [command, flag, "8"])
    assert code == 2 and f"unknown flag {flag.partition('=')[0]}; did you mean '{ours}'? (see minilora" in err


def test_a_flag_that_the_command_has_nothing_like_suggests_nothing(capsys, empty):
    error = first_words(capsys, empty, ["plan", "--learning-rate", "1"])[2]  # "--length" is spelled alike
    assert "unknown flag --learning-rate" in error and "did you mean" not in error


def test_the_flags_of_other_libraries_stand_for_flags_that_there_are():
    ours = {flag for parser in PARSERS.values() for flag in parser._option_string_actions}
    assert FOREIGN.keys() <= ours
    assert not {f"--{name}" for names in FOREIGN.values() for name in names.split()} & {*ours} - {"--text"}


def start(*arguments, **options) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, without anything on standard input."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
    return subprocess.run([sys.executable, "-m", "minilora", *arguments], **options)


def test_a_table_in_the_c_locale():
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = start("plan", "base", env={**os.environ, **c_locale})
    assert (done.returncode, done.stderr) == (0, b"") and b"-" * 70 in done.stdout and b"\\" not in done.stdout


FIRST_OUTPUTS = (["--version"], ["finetune", "--help"], ["models", "list"])  # by argparse and print


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", FIRST_OUTPUTS, ids=" ".join)
def test_an_output_that_cannot_be_written(arguments, unbuffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as left:
        done = start(*arguments, stdout=left, env=environment)
    assert (done.returncode, done.stderr) == (141, b"")
    with open("/dev/full", "wb") as full:
        done = start(*arguments, stdout=full, env=environment)
    assert (done.returncode, done.stderr) == (2, b"minilora: No space left on device\n")


def test_an_error_that_cannot_be_written_keeps_its_code():
    with open("/dev/full", "wb") as full:
        assert start("finetune", stderr=full).returncode == 2


@pytest.mark.parametrize(
    ("command", "code", "lines"),
    [("evaluate <&-", 2, 1), ("models list >&-", 0, 0), ("finetune 2>&-", 2, 0), ("chat <&- >&- 2>&-", 2, 0)],
)
def test_a_stream_that_the_shell_has_closed(command, code, lines):
    done = subprocess.run(["sh", "-c", f"{sys.executable} -W error -m minilora {command}"], capture_output=True)
    assert (done.returncode, done.stderr.count(b"\n"), done.stdout) == (code, lines, b"")


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
@pytest.mark.parametrize("module", ["minilora.cli", "argparse", "minilora.commands.pretrain", "numpy", "datetime"])
def test_a_signal_within_an_import_ends_the_command_without_a_traceback(empty, module, signum):
    """NumPy imports datetime from C, and says that it is not installed properly if that fails."""
    reader, writer = os.pipe()  # the command waits for its text, so a signal that is lost is one that is missed
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, str(int(signum)), "pretrain", "--data", "-"]
    with open(reader, "rb") as text, open(writer, "wb"):
        done = subprocess.run([*command, "--out", "run"], stdin=text, capture_output=True, timeout=120)
    assert done.returncode == (130 if signum == signal.SIGINT else -signum)
    assert (done.stdout, done.stderr) == (b"", b"") and not list(empty.glob("here/*"))


def test_ctrl_c_is_ignored_if_it_was_when_the_command_started(capsys, monkeypatch):
    """As in a job that a script has put into the background."""
    monkeypatch.setattr(doctor, "run", lambda arguments: os.kill(os.getpid(), signal.SIGINT))
    assert main(["doctor"]) == 130 and capsys.readouterr().err == "minilora: interrupted\n"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["doctor"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["models", "list"], ""),
        (["show", "run"], ""),  # matplotlib would say that it cannot keep its fonts there
        (["models", "get", "smollm2"], "set MINILORA_CACHE to a folder that can be written\n"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_home_that_cannot_be_written(empty, arguments, error):
    with RunFolder(empty / "here" / "run") as run:
        run.log({"step": 1, "loss": 2.0})
    elsewhere = ("MINILORA_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
    done = start(*arguments, env=environment | {"HOME": "/dev/null/home"}, text=True)
    assert done.returncode == (2 if error else 0) and done.stderr.count("\n") == bool(error)
    assert done.stderr.endswith(error)
