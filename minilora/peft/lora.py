"""LoRA: a frozen linear map learns through a low-rank update of its weight (Hu et al. 2021, section 4.1).

    y = x Wᵀ + b + s · x (B A)ᵀ        W (out, in) and b (out,) frozen, A (r, in) and B (out, r) trained

    scaling     s = α / r; rank-stabilized, s = α / √r (Kalajdzievski 2023, section 3)
    start       A uniform in ±1/√in, B zero: the adapted model begins as the base, bit for bit. (With both zero, neither
                would ever get a gradient.)
    parameters  r · (in + out) a layer, where the layer itself has in · out: 65,536 and 16,777,216 at 4096 × 4096, r = 8
    dropout     on the input of A alone; the base never sees it
    merging     W + s · B A is a plain weight of W's shape: after it, the update costs nothing

Some texts write ΔW = A B with A (in, r) and B (r, out): the same product, transposed. Here and in PEFT's files, A comes
first in the computation and both are stored as the weights of linear layers.

Its descendants each change one thing, and go together:

    QLoRA       W is kept in 4 bits (`quant.Linear4bit`) and made anew for each product; A and B are in floats, and so
                is the merged weight (Dettmers et al. 2023, section 3).
    DoRA        The lengths of W's rows and their directions learn apart: y = m ⊙ x (W + s · B A)ᵀ / n + b, where
                n (out,) is ‖W + s · B A‖ row by row, a constant for the gradient, and m (out,) trains. m starts at the
                ‖W‖ of each row, so m / n is 1 and the model begins as the base, bit for bit. r · (in + out) + out
                parameters (Liu et al. 2024, equation 5 and section 4.3).
    PiSSA       A and B start at the principal part of W, which is taken out of the base: see `pissa.py`.
    LoRA+       B learns at a higher rate than A: see `lora_plus.py`.
    patterns    Some layers have an r or an α of their own: see `patterns.py`.
"""

import re
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import ClassVar, Self

import numpy as np

from minilora import backend, nn
from minilora import functional as F
from minilora.backend import xp
from minilora.errors import MiniloraError, did_you_mean, escape
from minilora.peft.config import AdapterLayer, NamedTargets, listed, of_family, tied
from minilora.peft.patterns import pattern_problems, target_problems, value_at
from minilora.peft.pissa import principal_start
from minilora.tensor import Tensor, wrap

# As PEFT has it. Spreading a budget over queries and values is best in table 5; GPT-2 computes both, and keys, by one
# layer.
DEFAULT_TARGETS = {"llama": ["q_proj", "v_proj"], "gpt2": ["c_attn"]}
FLOAT32_MAX = 3.4e38


