"""pytest tests/test_threads.py: the plain loop over all cores, held to the whole batch on one thread."""

import gc
import itertools
import os
import signal
import sys
import threading
import traceback
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from minilora import blas, nn, ops, threads
from minilora import functional as F
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from minilora.peft import LoraConfig, get_peft_model
from minilora.quant import quantize_model
from minilora.tensor import Tensor, gradients, no_grad, record
from tests.helpers.peft_invariants import CASES, GPT2, IDS, MODELS, SIZES, base_of

pytestmark = pytest.mark.host  # a GPU computes all rows at once

LABELS = IDS.copy()
LABELS[0, 3:] = -100  # rows that count unequally: a mean of means would be wrong
MASK = np.ones(IDS.shape, dtype=int)
MASK[1, :3] = 0


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Use two threads on any machine, for any amount of work."""
    monkeypatch.setattr(threads, "WORTH_A_PART", 1)
    with threads.using(2):
        yield


def llama(sizes: str = "tied", **fields) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**SIZES, **MODELS[sizes] | fields), seed=0)


def classifier() -> LlamaForSequenceClassification:
    return LlamaForSequenceClassification(LlamaConfig(**SIZES, **MODELS["tied"], num_labels=3, pad_token_id=0), seed=0)


def dropping():
    """Make a model with dropout."""
    config = LoraConfig(r=2, lora_dropout=0.4, target_modules="all-linear")
    return moved(get_peft_model(llama("deep"), config).train())


def moved(model):
    """Move the parameters that start at zero, so that all gradients flow, and return the model."""
    rng = np.random.default_rng(2)
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data + rng.normal(0, 0.1, p.shape).astype("float32")
    return model


def adapted(name: str, model: str):
    """Make a model with the adapter of a case."""
    case = CASES[name]
    return moved(get_peft_model(base_of(case, model, 0), case.make(), seed=1).train())


def loss_and_gradients(model, loss: Tensor) -> dict[str, np.ndarray]:
    """Return the loss, and the gradients by the names of the parameters."""
    of = gradients(loss)
    return {"loss": loss.data} | {name: of[p] for name, p in model.named_parameters() if p in of}


def assert_close(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        size = max(1, np.abs(other[name]).max())  # of what is added up: small sums of large numbers are no more exact
        np.testing.assert_allclose(one[name], other[name], rtol=2e-4, atol=5e-6 * size, err_msg=name)


def seen_rows(model, monkeypatch) -> list[tuple[int, int]]:
    """Record (thread, rows) for each call of the model's body, in order."""
    calls: list[tuple[int, int]] = []
    owner = getattr(model, "base_model", model)
    body = type(owner.body if hasattr(owner, "body") else owner.model)
    forward = body.forward

    def seen(self, ids, *arguments, **keywords):
        calls.append((threading.get_ident(), len(ids)))
        return forward(self, ids, *arguments, **keywords)

    monkeypatch.setattr(body, "forward", seen)
    return calls


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
@pytest.mark.parametrize("name", CASES)
def test_every_method_learns_what_it_learns_unsplit(name, mask):
    model = adapted(name, CASES[name].models[-1])
    split = loss_and_gradients(model, model(IDS, mask, LABELS).loss)
    with threads.using(1):
        whole = loss_and_gradients(model, model(IDS, mask, LABELS).loss)
    assert len(whole) == 1 + sum(p.requires_grad for p in model.parameters())
    assert_close(split, whole)


