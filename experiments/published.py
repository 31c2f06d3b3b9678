"""Figures from papers, and what the planner says of each."""

from dataclasses import dataclass

from minilora.peft.method import Options
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS


@dataclass(frozen=True)
class Published:
    """A figure from a paper and what the planner says of it, in bytes."""

    what: str
    source: str
    published: float
    planned: float

    @property
    def error(self) -> float:
        """Relative to the published figure."""
        return self.planned / self.published - 1


def published() -> list[Published]:
    """Published figures beside the planner's.

    QLoRA's totals are for one sequence of 512 tokens, rank 64 on all linears, double quantization and checkpointing
    (Dettmers et al. 2023, figure 6); LoRA's checkpoint is of rank 4 on queries and values of GPT-3 (Hu et al. 2021,
    section 4.2), its 35 MB are 36.0 of 2^20 bytes.
    """
    qlora = Options(rank=64, double_quantization=True)
    rows = []
    for name, gigabytes in (("7b", 6.9), ("13b", 11.3), ("33b", 24.7), ("65b", 45.0)):
        found = make_plan(PRESETS[f"llama-{name}"], "qlora", qlora)
        rows.append(Published(f"LLaMA-{name.upper()}, QLoRA, a step", "QLoRA, figure 6", gigabytes * 1e9, found.least))
    gpt_3 = PRESETS["gpt-3-175b"]
    lora = make_plan(gpt_3, "lora", qlora.with_(rank=4, targets=["q_proj", "v_proj"]))
    full = make_plan(gpt_3, "full")
    return [
        *rows,
        Published("GPT-3, full, a checkpoint", "LoRA, section 4.2", 350e9, full.saved_bytes),
        Published("GPT-3, LoRA on q and v, a checkpoint", "LoRA, section 4.2", 35e6, lora.saved_bytes),
    ]
