"""LoRA: a frozen linear map learns through a low-rank update of its weight (Hu et al. 2021, section 4.1).

    y = x Wᵀ + b + s · x (B A)ᵀ        W (out, in) and b (out,) frozen, A (r, in) and B (out, r) trained

    scaling     s = α / r; rank-stabilized, s = α / √r (Kalajdzievski 2023, section 3)
    start       A uniform in ±1/√in, B zero: the adapted model begins as the base, bit for bit. (With both zero, neither
                would ever get a gradient.)
    parameters  r · (in + out) per layer, instead of in · out: 65,536 instead of 16,777,216 at 4096 × 4096, r = 8
    dropout     on the input of A only, not on the base layer's
    merging     W + s · B A has the shape of W, so a merged update costs nothing
    DoRA        trains the lengths of W's rows separately: y = m ⊙ x (W + s · B A)ᵀ / n + b. Here n (out,) has the row
                norms of W + s · B A, constant for the gradient; m (out,) starts at W's (Liu et al. 2024, equation 5)

PiSSA (Meng et al. 2024, section 3) starts from the principal part of the weight: see `principal_start`. The records of
LoRA and its variants are in `lora_methods.py`.
"""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, ClassVar, Self

import numpy as np

from minilora import backend, nn
from minilora import functional as F
from minilora.backend import xp
from minilora.errors import MiniloraError, escape, first_few
from minilora.fields import checked, flag, is_list_of, is_whole, number, whole
from minilora.peft.config import AdapterLayer, TargetedConfig, as_list, meant, tied, with_weight
from minilora.tensor import Tensor, wrap


