"""pytest tests/commands/test_cli.py"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minilora.cli import main
from minilora.formats.gguf import read_gguf
from minilora.formats.safetensors import load_file
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel
from minilora.train import load
from minilora.train.methods import METHODS
from minilora.train.save import save_model

pytestmark = pytest.mark.host

WORDS = "the array returns a value when each key is given and no error of its type was raised before".split()
TINY = [
    *("--hidden-size", "16", "--intermediate-size", "32", "--num-layers", "1", "--num-heads", "2"),
    *("--num-kv-heads", "1", "--vocab-size", "300", "--seq-len", "32", "--batch-size", "4"),
]


def sentences(count: int) -> str:
    rng = np.random.default_rng(0)
    return "\n\n".join(" ".join(rng.choice(WORDS, 12)) + "." for _ in range(count))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with a text, and a model and an adapter trained on it."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "text.txt").write_text(sentences(200))
    data = ["--data", str(folder / "text.txt")]
    assert main(["pretrain", *data, "--out", str(folder / "run"), "--steps", "12", *TINY]) == 0
    model = ["--model", str(folder / "run"), "--seq-len", "32"]
    assert main(["finetune", *data, *model, "--out", str(folder / "lora"), "--steps", "4", "--rank", "2"]) == 0
    return folder


def run(capsys, *arguments) -> str:
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


def test_a_quantized_model_goes_out_as_gguf(place, capsys):
    gguf = pytest.importorskip("gguf")
    small = place / "small.gguf"
    run(capsys, "merge", "--model", place / "run", "--out", small, "--quantize", "q8_0")
    assert read_gguf(small).metadata["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    run(capsys, "generate", "--model", small, "--prompt", "the", "--max-new-tokens", 2)


@pytest.mark.parametrize("method", ["full", "feature-extraction"])
def test_other_methods_leave_a_model(place, capsys, method):
    finetune = ["finetune", "--model", place / "run", "--data", place / "text.txt", "--method", method]
    run(capsys, *finetune, "--steps", 3, "--seq-len", 32, "--out", place / method)
    before, after = (load_file(place / name / "model" / "model.safetensors")[0] for name in ("run", method))
    body, is_frozen = "model.layers.0.mlp.up_proj.weight", method == "feature-extraction"
    assert np.array_equal(before[body], after[body]) == is_frozen
    assert ("lm_head.weight" in after) == is_frozen  # untied from the frozen embeddings
    run(capsys, "generate", "--model", place / method, "--prompt", "the", "--max-new-tokens", 2)


def test_what_cannot_go_out_as_gguf_is_one_line(place, capsys, tmp_path):
    (tmp_path / "link.gguf").symlink_to(tmp_path / "nothing")
    merge = ["merge", "--model", place / "run", "--out"]
    refused(capsys, [*merge, tmp_path / "link.gguf"], "link.gguf exists already; choose another --out")
    for name in ("a.bin", "a.guff", "a.q8_0"):
        refused(
            capsys, [*merge, tmp_path / name], f"{name} ends in {Path(name).suffix}: give a .gguf file, or a folder"
        )
    tokenizer = load.tokenizer_of(place / "run" / "model")
    gpt2 = GPT2Config(vocab_size=300, n_embd=8, n_layer=1, n_head=1, n_positions=32, eos_token_id=0, bos_token_id=0)
    save_model(GPT2LMHeadModel(gpt2), tokenizer, tmp_path / "gpt2")
    refused(
        capsys, ["merge", "--model", tmp_path / "gpt2", "--out", tmp_path / "a.gguf"], "of type gpt2 cannot be written"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"link.gguf", "gpt2"}


FLAGS = {  # of methods that have others than --rank
    "lora": ["--rank", 2, "--alpha", 3, "--dropout", 0.1, "--targets", "q_proj,v_proj"],
    "qlora": ["--rank", 2, "--quant-type", "fp4", "--blocksize", 32, "--double-quantization"],
    "vera": ["--vera-rank", 8],
    "prefix": ["--virtual-tokens", 3],
    "prompt": ["--virtual-tokens", 3],
    "bottleneck": ["--bottleneck-size", 4, "--placement", "houlsby"],
    **dict.fromkeys(("ia3", "bitfit", "norms"), []),
}


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.config])
def test_an_adapter_is_trained_evaluated_generated_from_and_merged(place, capsys, method):
    flags = FLAGS.get(method, ["--rank", 2])
    out, base, text = place / f"by {method}", ["--model", place / "run"], ["--data", place / "text.txt"]
    run(capsys, "finetune", *base, *text, "--method", method, *flags, "--steps", 3, "--seq-len", 32,
        "--batch-size", 4, "--out", out)  # fmt: skip
    record = json.loads((out / "run.json").read_text())["config"]
    assert record["method"] == method and {f"--{key.replace('_', '-')}" for key in record} >= {*flags[::2]}
    evaluate = ["evaluate", *text, "--seq-len", 32, "--json"]
    adapted = json.loads(run(capsys, *evaluate, *base, "--adapter", out))["bits_per_character"]
    assert adapted != json.loads(run(capsys, *evaluate, *base))["bits_per_character"]
    assert run(capsys, "generate", *base, "--adapter", out, "--prompt", "the array", "--max-new-tokens", 3)
    merge = ["merge", *base, "--adapter", out, "--out", place / f"merged-1.5 {method}"]
    if method in ("prefix", "prompt", "bottleneck"):
        refused(capsys, merge, "cannot be merged")
        assert not (place / f"merged-1.5 {method}").exists()
        return
    capsys.readouterr()
    assert main([str(a) for a in merge]) == 0
    assert ("in floats" in capsys.readouterr().err) == (method == "qlora")
    merged = json.loads(run(capsys, *evaluate, "--model", place / f"merged-1.5 {method}"))["bits_per_character"]
    assert merged == pytest.approx(adapted, rel=1e-4)


def refused(capsys, arguments: list, words: str) -> None:
    """Assert exit code 2 and a single line on standard error, and return the line."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("minilora: ") and error.count("\n") == 1 and words in error


