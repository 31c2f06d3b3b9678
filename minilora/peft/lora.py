"""LoRA: a frozen linear map learns through a low-rank update of its weight (Hu et al. 2021, section 4.1).

    y = x Wᵀ + b + s · x (B A)ᵀ        W (out, in) and b (out,) frozen, A (r, in) and B (out, r) trained

    scaling     s = α / r; rank-stabilized, s = α / √r (Kalajdzievski 2023, section 3)
    start       A uniform in ±1/√in, B zero: the adapted model begins as the base, bit for bit. (With both zero, neither
                would ever get a gradient.)
    parameters  r · (in + out) a layer, where the layer itself has in · out: 65,536 and 16,777,216 at 4096 × 4096, r = 8
    dropout     on the input of A alone; the base never sees it
    merging     W + s · B A is a plain weight of W's shape: after it, the update costs nothing
    DoRA        the lengths of W's rows train apart: y = m ⊙ x (W + s · B A)ᵀ / n + b, where n (out,) is ‖W + s · B A‖
                row by row, a constant for the gradient, and m (out,) starts at ‖W‖ (Liu et al. 2024, equation 5)

LoRA's descendants are in `lora_methods.py`, what its configuration and PEFT's files need in `lora_files.py`.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from minilora import backend, nn
from minilora import functional as F
from minilora.backend import xp
from minilora.fields import flag, number, whole
from minilora.peft.config import AdapterLayer, targets, with_weight
from minilora.peft.lora_files import LoraRules, lora_start, pattern
from minilora.peft.pissa import principal_start, relative_to_the_weight
from minilora.tensor import Tensor, wrap


@dataclass
class LoraConfig(LoraRules):
    """What to adapt by LoRA and how, in PEFT's names and with its defaults."""

    r: int = whole(8, least=1)  # rank of the update
    lora_alpha: float = number(8, above=0)  # α
    target_modules: list[str] | str | None = targets()  # names or paths, or "all-linear"; None: queries and values
    lora_dropout: float = number(0.0, least=0, below=1)  # on the input of the update
    use_rslora: bool = flag(False)  # scale by lora_alpha / sqrt(r)
    use_dora: bool = flag(False)  # train the lengths of the weight's rows, too
    init_lora_weights: bool | str = lora_start(True)  # True: as above; "gaussian": A normal with deviation 1/r
    rank_pattern: dict[str, int] = pattern()  # name or path -> r, where it is another
    alpha_pattern: dict[str, float] = pattern()  # name or path -> lora_alpha, where it is another

    @property
    def scaling(self) -> float:
        return self.lora_alpha / (sqrt(self.r) if self.use_rslora else self.r)

    def adapt(self, module: nn.Linear, rng: np.random.Generator) -> "LoraLinear":
        return LoraLinear.from_linear(module, self, rng)


class LoraLinear(AdapterLayer):
    """A Linear (in -> out) and its update, from arrays a (r, in) and b (out, r); lora_magnitude_vector: DoRA's m."""

    def __init__(self, base_layer: nn.Linear, a, b, scaling: float, lora_dropout: nn.Dropout):
        self.base_layer = base_layer
        self.lora_A, self.lora_B = nn.Linear.from_arrays(a), nn.Linear.from_arrays(b)
        self.scaling, self.lora_dropout = scaling, lora_dropout
        self.lora_magnitude_vector: Tensor | None = None
        self.first: tuple | None = None  # the arrays A and B at the start, where a file needs them (`pissa.py`)

    @classmethod
    def from_linear(cls, linear: nn.Linear, config: LoraConfig, rng: np.random.Generator) -> "LoraLinear":
        """A fresh update of rank config.r on `linear`."""
        base, a, b = (principal_start if config.is_pissa else random_start)(linear, config, rng)
        dropout = nn.Dropout(config.lora_dropout, int(rng.spawn(1)[0].integers(2**63)))  # A is the same without it
        layer = cls(base, a, b, config.scaling, dropout)
        if config.use_dora:
            layer.lora_magnitude_vector = nn.Parameter(row_norms(layer.changed_weight()))
        layer.first = (a.copy(), b.copy()) if config.pissa_iterations else None
        return layer

    def forward(self, x: Tensor) -> Tensor:
        if self.lora_magnitude_vector is not None:
            return self._forward_dora(x, self.lora_magnitude_vector)
        if self.training and self.lora_dropout.p:
            return self.base_layer(x) + self.lora_B(self.lora_A(self.lora_dropout(x))) * self.scaling
        return self._low_rank_linear(x, self.base_layer.bias)

    def _forward_dora(self, x: Tensor, lengths: Tensor) -> Tensor:
        base = self.base_layer
        ratio = lengths / wrap(row_norms(self.changed_weight()))  # (out,)
        if self.training and self.lora_dropout.p:  # as in PEFT: what is not the base's own sees the dropped input
            dropped = self.lora_dropout(x)
            return base(x) + (self._low_rank_linear(dropped, None) * ratio - F.linear(dropped, base.product_weight))
        y = self._low_rank_linear(x, None) * ratio
        return y if base.bias is None else y + base.bias

    def _low_rank_linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (W + s B A)ᵀ + bias, as one node."""
        weight = self.base_layer.product_weight
        return F.low_rank_linear(x, weight, bias, self.lora_A.weight, self.lora_B.weight, self.scaling)

    def changed_weight(self):
        """The array W + s B A (out, in), made anew."""
        total = (self.lora_B.weight.data * self.scaling) @ self.lora_A.weight.data
        return xp.add(total, self.base_layer.weight.data, out=total)

    def merged(self) -> nn.Linear:
        """A Linear with the weight W + s B A, its rows brought to the lengths m where there is one."""
        weight = self.changed_weight()
        if self.lora_magnitude_vector is not None:
            weight *= (self.lora_magnitude_vector.data / row_norms(weight))[:, None]
        return with_weight(self.base_layer, weight)

    def neutral(self) -> dict[str, float] | None:
        return {"lora_B.weight": 0.0} if self.lora_magnitude_vector is None else None

    def saved_parameters(self) -> dict[str, Tensor]:
        parameters = self.adapter_parameters()
        return parameters if self.first is None else relative_to_the_weight(parameters, *self.first)

    def extra_repr(self) -> str:
        return f"r={self.lora_A.out_features}, scaling={self.scaling:g}"


def random_start(linear: nn.Linear, config: LoraConfig, rng: np.random.Generator):
    """(linear, A, B). With init_lora_weights False, for tests, B is random as well."""
    r, kind = config.r, config.init_lora_weights
    shape_a, shape_b = (r, linear.in_features), (linear.out_features, r)
    bound_a, bound_b = 1 / sqrt(linear.in_features), 1 / sqrt(r)
    a = rng.standard_normal(shape_a) / r if kind == "gaussian" else rng.uniform(-bound_a, bound_a, shape_a)
    b = rng.uniform(-bound_b, bound_b, shape_b) if kind is False else np.zeros(shape_b)
    return linear, backend.asarray(a, dtype=linear.dtype), backend.asarray(b, dtype=linear.dtype)


def row_norms(weight):  # (out, in) -> (out,)
    return xp.sqrt(xp.einsum("ij,ij->i", weight, weight))
