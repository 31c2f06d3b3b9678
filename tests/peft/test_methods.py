"""pytest tests/peft/test_methods.py: every way to adapt keeps its promises, on three models and with three seeds.

The stand-in device, which is slow, sees one seed.
"""

import pytest

from tests.helpers.peft_invariants import CASES, INVARIANTS, SEEDS


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.__name__)
@pytest.mark.parametrize("name", CASES)
def test_promise(name, invariant, tmp_path, backend_name):
    case = CASES[name]
    for model in case.models:
        for seed in SEEDS if backend_name == "numpy" else SEEDS[:1]:
            invariant(case, model, seed, tmp_path / f"{model} {seed}")
