"""LoRA: a frozen linear map learns through a low-rank update of its weight (Hu et al. 2021, section 4.1).

    y = x Wᵀ + b + s · B A x        W (out, in) and b (out,) frozen, A (r, in) and B (out, r) trained

    scaling     s = α / r; rank-stabilized, s = α / √r (Kalajdzievski 2023, section 3)
    start       A uniform in ±1/√in, B zero: the adapted model begins as the base, bit for bit. (With both zero, neither
                would ever get a gradient.)
    parameters  r · (in + out) a layer, where the layer itself has in · out: 65,536 and 16,777,216 at 4096 × 4096, r = 8
    dropout     on the input of A alone; the base never sees it
    merging     W + s · B A is a plain weight of W's shape: after it, the update costs nothing

Some texts write ΔW = A B with A (in, r) and B (r, out): the same product, transposed. Here and in PEFT's files, A comes
first in the computation and both are stored as the weights of linear layers.
"""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from .. import functional as F
from .. import nn
from ..backend import xp
from ..errors import MiniloraError, show
from ..tensor import Tensor
from .model import AdapterLayer, PeftConfig, is_list_of_names, linears_of_blocks, matching

DEFAULT_TARGETS = ["q_proj", "v_proj"]  # as PEFT has it for Llama; spreading a budget over both is best in table 5
FLOAT32_MAX = 3.4e38


@dataclass
class LoraConfig(PeftConfig):
    """What to adapt by LoRA and how, in PEFT's names and with its defaults."""

    r: int = 8  # rank of the update
    lora_alpha: float = 8  # the update is scaled by lora_alpha / r
    target_modules: list[str] | str | None = None  # names or paths, or "all-linear"; None: q_proj and v_proj
    lora_dropout: float = 0.0  # on the input of the update
    use_rslora: bool = False  # scale by lora_alpha / sqrt(r)

    peft_type: ClassVar[str] = "LORA"
    unused: ClassVar[frozenset[str]] = PeftConfig.unused | {"megatron_core", "qalora_group_size"}
    means_off: ClassVar[dict] = {"bias": ("none",), "init_lora_weights": (True, False, "gaussian")}

    def __post_init__(self):
        if isinstance(self.target_modules, (set, tuple)):
            self.target_modules = sorted(self.target_modules)
        super().__post_init__()

    def problems(self) -> list[str]:
        found = super().problems()
        if type(self.r) is not int or self.r < 1:
            found.append(f"r must be a whole number of at least 1, not {show(repr(self.r))}")
        if type(self.lora_alpha) not in (int, float) or not 0 < self.lora_alpha < FLOAT32_MAX:
            found.append(f"lora_alpha must be a positive number, not {show(repr(self.lora_alpha))}")
        if type(self.lora_dropout) not in (int, float) or not 0 <= self.lora_dropout < 1:
            found.append(f"lora_dropout must be at least 0 and below 1, not {show(repr(self.lora_dropout))}")
        if type(self.use_rslora) is not bool:
            found.append(f"use_rslora must be True or False, not {show(repr(self.use_rslora))}")
        names = self.target_modules
        if isinstance(names, list | str) and not names:
            found.append("target_modules is empty: name at least one layer")
        elif names is not None and not isinstance(names, str) and not is_list_of_names(names):
            found.append(f"target_modules must be names, not {show(repr(names))}")
        return found

    @property
    def scaling(self) -> float:
        """s, by which the update is multiplied."""
        return self.lora_alpha / (sqrt(self.r) if self.use_rslora else self.r)

    def targets(self, model: nn.Module) -> list[str]:
        if self.target_modules == "all-linear":
            return linears_of_blocks(model)
        names = DEFAULT_TARGETS if self.target_modules is None else self.target_modules
        return matching(model, [names] if isinstance(names, str) else names, "target_modules", nn.Linear)

    def check(self, path: str, module: nn.Linear) -> list[str]:
        width = min(module.in_features, module.out_features)
        if self.r <= width:
            return []
        return [f"r = {self.r} is above the width {width} of {path} ({module.in_features} to {module.out_features})"]

    def shapes(self, module: nn.Linear) -> dict[str, tuple[int, ...]]:
        return {"lora_A.weight": (self.r, module.in_features), "lora_B.weight": (module.out_features, self.r)}

    def adapt(self, module: nn.Linear, rng) -> "LoraLinear":
        return LoraLinear.from_linear(module, self, rng)

    def to_dict(self, targets: list[str]) -> dict:
        if self.target_modules == "all-linear":
            names = targets
        else:
            names = DEFAULT_TARGETS if self.target_modules is None else self.target_modules
        return super().to_dict(targets) | {"target_modules": [names] if isinstance(names, str) else list(names)}

    @classmethod
    def from_dict(cls, content: dict) -> "LoraConfig":
        names = content.get("target_modules")
        if isinstance(names, str) and names != "all-linear":  # PEFT reads a lone string as a pattern
            raise MiniloraError(
                f"target_modules is the regular expression {show(repr(names))}; a list of names is needed"
            )
        return super().from_dict(content)


class LoraLinear(AdapterLayer):
    """A Linear and its low-rank update.

    base_layer: nn.Linear (in -> out); lora_A: nn.Linear (in -> r) and lora_B: nn.Linear (r -> out), without bias;
    scaling: s. `from_linear` and `merged` lead from a plain Linear to this layer and back to one.
    """

    def __init__(
        self, base_layer: nn.Linear, lora_A: nn.Linear, lora_B: nn.Linear, scaling: float, lora_dropout: nn.Dropout
    ):
        self.base_layer = base_layer
        self.lora_A = lora_A
        self.lora_B = lora_B
        self.scaling = scaling
        self.lora_dropout = lora_dropout

    @classmethod
    def from_linear(cls, linear: nn.Linear, config: LoraConfig, rng) -> "LoraLinear":
        """A fresh update of rank config.r on `linear`. rng: a NumPy Generator."""
        dtype = linear.weight.dtype
        down = nn.Linear(linear.in_features, config.r, bias=False, rng=rng)  # starts uniform in ±1/sqrt(in)
        down.weight.data = down.weight.data.astype(dtype)
        up = nn.Linear.from_arrays(xp.zeros((linear.out_features, config.r), dtype=dtype))
        seed = int(rng.spawn(1)[0].integers(2**63))  # a stream of its own: A is the same with and without dropout
        return cls(linear, down, up, config.scaling, nn.Dropout(config.lora_dropout, seed))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.lora_dropout.p:
            return self.base_layer(x) + self.lora_B(self.lora_A(self.lora_dropout(x))) * self.scaling
        base = self.base_layer
        return F.low_rank_linear(x, base.weight, base.bias, self.lora_A.weight, self.lora_B.weight, self.scaling)

    def merged(self) -> nn.Linear:
        """A Linear with the weight W + s B A."""
        update = (self.lora_B.weight.data * self.scaling) @ self.lora_A.weight.data  # (out, in)
        update += self.base_layer.weight.data
        linear = nn.Linear.from_arrays(update)
        linear.bias = self.base_layer.bias
        return linear

    def extra_repr(self) -> str:
        return f"r={self.lora_A.out_features}, scaling={self.scaling:g}"