@pytest.mark.parametrize("name", ["gpt2", "full", "classifier", "checkpointing", "float64"])
def test_every_model_does(name, monkeypatch):
    model = {"gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2), seed=0), "classifier": classifier}.get(name, llama)()
    if name == "checkpointing":
        model.gradient_checkpointing_enable()
    if name == "float64":
        for p in model.parameters():
            p.data = p.data.astype("float64")
    labels = np.array([2, -100, 0]) if name == "classifier" else LABELS
    calls = seen_rows(model, monkeypatch)
    split = loss_and_gradients(model, model(IDS, labels=labels).loss)
    assert sorted(rows for _, rows in calls) == [1, 2]
    with threads.using(1):
        whole = loss_and_gradients(model, model(IDS, labels=labels).loss)
    assert split["loss"].dtype == whole["loss"].dtype
    assert_close(split, whole)


def test_the_bits_are_those_of_the_parts_added_in_order():
    model = llama()
    split = loss_and_gradients(model, model(IDS, labels=LABELS).loss)
    items = model.count_targets(LABELS)
    with threads.using(1):
        losses = [model(IDS[s], labels=LABELS[s], num_items_in_batch=items).loss for s in (slice(1), slice(1, 3))]
        first, second = (loss_and_gradients(model, loss) for loss in losses)
    for name, array in split.items():
        np.testing.assert_array_equal(array, first[name] + second[name], err_msg=name)


def test_parts_run_side_by_side_and_few_rows_or_little_work_do_not(monkeypatch):
    meet = threading.Barrier(2)
    assert threads.side_by_side(lambda _: meet.wait(10) >= 0, range(2)) == [True, True]
    monkeypatch.setattr(threads, "WORTH_A_PART", 100)
    assert threads.parts_of(4, 200, 2) == 2 and threads.split_rows(range(5), 2) == [range(2), range(2, 5)]
    assert threads.parts_of(4, 199, 2) == threads.parts_of(1, 150, 2) == 1  # one, whose products use one thread
    assert threads.parts_of(1, 10_000, 2) == threads.parts_of(4, 10_000, 1) == 0  # whose products share themselves out
    assert threads.parts_of(3, 10_000, 8) == 3


def test_results_come_in_order_and_nothing_is_split_twice():
    def inner(i):
        return threads.count(), threads.side_by_side(lambda j: 10 * i + j, range(3))

    assert threads.side_by_side(inner, []) == []
    assert threads.side_by_side(inner, range(5)) == [(1, [10 * i, 10 * i + 1, 10 * i + 2]) for i in range(5)]


def test_parts_of_a_batch_add_up_and_are_used_up():
    """The number of items may be a Tensor."""
    model = llama()
    for rows in (slice(2), slice(2, 3)):
        loss = model(IDS[rows], labels=LABELS[rows], num_items_in_batch=Tensor(15.0)).loss
        (loss * 0.5).backward()
        with pytest.raises(RuntimeError, match="used before"):
            loss.backward()
    with threads.using(1):
        whole = loss_and_gradients(model, model(IDS, labels=LABELS, num_items_in_batch=30).loss)
    whole.pop("loss")
    assert_close({name: p.grad for name, p in model.named_parameters()}, whole)


@pytest.mark.parametrize("name", ["llama", "classifier", "prompt"])
@pytest.mark.parametrize("with_loss", [True, False])
def test_logits_have_their_values_and_gradients(name, with_loss):
    model = adapted("prompt", "deep") if name == "prompt" else classifier() if name == "classifier" else llama()
    labels = np.array([2, 1, 0]) if name == "classifier" else LABELS

    def run():
        out = model(IDS, labels=labels)
        weights = np.random.default_rng(0).standard_normal(out.logits.shape, dtype="float32")
        further = (out.logits * weights).sum()
        return out.logits.numpy(), loss_and_gradients(model, out.loss + further if with_loss else further)

    logits, split = run()
    with threads.using(1):
        expected, whole = run()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert_close(split, whole)


def test_without_gradients_and_where_nothing_trains_there_is_no_graph():
    model = llama()
    with threads.using(1):
        whole = model(IDS, labels=LABELS)
    with no_grad():
        out = model(IDS, labels=LABELS)
    for other in (out, model.requires_grad_(False)(IDS, labels=LABELS)):
        assert other.loss.item() == pytest.approx(whole.loss.item(), rel=1e-6)
        np.testing.assert_allclose(other.logits.numpy(), whole.logits.numpy(), rtol=1e-4, atol=1e-5)
        assert not other.loss.requires_grad and not other.logits.requires_grad


def test_what_was_computed_before_gets_its_gradient():
    """A weight that a function made is not a leaf of the parts' graphs, and both parts read it."""
    model = llama()
    scale = Tensor(np.float32(1.5), requires_grad=True)

    def run():
        model.model.norm.weight = ops.multiply(Tensor(np.ones(16, dtype="float32")), scale)
        return gradients(model(IDS, labels=LABELS).loss)[scale]

    split = run()
    with threads.using(1):
        assert split == pytest.approx(run(), rel=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("seed", [None, 5])
def test_dropout_draws_by_rows_whatever_the_threads(checkpointing, seed, monkeypatch):
    results, calls = [], seen_rows(dropping(), monkeypatch)
    for count in (1, 2, 3):
        model = dropping().gradient_checkpointing_enable(checkpointing)
        with threads.using(count), nullcontext() if seed is None else nn.dropout_rng(np.random.default_rng(seed)):
            results.append([loss_and_gradients(model, model(IDS, labels=LABELS).loss) for _ in range(2)])
    assert sorted(rows for _, rows in calls) == 2 * [1] + 2 * [1, 1, 1] + 2 * [2] + 2 * [3]  # no part failed
    first, second = results[0]
    assert first["loss"] != second["loss"]  # a call draws anew
    for other in results[1:]:
        assert_close(other[0], first)
        assert_close(other[1], second)
    assert dropping().eval()(IDS, labels=LABELS).loss.item() != pytest.approx(first["loss"], rel=1e-4)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"input_ids": IDS[0]}, "must have the shape"),
        ({"input_ids": np.where(IDS == IDS[2, 1], 40, IDS)}, "token id 40"),
        ({"labels": LABELS[:2]}, r"labels \(2, 7\) do not fit input_ids \(3, 7\)"),
        ({"labels": np.concatenate([LABELS, LABELS])}, r"labels \(6, 7\) do not fit"),
        ({"labels": LABELS[:, :4]}, r"labels \(3, 4\) do not fit"),
        ({"labels": LABELS[:, 0]}, r"labels \(3,\) do not fit"),
        ({"labels": np.full_like(LABELS, -100)}, "no target that counts"),
        ({"attention_mask": MASK[:, 1:]}, r"attention_mask \(3, 6\) does not fit \(3, 7\)"),
        ({"num_items_in_batch": 0}, "must be positive, not 0"),
        ({"input_ids": np.ones((3, 65), dtype=int), "labels": np.ones((3, 65), dtype=int)}, "exceed the model's"),
    ],
)
def test_an_error_is_that_of_the_whole_batch(arguments, error):
    model = GPT2LMHeadModel(GPT2Config(**GPT2), seed=0)
    with pytest.raises((ValueError, IndexError), match=error) as split:
        model(**{"input_ids": IDS, "labels": LABELS} | arguments)
    with threads.using(1), pytest.raises(type(split.value)) as whole:
        model(**{"input_ids": IDS, "labels": LABELS} | arguments)
    assert str(split.value) == str(whole.value)
    model(IDS, labels=LABELS).loss.backward()  # and it works again
    with pytest.raises(ValueError, match=r"targets of shape \(3, 7\) do not fit logits of shape \(3, 3\)"):
        classifier()(IDS, labels=LABELS)


