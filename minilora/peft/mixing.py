"""Sums of adapters: one new LoRA update from several that were trained on one base, without training (task arithmetic,
Ilharco et al. 2023, "Editing models with task arithmetic", section 3).

    W + Σ wᵢ · sᵢ Bᵢ Aᵢ     Aᵢ (rᵢ, in), Bᵢ (out, rᵢ), sᵢ the scaling of adapter i, wᵢ any weight, negative ones too

    A = [w₁s₁ A₁; w₂s₂ A₂; …], B = [B₁, B₂, …]      the sum, exactly: ranks add up

It is "cat" of PEFT's `add_weighted_adapter`, of which λ (`PeftModel.set_strength`) is the case of one adapter. The new
update has a scaling of 1; where a module is adapted by some of them only, these are summed.
"""

from typing import Any

from minilora import nn
from minilora.backend import xp
from minilora.errors import MiniloraError, escape
from minilora.fields import is_number
from minilora.ops import number
from minilora.peft.config import changed
from minilora.peft.lora import LoraConfig, LoraLinear
from minilora.peft.sites import Adapter, build


def weighted_sum(model: nn.Module, adapters: list[Adapter], weights: list[float], name: str) -> Adapter:
    """The sum as a new adapter of the plain `model`, which does not train. Raises MiniloraError for what has no sum."""
    if not adapters:
        raise MiniloraError("a sum needs at least one adapter")
    if len(weights) != len(adapters):
        raise MiniloraError(f"{len(adapters)} adapters need as many weights, not {len(weights)}")
    weights = [checked_number("the weight of an adapter", weight) for weight in weights]
    for adapter in adapters:
        if objection := _objection(adapter):
            raise MiniloraError(f"only LoRA's updates are summed, and {escape(repr(adapter.name))} {objection}")
    configs: list[Any] = [adapter.config for adapter in adapters]
    layers: dict[str, list[tuple[LoraLinear, float]]] = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        for site in adapter.sites:
            layers.setdefault(site.path, []).append((site.adapted, weight))
    paths = [path for path, _ in model.named_modules() if path in layers]
    rank = sum(max(site.adapted.lora_A.out_features for site in adapter.sites) for adapter in adapters)
    plain = {"use_rslora": False, "init_lora_weights": True, "rank_pattern": {}, "alpha_pattern": {}}
    plain |= {"layers_to_transform": None}
    config = changed(configs[0], r=rank, lora_alpha=rank, target_modules=paths, **plain)  # a scaling of 1
    total = build(model, config, name, (paths, []), lambda own, module: own.restore(module))
    for site in total.sites:
        scaled = [layer.lora_A.weight.data * (weight * layer.scaling) for layer, weight in layers[site.path]]
        A, B = site.adapted.lora_A.weight, site.adapted.lora_B.weight
        A.data, B.data = xp.zeros_like(A.data), xp.zeros_like(B.data)  # of what the module's own ranks do not reach
        own = sum(map(len, scaled))
        A.data[:own] = xp.concatenate(scaled)
        B.data[:, :own] = xp.concatenate([layer.lora_B.weight.data for layer, _ in layers[site.path]], axis=1)
    total.trains = False
    return total


def _objection(adapter: Adapter) -> str:
    """Say what an adapter has that is no plain low-rank update; "" if nothing."""
    config, whole = adapter.config, [site.path for site in adapter.sites if site.is_whole]
    if not isinstance(config, LoraConfig):
        return f"is of type {config.peft_type}"
    if config.use_dora:
        return "is DoRA, whose rows have lengths of their own"
    if config.is_pissa:
        return "is PiSSA, on a base of its own"
    return f"has trained {escape(', '.join(whole))} whole" if whole else ""


def checked_number(what: str, value: Any) -> Any:
    """The value, as a Python number. MiniloraError if it is not a finite number."""
    if not is_number(value := number(value)):
        raise MiniloraError(f"{what} must be a number, such as 0.7, not {escape(repr(value))}")
    return value
