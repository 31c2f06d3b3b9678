"""Published figures beside the planner's."""

from minilora.peft.method import Options
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS
from minilora.show.grids import Grid, show_bytes


def published() -> list[tuple[str, str, float, float]]:
    """Return rows of (figure, source, published bytes, planned bytes).

    QLoRA's totals are for one sequence of 512 tokens, rank 64 on all linears, double quantization and checkpointing
    (Dettmers et al. 2023, figure 6); LoRA's checkpoint is of rank 4 on queries and values of GPT-3 (Hu et al. 2021,
    section 4.2). The planned size is 36.0 times 2^20 bytes, so the paper's 35 MB may be in such units.
    """
    qlora, rows = Options(rank=64, double_quantization=True), []
    for name, gigabytes in (("7b", 6.9), ("13b", 11.3), ("33b", 24.7), ("65b", 45.0)):
        planned = make_plan(PRESETS[f"llama-{name}"], "qlora", qlora).least
        rows.append((f"LLaMA-{name.upper()}, QLoRA, a step", "QLoRA, figure 6", gigabytes * 1e9, planned))
    gpt_3 = PRESETS["gpt-3-175b"]
    lora = make_plan(gpt_3, "lora", qlora.with_(rank=4, targets=["q_proj", "v_proj"])).saved_bytes
    full = make_plan(gpt_3, "full").saved_bytes
    rows.append(("GPT-3, full, a checkpoint", "LoRA, section 4.2", 350e9, full))
    return [*rows, ("GPT-3, LoRA on q and v, a checkpoint", "LoRA, section 4.2", 35e6, lora)]


def grid() -> Grid:
    """Tabulate published and planned bytes."""
    rows = [
        (what, source, show_bytes(bytes_published), show_bytes(planned), f"{planned / bytes_published - 1:+.1%}")
        for what, source, bytes_published, planned in published()
    ]
    header = ("what", "source", "published", "planned", "difference")
    return Grid("Memory and files", header, rows, "GB are 10⁹ bytes.")
