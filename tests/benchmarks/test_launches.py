"""pytest tests/benchmarks/test_launches.py: launches are counted, a chain that is fused for one, views for none."""

import numpy as np
import pytest

from benchmarks import launches
from minilora import backend
from minilora.backend import xp

pytestmark = pytest.mark.host

TINY = {"vocab": 50, "hidden": 16, "intermediate": 24, "layers": 2, "heads": 2, "kv_heads": 1, "length": 8, "batch": 2}


@pytest.mark.parametrize(
    ("call", "count"),
    [
        (lambda a: (a.T, a[0], a[:, None], a.reshape(6), a.swapaxes(0, 1), xp.broadcast_to(a, (2, 2, 3))), 0),
        (lambda a: (xp.empty(3), a.astype(a.dtype, copy=False), a.shape, backend.to_numpy(a)), 0),
        (lambda a: a.__iadd__(1), 1),
        (lambda a: xp.exp(a, out=a), 1),
        (lambda a: a[xp.arange(2)], 2),
        (lambda a: a.T.reshape(6), 1),
        (lambda a: a.__setitem__(0, a[1]), 1),
        (lambda a: a.__setitem__(0, a[0].__iadd__(1)), 1),  # a[0] += 1
        (lambda a: xp.add.at(a, 0, 1.0), 1),
        (lambda a: xp.concatenate([a, a]), 1),
        (lambda a: a.copy(), 1),
    ],
)
def test_what_counts(call, count):
    with launches.counting(kernels=True):
        a = backend.asarray(np.ones((2, 3), np.float32))
        launches.launches.clear()
        call(a)
        assert launches.launches.total() == count


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_step(method):
    now, waits = launches.count_step(TINY, method)
    before, _ = launches.count_step(TINY, method, kernels=False)
    parameters = {"full": 1 + 9 * 2 + 1, "lora": 2 * 7 * 2, "qlora": 2 * 7 * 2}[method]
    assert waits == 0 and now.total() < 0.6 * before.total()
    assert now["AdamW._update"] == parameters  # and with NumPy's calls:
    assert before["AdamW._update"] == 13 * parameters
    assert now["rotary"] == 2 * 2 * 2  # of queries and keys, forward and back
    assert now["dequantize_4bit"] == {"full": 0, "lora": 0, "qlora": 7 * 2 * 2 - 3}[method]
    assert now["clip_grad_norm_"] == before["clip_grad_norm_"] > 0
