"""pytest tests/train/test_loop.py"""

import json
import os
import signal

import numpy as np
import pytest

from minilora import backend, nn
from minilora.data.batches import LanguageModelBatches, evaluation_windows
from minilora.errors import MiniloraError
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import LoraConfig, get_peft_model
from minilora.train.evaluate import accuracy, bits_per_character
from minilora.train.loop import Stopped, TrainConfig, parameter_groups, train
from minilora.train.parallel import Workers
from minilora.train.run import RunFolder
from minilora.train.schedule import warmup_cosine

IDS = np.random.default_rng(0).integers(0, 40, 400)


class WithDropout(LlamaForCausalLM):
    """A model whose training draws random numbers, so that a resumed run can get them wrong."""

    def __init__(self, config, seed):
        super().__init__(config, seed)
        self.model.norm = Sequence(self.model.norm, nn.Dropout(0.3))


class Sequence(nn.Module):
    def __init__(self, *parts):
        self.parts = list(parts)
        self.weight = parts[0].weight

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


def tiny(seed: int = 0, kind=LlamaForCausalLM):
    config = LlamaConfig(
        vocab_size=40, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, head_dim=4
    )
    return kind(config, seed)


def batches():
    return LanguageModelBatches(IDS, batch_size=3, seq_len=12, seed=5)


def weights(model) -> dict:
    return {name: t.numpy() for name, t in model.named_parameters()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def quiet(model, data, config, **more):
    return train(model, data, config, show_progress=False, **more)


def test_lora_plus_moves_b_faster_through_the_whole_schedule():
    moved = {}
    for ratio in (1.0, 8.0):
        model = get_peft_model(tiny(), LoraConfig(r=2, target_modules=["v_proj"]))
        start = weights(model)
        config = TrainConfig(steps=2, lr=1e-3, warmup=2, lora_plus=ratio, weight_decay=0.0)
        quiet(model, batches(), config)
        moved[ratio] = {name[-8]: abs(a - start[name]).max() for name, a in weights(model).items() if "lora" in name}
    # AdamW's first step is of length lr, here half of it in the warm-up, and its second nearly so.
    assert moved[1.0]["B"] == pytest.approx(1.5e-3, rel=0.1)
    assert moved[8.0]["B"] == pytest.approx(8 * moved[1.0]["B"], rel=0.1)
    assert moved[8.0]["A"] == pytest.approx(moved[1.0]["A"], rel=0.3)


def test_schedule_rises_to_one_and_falls_to_its_floor():
    factors = [warmup_cosine(i, 100, 10, 0.1) for i in range(100)]
    assert factors[0] == 0.1 and factors[9] == 1.0 and factors[10] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0.1 < factors[-1] < 0.102


def test_training_lowers_the_loss_and_evaluates_on_the_way():
    model = tiny()
    history = quiet(model, batches(), TrainConfig(steps=30, lr=3e-2, eval_every=10), evaluate=lambda: loss_of(model))
    assert history.steps[-1]["loss"] < history.steps[0]["loss"] - 0.1
    assert [e["step"] for e in history.evaluations] == [0, 10, 20, 30]


def loss_of(model) -> float:
    with Workers(1) as workers:
        return bits_per_character(model, evaluation_windows(IDS, 12, 8), 400, workers)


def test_early_stop_leaves_the_best_weights():
    model, values, seen = tiny(), iter([3.0, 2.0, 2.5, 2.6, 0.0]), []

    def evaluate() -> float:
        seen.append(weights(model))
        return next(values)

    history = quiet(model, batches(), TrainConfig(steps=100, eval_every=2, patience=2), evaluate=evaluate)
    assert (history.best, history.best_step, len(history.steps)) == (2.0, 2, 6)
    assert same(weights(model), seen[1]) and not same(seen[1], seen[3])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, optimizer):
    def config():
        return TrainConfig(steps=12, optimizer=optimizer, lr=1e-2, warmup=3, eval_every=4, save_every=3, seed=7)

    straight = tiny(kind=WithDropout)
    with Workers(2) as workers, RunFolder(tmp_path / "straight") as run:
        quiet(straight, batches(), config(), evaluate=lambda: loss_of(straight), run=run, workers=workers)

    class Killed(Exception):
        pass

    class DiesAfter(LanguageModelBatches):
        left = 8

        def next_batch(self):
            self.left -= 1
            if self.left < 0:
                raise Killed
            return super().next_batch()

    broken = tiny(kind=WithDropout)
    with Workers(2) as workers, RunFolder(tmp_path / "broken") as run, pytest.raises(Killed):
        data = DiesAfter(IDS, batch_size=3, seq_len=12, seed=5)
        quiet(broken, data, config(), evaluate=lambda: loss_of(broken), run=run, workers=workers)

    resumed = tiny(seed=99, kind=WithDropout)  # whatever it held is replaced
    with Workers(2) as workers, RunFolder(tmp_path / "broken", resume=True) as run:
        assert run.checkpoint.step == 6  # of the 8 steps, the last 2 were not saved
        history = quiet(resumed, batches(), config(), evaluate=lambda: loss_of(resumed), run=run, workers=workers)
    assert same(weights(resumed), weights(straight))
    assert history.notes == []
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("straight", "broken")]
    assert logs[0] == logs[1] and [json.loads(line)["step"] for line in logs[0]] == list(range(1, 13))


