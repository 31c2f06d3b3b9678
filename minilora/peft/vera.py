"""VeRA: a frozen linear map learns by scaling a random update of low rank (Kopiczko et al. 2024, sections 3.1 to 3.3).

    y = base(x) + b ⊙ (B (d ⊙ (A x)))        A (r, in) and B (out, r) random, frozen; d (r,) and b (out,) trained

    sharing     one A and one B for all layers, as wide as the widest and as tall as the tallest; each layer uses the
                corner of its size
    start       A and B uniform in ±√(6 / columns), d = d_initial, b zero: the adapted model begins as the base, bit for
                bit. (With d zero too, neither would ever get a gradient.)
    parameters  r + out per layer: 4,352 at 4096 × 4096, r = 256, while LoRA of that rank trains 2,097,152
    merging     W + diag(b) B diag(d) A is a plain weight of W's shape

A and B do not train, but they are saved: from the same seed, PyTorch's generator draws other numbers than NumPy's.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from minilora import functional as F
from minilora import nn
from minilora.backend import asarray, xp
from minilora.fields import number, whole
from minilora.peft.config import AdapterLayer, TargetedConfig, with_weight
from minilora.peft.lora_methods import LORA, LoraConfig, planned_linears
from minilora.peft.method import Counts, Option, Trainable, register
from minilora.tensor import Tensor


@dataclass
class VeraConfig(TargetedConfig):
    """The modules that VeRA adapts and its settings, with PEFT's names and defaults."""

    r: int = whole(256, least=1)  # rank of the update
    d_initial: float = number(0.1, other_than=0)  # where d starts
    projection_prng_key: int = whole(0)  # seed of A and B

    peft_type: ClassVar[str] = "VERA"
    means_off: ClassVar[dict] = {"bias": ("none",), "init_weights": (True,), "save_projection": (True,)}
    defaults: ClassVar[dict[str, list[str]]] = LoraConfig.defaults

    def complete(self, model: nn.Module) -> None:
        super().complete(model)
        layers: list[Any] = [model.get_submodule(path) for path in self.targets(model)]
        widest, tallest = max(layer.in_features for layer in layers), max(layer.out_features for layer in layers)
        self.shared_shapes: dict[str, tuple[int, ...]] = {"vera_A": (self.r, widest), "vera_B": (tallest, self.r)}
        self.shared: dict[str, Tensor] = {}  # created for the first layer, then used by all

    def shapes(self, module: nn.Linear) -> dict[str, tuple[int, ...]]:
        return {"vera_lambda_b": (module.out_features,), "vera_lambda_d": (self.r,)} | self.shared_shapes

    def file_name(self, path: str, name: str) -> str:
        return f"base_model.{name}" if name in self.shared_shapes else super().file_name(path, name)

    def adapt(self, module: nn.Linear, rng: np.random.Generator) -> "VeraLinear":
        if not self.shared:
            rng = np.random.default_rng(self.projection_prng_key)
            for name, shape in self.shared_shapes.items():
                bound = sqrt(6 / shape[1])
                self.shared[name] = Tensor(asarray(rng.uniform(-bound, bound, shape).astype("float32")))
        return VeraLinear(module, self.d_initial, **self.shared)


class VeraLinear(AdapterLayer):
    """A Linear (in -> out) and its update. All layers share vera_A (r, ≥ in) and vera_B (≥ out, r), both frozen."""

    def __init__(self, base_layer: nn.Linear, d_initial: float, vera_A: Tensor, vera_B: Tensor):
        self.base_layer = base_layer
        self.vera_A, self.vera_B = vera_A, vera_B
        self.vera_lambda_b = nn.Parameter(xp.zeros(base_layer.out_features, dtype=base_layer.dtype))
        self.vera_lambda_d = nn.Parameter(xp.full(vera_A.shape[0], d_initial, dtype=base_layer.dtype))

    def adapter_parameters(self) -> dict[str, Tensor]:
        return {"vera_lambda_b": self.vera_lambda_b, "vera_lambda_d": self.vera_lambda_d}

    def saved_parameters(self) -> dict[str, Tensor]:
        return self.adapter_parameters() | {"vera_A": self.vera_A, "vera_B": self.vera_B}

    def neutral(self) -> dict[str, float]:
        return {"vera_lambda_b": 0.0}

    def corners(self) -> tuple[Tensor, Tensor]:
        """Return this layer's A (r, in) and B (out, r)."""
        return self.vera_A[:, : self.base_layer.in_features], self.vera_B[: self.base_layer.out_features]

    def forward(self, x: Tensor) -> Tensor:
        A, B = self.corners()
        return self.base_layer(x) + F.linear(F.linear(x, A) * self.vera_lambda_d, B) * self.vera_lambda_b

    def merged(self) -> nn.Linear:
        A, B = self.corners()
        update = (self.vera_lambda_b.data[:, None] * B.data * self.vera_lambda_d.data) @ A.data  # (out, in)
        return with_weight(self.base_layer, self.base_layer.weight.data + update)


def plan(shape: Any, options: Any) -> Trainable:
    sizes, r = planned_linears(shape, options.targets), options.vera_rank
    numbers = {name: r + out for name, (_, out) in sizes.items()}
    return Trainable(
        Counts(block=sum(numbers.values()), down=numbers.get("down_proj", 0)),
        factors=frozenset(sizes),
        inner=frozenset(sizes),
        rank=r,
        frozen=r * (max(i for i, _ in sizes.values()) + max(out for _, out in sizes.values())),
    )


register(
    name="vera",
    label="VeRA",
    description="scales of one random update that all layers share",
    family="low rank",
    marker="x",
    linestyle=(0, (1, 3)),
    lr=1e-1,
    large_lr=3e-2,
    config=VeraConfig,
    settings=lambda options, tokens: {"r": options.vera_rank, "target_modules": options.targets},
    options={"vera_rank": Option(whole(256, least=1), "rank of VeRA's random update", int)}
    | {"targets": LORA["targets"]},
    plan=plan,
)
