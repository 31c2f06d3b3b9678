"""What LoRA's configuration must satisfy on a model, and how PEFT's files hold it."""

import re
from math import sqrt
from typing import Any, ClassVar, Self

from minilora import nn
from minilora.errors import MiniloraError, did_you_mean, escape
from minilora.fields import checked, kind_of
from minilora.peft.config import AdapterLayer, NamedTargets, changed, few, tied
from minilora.peft.patterns import pattern_problems, target_problems, value_at
from minilora.peft.pissa import principal_start

START_WORDS = "gaussian|pissa(_niter_[0-9]{1,3})?"
STARTS = "gaussian", "pissa", "pissa_niter_4"


def lora_start(default: bool | str) -> Any:
    """A field for how A and B start: True, False, "gaussian", "pissa" (the principal part of the weight), or
    "pissa_niter_4" (the same by a randomized SVD of 4 iterations).
    """
    return checked(
        default,
        "True, False, 'gaussian', 'pissa' or such as 'pissa_niter_4'",
        lambda v: type(v) is bool or (isinstance(v, str) and re.fullmatch(START_WORDS, v) is not None),
        hint=lambda value: did_you_mean(value, STARTS, before="; "),
    )


def pattern() -> Any:
    """A field for values that some modules have of their own, by name."""
    return checked({}, "a dictionary from names", lambda v: isinstance(v, dict) and all(isinstance(n, str) for n in v))


class LoraRules(NamedTargets):
    """A base for LoraConfig, which has the fields."""

    r: int
    lora_alpha: float
    use_rslora: bool
    use_dora: bool
    init_lora_weights: bool | str
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    scaling: Any

    peft_type: ClassVar[str] = "LORA"
    unused: ClassVar[frozenset[str]] = NamedTargets.unused | {"megatron_core", "qalora_group_size"}
    means_off: ClassVar[dict[str, tuple]] = {"bias": ("none",)}
    # As PEFT has it. Spreading a budget over queries and values is best in table 5; GPT-2 computes both, and keys, by
    # one layer.
    defaults: ClassVar[dict[str, list[str]]] = {"llama": ["q_proj", "v_proj"], "gpt2": ["c_attn"]}

    def __post_init__(self):
        self.rank_pattern = {} if self.rank_pattern is None else self.rank_pattern
        self.alpha_pattern = {} if self.alpha_pattern is None else self.alpha_pattern
        super().__post_init__()

    def problems(self) -> list[str]:
        found = super().problems()
        found += pattern_problems("rank_pattern", self.rank_pattern, kind_of(self, "r"))
        return found + pattern_problems("alpha_pattern", self.alpha_pattern, kind_of(self, "lora_alpha"))

    @property
    def is_pissa(self) -> bool:
        """Whether A and B start at the principal part of the weight."""
        return str(self.init_lora_weights).startswith("pissa")

    @property
    def pissa_iterations(self) -> int | None:
        """Of the randomized SVD; None for the exact one."""
        iterations = str(self.init_lora_weights).partition("_niter_")[2]
        return int(iterations) if iterations else None

    # On a model

    def targets(self, model: nn.Module) -> list[str]:
        paths = super().targets(model)
        problems = target_problems("rank_pattern", self.rank_pattern, paths)
        problems += target_problems("alpha_pattern", self.alpha_pattern, paths)
        if self.is_pissa:  # PEFT takes the principal part out of both, and computes something else
            problems += [f"PiSSA would change what shares its weight with {path}" for path in tied(model, paths)]
        if problems:
            raise MiniloraError(few(problems))
        return paths

    def at(self, path: str) -> Self:
        r, alpha = value_at(path, self.rank_pattern, self.r), value_at(path, self.alpha_pattern, self.lora_alpha)
        return changed(self, r=r, lora_alpha=alpha, rank_pattern={}, alpha_pattern={})

    def check(self, path: str, module: nn.Linear) -> list[str]:
        problems = []
        width = min(module.in_features, module.out_features)
        if self.r > width:
            sizes = f"{module.in_features} to {module.out_features}"
            problems.append(f"r = {self.r} is above the width {width} of {path} ({sizes})")
        if self.use_dora and not bool((abs(module.weight.data).sum(axis=1) > 0).all()):
            problems.append(f"{path} has a row of zeros or NaN: DoRA finds no direction in it")
        return problems

    def base_of(self, module: nn.Linear) -> nn.Linear:
        return principal_start(module, self)[0] if self.is_pissa else module

    # In files

    def shapes(self, module: nn.Linear) -> dict[str, tuple[int, ...]]:
        shapes = {"lora_A.weight": (self.r, module.in_features), "lora_B.weight": (module.out_features, self.r)}
        return shapes | ({"lora_magnitude_vector": (module.out_features,)} if self.use_dora else {})

    def as_saved(self, layers: dict[str, AdapterLayer]) -> "LoraRules":
        """After a randomized SVD, plain LoRA of twice the rank and the same scaling: see `pissa.py`."""
        if self.pissa_iterations is None:
            return self
        factor = sqrt(2) if self.use_rslora else 2
        return changed(
            self,
            r=2 * self.r,
            lora_alpha=factor * self.lora_alpha,
            init_lora_weights=True,
            rank_pattern={name: 2 * r for name, r in self.rank_pattern.items()},
            alpha_pattern={name: factor * alpha for name, alpha in self.alpha_pattern.items()},
        )

    @classmethod
    def from_dict(cls, content: dict) -> Self:
        start = content.get("init_lora_weights")
        if isinstance(start, str) and start.startswith("pissa_niter_"):
            raise MiniloraError(
                f"init_lora_weights is {escape(repr(start))}: the base of such an adapter depends on random numbers "
                "that the file does not hold; save it from PEFT with path_initial_model_for_weight_conversion"
            )
        return super().from_dict(content)
