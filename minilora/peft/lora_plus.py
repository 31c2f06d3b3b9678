"""LoRA+: B learns faster than A (Hayou et al. 2024, section 4: their ratio λ, 16 by default)."""

from minilora import nn
from minilora.errors import MiniloraError, escape
from minilora.fields import is_number
from minilora.ops import number


def lora_plus_groups(model: nn.Module, lr: float, ratio: float = 16.0, weight_decay: float = 0.0) -> list[dict]:
    """Parameter groups for an optimizer of `minilora.optim`: ratio · lr for every B, lr for every A.

    What else trains is grouped as PEFT's create_loraplus_optimizer has it: vectors (biases, norms, DoRA's magnitudes)
    with B, matrices (a head in modules_to_save) with A; biases and what is in a LayerNorm are not decayed. An optimal
    lr is a little lower than without the ratio. Raises MiniloraError where no B trains, or for a ratio that is not a
    positive number.
    """
    if not is_number(ratio := number(ratio)) or not ratio > 0:
        raise MiniloraError(f"the ratio of LoRA+ must be a positive number, such as 16, not {escape(repr(ratio))}")
    live = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not any(_is_b(name) for name in live):
        raise MiniloraError("LoRA+ sets the learning rate of LoRA's B, and no lora_B trains in this model")
    norms = {id(p) for _, m in model.named_modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    slow, fast, fast_undecayed = [], [], []
    for name, p in live.items():
        if not _is_b(name) and p.ndim != 1:
            slow.append(p)
        elif name.endswith("bias") or id(p) in norms:
            fast_undecayed.append(p)
        else:
            fast.append(p)
    groups = [
        {"params": slow, "lr": lr, "weight_decay": weight_decay},
        {"params": fast, "lr": lr * ratio, "weight_decay": weight_decay},
        {"params": fast_undecayed, "lr": lr * ratio, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _is_b(name: str) -> bool:
    return "lora_B" in name.split(".")
