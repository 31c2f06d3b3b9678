"""Sums of adapters: one new LoRA update from several that were trained on one base, without training (task arithmetic,
Ilharco et al. 2023, "Editing models with task arithmetic", section 3).

    W + Σ wᵢ · sᵢ Bᵢ Aᵢ     Aᵢ (rᵢ, in), Bᵢ (out, rᵢ), sᵢ the scaling of adapter i, wᵢ any weight, negative ones too

    cat      A = [w₁s₁ A₁; w₂s₂ A₂; …], B = [B₁, B₂, …]: the sum, exactly. Ranks add up.
    linear   A = Σ ±√|wᵢsᵢ| Aᵢ, B = Σ √|wᵢsᵢ| Bᵢ, with the sign of wᵢ. One rank, which all must have. B A holds products
             of each B with every other A as well, which no training has seen: a rough approximation.

Both are PEFT's `add_weighted_adapter`, of which λ (`PeftModel.set_strength`) is the case of one adapter. The new update
has a scaling of 1; where a module is adapted by some of them only, these are summed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any

from minilora import nn
from minilora.backend import xp
from minilora.errors import MiniloraError, escape, unknown
from minilora.fields import is_number
from minilora.ops import number
from minilora.peft.config import PeftConfig, changed
from minilora.peft.lora import LoraConfig, LoraLinear

COMBINATIONS = ("linear", "cat")


@dataclass
class Summand:
    """An adapter of a sum. layers: {path: what stands there}."""

    name: str
    config: PeftConfig
    layers: dict[str, nn.Module]
    weight: float

    @property
    def rank(self) -> int:
        """The largest of its layers' ranks."""
        return max(_rank(layer) for layer in self.layers.values())

    def problem(self) -> str | None:
        """What speaks against it, in words."""
        if not isinstance(self.config, LoraConfig):
            return f"only LoRA's updates are summed, and {self.name!r} is of type {self.config.peft_type}"
        if self.config.use_dora or self.config.is_pissa:
            kind = (
                "DoRA, whose rows have lengths of their own" if self.config.use_dora else "PiSSA, on a base of its own"
            )
            return f"only LoRA's updates are summed, and {self.name!r} is {kind}"
        if whole := [path for path, layer in self.layers.items() if not isinstance(layer, LoraLinear)]:
            return f"only low-rank updates are summed, and {self.name!r} has trained {escape(', '.join(whole))} whole"
        return None


def weighted_sum(parts: list[Summand], combination: str, order: Iterable[str]) -> tuple[LoraConfig, dict[str, Any]]:
    """The configuration of the sum, and {path: (A, B)}, new arrays.

    order: the paths of the model. Raises MiniloraError for what cannot be summed.
    """
    if combination not in COMBINATIONS:
        raise MiniloraError(unknown("combination_type", combination, COMBINATIONS))
    if not parts:
        raise MiniloraError("a sum needs at least one adapter")
    for part in parts:
        part.weight = checked_number("the weight of an adapter", part.weight)
        if problem := part.problem():
            raise MiniloraError(problem)
    paths = [path for path in order if any(path in part.layers for part in parts)]
    at = {path: [(part.layers[path], part.weight) for part in parts if path in part.layers] for path in paths}
    ranks = {part.name: part.rank for part in parts}
    uneven = [path for path, layers in at.items() if len({_rank(layer) for layer, _ in layers}) > 1]
    if combination == "linear" and (uneven or len(set(ranks.values())) > 1):
        words = ", ".join(f"{name!r} has {rank}" for name, rank in ranks.items())
        raise MiniloraError(f"'linear' sums adapters of one rank ({words}); combination_type='cat' takes any")
    rank = sum(part.rank for part in parts) if combination == "cat" else max(ranks.values())
    combine = _cat if combination == "cat" else _linear
    first: Any = parts[0].config
    targets = [part.config.target_modules for part in parts if isinstance(part.config, LoraConfig)]
    config = changed(
        first,
        r=rank,
        lora_alpha=rank,  # a scaling of 1
        target_modules=first.target_modules if all(names == targets[0] for names in targets) else paths,
        **{"use_rslora": False, "init_lora_weights": True, "rank_pattern": {}, "alpha_pattern": {}},
    )
    return config, {path: [_padded(f, rank, axis) for axis, f in enumerate(combine(at[path]))] for path in paths}


def checked_number(what: str, value: Any) -> Any:
    """The value, as a Python number; MiniloraError where it is no finite number."""
    if not is_number(value := number(value)):
        raise MiniloraError(f"{what} must be a number, such as 0.7, not {escape(repr(value))}")
    return value


def _cat(layers: list) -> tuple[Any, Any]:
    rows = [layer.lora_A.weight.data * (weight * layer.scaling) for layer, weight in layers]
    return xp.concatenate(rows), xp.concatenate([layer.lora_B.weight.data for layer, _ in layers], axis=1)


def _linear(layers: list) -> tuple[Any, Any]:
    factors = [(sqrt(abs(weight * layer.scaling)), -1 if weight < 0 else 1) for layer, weight in layers]
    a = sum(layer.lora_A.weight.data * (f * sign) for (layer, _), (f, sign) in zip(layers, factors, strict=True))
    return a, sum(layer.lora_B.weight.data * f for (layer, _), (f, _) in zip(layers, factors, strict=True))


def _padded(factor, rank: int, axis: int):
    """A or B with zeros up to the sum's rank, which its own may not reach where the ranks follow a pattern."""
    shape = list(factor.shape)
    shape[axis] = rank - shape[axis]
    return xp.concatenate([factor, xp.zeros(shape, dtype=factor.dtype)], axis=axis) if shape[axis] else factor


def _rank(layer: Any) -> int:
    return layer.lora_A.out_features