class Passing(nn.Module):
    """A layer that calls `forward` before its forward pass and `backward` in its backward pass."""

    def __init__(self, layer: nn.Module, forward=lambda: None, backward=lambda: None):
        self.layer, self.calls = layer, (forward, backward)

    def forward(self, x: Tensor, *arguments, **keywords) -> Tensor:
        before, in_backward = self.calls
        before()

        def rule(g):
            in_backward()
            return g

        return self.layer(record(x.data.copy(), (x, rule)), *arguments, **keywords)


@pytest.mark.parametrize("walk", ["forward", "backward"])
@pytest.mark.parametrize("in_main", [True, False], ids=["caller", "worker"])
def test_an_error_in_a_layer_is_raised_and_not_tried_again(walk, in_main, monkeypatch):
    """A second try would succeed, because the layer fails only once."""
    model, raised = llama(), []
    meet, parts = threading.Barrier(2), iter(range(2))

    def meet_other_part():  # so that each has a thread
        if next(parts, None) is not None:
            meet.wait(10)

    def fail_once():
        if not raised and in_main == (threading.current_thread() is threading.main_thread()):
            raised.append(True)
            raise ZeroDivisionError("planted")

    first, last = (0, -1) if walk == "forward" else (-1, 0)
    model.model.layers[first] = Passing(model.model.layers[first], **{walk: meet_other_part})
    model.model.layers[last] = Passing(model.model.layers[last], **{walk: fail_once})
    calls = seen_rows(model, monkeypatch)
    with pytest.raises(ZeroDivisionError, match="planted") as caught:
        model(IDS, labels=LABELS).loss.backward()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail_once"
    assert sorted(rows for _, rows in calls) == [1, 2]


