"""pytest tests/commands/test_plan.py: `minilora plan` says what the planner says, as text, JSON and a picture."""

import json
import subprocess
import sys

import pytest

from minilora.cli import main
from minilora.plan.activations import Step
from minilora.plan.devices import MEMORIES
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS
from minilora.show.grids import show_time
from minilora.train.methods import METHODS

pytestmark = pytest.mark.host


def run(capsys, *arguments) -> str:
    assert main(["plan", *arguments]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80 or "--json" in arguments
    return out


def test_a_plan_is_a_table_and_what_fits(capsys):
    issue = ["llama-65b", "--method", "qlora", "--batch", "1", "--length", "512", "--rank", "64"]
    out = run(capsys, *issue, "--double-quantization", "--memory", "46GB", "--device", "h100")
    assert "48 GB: yes, with checkpointing" in out and "40 GB: no" in out and "80 GB: yes\n" in out
    assert "qlora               llama-65b (45.5 GB, with checkpointing)" in out
    for kind in ("weights", "constants", "adapters", "gradients", "optimizer", "activations", "logits", "peak"):
        assert f"\n{kind} " in out


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_all_methods_as_one_table_and_a_picture(capsys, tmp_path, monkeypatch, dtype):
    from matplotlib.image import imread

    monkeypatch.chdir(tmp_path)  # the picture's path is printed, and tmp_path may be long
    flags = ["--model", "smollm2-135m", "--all", "--dtype", dtype, "--out", "new"]
    out = run(capsys, *flags, "--rank", "4", "--bottleneck-size", "16", "--memory", "16GiB", "--tflops", "2")
    assert all(out.count(f"\n{method} ") >= 2 for method in METHODS)
    picture = imread(tmp_path / "new" / "plan.png")
    assert picture.shape[0] > 600 and picture.shape[1] > 600 and picture.std() > 0.05
    run(capsys, "base", "--method", "adapters", "--dtype", dtype, "--out", "one.png")
    assert imread(tmp_path / "one.png").shape[1] > 600


def test_json_says_everything(capsys):
    flags = ["--batch-size", "2", "--seq-len", "64", "--memory", "8", "--device", "a100", "--json"]
    facts = json.loads(run(capsys, "tinyllama-1.1b", *flags))
    assert [plan["method"] for plan in facts["plans"]] == list(METHODS)
    for plan, found in zip(facts["plans"], facts["largest"], strict=True):
        kinds = plan["memory"]
        assert kinds["peak"] == pytest.approx(sum(v for kind, v in kinds.items() if kind != "peak"), abs=8)
        assert list(plan["fits"]) == [f"{card} GB" for card in MEMORIES]
        assert plan["tokens_per_second"] > plan["tokens_per_second_with_checkpointing"] > 0 or (
            plan["method"] == "feature-extraction"
        )
        assert found["peak"] <= 8e9
    assert facts["parameters"] == PRESETS["tinyllama-1.1b"].parameters
    assert "run" not in facts and "run" not in facts["plans"][0]
    own = json.loads(run(capsys, "base", "--method", "lora", "--dtype", "float32", "--workers", "3", "--json"))
    kept, again = (own["plans"][0][key] for key in ("memory", "with_checkpointing"))
    assert own["workers"] == 3 and again["activations"] < kept["activations"] and again["peak"] < kept["peak"]


# The time of a run

RUN = ["smollm2-135m", "--dtype", "float32", "--batch-size", "64", "--seq-len", "256", "--tflops", "0.2"]


def facts_of_run(capsys, *flags) -> tuple[dict, dict]:
    """(of the run, of the run by its one method)"""
    facts = json.loads(run(capsys, *RUN, *flags, "--json"))
    return facts["run"], facts["plans"][0]["run"]


def test_a_run_over_machines_by_hand(capsys):
    flags = ["--method", "full", "--machines", "12", "--link", "1Gbit/1ms", "--link-efficiency", "0.8"]
    whole, own = facts_of_run(capsys, *flags, "--steps", "1000", "--utilization", "0.5")
    step = Step(64, 256)
    plan = make_plan(PRESETS["smollm2-135m"], "full", None, step)
    alone = sum(work for kind, work in plan.flops.items() if kind != "again") / 0.1e12  # seconds on one machine
    sent = 4 * 134_515_008
    link = 2 * 11 / 12 * sent / (0.8 * 125e6) + 2 * 11 * 1e-3  # a ring
    seconds = alone * 6 / 64 + link  # 64 rows over 12 machines: some have six
    assert own["gradient_bytes"] == sent
    assert own["step_seconds"] == pytest.approx(seconds)
    assert own["tokens_per_second"] == pytest.approx(64 * 256 / seconds)
    assert own["speedup"] == pytest.approx(alone / seconds)
    assert own["communication_share"] == pytest.approx(link / seconds)
    assert own["days"] == pytest.approx(1000 * seconds / 86400)
    assert own["device_hours"] == pytest.approx(12 * 1000 * seconds / 3600)
    assert (whole["steps"], whole["tokens"], whole["rows_a_machine"]) == (1000, 1000 * 64 * 256, 6)
    assert [on["machines"] for on in own["scaling"]] == [1, 2, 4, 8, 12]
    assert own["scaling"][0]["step_seconds"] == pytest.approx(alone)
    assert own["scaling"][-1] == {name: own[name] for name in own["scaling"][-1]}


def test_one_machine_needs_no_link_and_has_the_speed_of_the_plan(capsys):
    facts = json.loads(run(capsys, *RUN, "--method", "lora", "--tokens", "0.5M", "--json"))
    own = facts["plans"][0]["run"]
    assert own["tokens_per_second"] == pytest.approx(facts["plans"][0]["tokens_per_second"])
    assert facts["run"]["steps"] == 31 and facts["run"]["link"] is None  # 500,000 tokens at 16,384 a step
    assert own["communication_share"] == 0 and "fastest" not in own
    assert "comm." in run(capsys, *RUN, "--tokens", "2B")
    assert facts_of_run(capsys, "--method", "lora", "--machines", "1")[0]["steps"] == 61_036  # of a billion tokens


def test_where_the_link_eats_the_gain(capsys):
    slow = ["--machines", "8", "--link", "home"]
    full, lora = (facts_of_run(capsys, "--method", method, *slow)[1] for method in ("full", "lora"))
    assert full["fastest"]["machines"] == 1 and full["at_least_half_efficient"] == 1
    assert lora["fastest"]["machines"] == 64 and 8 <= lora["at_least_half_efficient"] < 64
    assert full["communication_share"] > 0.8 > 0.5 > lora["communication_share"]
    said = " ".join(run(capsys, *RUN, "--method", "full", *slow).split())
    assert "no number of machines, up to one for each row, is as fast as one alone" in said
    for assumed in (
        "40 % of each device's",
        "20 Mbit/s",
        "20.0 ms",
        "90 %",
        "4 bytes per number",
        "Left out: the optimi",
    ):
        assert assumed in said
    alone = [*RUN, "--method", "full", "--batch-size", "1", "--machines", "1", "--link", "home"]
    assert "The link eats" not in run(capsys, *alone)  # one row cannot be shared over any link
    assert "64 machines are" in " ".join(run(capsys, *RUN, "--method", "lora", *slow).split())
    late = facts_of_run(capsys, "--method", "lora", "--machines", "8", "--link", "10Gbit/10s")[1]
    assert 1 < late["fastest"]["machines"] < 64
    said = " ".join(run(capsys, *RUN, "--method", "lora", "--machines", "8", "--link", "10Gbit/10s").split())
    assert f"{late['fastest']['machines']} machines are" in said and "with more of them, the link eats" in said


def test_bytes_are_those_of_one_machine(capsys):
    facts = json.loads(run(capsys, *RUN, "--method", "lora", "--machines", "3", "--link", "nvlink", "--json"))
    plan = make_plan(PRESETS["smollm2-135m"], "lora", None, Step(22, 256, workers=facts["workers"]))  # 22, 21 and 21
    assert facts["plans"][0]["memory"]["peak"] == round(plan.memory.peak) and facts["batch_size"] == 64
    out = run(capsys, *RUN, "--method", "lora", "--machines", "3", "--link", "nvlink")
    assert "22 × 256 tokens" in out and "up to 22 rows each" in " ".join(out.split())


def test_all_methods_over_machines_as_one_table(capsys):
    flags = ["--batch-size", "2048", "--seq-len", "2048", "--device", "h100", "--machines", "1024"]
    out = run(capsys, "llama-3-70b", *flags, "--link", "infiniband", "--tokens", "15T")
    table = out[out.index("A run of") :]
    assert all(table.count(f"\n{method} ") == 1 for method in METHODS)
    assert "best: the number of machines" in table and "2 bytes per number" in table


def test_times_are_shown_in_units_that_suit():
    seconds = [0, 5e-5, 0.25, 0.99999, 90, 599, 600, 7_100, 7_200, 172_000, 172_800, 1e8]
    shown = ["0 µs", "50.0 µs", "250 ms", "1.00 s", "90.0 s", "599 s", "10.0 min", "118 min", "2.00 h", "47.8 h"]
    assert [show_time(number) for number in seconds] == [*shown, "2.00 days", "3.17 years"]


BAD = {
    "model": (["llama-8b"], "did you mean 'llama-"),
    "no model": ([], "a model"),
    "two models": (["base", "--model", "llama-7b"], "two models"),
    "method": (["llama-7b", "--method", "qlor"], "did you mean 'qlora'"),
    "batch": (["llama-7b", "--batch", "0"], "batch size"),
    "length": (["llama-7b", "--length", "-1"], "sequence length"),
    "positions": (["gpt-3-175b", "--length", "2049"], "2,048 positions"),
    "rank": (["llama-7b", "--rank", "4097"], "above the width 4,096"),
    "rank 0": (["llama-7b", "--method", "lora", "--rank", "0"], "at least 1"),
    "target": (["llama-7b", "--targets", "qproj"], "did you mean 'q_proj'"),
    "idle flag": (["llama-7b", "--method", "prefix", "--rank", "4"], "does not use --rank"),
    "virtual tokens": (["llama-7b", "--virtual-tokens", "0"], "at least 1"),
    "many virtual tokens": (["llama-7b", "--virtual-tokens", "9" * 12], "virtual_tokens must be"),
    "bottleneck": (["llama-7b", "--bottleneck-size", "-1"], "at least 1"),
    "placement": (["llama-7b", "--placement", "houlsy"], "did you mean 'houlsby'"),
    "blocksize": (["--memory", "24GB", "--blocksize", "63"], "blocksize must be"),
    "quant type": (["llama-7b", "--quant-type", "nf5"], "did you mean 'nf4'"),
    "dtype": (["llama-7b", "--dtype", "bfloat"], "did you mean 'bfloat16'"),
    "memory": (["llama-7b", "--memory", "much"], "24GB"),
    "no memory": (["llama-7b", "--memory", "0"], "24GB"),
    "device": (["llama-7b", "--device", "a1000"], "did you mean 'a100'"),
    "tflops": (["llama-7b", "--tflops", "nan"], "positive"),
    "utilization": (["llama-7b", "--utilization", "0"], "above 0"),
    "workers": (["llama-7b", "--workers", "2"], "float32"),
    "no workers": (["llama-7b", "--dtype", "float32", "--workers", "0"], "number of workers must be"),
    "picture": (["llama-7b", "--out", "plan.svg"], ".png"),
    "link alone": ([*RUN, "--link", "1Gbit"], "add --machines"),
    "efficiency alone": ([*RUN, "--link-efficiency", "0.9"], "add --machines"),
    "no link": ([*RUN, "--machines", "2"], "needs --link"),
    "link": ([*RUN, "--machines", "2", "--link", "1Gb"], "did you mean '1Gbit'"),
    "link name": ([*RUN, "--machines", "2", "--link", "etherent-1g"], "did you mean 'ethernet-1g'"),
    "no rate": ([*RUN, "--machines", "2", "--link", "0Gbit"], "outside 1 kbit"),
    "efficiency": ([*RUN, "--machines", "2", "--link", "1Gbit", "--link-efficiency", "nan"], "at most 1"),
    "efficiency above 1": ([*RUN, "--machines", "2", "--link", "1Gbit", "--link-efficiency", "1.1"], "at most 1"),
    "no machines": ([*RUN, "--machines", "0"], "from 1 to 16,384"),
    "minus machines": ([*RUN, "--machines", "-3", "--link", "1Gbit"], "from 1 to 16,384"),
    "many machines": ([*RUN, "--machines", "9" * 12, "--link", "1Gbit"], "from 1 to 16,384"),
    "machines without rows": ([*RUN, "--machines", "65", "--link", "1Gbit"], "add --batch-size 65"),
    "machines and one row": (["llama-7b", "--device", "a100", "--machines", "2", "--link", "home"], "batch of 1 row,"),
    "machines without device": (["llama-7b", "--machines", "1"], "add --device"),
    "steps without device": (["llama-7b", "--steps", "5"], "--steps asks for time"),
    "machines without model": (["--memory", "24GB", "--tflops", "1", "--machines", "1"], "name one"),
    "tokens": ([*RUN, "--tokens", "many"], "such as 300M"),
    "no tokens": ([*RUN, "--tokens", "0"], "such as 300M"),
    "too many tokens": ([*RUN, "--tokens", "9999999T"], "such as 300M"),
    "steps": ([*RUN, "--steps", "0"], "--steps must be"),
    "tokens and steps": ([*RUN, "--tokens", "1B", "--steps", "5"], "exclude"),
    "run and no batch": (["base", "--tflops", "1", "--batch", "0", "--tokens", "1B"], "batch size"),
    "run and a length beyond all": (
        ["base", "--tflops", "1", "--length", "9" * 400, "--tokens", "1B"],
        "sequence length",
    ),
    "run and no length": (["base", "--tflops", "1", "--length", "0", "--tokens", "1B"], "sequence length"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    flags, message = BAD[name]
    assert main(["plan", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert not list(tmp_path.iterdir())


def test_help_shows_models_methods_and_an_example():
    command = [sys.executable, "-m", "minilora", "plan", "--help"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "example: minilora plan llama-65b" in out and "gpt-3-175b" in out and "qlora" in out
    code = "import sys; from minilora.cli import main\ntry: main(['plan', '--help'])\nfinally: "
    code += "print([m for m in ('matplotlib', 'rich', 'tokenizers', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("[]\n")
