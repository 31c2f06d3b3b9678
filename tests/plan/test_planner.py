"""pytest tests/plan/test_planner.py: the planner is held to real counts, measured bytes and published figures."""

import json
import subprocess
import sys

import numpy as np
import pytest

from minilora.cli import main
from minilora.errors import FormatError, MiniloraError
from minilora.measure.memory import live_bytes, peak_bytes
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import PeftModel
from minilora.plan.activations import Step
from minilora.plan.planner import (
    CARDS,
    DEVICES,
    flops,
    held,
    largest,
    make_plan,
    measured_tflops,
    published,
    tokens_a_second,
)
from minilora.plan.shapes import PRESETS, find_shape, shape_from_config
from minilora.quant import Linear4bit
from minilora.show.grids import show_size, show_time
from minilora.train import methods, recipes
from minilora.train.loop import TrainConfig, train
from minilora.train.methods import METHODS, Options
from minilora.train.parallel import Workers

pytestmark = pytest.mark.host

# Two sizes whose peaks lie at different moments: deep, with grouped heads and a head of its own; and shallow, with a
# vocabulary so large that the logits come in several chunks.
DEEP = {"vocab_size": 500, "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3}
DEEP |= {"num_attention_heads": 4, "num_key_value_heads": 2}
WIDE = {"vocab_size": 33_000, "hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2}
WIDE |= {"num_attention_heads": 2, "tie_word_embeddings": True}
BIASED = DEEP | {"num_hidden_layers": 2, "attention_bias": True, "mlp_bias": True}
BATCH, LENGTH = 4, 96
STEP = Step(BATCH, LENGTH)  # in float32: minilora's own engine


class Batches:
    """The same sequences at each step."""

    def __init__(self, vocab_size: int, batch: int = BATCH, length: int = LENGTH):
        ids = np.random.default_rng(0).integers(0, vocab_size, (batch, length))
        self.batch = {"input_ids": ids, "labels": ids}

    def next_batch(self) -> dict:
        return self.batch


def adapted(config: dict, method: str, options: Options | None = None):
    return methods.adapt(LlamaForCausalLM(LlamaConfig(**config)), method, options, tokens=range(10))


def counts(model) -> tuple[int, int]:
    """(trainable, all) as PEFT counts them, and as the recipes do where there is no adapter."""
    return model.get_nb_trainable_parameters() if isinstance(model, PeftModel) else recipes.count_parameters(model)


def measured_peak(model, lora_plus: float = 1.0, batch: int = BATCH, length: int = LENGTH) -> int:
    """Of two steps, so that the optimizer's moments are there in the second."""
    before, config = live_bytes(model)["weights"], TrainConfig(steps=2, lora_plus=lora_plus)
    batches = Batches(model.config.vocab_size, batch, length)
    with Workers(1) as workers:
        run = lambda: train(model, batches, config, workers=workers, show_progress=False)  # noqa: E731
        return peak_bytes(run, before)


# Counts


@pytest.mark.parametrize("config", [WIDE, BIASED], ids=["wide", "biased"])
@pytest.mark.parametrize("method", METHODS)
def test_parameters_are_counted_exactly(config, method):
    plan = make_plan(shape_from_config(config), method, None, STEP)
    assert (plan.trainable, plan.total) == counts(adapted(config, method))


@pytest.mark.parametrize(
    "method, options",
    [
        ("lora", Options(rank=3, targets=["q_proj", "down_proj"])),
        ("dora", Options(rank=5, targets=["k_proj", "o_proj", "gate_proj"])),
        ("bottleneck", Options(placement="houlsby", bottleneck_size=7)),
        ("bottleneck", Options(placement="parallel")),
        ("prefix", Options(virtual_tokens=3)),
        ("prompt", Options(virtual_tokens=3)),
    ],
)
def test_parameters_follow_the_options(method, options):
    plan = make_plan(shape_from_config(DEEP), method, options, STEP)
    assert (plan.trainable, plan.total) == counts(adapted(DEEP, method, options))


@pytest.mark.parametrize("method", ["full", "pissa", "bitfit", "prefix", "feature-extraction"])
@pytest.mark.parametrize("config", [WIDE, BIASED], ids=["wide", "biased"])
def test_held_weights_are_counted_exactly(config, method):
    kinds = held(shape_from_config(config), method, Options(), STEP)
    found = live_bytes(adapted(config, method))["weights"]
    assert found == sum(kinds[kind] for kind in ("weights", "constants", "adapters"))


@pytest.mark.parametrize("options", [Options(), Options(blocksize=128, double_quantization=True)])
@pytest.mark.parametrize("config", [DEEP, WIDE, BIASED], ids=["deep", "wide", "biased"])
def test_bytes_in_4_bits_are_counted_exactly(config, options):
    kinds = held(shape_from_config(config), "qlora", options, STEP)
    model = adapted(config, "qlora", options)
    layers = [module for _, module in model.named_modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 7 * config["num_hidden_layers"]
    codes = sum(layer.packed.nbytes for layer in layers)
    assert kinds["constants"] == sum(layer.quant_state.nbytes for layer in layers)
    assert kinds["weights"] + kinds["adapters"] == codes + sum(p.data.nbytes for p in model.parameters())


PUBLISHED_COUNTS = {
    "base": None,
    "smollm2-135m": 134_515_008,
    "qwen2.5-0.5b": 494_032_768,
    "tinyllama-1.1b": 1_100_048_384,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-33b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "mistral-7b": 7_241_732_096,
    "qwen2.5-7b": 7_615_616_512,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
}


@pytest.mark.parametrize("name, count", PUBLISHED_COUNTS.items())
def test_presets_have_the_parameters_that_the_models_have(name, count):
    if name == "base":
        model, _ = recipes.load_model("base")
        count = recipes.count_parameters(model)[1]
    assert PRESETS[name].parameters == count


def test_the_rest_of_the_presets():
    assert PRESETS["llama-2-7b"] == PRESETS["llama-7b"] and PRESETS["llama-2-13b"] == PRESETS["llama-13b"]
    assert PRESETS["gpt-3-175b"].parameters == pytest.approx(175e9, rel=0.005)


def test_the_shares_that_the_methods_are_known_for():
    shape = PRESETS["smollm2-135m"]
    share = lambda *arguments: (p := make_plan(shape, *arguments)).trainable / p.total  # noqa: E731
    assert 0.001 < share("lora", Options(targets=["q_proj", "v_proj"])) < 0.01
    assert share("prefix", Options(virtual_tokens=8)) < 0.001
    assert make_plan(shape, "prefix", Options(virtual_tokens=8)).trainable == 92_160
    assert 0.01 < share("bottleneck") < 0.05
    assert share("full") == 1


# Memory of minilora's own engine


def peaks(plan) -> dict[bool, float]:
    """Without and with checkpointing."""
    return {False: plan.memory.peak, True: plan.checkpointed.peak}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("config", [DEEP, WIDE], ids=["deep", "wide"])
def test_the_predicted_peak_is_the_measured_one(config, method, checkpointing):
    plan = make_plan(shape_from_config(config), method, None, STEP)
    model = adapted(config, method).gradient_checkpointing_enable(checkpointing)
    found = measured_peak(model, METHODS[method].lora_plus)
    assert peaks(plan)[checkpointing] == pytest.approx(found, rel=0.05)  # 10 % is asked for


@pytest.mark.parametrize(
    "method, options",
    [
        ("lora", Options(dropout=0.1)),
        ("lora", Options(targets=["q_proj", "v_proj"])),
        ("lora", Options(targets=["down_proj"])),
        ("dora", Options(dropout=0.1)),
        ("bottleneck", Options(placement="houlsby")),
        ("bottleneck", Options(placement="parallel", bottleneck_size=150)),
        ("qlora", Options(rank=32, double_quantization=True)),
    ],
)
def test_options_change_the_peak_as_planned(method, options):
    plan = make_plan(shape_from_config(DEEP), method, options, STEP)
    for checkpointing, planned in peaks(plan).items():
        found = measured_peak(adapted(DEEP, method, options).gradient_checkpointing_enable(checkpointing))
        assert planned == pytest.approx(found, rel=0.05), checkpointing


@pytest.mark.parametrize(
    "changes, batch, length, methods_there",
    [
        # Few tokens: the copies of a weight while its product runs,
        ({"hidden_size": 320, "intermediate_size": 1280}, 1, 176, ("lora", "qlora")),
        # and all gradients, with the table's twice.
        ({"hidden_size": 96, "vocab_size": 6000}, 1, 32, ("full",)),
        # Logits of the size of the rest: the peak is at the loss.
        ({"hidden_size": 192, "intermediate_size": 128, "vocab_size": 2048}, 6, 160, ("lora", "norms", "full")),
    ],
)
def test_the_peak_is_found_at_other_moments(changes, batch, length, methods_there):
    config = DEEP | {"num_hidden_layers": 1, "tie_word_embeddings": True} | changes
    for method in methods_there:
        plan = make_plan(shape_from_config(config), method, None, Step(batch, length))
        for checkpointing, planned in peaks(plan).items():
            model = adapted(config, method).gradient_checkpointing_enable(checkpointing)
            assert planned == pytest.approx(measured_peak(model, batch=batch, length=length), rel=0.03), method


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("method", METHODS)
def test_what_the_graph_holds_is_what_was_planned(method, checkpointing):
    model, ids = adapted(DEEP, method), Batches(DEEP["vocab_size"]).batch["input_ids"]
    loss = model.train().gradient_checkpointing_enable(checkpointing)(ids, labels=ids).loss
    found = live_bytes(model, None, loss)["activations"]
    shape = shape_from_config(DEEP)
    # The head's gradient is made with the loss, and lives in the graph.
    head = 4 * METHODS[method].plan(shape, Options()).counts.head
    plan = make_plan(shape, method, None, STEP)
    kinds = (plan.checkpointed if checkpointing else plan.memory).kinds
    assert kinds["activations"] + head == pytest.approx(found, rel=0.02)


def test_each_worker_has_gradients_of_its_own():
    shape = shape_from_config(DEEP)
    one, two = (make_plan(shape, "full", None, Step(BATCH, 1, workers=n)).memory for n in (1, 2))
    bytes_ = 4 * shape.parameters
    assert two.kinds["gradients"] == 2 * one.kinds["gradients"] == 2 * bytes_
    assert two.peak - one.peak == pytest.approx(bytes_, rel=0.1)  # few tokens: the peak is where all gradients are
    many = make_plan(shape, "full", None, Step(2, 1, workers=64)).memory  # no more parts than sequences
    assert many.kinds["gradients"] == 2 * bytes_


# Published figures


@pytest.mark.parametrize("row", published(), ids=lambda row: row.what)
def test_published_figures_within_ten_percent(row):
    assert abs(row.error) < 0.1, f"{show_size(row.planned)} planned, {show_size(row.published)} published"


def test_65b_on_one_48_gb_gpu_and_what_it_takes():
    options = Options(rank=64, double_quantization=True)
    plan = make_plan(PRESETS["llama-65b"], "qlora", options)
    assert plan.fits(48e9) == "with checkpointing" and plan.fits(40e9) == "no" and plan.fits(80e9) == "yes"
    assert make_plan(PRESETS["llama-65b"], "lora", Options(rank=64)).fits(141e9) == "no"
    assert make_plan(PRESETS["llama-65b"], "full").least > 780e9 * 0.9  # the paper: more than 780 GB
    kinds = plan.checkpointed.kinds
    lora = 64 * 80 * (11 * 8192 + 3 * 22016)
    assert plan.trainable == lora and kinds["gradients"] + kinds["optimizer"] == 10 * lora
    bits = (
        8
        * (kinds["weights"] + kinds["constants"] - 2 * (2 * 32000 * 8192 + 161 * 8192))
        / PRESETS["llama-65b"].in_linears
    )
    assert bits == pytest.approx(4.126953125, abs=1e-5)


def test_checkpointing_keeps_an_input_a_block_and_one_block():
    shape, step = PRESETS["llama-7b"], Step(2, 256, 2, fused=True)
    plan = make_plan(shape, "lora", None, step)
    inputs = shape.layers * 2 * 256 * shape.hidden * 2
    kept, again = plan.memory.kinds["activations"], plan.checkpointed.kinds["activations"]
    assert inputs < again < inputs + 2 * kept / shape.layers
    assert plan.memory.peak - plan.checkpointed.peak == kept - again


def test_gpt_3s_checkpoints():
    plan = make_plan(PRESETS["gpt-3-175b"], "lora", Options(rank=4, targets=["q_proj", "v_proj"]))
    assert plan.trainable == 96 * 2 * 2 * 12288 * 4 and plan.saved_bytes == pytest.approx(37.7e6, rel=0.002)


# Time


def test_operations_are_counted_by_the_rule():
    shape, step = PRESETS["llama-7b"], Step(1, 512, 2, fused=True)
    tokens, weights = 512, shape.in_linears + shape.in_embedding
    full, lora, head = (flops(shape, m, Options(), step) for m in ("full", "lora", "feature-extraction"))
    attention = 2 * tokens * tokens * 4096 * 32
    assert full["forward"] == 2 * weights * tokens + attention
    assert full["input gradients"] == 2 * weights * tokens + 2 * attention
    assert full["weight gradients"] == pytest.approx(2 * weights * tokens, rel=1e-3)
    assert lora["weight gradients"] < 0.01 * full["weight gradients"]
    assert head["input gradients"] == head["again"] == 0
    plan = make_plan(shape, "full", None, step)
    rate = tokens_a_second(plan, step, DEVICES["a100"], 0.5, False)
    assert rate == pytest.approx(312e12 * 0.5 / (6 * weights), rel=0.05)
    assert tokens_a_second(plan, step, DEVICES["a100"], 0.5, True) == pytest.approx(rate * 3 / 4, rel=0.02)


def test_this_machine_is_measured(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    assert measured_tflops(2.5) == pytest.approx(2 * 2 * 1024**3 / 3 / 1e12)  # two products in three seconds


# Answers


def test_the_largest_preset_that_fits():
    step = Step(1, 512, 2, fused=True)
    name, plan = largest(46e9, "qlora", Options(rank=64, double_quantization=True), step)
    assert name == "llama-65b" and plan.least < 46e9
    for method in METHODS:
        name, plan = largest(24e9, method, Options(), step)
        fitting = [shape.parameters for shape in PRESETS.values() if make_plan(shape, method, None, step).least <= 24e9]
        assert plan.least <= 24e9 and PRESETS[name].parameters == max(fitting)
    assert largest(1e6, "qlora", Options(), step) is None
    assert largest(1e12, "lora", Options(rank=1000), step)[0] == "gpt-3-175b"  # small ones are passed over
    with pytest.raises(MiniloraError, match="blocksize"):
        largest(24e9, "qlora", Options(blocksize=63), step)


def test_a_config_json_is_read(tmp_path):
    LlamaForCausalLM(LlamaConfig(**DEEP)).save_pretrained(tmp_path / "model")
    expected = shape_from_config(DEEP)
    for source in (tmp_path, tmp_path / "model", tmp_path / "model" / "config.json"):
        assert find_shape(str(source)) == expected
    qwen = {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
    qwen |= {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True}
    assert shape_from_config(qwen) == PRESETS["qwen2.5-0.5b"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({"num_hidden_layers": 10**30}, "sizes lie between"),
        ({"hidden_size": -4}, "hidden_size must be a whole number of at least 1"),
        ({"vocab_size": "many"}, "vocab_size must be a whole number of at least 1"),
        ({"num_attention_heads": 3}, "not a multiple"),
        ({"model_type": "gpt2"}, "'gpt2'"),
        ({"model_type": ["llama"]}, "the planner reads"),
    ],
)
def test_a_config_that_says_too_little(change, message):
    with pytest.raises(FormatError, match=message):
        shape_from_config(DEEP | change)


# The command


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
        assert list(plan["fits"]) == [f"{card} GB" for card in CARDS]
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
        "4 bytes a number",
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
    assert "best: the number of machines" in table and "2 bytes a number" in table


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
    "no workers": (["llama-7b", "--dtype", "float32", "--workers", "0"], "workers must be"),
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
