"""pytest tests/train/test_loop.py"""

import json
import os
import signal
import threading

import numpy as np
import pytest

from minilora import Tensor, backend, nn, threads
from minilora.data.batches import LanguageModelBatches, evaluation_windows
from minilora.errors import MiniloraError, Stopped
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import LoraConfig, get_peft_model
from minilora.train.config import lr_factor
from minilora.train.loop import TrainConfig, train
from minilora.train.metrics import bits_per_character
from minilora.train.run import RunFolder
from notebooks.figures.labelled import accuracy

IDS = np.random.default_rng(0).integers(0, 40, 400)


def tiny(seed: int = 0, kind=LlamaForCausalLM):
    config = LlamaConfig(
        vocab_size=40, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, head_dim=4
    )
    return kind(config, seed)


def with_dropout(seed: int = 0):
    """Make a model whose training draws random numbers, so that a resumed run could get them wrong."""
    return get_peft_model(tiny(), LoraConfig(r=2, lora_dropout=0.3, target_modules=["v_proj"]), seed=seed)


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
        config = TrainConfig(steps=2, peak_lr=1e-3, warmup=2, lora_plus=ratio, weight_decay=0.0)
        quiet(model, batches(), config)
        moved[ratio] = {name[-8]: abs(a - start[name]).max() for name, a in weights(model).items() if "lora" in name}
    # AdamW's first step is of length lr, here half of it in the warm-up, and its second nearly so.
    assert moved[1.0]["B"] == pytest.approx(1.5e-3, rel=0.1)
    assert moved[8.0]["B"] == pytest.approx(8 * moved[1.0]["B"], rel=0.1)
    assert moved[8.0]["A"] == pytest.approx(moved[1.0]["A"], rel=0.3)


@pytest.mark.parametrize(
    ("schedule", "expected"),  # after the warm-up, at its half, at nine tenths and at the last of 100 steps
    [
        ("cosine", (1.0, 0.55, 0.122025, 0.100222)),
        ("linear", (1.0, 0.55, 0.19, 0.109)),
        ("constant", (1.0, 1.0, 1.0, 1.0)),
        ("wsd", (1.0, 1.0, 1.0, 0.1 + 0.9 / 10)),
    ],
)
def test_each_schedule_falls_in_its_own_way(schedule, expected):
    factors = [lr_factor(schedule, 10 + step, 110, 10, 0.1) for step in (0, 50, 90, 99)]
    for factor, value in zip(factors, expected, strict=True):
        assert factor == pytest.approx(value, rel=1e-5)
    assert lr_factor(schedule, 4, 110, 10, 0.1) == 0.5


def loss_of(model) -> float:
    with threads.using(1):
        return bits_per_character(model, evaluation_windows(IDS, 12, 8), 400)


def test_early_stop_leaves_the_best_weights():
    model, values, seen = tiny(), iter([3.0, 2.0, 2.5, 2.6, 0.0]), []

    def evaluate() -> float:
        seen.append(weights(model))
        return next(values)

    history = quiet(model, batches(), TrainConfig(steps=100, eval_every=2, patience=2), evaluate=evaluate)
    assert (history.best, history.best_step, len(history.steps)) == (2.0, 2, 6)
    assert same(weights(model), seen[1]) and not same(seen[1], seen[3])


@pytest.mark.parametrize(
    "values, shares, keep, best_step, learned",
    [
        ([3.0, 1.0, 2.0, 2.5], [0.2, 0.5, 0.8, 0.8], "best", 6, True),  # bits rise with confidence: the later of equals
        ([3.0, 1.0, 2.0, 2.5], [0.2, 0.9, 0.8, 0.8], "best", 2, True),
        ([3.0, 1.0, 2.0, 2.5], None, "best", 2, True),
        ([3.0, 1.0, 2.0, 2.5], None, "last", 6, True),
        ([3.0, 4.0, 4.0, 4.0], [0.2, 0.2, 0.2, 0.2], "best", 6, False),
        ([3.0, 4.0, 4.0, 4.0], None, "best", 0, False),
        ([3.0, 4.0, 4.0, 4.0], None, "last", 6, False),
        ([3.0, 2.0, 2.0, 2.0], [0.9, 0.5, 0.5, 0.5], "best", 0, False),
    ],
)
def test_which_weights_are_kept(values, shares, keep, best_step, learned):
    model, seen, left = tiny(), {}, iter(values)

    def evaluate() -> float:
        seen[2 * len(seen)] = weights(model)
        return next(left)

    accuracy = None if shares is None else iter(shares).__next__
    settings = TrainConfig(steps=6, eval_every=2, peak_lr=1e-2)
    history = quiet(model, batches(), settings, evaluate=evaluate, accuracy=accuracy, keep=keep)
    assert (history.best_step, history.best, history.learned) == (best_step, values[best_step // 2], learned)
    assert same(weights(model), seen[best_step]) and not same(seen[0], seen[6])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, optimizer):
    def config():
        return TrainConfig(steps=12, optimizer=optimizer, peak_lr=1e-2, warmup=3, eval_every=5, save_every=3, seed=7)

    straight = with_dropout()
    with threads.using(2), RunFolder(tmp_path / "straight") as run:
        quiet(straight, batches(), config(), evaluate=lambda: loss_of(straight), run=run)

    class Killed(Exception):
        pass

    class DiesAfter(LanguageModelBatches):
        left = 8

        def next_batch(self):
            self.left -= 1
            if self.left < 0:
                raise Killed
            return super().next_batch()

    broken = with_dropout()
    with threads.using(2), RunFolder(tmp_path / "broken") as run, pytest.raises(Killed):
        data = DiesAfter(IDS, batch_size=3, seq_len=12, seed=5)
        quiet(broken, data, config(), evaluate=lambda: loss_of(broken), run=run)

    resumed = with_dropout(seed=99)  # whatever it held is replaced
    with threads.using(2), RunFolder(tmp_path / "broken", resume=True) as run:
        assert run.checkpoint.step == 6  # of the 8 steps, the last 2 were not saved
        history = quiet(resumed, batches(), config(), evaluate=lambda: loss_of(resumed), run=run)
    assert same(weights(resumed), weights(straight))
    assert history.notes == []
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("straight", "broken")]
    records = [json.loads(line) for line in logs[0]]
    assert logs[0] == logs[1] and [record["step"] for record in records] == list(range(13))
    evaluated = [{"step": r["step"], "value": r["evaluation"]} for r in records if "evaluation" in r]
    assert evaluated == history.evaluations and [one["step"] for one in evaluated] == [0, 5, 10, 12]


