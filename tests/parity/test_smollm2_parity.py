"""pytest tests/parity/test_smollm2_parity.py: a real pretrained model next to transformers, and its adapters in PEFT.

Fetches SmolLM2 if it is not in the cache. `python -m benchmarks.smollm2` prints the same checks with more prompts.
"""

import pytest

for library in ("torch", "transformers", "peft", "gguf"):
    pytest.importorskip(library)

from benchmarks import smollm2_checks as checks  # noqa: E402
from minilora.train import catalog  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.host,
    pytest.mark.download,
    pytest.mark.filterwarnings("default"),  # theirs are not ours to mend
]


@pytest.fixture(autouse=True, scope="module")
def smollm2():
    catalog.get(checks.NAME)


def test_equal(tmp_path):
    report = checks.equal(tmp_path, prompts=2, length=200)
    assert report["transformers"].keys() == {"saved", "gguf"}
    for source, row in report["transformers"].items():
        assert row["weights_equal"], source
        assert row["texts"] == 2 and row["differing"] == [], source
        assert row["answers"] <= checks.GOAL and row["long"] <= checks.GOAL, source
    assert checks.ANSWER in report["answer"]


@pytest.mark.parametrize("kind", ["LoRA", "QLoRA"])
def test_adapters_open_on_both_sides(tmp_path, kind):
    rows = list(checks.out_again(tmp_path, [kind]))
    assert [row["to"] for row in rows] == ["PEFT", "transformers", "minilora"]
    for row in rows:
        assert row["moved"] > 1000 * checks.GOAL, row  # an adapter that does nothing would be equal, too
        assert row["distance"] <= checks.GOAL, row
