"""pytest tests/parity/test_contributing_parity.py: CONTRIBUTING.md's LoHa goes to PEFT and comes from it.

Needs the parity extra: pip install -e '.[parity,test]'
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from minilora.peft import PeftModel, get_peft_model  # noqa: E402
from tests.parity.test_peft_parity import (  # noqa: E402, F401
    base,
    opened_by_transformers,
    ours,
    theirs,
    train_ours,
    train_theirs,
)
from tests.test_contributing import added  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.host, pytest.mark.filterwarnings("ignore")]
SETTINGS = {"r": 3, "alpha": 5, "target_modules": ["k_proj", "up_proj", "down_proj"]}


def test_files_go_both_ways_and_training_is_the_same(base, tmp_path):  # noqa: F811
    plain, folder = base
    with added(tmp_path) as loha:
        model = get_peft_model(plain, loha.LoHaConfig(**SETTINGS))
        model.save_pretrained(tmp_path / "start")
        twin = peft.PeftModel.from_pretrained(opened_by_transformers(folder), tmp_path / "start", is_trainable=True)
        assert twin.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
        np.testing.assert_allclose(train_theirs(twin, lr=0.01), train_ours(model, lr=0.01), rtol=0, atol=1e-4)
        np.testing.assert_allclose(theirs(twin), ours(model), rtol=1e-3, atol=1e-3)
        twin.save_pretrained(tmp_path / "end")
        loaded = PeftModel.from_pretrained(model.unload(), tmp_path / "end")
        np.testing.assert_allclose(ours(loaded), theirs(twin), rtol=1e-5, atol=1e-5)