@dataclass
class LoraConfig(NamedTargets):
    """What to adapt by LoRA and how, in PEFT's names and with its defaults.

    init_lora_weights is True (the start above), "gaussian" (A normal with deviation 1/r, B zero), "pissa",
    "pissa_niter_4" (the same by a randomized SVD of 4 iterations), or False, for tests: B is random too, and the start
    is not the base.
    """

    r: int = 8  # rank of the update
    lora_alpha: float = 8  # the update is scaled by lora_alpha / r
    target_modules: list[str] | str | None = None  # names or paths, or "all-linear"; None: `DEFAULT_TARGETS`
    lora_dropout: float = 0.0  # on the input of the update
    use_rslora: bool = False  # scale by lora_alpha / sqrt(r)
    use_dora: bool = False  # train the lengths of the weight's rows, too
    init_lora_weights: bool | str = True  # how A and B start
    rank_pattern: dict[str, int] = field(default_factory=dict)  # name or path -> r, where it is another
    alpha_pattern: dict[str, float] = field(default_factory=dict)  # name or path -> lora_alpha, where it is another

    peft_type: ClassVar[str] = "LORA"
    unused: ClassVar[frozenset[str]] = NamedTargets.unused | {"megatron_core", "qalora_group_size"}
    means_off: ClassVar[dict] = {"bias": ("none",)}

    def __post_init__(self):
        self.rank_pattern = {} if self.rank_pattern is None else self.rank_pattern
        self.alpha_pattern = {} if self.alpha_pattern is None else self.alpha_pattern
        super().__post_init__()

    def problems(self) -> list[str]:
        found = super().problems()
        found += _rank_problem("r", self.r) + _alpha_problem("lora_alpha", self.lora_alpha)
        if type(self.lora_dropout) not in (int, float) or not 0 <= self.lora_dropout < 1:
            found.append(f"lora_dropout must be at least 0 and below 1, not {escape(repr(self.lora_dropout))}")
        for name, value in (("use_rslora", self.use_rslora), ("use_dora", self.use_dora)):
            if type(value) is not bool:
                found.append(f"{name} must be True or False, not {escape(repr(value))}")
        found += _start_problem(self.init_lora_weights)
        found += pattern_problems("rank_pattern", self.rank_pattern, _rank_problem)
        found += pattern_problems("alpha_pattern", self.alpha_pattern, _alpha_problem)
        return found

    @property
    def scaling(self) -> float:
        """s, by which the update is multiplied."""
        return self.lora_alpha / (sqrt(self.r) if self.use_rslora else self.r)

    @property
    def is_pissa(self) -> bool:
        """Whether A and B start at the principal part of the weight."""
        return str(self.init_lora_weights).startswith("pissa")

    @property
    def pissa_iterations(self) -> int | None:
        """Of the randomized SVD; None for the exact one."""
        iterations = str(self.init_lora_weights).partition("_niter_")[2]
        return int(iterations) if iterations else None

    def default_targets(self, model: nn.Module) -> list[str]:
        return of_family(model, DEFAULT_TARGETS)

    def targets(self, model: nn.Module) -> list[str]:
        paths = super().targets(model)
        problems = target_problems("rank_pattern", self.rank_pattern, paths)
        problems += target_problems("alpha_pattern", self.alpha_pattern, paths)
        if self.is_pissa:  # PEFT takes the principal part out of both, and computes something else
            problems += [f"PiSSA would change what shares its weight with {path}" for path in tied(model, paths)]
        if problems:
            raise MiniloraError(listed(problems))
        return paths

    def at(self, path: str) -> Self:
        r, alpha = value_at(path, self.rank_pattern, self.r), value_at(path, self.alpha_pattern, self.lora_alpha)
        return replace(self, r=r, lora_alpha=alpha, rank_pattern={}, alpha_pattern={})

    def check(self, path: str, module: nn.Linear) -> list[str]:
        problems = []
        width = min(module.in_features, module.out_features)
        if self.r > width:
            sizes = f"{module.in_features} to {module.out_features}"
            problems.append(f"r = {self.r} is above the width {width} of {path} ({sizes})")
        if self.use_dora and not bool((row_norms(module.weight.data) > 0).all()):
            problems.append(f"{path} has a row of zeros or NaN: DoRA finds no direction in it")
        return problems

    def base_of(self, module: nn.Linear) -> nn.Linear:
        if self.is_pissa:
            return principal_start(module, self.r, self.scaling, self.pissa_iterations)[0]
        return module

    def shapes(self, module: nn.Linear) -> dict[str, tuple[int, ...]]:
        shapes = {"lora_A.weight": (self.r, module.in_features), "lora_B.weight": (module.out_features, self.r)}
        return shapes | ({"lora_magnitude_vector": (module.out_features,)} if self.use_dora else {})

    def adapt(self, module: nn.Linear, rng) -> "LoraLinear":
        return LoraLinear.from_linear(module, self, rng)

    def to_dict(self, targets: list[str]) -> dict:
        if self.pissa_iterations is not None:
            return self._as_plain_lora().to_dict(targets)
        return super().to_dict(targets)

    def _as_plain_lora(self) -> "LoraConfig":
        """With twice the rank and the same scaling: what `LoraLinear.saved_parameters` gives after a randomized SVD."""
        factor = sqrt(2) if self.use_rslora else 2
        return replace(
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


def _rank_problem(name: str, value: object) -> list[str]:
    if type(value) is int and value >= 1:
        return []
    return [f"{name} must be a whole number of at least 1, not {escape(repr(value))}"]


def _alpha_problem(name: str, value: object) -> list[str]:
    if type(value) in (int, float) and 0 < value < FLOAT32_MAX:
        return []
    return [f"{name} must be a positive number, not {escape(repr(value))}"]


def _start_problem(value: object) -> list[str]:
    if type(value) is bool or re.fullmatch("gaussian|pissa(_niter_[0-9]{1,3})?", value if type(value) is str else ""):
        return []
    hint = did_you_mean(value, ["gaussian", "pissa", "pissa_niter_4"], before="; ")
    known = "init_lora_weights must be True, False, 'gaussian', 'pissa' or such as 'pissa_niter_4'"
    return [f"{known}, not {escape(repr(value))}{hint}"]


class LoraLinear(AdapterLayer):
    """A Linear and its low-rank update.

    base_layer: nn.Linear (in -> out); lora_A: nn.Linear (in -> r) and lora_B: nn.Linear (r -> out), without bias;
    scaling: s; lora_magnitude_vector: DoRA's m (out,), else None. `from_linear` and `merged` lead from a plain Linear
    to this layer and back to one.
    """

    def __init__(
        self, base_layer: nn.Linear, lora_A: nn.Linear, lora_B: nn.Linear, scaling: float, lora_dropout: nn.Dropout
    ):
        self.base_layer = base_layer
        self.lora_A = lora_A
        self.lora_B = lora_B
        self.scaling = scaling
        self.lora_dropout = lora_dropout
        self.lora_magnitude_vector: Tensor | None = None
        self._start: tuple | None = None  # copies of A and B as they were after a randomized SVD

    @classmethod
    def from_linear(cls, linear: nn.Linear, config: LoraConfig, rng) -> "LoraLinear":
        """A fresh update of rank config.r on `linear`. rng: a NumPy Generator."""
        if config.is_pissa:
            base, a, b = principal_start(linear, config.r, config.scaling, config.pissa_iterations)
        else:
            base, (a, b) = linear, _random_start(linear, config.r, config.init_lora_weights, rng)
        seed = int(rng.spawn(1)[0].integers(2**63))  # a stream of its own: A is the same with and without dropout
        dropout = nn.Dropout(config.lora_dropout, seed)
        layer = cls(base, nn.Linear.from_arrays(a), nn.Linear.from_arrays(b), config.scaling, dropout)
        if config.use_dora:
            layer.lora_magnitude_vector = nn.Parameter(row_norms(layer.changed_weight()))
        if config.pissa_iterations is not None:
            layer._start = a.copy(), b.copy()
        return layer

    def forward(self, x: Tensor) -> Tensor:
        if self.lora_magnitude_vector is not None:
            return self._forward_dora(x)
        if self.training and self.lora_dropout.p:
            return self.base_layer(x) + self.lora_B(self.lora_A(self.lora_dropout(x))) * self.scaling
        return self._low_rank_linear(x, self.base_layer.bias)

    def _forward_dora(self, x: Tensor) -> Tensor:
        base = self.base_layer
        ratio = self.lora_magnitude_vector / wrap(row_norms(self.changed_weight()))  # (out,)
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
        total += self.base_layer.weight.data
        return total

    def merged(self) -> nn.Linear:
        """A Linear with the weight W + s B A, its rows brought to the lengths m where there is one."""
        weight = self.changed_weight()
        if self.lora_magnitude_vector is not None:
            weight *= (self.lora_magnitude_vector.data / row_norms(weight))[:, None]
        linear = nn.Linear.from_arrays(weight)
        linear.bias = self.base_layer.bias
        return linear

    def saved_parameters(self) -> dict[str, Tensor]:
        parameters = self.adapter_parameters()
        if self._start is not None:  # the update of the original weight, which is of twice the rank: see pissa.py
            a, b = self._start
            parameters["lora_A.weight"] = wrap(xp.concatenate([self.lora_A.weight.data, a]))
            parameters["lora_B.weight"] = wrap(xp.concatenate([self.lora_B.weight.data, -b], axis=1))
        return parameters

    def extra_repr(self) -> str:
        return f"r={self.lora_A.out_features}, scaling={self.scaling:g}"


def _random_start(linear: nn.Linear, r: int, kind: bool | str, rng):
    """Arrays A (r, in) and B (out, r) for a value of init_lora_weights other than PiSSA's."""
    shape_a, shape_b = (r, linear.in_features), (linear.out_features, r)
    bound_a, bound_b = 1 / sqrt(linear.in_features), 1 / sqrt(r)
    a = rng.standard_normal(shape_a) / r if kind == "gaussian" else rng.uniform(-bound_a, bound_a, shape_a)
    b = rng.uniform(-bound_b, bound_b, shape_b) if kind is False else np.zeros(shape_b)
    return backend.asarray(a, dtype=linear.dtype), backend.asarray(b, dtype=linear.dtype)


def row_norms(weight):
    """The length of each row: (out, in) -> (out,)."""
    return xp.sqrt(xp.einsum("ij,ij->i", weight, weight))
