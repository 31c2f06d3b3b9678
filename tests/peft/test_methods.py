"""pytest tests/peft/test_methods.py: every way to adapt keeps its promises, on three models, each with its own seed."""

from dataclasses import replace

import pytest

from tests.helpers.peft_invariants import CASES, INVARIANTS, SEEDS


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.__name__)
@pytest.mark.parametrize("name", CASES)
def test_promise(name, invariant, tmp_path):
    case = CASES[name]
    for model, seed in zip(case.models, SEEDS, strict=False):
        invariant(case, model, seed, tmp_path / model)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("qlora", "pissa")])  # PiSSA takes floats
def test_promises_hold_over_4_bits(name, tmp_path):
    case = replace(CASES[name], quantization=CASES["qlora"].quantization)
    for invariant in INVARIANTS:
        invariant(case, case.models[-1], 0, tmp_path / invariant.__name__)
