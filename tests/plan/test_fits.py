"""pytest tests/plan/test_fits.py: sizes that no machine can hold raise an error before anything is made."""

import re
from types import SimpleNamespace

import pytest

from minilora.errors import MiniloraError
from minilora.models.gpt2 import GPT2Config
from minilora.models.llama import LlamaConfig
from minilora.plan import fits
from minilora.plan.activations import Step
from minilora.plan.fits import check_fits
from minilora.plan.planner import make_plan
from minilora.plan.shapes import Shape, shape_of
from minilora.train.methods import METHODS, Options

pytestmark = pytest.mark.host

CONFIG = LlamaConfig(192, 192, 512, 6, 6, 3, tie_word_embeddings=True)
STEP = Step(16, 128)
MEMORY = 24e9


def refusal(model, method="full", step=STEP, memory=MEMORY, **how) -> str:
    with pytest.raises(MiniloraError) as caught:
        check_fits(model, method, step, memory, **how)
    message = str(caught.value)
    assert "\n" not in message and "of memory, but this machine has" in message
    return message


@pytest.mark.parametrize("method", METHODS)
def test_a_step_fits_just_where_the_plan_says(method):
    plan = make_plan(shape_of(CONFIG), method, None, STEP)
    for memory, checkpointing in ((plan.memory, False), (plan.checkpointed, True)):
        check_fits(CONFIG, method, STEP, memory.peak, checkpointing=checkpointing)
        refusal(CONFIG, method, STEP, memory.peak - 1, checkpointing=checkpointing)


@pytest.mark.parametrize("size", [10**9, 10**12])
@pytest.mark.parametrize("name, flag", [*fits.STEP_FLAGS.items(), *fits.SHAPE_FLAGS.items()])
def test_the_size_that_is_too_large_is_named_by_its_flag(name, flag, size):
    shape, of_shape = Shape(4, 192, 512, 6, 3, 2048, tied=True, head_dim=32), name in fits.SHAPE_FLAGS
    shape = Shape(**vars(shape) | ({name: size} if of_shape else {}))
    step = STEP if of_shape else Step(**vars(STEP) | {name: size})
    message = refusal(shape, "full", step, new_model=True)
    assert f"{flag} ({size:,})" in message
    assert re.search(r"needs [\d,.]+ (GB|TB|PB|EB) of memory, but this machine has 24.0 GB", message)
    if not of_shape:
        words = f"a smaller --batch-size ({step.batch:,}), --seq-len ({step.length:,}) or --model"
        assert refusal(shape, "qlora", step).endswith(words)  # its sizes are no flags here


def test_evaluation_takes_no_gradients_and_counts_no_weights():
    step = Step(10**12, 128)
    message = refusal(CONFIG, None, step)
    assert message.startswith("an evaluation batch") and "--batch-size (1,000,000,000,000)" in message
    check_fits(CONFIG, None, Step(2048, 128), 4e9)
    refusal(CONFIG, "full", Step(2048, 128), 4e9)
    check_fits(LlamaConfig(num_hidden_layers=10**4), None, STEP, MEMORY)  # the weights are there already


def test_other_families_and_their_targets():
    check_fits(GPT2Config(), "lora", Step(1, 64), MEMORY, options=Options(targets=["c_attn"]))
    assert shape_of(GPT2Config()).parameters == 124_439_808
    refusal(GPT2Config(), "lora", Step(10**6, 1024), options=Options(targets=["c_attn"]))
    refusal(CONFIG, "lora", Step(10**12, 128), options=Options(targets=["q_proj", "v_proj"]))


def test_the_machine_is_asked(monkeypatch):
    refusal(CONFIG, "full", Step(10**12, 128), None)
    monkeypatch.setattr(fits, "machine_memory", lambda: None)  # no one says: nothing is refused
    check_fits(CONFIG, "full", Step(10**12, 128))


def test_a_gpu_has_memory_of_its_own_and_a_container_may_use_less_than_the_machine_has(monkeypatch, tmp_path):
    monkeypatch.setattr(fits, "_CONTAINER", str(tmp_path / "limit"))
    (tmp_path / "limit").write_text("1000000\n", encoding="ascii")
    assert fits.machine_memory() == 1_000_000
    (tmp_path / "limit").write_text("max\n", encoding="ascii")
    assert fits.machine_memory() > 2**28
    device = SimpleNamespace(mem_info=(1, 10**9))
    monkeypatch.setattr(fits.backend, "name", "cupy")
    monkeypatch.setattr(fits.backend, "xp", SimpleNamespace(cuda=SimpleNamespace(Device=lambda: device)))
    assert fits.machine_memory() == 10**9
