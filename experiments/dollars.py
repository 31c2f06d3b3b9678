"""Hours and dollars of pretraining and fine-tuning, computed and published, and the trainings that fit one gaming GPU.

    python -m experiments.dollars

A step takes 6 floating-point operations for each weight and token (Kaplan et al. 2020, section 2.1): 2 forward, 2 for
the gradients of activations, 2 for those of weights. Adapters save the last 2 and checkpointing adds 2, so QLoRA with
checkpointing takes 6, too. PRICE and UTILIZATION are assumptions: change them to your own.
"""

from typing import NamedTuple

from minilora.peft import METHODS
from minilora.plan.activations import Step
from minilora.plan.planner import make_plan
from minilora.plan.shapes import PRESETS
from minilora.show.grids import Grid, drawn, render, show_size

PRICE = 2.0  # dollars per hour of an A100: our assumption, November 2026; offers range from half to twice that
UTILIZATION = 0.4  # of the peak below: our assumption; the published hours of LLaMA and Llama 2 imply 39 to 48 %
PEAK = {"A100": 312e12, "A40": 149.7e12}  # operations a second in 16 bits, by NVIDIA's data sheets


class Run(NamedTuple):
    """A training run: its model, its tokens, and its published hours if there are any."""

    name: str
    preset: str
    tokens: float
    per_weight: int = 6  # operations per weight and token
    published: float | None = None  # GPU hours
    gpu: str = "A100"

    @property
    def operations(self) -> float:
        return self.per_weight * PRESETS[self.preset].parameters * self.tokens

    @property
    def hours(self) -> float:
        return self.operations / (UTILIZATION * PEAK[self.gpu]) / 3600


RUNS = (
    Run("SmolLM2-135M", "smollm2", 2e12),
    Run("Llama 2 7B", "llama-2-7b", 2e12, published=184_320),
    Run("Llama 2 70B", "llama-2-70b", 2e12, published=1_720_320),
    Run("LLaMA-65B", "llama-65b", 1.4e12, published=1.4e12 / 380 / 3600),  # 380 tokens a second on each GPU
    # 1,875 steps of 16 sequences of at most 528 tokens, counted as if all had 528
    Run("QLoRA, LLaMA-65B (Guanaco)", "llama-65b", 1875 * 16 * 528, published=24, gpu="A40"),
    Run("LoRA, Llama 2 7B", "llama-2-7b", 3 * 10_000 * 500, per_weight=4),  # 10,000 examples of 500 tokens, three times
    Run("LoRA, SmolLM2 (film reviews)", "smollm2", 35_000, per_weight=4),  # our 60 steps
)


def grid() -> Grid:
    """Tabulate computed and published hours."""
    rows = []
    for run in RUNS:
        hours = run.published
        difference = "–" if hours is None else f"{run.hours / hours - 1:+.0%}".replace("-", "−").replace("%", " %")
        published = "–" if hours is None else show_hours(hours)
        dollars = PRICE * (run.hours if hours is None else hours)
        computed = (f"{run.tokens:.1e}", show_hours(run.hours))
        rows.append((run.name, *computed, published, difference, show_dollars(dollars)))
    header = ("training", "tokens", "GPU hours,\ncomputed", "hours,\npublished", "difference", "dollars")
    caption = (
        "The first four are pretraining. Computed: 6 operations (LoRA: 4) per weight and token, at "
        f"{100 * UTILIZATION:.0f} % of an A100's 312·10¹² a second in 16 bits (Guanaco: an A40's 149.7·10¹²). "
        f"Dollars: {PRICE:.0f} per hour (an assumption) times the published hours, or the computed ones if none are "
        "published. Published: Touvron et al. 2023 (Llama 2, table 2; LLaMA, section 2.4), Dettmers et al. 2023 "
        "(QLoRA, abstract)."
    )
    return Grid("Hours and dollars of pretraining and of fine-tuning", header, rows, caption)


def show_hours(hours: float) -> str:
    """Write hours with three digits, or seconds if there are few."""
    return (
        f"{float(f'{hours:.3g}'):,.0f}"
        if hours >= 9.5
        else f"{hours:.1f}"
        if hours >= 0.095
        else f"{3600 * hours:.2g} s"
    )


def show_dollars(dollars: float) -> str:
    return f"{float(f'{dollars:.2g}'):,.0f}" if dollars >= 9.5 else f"{dollars:.1f}" if dollars >= 0.05 else "under 0.1"


CARD, CARD_BYTES = "RTX 4090", 24e9  # a gaming GPU; the driver takes part of its 24 GiB


def one_gpu() -> Grid:
    """Plan a training step of models of 7 and 8 billion weights on one consumer GPU."""
    rows = []
    for preset in ("llama-2-7b", "llama-3-8b"):
        for method in ("full", "lora", "qlora"):
            plan = make_plan(PRESETS[preset], method, step=Step(1, 2048, 2, fused=True))
            peaks = (show_size(plan.memory.peak), show_size(plan.checkpointed.peak))
            rows.append((f"{preset}, {METHODS[method].label}", *peaks, plan.fits(CARD_BYTES)))
    header = ("training step", "peak", "peak with\ncheckpointing", f"fits {show_size(CARD_BYTES)}")
    caption = (
        "Computed by minilora plan, not measured on a GPU: one sequence of 2,048 tokens in 16 bits, AdamW in 32 bits, "
        "rank 8 on all linears."
    )
    return Grid(f"Which trainings fit one consumer GPU, an {CARD}?", header, rows, caption)


if __name__ == "__main__":
    for table in (grid(), one_gpu()):
        print(render(drawn(table)))