TRAIN = ["pretrain", "--steps", "2", *TINY]
PRETRAIN = [*TRAIN, "--data", "{text}", "--out", "{out}"]
FINETUNE = ["finetune", "--model", "{run}", "--data", "{text}", "--out", "{out}"]
BAD = {
    "unknown command": (["pretrian"], "unknown command 'pretrian': did you mean 'pretrain'?"),
    "short text": ([*TRAIN, "--data", "{short}", "--out", "{out}"], "too few to divide"),
    "a width that no machine holds": ([*PRETRAIN, "--hidden-size", str(10**12)], "--hidden-size (1,000,000,000,000)"),
    "a batch that no machine holds": ([*FINETUNE, "--batch-size", str(10**12)], "--batch-size (1,000,000,000,000)"),
    "unknown flag, others missing": (["pretrain", "--stpes", "3"], "--stpes; did you mean '--steps'"),
    "heads that do not divide": (
        [*PRETRAIN, "--num-kv-heads", "3"],
        "num_attention_heads 2 is not a multiple of num_key_value_heads 3",
    ),
    "run exists": ([*TRAIN, "--data", "{text}", "--out", "{run}"], "--resume"),
    "both flags": ([*PRETRAIN, "--resume", "--overwrite"], "--overwrite and --resume cannot be used together"),
    "long continuation": (["generate", "--model", "{run}", "--prompt", "x", "--max-new-tokens", "9999"], "positions"),
    "a flag of another method": ([*FINETUNE, "--method", "ia3", "--rank", "4"], "method ia3 does not use --rank"),
    "adapter of another base": (["merge", "--model", "base", "--adapter", "{lora}", "--out", "{out}"], "base"),
    "damaged model": (["generate", "--model", "{damaged}", "--prompt", "x"], "model.safetensors"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_writes_nothing(place, capsys, tmp_path, name):
    names = {"text": place / "text.txt", "run": place / "run", "lora": place / "lora", "out": tmp_path / "out"}
    names |= {"short": tmp_path / "short", "damaged": tmp_path / "damaged"}
    names["short"].write_text(sentences(3))
    shutil.copytree(place / "run" / "model", names["damaged"])
    (names["damaged"] / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not a header....")
    before = sorted(place.rglob("*"))
    arguments, expected = BAD[name]
    refused(capsys, [a.format(**names) for a in arguments], expected)
    assert not (tmp_path / "out").exists() and sorted(place.rglob("*")) == before


def test_checkpointing_changes_no_bit_of_a_run_and_of_one_that_is_resumed(place, tmp_path):
    data = ["--data", str(place / "text.txt"), "--steps", "4", "--save-every", "2"]
    pretrain = ["pretrain", *data, *TINY, "--num-layers", "2"]
    finetune = ["finetune", *data, "--model", str(tmp_path / "plain"), "--method", "qlora", "--dropout", "0.3"]
    finetune += ["--rank", "2", "--seq-len", "32", "--batch-size", "4"]
    for command, name, written in ((pretrain, "plain", "model/model"), (finetune, "adapted", "adapter/adapter_model")):
        runs = {name: [], f"{name}-again": ["--checkpointing"], f"{name}-resumed": ["--checkpointing", "--resume"]}
        for run_name, flags in runs.items():
            out = tmp_path / run_name
            if "--resume" in flags:
                shutil.copytree(tmp_path / name, out)
                (last,) = out.glob("checkpoints/step-*4.safetensors")
                last.unlink()
            assert main([*command, "--out", str(out), *flags]) == 0
        files = [(tmp_path / run_name / f"{written}.safetensors").read_bytes() for run_name in runs]
        logs = [(tmp_path / run_name / "metrics.jsonl").read_text() for run_name in runs]
        assert files[0] == files[1] == files[2] and logs[0] == logs[1] == logs[2]


def test_schedule_optimizer_and_heads_are_those_of_the_flags(place, tmp_path):
    arguments = ["pretrain", "--data", str(place / "text.txt"), "--steps", "4", *TINY, "--lr", "0.01"]
    del arguments[(at := arguments.index("--num-kv-heads")) : at + 2]
    flags = ["--schedule", "constant", "--optimizer", "sgd", "--num-heads", "4"]
    assert main([*arguments, *flags, "--out", str(tmp_path / "run")]) == 0
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert (config["schedule"], config["optimizer"]) == ("constant", "sgd")
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["num_key_value_heads"] == 2
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert any(name.endswith(".momentum") for name in load_file(checkpoint)[0])
    log = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["lr"] for line in log[1:]] == [0.01] * 4


@pytest.mark.parametrize("flag", ["--out", "--data", "--model"])
def test_a_path_that_is_not_utf8_is_one_line_and_leaves_nothing(place, capsys, tmp_path, monkeypatch, flag):
    monkeypatch.chdir(tmp_path)
    settings = {"--model": str(place / "run"), "--data": str(place / "text.txt"), "--out": "out", "--steps": "1"}
    arguments = [word for pair in (settings | {flag: os.fsdecode(b"a\xff")}).items() for word in pair]
    refused(capsys, ["finetune", *arguments], r"a\udcff is not UTF-8")
    assert not any(tmp_path.iterdir())


def test_a_run_that_learned_nothing_says_so_and_has_a_code_of_its_own(place, capsys, tmp_path):
    arguments = ["finetune", "--steps", "6", "--seq-len", "32", "--rank", "2", "--lr", "3"]
    arguments += ["--model", str(place / "run"), "--data", str(place / "text.txt")]
    capsys.readouterr()
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 3
    out, err = capsys.readouterr()
    assert "at step 0" in out and err.startswith("minilora: no evaluation beat the start") and err.count("\n") == 1
    result = json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    assert result["learned"] is False and result["best_step"] == 0
    assert main([*arguments, "--out", str(tmp_path / "json"), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["learned"] is False
    learned = json.loads((place / "lora" / "run.json").read_text())["result"]
    assert learned["learned"] is True and learned["best_step"] > 0


def test_sigterm_before_anything_is_done_is_one_line():
    command = [sys.executable, "-m", "minilora", "generate", "--model", "base", "--prompt", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"words " * 50_000)  # more than a pipe holds: when this returns, the command is reading
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 143 and (out, err) == (b"", b"minilora: terminated\n")


def start(*arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "minilora", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_run_goes_on(place, tmp_path, signum, code):
    out = tmp_path / "run"
    steps = 2000
    arguments = ["pretrain", "--data", place / "text.txt", "--out", out, *TINY, "--save-every", 5, "--steps", steps]
    process = start(*arguments)
    deadline = time.monotonic() + 30
    while not list(out.glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signum)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code and err.count("\n") == 1 and "--resume" in err
    saved = max(int(p.stem.split("-")[1]) for p in out.glob("checkpoints/step-*"))
    assert json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"] == saved
    assert saved < steps and main(["pretrain", "--out", str(out), "--resume"]) == 0
    assert json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"] == steps
    assert (out / "model" / "config.json").is_file()


@pytest.mark.parametrize(("command", "more"), [("pretrain", "numpy"), ("plan", "torch")])
def test_help_is_quick_to_import(command, more):
    code = f"import sys; from minilora.cli import main\nmain(['{command}', '--help'])\n"
    code += f"print([m for m in ('{more}', 'matplotlib', 'rich', 'tokenizers') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert f"example: minilora {command}" in out and out.endswith("[]\n")
