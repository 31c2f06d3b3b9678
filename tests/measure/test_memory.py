"""pytest tests/measure/test_memory.py: bytes counted by kind are the bytes that the allocators saw."""

import tracemalloc

import numpy as np
import pytest

from minilora import optim
from minilora.measure import records
from minilora.measure.memory import peak_bytes
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.train import methods
from notebooks.figures.memory import live_bytes

pytestmark = pytest.mark.host

IDS = np.random.default_rng(0).integers(0, 512, (4, 64))
MODEL = {"vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3}
MODEL |= {"num_attention_heads": 4, "tie_word_embeddings": True}


def step_of(method: str):
    """Return a model, its optimizer after a step, and the loss of the next step with its graph alive."""
    model = methods.adapt(LlamaForCausalLM(LlamaConfig(**MODEL)), method, tokens=range(10))
    optimizer = optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model(IDS, labels=IDS).loss.backward()
    optimizer.step()
    return model, optimizer, model(IDS, labels=IDS).loss


@pytest.mark.slow
@pytest.mark.parametrize("method", methods.METHODS)
def test_by_kind_it_is_what_tracemalloc_sees(method):
    step_of(method)  # what is made once and kept, such as codebooks, is made now
    tracemalloc.start()
    try:
        held = step_of(method)
        seen = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    counted = live_bytes(*held)
    assert sum(counted.values()) == pytest.approx(seen, rel=0.05)
    trains = sum(p.data.nbytes for p in held[0].parameters() if p.requires_grad)
    assert counted["gradients"] == trains and counted["optimizer"] == 2 * trains
    assert counted["activations"] > 0
    held[2].backward()
    assert live_bytes(*held)["activations"] < 100  # the graph is used up: the loss alone


def test_peak_counts_what_was_alive_at_once():
    assert 800_000 <= peak_bytes(lambda: [np.ones(100_000).size for _ in range(3)], held=5) - 5 < 900_000


def test_the_peak_of_a_process_is_what_linux_says(monkeypatch):
    monkeypatch.setattr(records.Path, "read_text", lambda self, encoding: "VmPeak:\t 5 kB\nVmHWM:\t    1234 kB\n")
    assert records.peak_rss() == 1234 * 1024
    monkeypatch.setattr(records.Path, "read_text", lambda self, encoding: (_ for _ in ()).throw(FileNotFoundError()))
    assert records.peak_rss() is None
