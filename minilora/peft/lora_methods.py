"""LoRA and its variants as methods: their options, their records and what the planner needs to know about them."""

from dataclasses import replace
from typing import Any

from minilora import nn
from minilora.errors import MiniloraError, unknown
from minilora.fields import checked, checked_value, choice, flag, number, whole
from minilora.palette import DARK_GREEN
from minilora.peft.config import is_list_of_names
from minilora.peft.lora import LoraConfig
from minilora.peft.method import Counts, Option, Trainable, register
from minilora.quant import BLOCKSIZE_FIELD, CODEBOOKS

TARGETS = checked("all-linear", "names", lambda value: isinstance(value, str) or is_list_of_names(value))
LORA = {
    "rank": Option(whole(8, least=1), "rank of LoRA's updates", int),
    "alpha": Option(number(None, above=0, optional=True), "LoRA's scale is alpha / rank", float, "twice the rank"),
    "dropout": Option(number(0.0, least=0, below=1), "dropout on LoRA's branch", float, "0"),
    "targets": Option(
        TARGETS,
        "modules that LoRA adapts, separated by commas: q_proj,v_proj",
        lambda text: text if text == "all-linear" else text.split(","),
    ),
}
FOUR_BIT = {
    "quant_type": Option(choice("nf4", *CODEBOOKS), f"codes of qlora's base: {', '.join(CODEBOOKS)}"),
    "blocksize": Option(BLOCKSIZE_FIELD, "weights that share a scale in qlora's base", int),
    "double_quantization": Option(flag(False), "also quantize the scales of qlora's base", bool),
}


def settings(options: Any, tokens: list[int]) -> dict[str, Any]:
    """Return the settings of LoRA itself."""
    return {
        "r": options.rank,
        "lora_alpha": 2 * options.rank if options.alpha is None else options.alpha,
        "target_modules": options.targets,
        "lora_dropout": options.dropout,
    }


def planned_linears(shape: Any, targets: str | list[str]) -> dict[str, tuple[int, int]]:
    """Return {name: (in, out)} of the adapted linears of a block. Raises MiniloraError for an unknown name."""
    if targets == "all-linear":
        return dict(shape.linears)
    names = [targets] if isinstance(targets, str) else targets
    for name in names:
        if name not in shape.linears:
            raise MiniloraError(f"targets: {unknown('linear layer of a block', name, shape.linears)}")
    return {name: shape.linears[name] for name in names}


def plan(shape: Any, options: Any) -> Trainable:
    """Plan A (r, in) and B (out, r) beside each target."""
    sizes = planned_linears(shape, options.targets)
    numbers = {name: options.rank * sum(size) for name, size in sizes.items()}
    return Trainable(
        Counts(block=sum(numbers.values()), down=numbers.get("down_proj", 0)),
        reads=frozenset(sizes),
        dropout=options.dropout > 0,
        rank=options.rank,
        adds_up=True,
    )


def plan_dora(shape: Any, options: Any) -> Trainable:
    """Plan LoRA plus one trained length per row of W, which multiplies the output."""
    lora, sizes = plan(shape, options), planned_linears(shape, options.targets)
    lengths = Counts(block=sum(out for _, out in sizes.values()), down=sizes.get("down_proj", (0, 0))[1])
    counts = Counts(block=lora.counts.block + lengths.block, down=lora.counts.down + lengths.down)
    return replace(lora, counts=counts, factors=lora.reads)


def plan_pissa(shape: Any, options: Any) -> Trainable:
    """Plan LoRA over layers that hold the rest of their weight and, to be able to unload, the whole weight as well."""
    lora = plan(shape, options)
    return replace(lora, copied=lora.reads)


def _lora(**record: Any) -> None:
    """Register LoRA or a variant of it. record: the fields that differ from LoRA's."""
    defaults = {"family": "low rank", "config": LoraConfig, "settings": settings, "plan": plan, "options": LORA}
    register(**defaults | record)


_lora(
    name="lora",
    label="LoRA",
    description="low-rank updates of frozen weights",
    lr=9e-3,
    large_lr=1e-3,
    marker="^",
    linestyle="--",
)
_lora(
    name="rslora",
    label="rsLoRA",
    description="LoRA scaled by alpha / sqrt(rank)",
    lr=3e-3,
    large_lr=9e-4,
    marker="1",
    linestyle=(0, (2, 2)),
    variant={"use_rslora": True},
)
_lora(
    name="lora-plus",
    label="LoRA+",
    description="LoRA whose B learns 16 times faster than A",
    lr=3e-3,
    large_lr=3e-4,
    marker="*",
    linestyle=(0, (6, 1)),
    lora_plus=16.0,
    other_names=("lora+",),
)
_lora(
    name="pissa",
    label="PiSSA",
    description="LoRA that starts from the weights' largest part",
    lr=3e-3,
    large_lr=9e-4,
    marker="8",
    linestyle=(0, (1, 1)),
    variant={"init_lora_weights": "pissa"},
    plan=plan_pissa,
)
_lora(
    name="dora",
    label="DoRA",
    description="LoRA, with the length of each row apart",
    lr=9e-3,
    large_lr=1.5e-3,
    marker="d",
    linestyle=(0, (4, 1, 1, 1)),
    variant={"use_dora": True},
    plan=plan_dora,
)
_lora(
    name="qlora",
    label="QLoRA",
    description="LoRA over a base in 4 bits",
    lr=9e-3,
    large_lr=1.5e-3,
    marker="H",
    linestyle="-.",
    color=DARK_GREEN,
    options=LORA | FOUR_BIT,
)


# LoRA+: B learns faster than A


def lora_plus_groups(model: nn.Module, lr: float, ratio: float = 16.0, weight_decay: float = 0.0) -> list[dict]:
    """Return parameter groups for an optimizer of `minilora.optim`: lr for every A and ratio · lr for every B.

    That is LoRA+ (Hayou et al. 2024, section 4, with their ratio λ, 16 by default). Other trainable parameters are
    grouped as in PEFT's create_loraplus_optimizer: vectors (biases, norms, DoRA's magnitudes) with B, matrices (a head
    in modules_to_save) with A; biases and the parameters of a LayerNorm are not decayed. The best lr is a little lower
    than without the ratio. Raises MiniloraError if no B trains, or if `ratio` is not a positive number.
    """
    ratio = checked_value("the ratio of LoRA+", ratio, number(None, above=0))
    live = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not any(_is_b(name) for name in live):
        raise MiniloraError("LoRA+ sets the learning rate of LoRA's B, but no lora_B trains in this model")
    norms = {id(p) for _, m in model.named_modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    groups: dict[tuple[float, float], list] = {}  # learning rate and weight decay -> parameters
    for name, p in live.items():
        is_fast = _is_b(name) or p.ndim == 1
        is_decayed = not is_fast or not (name.endswith("bias") or id(p) in norms)
        key = lr * ratio if is_fast else lr, weight_decay if is_decayed else 0.0
        groups.setdefault(key, []).append(p)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def _is_b(name: str) -> bool:
    return "lora_B" in name.split(".")