class Alarm(Exception):
    """Exception that a signal handler raises, as those of many programs do."""


@pytest.fixture
def alarm():
    """Send this process SIGALRM, whose handler raises Alarm."""

    def handle(signum, frame):
        raise Alarm

    gc.disable()  # Python drops what is raised while it collects garbage
    before = signal.signal(signal.SIGALRM, handle)
    yield lambda: os.kill(os.getpid(), signal.SIGALRM)
    signal.signal(signal.SIGALRM, before)
    gc.enable()


@pytest.mark.parametrize("moment", range(20))
@pytest.mark.parametrize("walk", ["forward", "backward"])
def test_a_signal_within_a_batch_is_heard(walk, moment, alarm):
    """The signal comes at each of 20 layers, while the other part is running or done."""
    model, passed = llama(num_hidden_layers=20), itertools.count()

    def pass_by():
        if next(passed) == moment:
            alarm()

    for layer in model.model.layers:
        layer.input_layernorm = Passing(layer.input_layernorm, **{walk: pass_by})
    with pytest.raises(Alarm):
        model(IDS, labels=LABELS).loss.backward()
    assert next(passed) > moment
    model(IDS, labels=LABELS).loss.backward()  # and it works again


def test_ctrl_c_comes_when_nothing_runs_any_more():
    begun, ended = threading.Event(), []

    def run(i):
        if i == 0:
            assert begun.wait(10)
            raise KeyboardInterrupt
        begun.set()
        threading.Event().wait(0.05)
        ended.append(i)

    with pytest.raises(KeyboardInterrupt):
        threads.side_by_side(run, range(4))
    assert ended in ([1], [1, 2], [1, 2, 3])
    assert threads.side_by_side(str, range(3)) == ["0", "1", "2"]


def test_the_first_error_in_order_is_raised_and_ctrl_c_before_all():
    meet = threading.Barrier(2)

    def fail(error):
        meet.wait(10)
        raise error

    for errors, first in (((ZeroDivisionError, ValueError), 0), ((ValueError, KeyboardInterrupt), 1)):
        with pytest.raises(errors[first]):
            threads.side_by_side(fail, errors)


def test_what_a_signal_raises_anywhere_leaves_nothing_locked_and_nothing_waiting():
    """Python checks for signals before a function's first line and after a C function returns; there it is raised."""
    files = (threads.__file__, threading.__file__, "concurrent/futures")  # of what waits; not of `function`
    heard = []

    def interrupt(moment: int) -> None:
        passed = itertools.count()

        def look(frame, event, argument):
            ours = any(file in frame.f_code.co_filename for file in files)
            if ours and event in ("call", "c_return") and next(passed) == moment:
                sys.setprofile(None)
                raise Alarm

        sys.setprofile(look)
        try:
            threads.side_by_side(str, range(3))
        except Alarm:
            heard.append(moment)
        finally:
            sys.setprofile(None)

    def run() -> None:
        with threads.using(2):
            for moment in range(80):
                threads.side_by_side(str, range(3))
                interrupt(moment)
            heard.append("all")

    thread = threading.Thread(target=run, daemon=True)  # so that the test ends if it does not
    thread.start()
    thread.join(60)
    assert heard[-1:] == ["all"] and len(heard) > 10


