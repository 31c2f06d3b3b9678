"""pytest tests/experiments/test_asserted.py: no sentence written by hand asserts a difference that is undecided."""

import re

import pytest

from experiments.results import founding, page
from experiments.results.ledger import LARGE, SIZES, SMALL, Ledger

pytestmark = pytest.mark.host
TEXTS = [page.ROOT / "README.md", page.ROOT / "docs" / "claims.md", *sorted(page.ROOT.glob("lessons/*/README.md"))]
MODELS = {SMALL: r"(small|package's|course's|this|the)( small)? base|2\.8 million", LARGE: r"SmolLM2|135 M"}
HEDGED = r"undecided|not tell|told apart|not shown|one seed|no verdict|not measured|et al|paper|\?"
MORE = r"\b(more|less|fewer|better|worse|ahead|behind|as (much|good|well)|near|level|match\w*|equal\w*|far)\b"
ASSERTED = {  # claim of the ledger: words of a sentence that would assert it, or its opposite
    "LoRA on all linears is near full": rf"\bLoRA\b.*{MORE}.*\bfull",
    "LoRA on q and v is near full": rf"\bq and v\b.*{MORE}.*\bfull",
    "adapters are near full": rf"\b[Aa]dapters\b.*{MORE}.*\bfull",
    "LoRA learns less than full": rf"\bLoRA\b.* (learn|gain)(s|ed)? .*{MORE}",
    "LoRA forgets less, each at its best rate": rf"best rate.*\bLoRA\b.* forg\w+ {MORE}",
    "LoRA forgets less where both learned as much": rf"have learned.*\bLoRA\b.* forg\w+ {MORE}",
    "at the same KL, LoRA on all linears forgets as full": rf"same KL.*\bLoRA\b.* forg\w+ {MORE}",
    "QLoRA is near LoRA": rf"\bQLoRA\b.*{MORE}.*\bLoRA\b",
    "NF4 + DQ harms less than FP4": rf"\bNF4\b.*{MORE}.*\bFP4\b",
    "FP4 harms less than INT4": rf"\bFP4\b.*{MORE}.*\bINT4\b|\bINT4\b.*{MORE}.*\bFP4\b",
    "GPTQ harms less than rounding": rf"\bGPTQ\b.*{MORE}",
    "a pretrained start is ahead at 32 labels": rf"{MORE}.*\b32 labels",
    "LoRA has more intruders than full": r"\b(more|fewer) intruders",
    "the MLP's matrices learn more": rf"\bMLP\b.* (learn|gain)\w* {MORE}",
} | {f"{row} is level with LoRA": rf"{re.escape(row)}.*{MORE}.*\bLoRA\b" for row in ("LoRA+", "DoRA", "PiSSA", "VeRA")}


def asserted(text: str, verdicts: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    """Return (claim, sentence) if it is undecided on a model that the sentence, or else its paragraph, is about."""
    plain = re.sub(r"^( {4}|#).*$", "", page.MARKED.sub("", text), flags=re.MULTILINE)  # no code, no heading
    violations = []
    for paragraph in re.split(r"\n\s*\n|\n(?=[-|*])", plain.replace("et al.", "et al")):
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
            sizes = [[size for size in SIZES if re.search(MODELS[size], part)] for part in (sentence, paragraph)]
            about = sizes[0] or sizes[1] or SIZES
            matches = [claim for claim, words in ASSERTED.items() if re.search(words, sentence)]
            undecided = [claim for claim in matches if "undecided" in map(verdicts[claim].get, about)]
            violations += [(claim, sentence) for claim in undecided if not re.search(HEDGED, sentence)]
    return violations


def test_no_sentence_asserts_what_is_undecided():
    results = founding.Founding(page.ROOT / page.RECORDS).results
    lines = Ledger(page.measured_studies(), page.measured_studies(model=page.LARGE), results).lines
    verdicts = {line.claim: {size: line.verdict(size) for size in line.measured} for line in lines}
    assert verdicts.keys() >= ASSERTED.keys()
    assert {
        path.parent.name: violations for path in TEXTS if (violations := asserted(path.read_text("utf-8"), verdicts))
    } == {}


def test_a_planted_sentence_is_seen():
    verdicts = dict.fromkeys(ASSERTED, {SMALL: "shown", LARGE: "undecided"})
    assert asserted("LoRA learns less than full.", verdicts) and asserted("On SmolLM2 LoRA is\nnear full.", verdicts)
    fine = "On the small base, LoRA learns less than full. On SmolLM2 it is undecided if LoRA learns less than full."
    assert not asserted(fine, verdicts)
