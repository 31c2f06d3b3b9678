"""Sums of adapters: one new LoRA update from several that were trained on one base, without training (task arithmetic,
Ilharco et al. 2023, "Editing models with task arithmetic", section 3).

    W + Σ wᵢ · sᵢ Bᵢ Aᵢ     Aᵢ (rᵢ, in), Bᵢ (out, rᵢ), sᵢ the scaling of adapter i, wᵢ any weight, negative ones too

    A = [w₁s₁ A₁; w₂s₂ A₂; …], B = [B₁, B₂, …]      the sum, exactly: ranks add up

It is "cat" of PEFT's `add_weighted_adapter`, of which λ (`PeftModel.set_strength`) is the case of one adapter. The new
update has a scaling of 1; where a module is adapted by some of them only, these are summed.
"""

from collections.abc import Iterable
from typing import Any

from minilora.backend import xp
from minilora.errors import MiniloraError, escape
from minilora.fields import is_number
from minilora.ops import number
from minilora.peft.config import changed
from minilora.peft.lora import LoraConfig, LoraLinear
from minilora.peft.sites import Adapter


def weighted_sum(
    adapters: list[Adapter], weights: list[float], order: Iterable[str]
) -> tuple[LoraConfig, dict[str, tuple[Any, Any]]]:
    """The configuration of the sum, and {path: (A, B)}, new arrays.

    order: the paths of the model. Raises MiniloraError for what cannot be summed.
    """
    if not adapters:
        raise MiniloraError("a sum needs at least one adapter")
    if len(weights) != len(adapters):
        raise MiniloraError(f"{len(adapters)} adapters need as many weights, not {len(weights)}")
    weights = [checked_number("the weight of an adapter", weight) for weight in weights]
    configs = [_checked_config(adapter) for adapter in adapters]
    layers: dict[str, list[tuple[LoraLinear, float]]] = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        for site in adapter.sites:
            layers.setdefault(site.path, []).append((site.adapted, weight))
    rank = sum(max(site.adapted.lora_A.out_features for site in adapter.sites) for adapter in adapters)
    factors = {path: _sum(layers[path], rank) for path in order if path in layers}
    first = configs[0]
    config = changed(
        first,
        r=rank,
        lora_alpha=rank,  # a scaling of 1
        target_modules=first.target_modules
        if all(config.target_modules == first.target_modules for config in configs)
        else list(factors),
        **{"use_rslora": False, "init_lora_weights": True, "rank_pattern": {}, "alpha_pattern": {}},
    )
    return config, factors


def _sum(layers: list[tuple[LoraLinear, float]], rank: int) -> tuple[Any, Any]:
    """A (rank, in) and B (out, rank) of the sum; zeros fill what the layers' own ranks do not reach."""
    a = xp.concatenate([layer.lora_A.weight.data * (weight * layer.scaling) for layer, weight in layers])
    b = xp.concatenate([layer.lora_B.weight.data for layer, _ in layers], axis=1)
    if missing := rank - len(a):
        a = xp.concatenate([a, xp.zeros((missing, a.shape[1]), dtype=a.dtype)])
        b = xp.concatenate([b, xp.zeros((b.shape[0], missing), dtype=b.dtype)], axis=1)
    return a, b


def _checked_config(adapter: Adapter) -> LoraConfig:
    """The adapter's configuration. MiniloraError if it has no plain low-rank update."""
    config, name = adapter.config, repr(adapter.name)
    if not isinstance(config, LoraConfig):
        raise MiniloraError(f"only LoRA's updates are summed, and {name} is of type {config.peft_type}")
    if config.use_dora or config.is_pissa:
        kind = "DoRA, whose rows have lengths of their own" if config.use_dora else "PiSSA, on a base of its own"
        raise MiniloraError(f"only LoRA's updates are summed, and {name} is {kind}")
    if whole := [site.path for site in adapter.sites if site.is_whole]:
        raise MiniloraError(
            f"only low-rank updates are summed, and {name} has trained {escape(', '.join(whole))} whole"
        )
    return config


def checked_number(what: str, value: Any) -> Any:
    """The value, as a Python number. MiniloraError if it is not a finite number."""
    if not is_number(value := number(value)):
        raise MiniloraError(f"{what} must be a number, such as 0.7, not {escape(repr(value))}")
    return value
