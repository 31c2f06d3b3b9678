"""pytest tests/test_errors.py: what messages show of values, names and lists: one line, escaped, short."""

import ast
import pickle
import sys
from pathlib import Path

import pytest

from minilora import errors
from minilora.errors import Stopped, did_you_mean, escape, first_few, plural, unknown, wrap_message

pytestmark = pytest.mark.host


def test_control_characters_are_escaped_and_long_text_is_cut():
    assert escape("a\x1b[2J\nb\u202e") == r"a\x1b[2J\nb\u202e"
    assert escape(3) == "3" and len(escape("x" * 1000)) == 80


def test_a_list_is_cut_at_three_and_counted():
    assert first_few([]) == ""
    assert first_few(["a", "b", "c"]) == "a, b, c"
    assert first_few([f"m{i}" for i in range(3003)]) == "m0, m1, m2 and 3,000 more"
    assert first_few("abcd", 2, "; ") == "a; b; and 2 more"


def test_one_has_no_s():
    assert [plural(n, "row") for n in (0, 1, 2, 1000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]


LONG = (
    "the run folder runs/my-long-named-folder is not empty: --resume continues its run, --overwrite starts again; "
    "minilora finetune --resume --out 'runs/my first' completes it, or choose --lora-plus 16"
)


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_message_is_wrapped_in_a_terminal_but_not_within_a_command(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert wrap_message(LONG) == LONG  # redirected: one line
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    lines = (text := wrap_message(LONG)).split("\n")
    assert len(lines) > 1 and text.replace("\n", " ") == LONG
    for whole in ("runs/my-long-named-folder", "--overwrite", "minilora finetune --resume --out 'runs/my first'"):
        assert whole in text
    assert all(len(line) <= columns or line.startswith("minilora finetune") for line in lines)
    assert wrap_message("minilora: note: two\n  lines") == "minilora: note: two\n  lines"
    errors.print_notes([LONG])
    assert all(len(line) <= 80 for line in capsys.readouterr().err.splitlines())


def test_the_items_of_a_list_are_escaped():
    assert first_few(["\x1b[2J", "x" * 1000]).isprintable() and len(first_few(["x" * 10**6] * 9)) < 1300


def test_an_unknown_name_is_repeated_with_the_nearest_and_with_all():
    assert unknown("method", "lorra", {"lora": 1, "full": 2}) == (
        "unknown method 'lorra': did you mean 'lora'? Choose from lora, full"
    )
    assert unknown("method", "x\n", ["lora", "full"]) == r"unknown method 'x\n': choose from lora, full"


def test_the_nearest_name_is_found_whatever_the_case_and_the_kind_of_value():
    assert did_you_mean("NF4", ["nf4"]) == did_you_mean("nf5", ["nf4"]) == "did you mean 'nf4'?"
    assert did_you_mean("SmolLM", ["SmolLM2"], "; ") == "; did you mean 'SmolLM2'?"
    assert did_you_mean(None, ["lora"]) == did_you_mean("x" * 10**7, ["lora"]) == ""


def test_what_a_signal_raises_is_no_error_and_comes_whole_from_another_process():
    stopped = pickle.loads(pickle.dumps(Stopped(15, "stopped at step 3")))
    assert (str(stopped), stopped.signum, stopped.exit_code) == ("stopped at step 3", 15, 143)
    assert not isinstance(stopped, Exception)


def test_no_block_suppresses_every_error():
    """Ruff forbids `except Exception` without a reason, but does not know `suppress(Exception)`."""
    calls = [
        (path.name, node.lineno)
        for path in Path(errors.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress")
        if {"Exception", "BaseException"} & {ast.unparse(kind) for kind in node.args}
    ]
    assert not calls
