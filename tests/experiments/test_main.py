"""pytest tests/experiments/test_main.py: the command line of the experiments is as minilora's own."""

import pytest

from experiments.__main__ import COMMANDS, main

pytestmark = pytest.mark.host


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_has_an_example_and_is_no_wider_than_80_columns(command, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: {' '.join(('python -m experiments', *command))} ") and "example" in out
    assert [line for line in out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["studdy"], "did you mean 'study'"),
        (["study", "--no-such-flag"], "unknown flag --no-such-flag"),
        (["study", "rnk"], "did you mean 'rank'"),
        (["study", "data_types"], "did you mean 'data-types'"),
        (["study", "rank", "--quick", "--model", "smollm2"], "--model and --quick cannot be used together"),
        (["study", "rank", "--model", "smolm2"], "did you mean"),
        (["compare", "--quick", "--methods", "lorra"], "did you mean 'lora'"),
        (["compare", "--quick", "--seeds", "0"], "--seeds must be from 1 to 100, not 0"),
        (["compare", "--quick", "--data", "r8"], "--data goes with --model"),
        (["compare", "--quick", "--model", "smollm2"], "--quick is of the package's base"),
        (["compare", "--model", "smollm2", "--methods", "lora,lorra"], "unknown method 'lorra'"),
        (["compare", "--model", "no-such-model"], "no-such-model"),
        (["check", "study-strenth.jsonl"], "did you mean 'study-strength.jsonl'"),
        (["jargon", "--seeds", "0"], "--seeds must be from 1 to 100, not 0"),
        (["jargon", "--model", "no-such-model"], "no-such-model"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err and err.count("\n") == 1 and not list(tmp_path.iterdir())