def test_a_resumed_run_says_what_differs_and_refuses_another_model(tmp_path):
    with RunFolder(tmp_path / "run") as run, threads.using(2):
        quiet(tiny(), batches(), TrainConfig(steps=2), run=run)
    with RunFolder(tmp_path / "run", resume=True) as run, threads.using(1):
        history = quiet(tiny(), batches(), TrainConfig(steps=3), run=run)
    assert len(history.steps) == 1
    assert history.notes == ["resumed with 1 workers instead of 2: last digits differ"] * backend.is_cpu()
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


class NanGradient(LlamaForCausalLM):
    """A model whose gradient is NaN from the fourth step on, by 0.sqrt() times 0, with an unchanged loss."""

    steps = 0

    def forward(self, *arguments, labels=None, **keywords):
        out = super().forward(*arguments, labels=labels, **keywords)
        if labels is not None and self.training:
            self.steps += 1
            if self.steps > 3:
                out.loss = out.loss + ((self.lm_head.weight * 0).sum() ** 2).sqrt()
        return out


def test_a_gradient_that_is_not_a_number_changes_no_weight_and_leaves_the_last_checkpoint(tmp_path):
    model, seen = tiny(kind=NanGradient), []

    def evaluate() -> float:
        seen.append(weights(model))
        return float(-len(seen))

    config, message = TrainConfig(steps=9, save_every=1, eval_every=1), "norm became nan at step 4 .*is .*step-00000002"
    with RunFolder(tmp_path / "run") as run, threads.using(1), pytest.raises(MiniloraError, match=message):
        quiet(model, batches(), config, evaluate=evaluate, run=run)
    assert same(weights(model), seen[-1]) and len(seen) == 4
    with RunFolder(tmp_path / "run", resume=True) as run:
        assert run.checkpoint.step == 2 and all(np.isfinite(a).all() for a in run.checkpoint.arrays.values())


@pytest.mark.parametrize("last", [2.0, float("nan")])
def test_what_is_not_finite_at_the_end_is_not_saved(tmp_path, last):
    config = TrainConfig(steps=1, peak_lr=3e38, weight_decay=10.0)
    values = iter([1.0, last])
    message = "(infinite or NaN at|became nan after) step 1 .*no good"
    with RunFolder(tmp_path / "run") as run, pytest.raises(MiniloraError, match=message):
        quiet(tiny(), batches(), config, evaluate=lambda: next(values), run=run)
    assert not (tmp_path / "run" / "checkpoints").exists()


class Signalling(LlamaForCausalLM):
    """A model that sends this process a signal once, so that a second try of the batch would be noticed."""

    sent = False

    def forward(self, *arguments, **keywords):
        if not self.sent and threading.current_thread() is threading.main_thread():
            self.sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(*arguments, **keywords)


def test_a_signal_within_the_first_batch_ends_it_at_once(monkeypatch):
    monkeypatch.setattr(threads, "WORTH_A_PART", 1)
    with threads.using(2), pytest.raises(Stopped, match="before the first step"):
        quiet(tiny(kind=Signalling), batches(), TrainConfig(steps=50))


def test_frozen_parameters_keep_their_bits_and_nothing_to_train_is_an_error():
    model = tiny()
    model.model.requires_grad_(False)
    body, head = weights(model.model), model.lm_head.weight.numpy()
    quiet(model, batches(), TrainConfig(steps=3, peak_lr=1e-2, weight_decay=0.5))
    assert same(weights(model.model), body) and not np.array_equal(model.lm_head.weight.numpy(), head)
    model.requires_grad_(False)
    with pytest.raises(MiniloraError, match="frozen"):
        quiet(model, batches(), TrainConfig(steps=3))


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"peak_lr": float("nan")}, {"peak_lr": 0.0}, {"save_every": -1}, {"optimizer": "adam"}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(MiniloraError, match=f"^{next(iter(wrong))} must be "):
        TrainConfig(**({"steps": 5} | wrong))


def test_accuracy_counts_rows():
    class Constant(nn.Module):
        def forward(self, input_ids, labels, num_items_in_batch):
            logits = Tensor(backend.asarray(np.tile(np.array([0.0, 1.0, 0.5], "float32"), (len(input_ids), 1))))
            return type("Output", (), {"logits": logits, "loss": Tensor(0.0)})

    ids = np.zeros((5, 2), int)
    parts = [{"input_ids": ids, "labels": np.array([1, 1, 0, 2, 1])}, {"input_ids": ids[:1], "labels": np.array([0])}]
    with threads.using(2):
        assert accuracy(Constant(), parts) == 0.5