def test_a_resumed_run_says_what_differs_and_refuses_another_model(tmp_path):
    with RunFolder(tmp_path / "run") as run:
        quiet(tiny(), batches(), TrainConfig(steps=2), run=run)
    with RunFolder(tmp_path / "run", resume=True) as run:
        history = quiet(tiny(), batches(), TrainConfig(steps=3, lr=5e-3), run=run)
    assert len(history.steps) == 1
    assert any("lr 0.005 instead of 0.001" in note for note in history.notes)
    frozen = tiny()
    frozen.model.requires_grad_(False)
    with RunFolder(tmp_path / "run", resume=True) as run, pytest.raises(MiniloraError, match="another model"):
        quiet(frozen, batches(), TrainConfig(steps=4), run=run)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_stops(tmp_path, signum):
    class Signals(LanguageModelBatches):
        def next_batch(self):
            if self.state()["index"] >= 9:  # in the fourth step
                os.kill(os.getpid(), signum)
            return super().next_batch()

    before = signal.getsignal(signum)
    data = Signals(IDS, batch_size=3, seq_len=12, seed=5)
    with RunFolder(tmp_path / "run") as run, pytest.raises(Stopped) as stopped:
        quiet(tiny(), data, TrainConfig(steps=50), run=run)
    assert stopped.value.signum == signum and signal.getsignal(signum) == before
    with RunFolder(tmp_path / "run", resume=True) as run:
        assert run.checkpoint.step == 4


def test_a_loss_that_is_not_a_number_stops_before_the_weights_are_touched():
    model = tiny()
    model.lm_head.weight.data = model.lm_head.weight.numpy() * np.float32("nan")
    body = weights(model.model)
    with pytest.raises(MiniloraError, match="nan at step 1 with learning rate 0.001"):
        quiet(model, batches(), TrainConfig(steps=2))
    assert same(weights(model.model), body)


def test_frozen_parameters_keep_their_bits_and_nothing_to_train_is_an_error():
    model = tiny()
    model.model.requires_grad_(False)
    body, head = weights(model.model), model.lm_head.weight.numpy()
    quiet(model, batches(), TrainConfig(steps=3, lr=1e-2, weight_decay=0.5))
    assert same(weights(model.model), body) and not np.array_equal(model.lm_head.weight.numpy(), head)
    model.requires_grad_(False)
    with pytest.raises(MiniloraError, match="frozen"):
        quiet(model, batches(), TrainConfig(steps=3))


def test_only_matrices_have_weight_decay():
    groups = parameter_groups(tiny(), 0.3)
    assert {p.ndim for p in groups[0]["params"]} == {2} and groups[0]["weight_decay"] == 0.3
    assert {p.ndim for p in groups[1]["params"]} == {1} and groups[1]["weight_decay"] == 0


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"lr": float("nan")}, {"lr": 0.0}, {"accumulate": 0}, {"save_every": -1}, {"optimizer": "adam"}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(MiniloraError):
        TrainConfig(**({"steps": 5} | wrong))


def test_bits_per_character_is_the_code_length_of_the_text():
    model = tiny()
    ids = IDS[:30]
    logits = model(ids[None]).logits.numpy()[0].astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -log_p[np.arange(29), ids[1:]].sum() / np.log(2) / 77
    for count in (1, 2):
        with Workers(count) as workers:
            found = bits_per_character(model, evaluation_windows(ids, 30, 4), 77, workers)
        assert found == pytest.approx(expected, rel=1e-5)


def test_accuracy_counts_rows():
    class Constant(nn.Module):
        def forward(self, input_ids, labels, num_items_in_batch):
            logits = nn.Tensor(backend.asarray(np.tile(np.array([0.0, 1.0, 0.5], "float32"), (len(input_ids), 1))))
            return type("Output", (), {"logits": logits, "loss": nn.Tensor(0.0)})

    ids = np.zeros((5, 2), int)
    parts = [{"input_ids": ids, "labels": np.array([1, 1, 0, 2, 1])}, {"input_ids": ids[:1], "labels": np.array([0])}]
    with Workers(2) as workers:
        assert accuracy(Constant(), parts, workers) == 0.5
