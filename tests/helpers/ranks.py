"""Tests on several ranks, run by tests/train/test_world.py.

    mpiexec -n 3 python -m mpi4py tests/helpers/ranks.py TEST BACKEND

Each function is a test. An assertion that fails on one rank ends all ranks.
"""

import sys
from pathlib import Path

import numpy as np

from minilora import backend, threads
from minilora.data.batches import evaluation_windows
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import LoraConfig, get_peft_model
from minilora.train.metrics import bits_per_character
from minilora.train.world import World, batch_gradients, this_world

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.helpers import strict  # noqa: E402

IDS = np.random.default_rng(1).integers(0, 50, (5, 9))


def model():
    """Return a model with dropout, whose masks must not depend on which rank computes a row."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    base = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes), seed=0)
    return get_peft_model(base, LoraConfig(r=4, lora_dropout=0.3, target_modules="all-linear")).train()


def host_gradients(of) -> dict:
    return {name: backend.to_numpy(p.grad) for name, p in of.named_parameters() if p.requires_grad}


def sums():
    """Arrays of every shape come back as the sum over all ranks, and so do signals."""
    world = this_world()
    array = backend.asarray(np.arange(6, dtype="float32").reshape(2, 3) + world.rank)
    scalar = backend.asarray(np.float32(world.rank))
    total, count = world.all_reduce([array, scalar])
    ranks = sum(range(world.size))
    np.testing.assert_array_equal(backend.to_numpy(total), world.size * np.arange(6).reshape(2, 3) + ranks)
    assert backend.is_array(total) and float(count) == ranks and world.stop == 0
    world.asked = [15] if world.rank == world.size - 1 else []
    world.all_reduce([scalar])
    assert world.stop == 15
    assert world.sum(world.rank + 0.5) == ranks + world.size / 2
    assert world.broadcast(f"rank {world.rank}") == "rank 0"


def gradients():
    """Batches that the ranks share, one with fewer rows than ranks, give the same gradient as in a single process."""
    labels = IDS.copy()
    labels[0, 3:] = -100  # rows with different numbers of labels, for which a mean of means would be wrong
    batches = [{"input_ids": IDS, "labels": labels}, {"input_ids": IDS[:2], "labels": labels[:2]}]
    alone, together = model(), model()
    with threads.using(2):
        expected = float(batch_gradients(alone, batches, seed=(7, 3)))
    with threads.using(1):
        loss = float(batch_gradients(together, batches, (7, 3), this_world()))
    assert abs(loss - expected) <= 1e-6 * expected, (loss, expected)
    for name, g in host_gradients(alone).items():
        np.testing.assert_allclose(host_gradients(together)[name], g, rtol=2e-5, atol=1e-7, err_msg=name)


def evaluation():
    """Windows that the ranks share, some batches smaller than the world, give one process's bits on every rank."""
    measured = [
        bits_per_character(of, evaluation_windows(IDS.reshape(-1), 9, 4), 40, world)
        for of in [model()]
        for world in (World(), this_world())
    ]
    assert abs(measured[0] - measured[1]) <= 1e-6 * measured[0], measured


if __name__ == "__main__":
    backend.register("strict", strict.load)
    with backend.use(sys.argv[2]):
        globals()[sys.argv[1]]()
