"""pytest tests/train/test_gradients.py"""

import numpy as np
import pytest

from minilora import backend, threads
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.train.world import batch_gradients, take


def tiny(seed: int = 0) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, head_dim=8
    )
    return LlamaForCausalLM(config, seed=seed)


def batch(rows: int = 5, length: int = 9) -> dict:
    ids = np.random.default_rng(1).integers(0, 50, (rows, length))
    labels = ids.copy()
    labels[0, 3:] = -100  # rows that count unequally: a mean of means would be wrong
    return {"input_ids": ids, "labels": labels}


def grads(model) -> dict:
    return {name: backend.to_numpy(p.grad) for name, p in model.named_parameters()}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_add_up_to_the_gradient_of_the_whole_batch(count):
    whole, parted = tiny(), tiny()
    loss = whole(**batch()).loss
    loss.backward()
    with threads.using(count):
        total = batch_gradients(parted, [batch()])
    assert float(total) == pytest.approx(loss.item(), rel=1e-6)
    for name, g in grads(whole).items():
        np.testing.assert_allclose(grads(parted)[name], g, rtol=2e-5, atol=2e-6)


def test_accumulated_batches_are_one_large_batch():
    large, small = tiny(), tiny()
    with threads.using(2):
        first = batch_gradients(large, [batch(6)])
        second = batch_gradients(small, [take(batch(6), range(i, i + 2)) for i in (0, 2, 4)])
    assert float(first) == pytest.approx(float(second), rel=1e-6)
    for name, g in grads(large).items():
        np.testing.assert_allclose(grads(small)[name], g, rtol=2e-5, atol=2e-6)


def test_a_step_waits_for_no_device():
    from tests.helpers import strict

    model = tiny()
    with threads.using(1):
        batch_gradients(model, [batch()])
        strict.reset_syncs()
        batch_gradients(model, [batch()])
        assert strict.sync_count() == 0
