"""pytest tests/benchmarks/test_profile.py: the clocked arrays of the profile compute what NumPy does, and tell what."""

import numpy as np
import pytest

from benchmarks import profile
from minilora import backend

pytestmark = pytest.mark.host
SIZE = {"vocab": 64, "hidden": 16, "intermediate": 32, "layers": 1, "heads": 2, "length": 8}


def test_a_clocked_step_is_the_same_step():
    losses = {}
    for name in ("numpy", "clocked"):
        with backend.use(name):
            step = profile.step.minilora_step(SIZE, "qlora", None, 1)
            losses[name] = [float(step()) for _ in range(3)]
    assert losses["numpy"] == losses["clocked"]


def test_each_part_is_counted_where_it_belongs():
    breakdown = profile.profile(lambda threads: profile.step.minilora_step(SIZE, "qlora", None, threads), 0.01)
    assert {"swiglu activated", "adamw"} <= breakdown["functions"].keys() and breakdown["products"] > 0
    assert sum(breakdown[part] for part in ("products", "elementwise", "Python", "allocation")) == pytest.approx(
        breakdown["whole"]
    )
    first, second = profile.in_words(breakdown)
    assert (
        first.startswith(f"{1000 * breakdown['whole']:.1f} ms on one thread: products ") and "elementwise: " in second
    )


def test_who_owns_its_data_looks_so():
    with backend.use("clocked"):
        a = backend.xp.ones((2, 3))
        b = a + a
        assert isinstance(b, profile.ClockedArray) and b.base is None and b[1:].base is not None
        assert type(backend.to_numpy(b)) is np.ndarray and np.array_equal(backend.to_numpy(b), np.full((2, 3), 2.0))
