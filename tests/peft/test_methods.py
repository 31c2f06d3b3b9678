"""pytest tests/peft/test_methods.py: every way to adapt keeps its promises, on three models, each with its own seed."""

import pytest

from tests.helpers.peft_invariants import CASES, INVARIANTS, SEEDS


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.__name__)
@pytest.mark.parametrize("name", CASES)
def test_promise(name, invariant, tmp_path):
    case = CASES[name]
    for model, seed in zip(case.models, SEEDS, strict=False):
        invariant(case, model, seed, tmp_path / model)