def test_weights_are_read_only_until_backward_and_nothing_is_left_behind():
    model = llama()
    quantize_model(model)
    model = get_peft_model(model, LoraConfig(r=2))
    loss = model(IDS, labels=LABELS).loss
    locked = [p for p in model.parameters() if not p.data.flags.writeable]
    assert any("lora_A" in name and p in set(locked) for name, p in model.named_parameters())
    loss.backward()
    assert all(p.data.flags.writeable for p in model.parameters())
    loss = model(IDS, labels=LABELS).loss
    del loss  # without backward
    assert all(p.data.flags.writeable for p in model.parameters())


@pytest.mark.parametrize("worth", [1, 10**9], ids=["parts", "little work"])
def test_products_use_one_thread_while_parts_run(worth, monkeypatch):
    from minilora import blas

    if not blas.describe() or max(b["num_threads"] for b in blas.describe()) == 1:
        pytest.skip("there is one thread anyway")
    before = [b["num_threads"] for b in blas.describe()]
    within: list[int] = []
    plain = F.rms_norm
    monkeypatch.setattr(threads, "WORTH_A_PART", worth)

    def looking(*arguments):
        within.append(max(b["num_threads"] for b in blas.describe()))
        return plain(*arguments)

    monkeypatch.setattr(F, "rms_norm", looking)
    loss = llama()(IDS, labels=LABELS).loss
    assert set(within) == {1} and [b["num_threads"] for b in blas.describe()] == before
    with blas.one_thread():
        with blas.one_thread():
            pass
        assert max(b["num_threads"] for b in blas.describe()) == 1
    loss.backward()
    assert [b["num_threads"] for b in blas.describe()] == before


def test_blocks_of_several_threads_overlap_and_leave_the_library_as_it_was():
    before = [b["num_threads"] for b in blas.describe()]
    first, second = blas.one_thread(), blas.one_thread()
    first.__enter__()
    other = threading.Thread(target=second.__enter__, daemon=True)
    other.start()
    other.join(20)
    assert not other.is_alive()  # neither waits for the other
    first.__exit__(None, None, None)
    assert max(b["num_threads"] for b in blas.describe()) == 1
    second.__exit__(None, None, None)
    assert [b["num_threads"] for b in blas.describe()] == before


def test_spread_groups_neighbours_and_keeps_their_order(monkeypatch):
    tasks = []

    def counted(function, groups):
        tasks.extend(groups)
        return [function(group) for group in groups]

    size = threads.WORTH_A_TASK
    sized = [("a", 1), ("b", size - 2), ("c", 1), ("d", 3 * size), ("e", 1)]
    monkeypatch.setattr(threads, "side_by_side", counted)
    assert threads.spread(str.upper, sized) == ["A", "B", "C", "D", "E"]
    assert tasks == [["a", "b", "c"], ["d"], ["e"]]
    assert threads.spread(str.upper, []) == []


@pytest.mark.parametrize(
    "limit, expected",
    [("50000 100000\n", 1), ("250000 100000\n", 3), ("max 100000\n", 8), ("1600000 100000\n", 8), ("\n", 8), (None, 8)],
)
def test_a_container_with_less_time_than_cores_has_fewer_threads(limit, expected, tmp_path, monkeypatch):
    if limit is not None:
        (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr(blas, "CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(blas, "usable_cores", lambda: set(range(8)))
    blas._quota.cache_clear()
    limited = []
    monkeypatch.setattr(blas, "_controller", lambda: SimpleNamespace(limit=lambda **limits: limited.append(limits)))
    try:
        with threads.using(None):
            assert blas.cores() == threads.count() == expected
        blas.fit_container.__wrapped__()
        assert limited == [{"limits": expected, "user_api": "blas"}] * (expected < 8)
    finally:
        blas._quota.cache_clear()