class LoraLinear(AdapterLayer):
    """A Linear (in -> out) with a low-rank update b @ a, from arrays a (r, in) and b (out, r)."""

    def __init__(self, base_layer: nn.Linear, a, b, scaling: float, lora_dropout: nn.Dropout):
        self.base_layer = base_layer
        self.lora_A, self.lora_B = nn.Linear.from_arrays(a), nn.Linear.from_arrays(b)
        self.scaling, self.lora_dropout = scaling, lora_dropout
        self.lora_magnitude_vector: Tensor | None = None  # DoRA's m

    @classmethod
    def from_linear(cls, linear: nn.Linear, config: "LoraConfig", rng: np.random.Generator) -> "LoraLinear":
        """Return a layer with a fresh update of rank config.r on `linear`."""
        base, a, b = (principal_start if config.is_pissa else random_start)(linear, config, rng)
        # A spawned generator, so that the seed of the dropout does not shift the numbers that the next A gets.
        dropout = nn.Dropout(config.lora_dropout, int(rng.spawn(1)[0].integers(2**63)))
        layer = cls(base, a, b, config.scaling, dropout)
        if config.use_dora:
            layer.lora_magnitude_vector = nn.Parameter(row_norms(layer.changed_weight()))
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
        if self.training and self.lora_dropout.p:  # as in PEFT, dropout acts on everything but the base's own output
            dropped = self.lora_dropout(x)
            return base(x) + (self._low_rank_linear(dropped, None) * ratio - F.linear(dropped, base.product_weight))
        y = self._low_rank_linear(x, None) * ratio
        return y if base.bias is None else y + base.bias

    def _low_rank_linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Compute x (W + s B A)ᵀ + bias as one node of the graph."""
        weight = self.base_layer.product_weight
        return F.low_rank_linear(x, weight, bias, self.lora_A.weight, self.lora_B.weight, self.scaling)

    def changed_weight(self):
        """Return the array W + s B A (out, in), newly allocated."""
        total = (self.lora_B.weight.data * self.scaling) @ self.lora_A.weight.data
        return xp.add(total, self.base_layer.weight.data, out=total)

    def merged(self) -> nn.Linear:
        """Return a Linear with the weight W + s B A; DoRA scales its rows to the lengths m."""
        weight = self.changed_weight()
        if self.lora_magnitude_vector is not None:
            weight *= (self.lora_magnitude_vector.data / row_norms(weight))[:, None]
        return with_weight(self.base_layer, weight)

    def neutral(self) -> dict[str, float] | None:
        return {"lora_B.weight": 0.0} if self.lora_magnitude_vector is None else None


def random_start(linear: nn.Linear, config: "LoraConfig", rng: np.random.Generator):
    """Return (linear, A, B). If init_lora_weights is False, which is meant for tests, B is random as well."""
    r, kind = config.r, config.init_lora_weights
    shape_a, shape_b = (r, linear.in_features), (linear.out_features, r)
    bound_a, bound_b = 1 / sqrt(linear.in_features), 1 / sqrt(r)
    a = rng.standard_normal(shape_a) / r if kind == "gaussian" else rng.uniform(-bound_a, bound_a, shape_a)
    b = rng.uniform(-bound_b, bound_b, shape_b) if kind is False else np.zeros(shape_b)
    return linear, backend.asarray(a, dtype=linear.dtype), backend.asarray(b, dtype=linear.dtype)


def principal_start(linear: nn.Linear, config: "LoraConfig", rng: np.random.Generator | None = None):
    """Return (base, A, B): a frozen Linear without the principal part of `linear`, and arrays A (r, in) and B (out, r).

    With W = U S Vᵀ, singular values in descending order, and the first r of each,

        A = √(S / s) Vᵀ   (r, in)        B = U √(S / s)   (out, r)        the base becomes W - s · B A, and is frozen

    so that the sum is still W, up to rounding, and training starts in the directions of W's largest singular values.
    (In LoRA, where B starts at 0, the first steps can only use A's random directions.) W itself is kept beside the new
    base, so that disabling and unloading are exact; the layer takes twice the memory in return.

    A file holds only A and B, and loading it decomposes W again. That gives the same base everywhere, because s · B A
    is the best approximation of W of rank r, which is unique unless the r-th singular value equals the next. (PEFT's
    "pissa_niter_…" uses a new randomized SVD each time, so its files do not determine what was trained.) `linear` is
    not changed; its bias is shared. Raises MiniloraError for a weight in 4 bits.
    """
    if linear.num_quantized:
        raise MiniloraError(
            "PiSSA needs the singular vectors of a float weight, but the base is in 4 bits: "
            "load it in floats, or start from init_lora_weights=True"
        )
    weight = linear.weight.data
    factors = principal_factors(weight, config.r, config.scaling)
    a, b = (factor.astype(weight.dtype) for factor in factors)
    base = with_weight(linear, weight - (b * config.scaling) @ a)
    base.weight.requires_grad = False
    return base, a, b


def principal_factors(weight, rank: int, scaling: float = 1.0):
    """Return A and B of `principal_start`, in float64: weight (out, in) -> (rank, in), (out, rank)."""
    w = weight.astype(xp.float64)  # in float32, results would depend on the library that computes the SVD
    u, s, vt = xp.linalg.svd(w, full_matrices=False)
    root = xp.sqrt(s[:rank] / scaling)
    return root[:, None] * vt[:rank], u[:, :rank] * root


def row_norms(weight):  # (out, in) -> (out,)
    return xp.sqrt(xp.einsum("ij,ij->i", weight, weight))


# The configuration

STARTS = ("gaussian", "pissa")
PATTERNS = {"rank_pattern": "r", "alpha_pattern": "lora_alpha"}  # pattern -> the field that it overrides


def _pattern() -> Any:
    return checked({}, "a dictionary from names", lambda v: isinstance(v, dict) and all(isinstance(n, str) for n in v))


@dataclass
class LoraConfig(TargetedConfig):
    """The modules that LoRA adapts and its settings, with PEFT's names and defaults.

    A name in a pattern matches every target whose path is the name or ends with it after a dot: "v_proj",
    "layers.0.self_attn.v_proj". PEFT, which reads the name as the end of a regular expression, matches the same ones.
    If two names match one module, PEFT uses the first, but sorts the names when it saves; here their values must agree.
    """

    r: int = whole(8, least=1)  # rank of the update
    lora_alpha: float = number(8, above=0)  # α
    lora_dropout: float = number(0.0, least=0, below=1)  # on the input of the update
    use_rslora: bool = flag(False)  # scale by lora_alpha / sqrt(r)
    use_dora: bool = flag(False)  # also train the lengths of the weight's rows
    init_lora_weights: bool | str = checked(  # True: as above; "gaussian": A normal with deviation 1/r; "pissa"
        True,
        "True, False, 'gaussian' or 'pissa'",
        lambda v: type(v) is bool or v in STARTS,
        names=STARTS,
    )
    rank_pattern: dict[str, int] = _pattern()  # name or path -> its own r
    alpha_pattern: dict[str, float] = _pattern()  # name or path -> its own lora_alpha
    layers_to_transform: list[int] | int | None = checked(  # adapt only these blocks; a whole path always counts
        None, "numbers of blocks", lambda v: is_list_of(is_whole, v), optional=True
    )
    bias: str = checked("none", "'none' (BitFitConfig trains biases)", lambda v: v == "none")

    peft_type: ClassVar[str] = "LORA"
    unused: ClassVar[frozenset[str]] = TargetedConfig.unused | {"megatron_core", "qalora_group_size"}
    # PEFT's defaults. In the paper's table 5 a budget is best spent on queries and values; in GPT-2 one layer computes
    # both, and the keys.
    defaults: ClassVar[dict[str, list[str]]] = {"llama": ["q_proj", "v_proj"], "gpt2": ["c_attn"]}

    def __post_init__(self):
        self.rank_pattern, self.alpha_pattern = self.rank_pattern or {}, self.alpha_pattern or {}  # PEFT: also None
        blocks = self.layers_to_transform
        self.layers_to_transform = [blocks] if isinstance(blocks, int) else as_list(blocks)
        super().__post_init__()

    def problems(self) -> list[str]:
        problems = super().problems()
        for option, field in PATTERNS.items():
            values, kind = getattr(self, option), self.__dataclass_fields__[field].metadata["kind"]
            for name, value in values.items() if isinstance(values, dict) else ():
                problems += kind.problems(f"{option}[{escape(repr(name))}]", value)
        return problems

    @property
    def scaling(self) -> float:
        return self.lora_alpha / (sqrt(self.r) if self.use_rslora else self.r)

    @property
    def is_pissa(self) -> bool:
        """True if A and B start from the principal part of the weight."""
        return self.init_lora_weights == "pissa"

    def targets(self, model: nn.Module) -> list[str]:
        paths = self._in_blocks(super().targets(model))
        last_names = ", ".join(sorted({path.rpartition(".")[2] for path in paths}))
        problems = []
        for option in PATTERNS:
            values: dict[str, Any] = getattr(self, option)
            for name, value in values.items():
                if not (matches := meant([name], paths)):
                    targets = escape(last_names, 400)
                    problems.append(f"{option}: {escape(repr(name))} is not a target; the targets are: {targets}")
                for n in (n for n, other in values.items() if other != value and meant([n], matches)):
                    both = f"{escape(repr(name))} and {escape(repr(n))}"
                    problems.append(f"{option}: {both} give one module different values")
        if self.is_pissa:  # PEFT takes the principal part out of both modules, which changes what the base computes
            problems += [f"PiSSA would also change the module that is tied to {path}" for path in tied(model, paths)]
        if problems:
            raise MiniloraError(first_few(problems, separator="; "))
        return paths

    def _in_blocks(self, paths: list[str]) -> list[str]:
        """Keep the paths in the blocks of `layers_to_transform`, and whole paths as in PEFT. Raises MiniloraError."""
        if not self.layers_to_transform:
            return paths
        block_of = {path: next((int(part) for part in path.split(".") if part.isdigit()), None) for path in paths}
        blocks = set(as_list(self.layers_to_transform))
        if empty := sorted(blocks - set(block_of.values())):
            available = ", ".join(str(block) for block in dict.fromkeys(block_of.values()) if block is not None)
            raise MiniloraError(
                f"layers_to_transform: no target is in block {empty[0]}; blocks with targets: {available or 'none'}"
            )
        whole_paths = self.target_modules if isinstance(self.target_modules, list) else []
        return [path for path in paths if path in whole_paths or block_of[path] in blocks]

    def at(self, path: str) -> Self:
        overrides = {
            field: value
            for option, field in PATTERNS.items()
            for name, value in getattr(self, option).items()
            if meant([name], [path])
        }
        return replace(self, rank_pattern={}, alpha_pattern={}, **overrides)

    def check(self, path: str, module: nn.Linear) -> list[str]:
        problems = []
        width = min(module.in_features, module.out_features)
        if self.r > width:
            sizes = f"{module.in_features} to {module.out_features}"
            problems.append(f"r = {self.r} is larger than the width {width} of {path} ({sizes})")
        if self.use_dora and not bool((abs(module.weight.data).sum(axis=1) > 0).all()):
            problems.append(f"{path} has a row of zeros or NaN, which has no direction: DoRA cannot adapt it")
        return problems

    def shapes(self, module: nn.Linear) -> dict[str, tuple[int, ...]]:
        shapes = {"lora_A.weight": (self.r, module.in_features), "lora_B.weight": (module.out_features, self.r)}
        return shapes | ({"lora_magnitude_vector": (module.out_features,)} if self.use_dora else {})

    def adapt(self, module: nn.Linear, rng: np.random.Generator) -> LoraLinear:
        return LoraLinear.from_linear(module, self, rng)
