"""Bottleneck adapters: small networks between the layers of a frozen one (Houlsby et al. 2019, "Parameter-efficient
transfer learning for NLP", section 2.1).

    h ← h + W₂ f(W₁ h + b₁) + b₂         h (d,) the adapted module's output; W₁ (m, d), b₁ (m,), W₂ (d, m), b₂ (d,)
    h ← h + s (W₂ f(W₁ x + b₁) + b₂)     the parallel form: x (d,) is the adapted module's input

    placements  "houlsby"   two per block: after attention and after the MLP, each before the residual is added
                "pfeiffer"  one per block: after the MLP, before the residual is added. That is for Llama; in BERT it
                            comes after the MLP's sum and norm (Pfeiffer et al. 2021, "AdapterFusion"; He et al. 2022,
                            section 2)
                "parallel"  one per block: beside the MLP, scaled by s = 4 (He et al. 2022, "Towards a unified view of
                            parameter-efficient transfer learning", sections 4.3 and 4.5)
    shapes      adapter_down.weight W₁, adapter_down.bias b₁, adapter_up.weight W₂, adapter_up.bias b₂
    start       W₁ uniform in ±1/√d, everything else zero: the adapted model begins as the base, bit for bit. (With both
                weights zero, neither would ever get a gradient. Houlsby et al. start close to zero, with σ = 0.01.)
    parameters  2 d m + d + m per adapter: 528,448 at d = 4096, m = 64
    merging     none: because of f between the two products, the change cannot be written into the module's weights

Unlike LoRA, an adapter makes the model deeper, and it costs time at inference, too. PEFT does not have this method, and
cannot read its files.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from minilora import functional as F
from minilora import nn
from minilora.backend import xp
from minilora.errors import MiniloraError
from minilora.fields import choice, whole
from minilora.peft.config import AdapterLayer, TargetedConfig, of_family
from minilora.peft.method import Counts, Option, Trainable, register
from minilora.tensor import Tensor

PLACEMENTS = ("pfeiffer", "houlsby", "parallel")
ATTENTION = {"llama": ["self_attn"], "gpt2": ["attn"]}
ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
PARALLEL_SCALING = 4.0


@dataclass
class BottleneckConfig(TargetedConfig):
    """The places of bottleneck adapters, and their width.

    target_modules: any modules that hold Linears and map (..., d) to (..., d); None: `mlp`, and for "houlsby" also
    `self_attn` (`attn` in GPT-2).
    """

    bottleneck_size: int = whole(64, least=1)  # m, the width inside
    placement: str = choice("pfeiffer", *PLACEMENTS)
    activation: str = choice("gelu", *ACTIVATIONS)  # f

    peft_type: ClassVar[str] = "BOTTLENECK"
    in_peft: ClassVar[bool] = False
    target_kind: ClassVar[type[nn.Module]] = nn.Module

    def default_targets(self, model: nn.Module) -> list[str]:
        return (of_family(model, ATTENTION) if self.placement == "houlsby" else []) + ["mlp"]

    def targets(self, model: nn.Module) -> list[str]:
        paths = super().targets(model)
        problems = []
        for path in paths:
            module = model.get_submodule(path)
            if not _linears(module):
                name = type(module).__name__
                problems.append(f"{path} ({name}) holds no Linear from which to take the width of an adapter")
            if any(part.isdigit() for inside, _ in module.named_modules() for part in inside.split(".")):
                problems.append(f"{path} holds a list of blocks; name modules inside a block")
        if problems:
            raise MiniloraError(f"target_modules: {'; '.join(problems)}")
        return paths

    def shapes(self, module: nn.Module) -> dict[str, tuple[int, ...]]:
        m, (d_in, d_out) = self.bottleneck_size, self.widths(module)
        down, up = {"adapter_down.weight": (m, d_in), "adapter_down.bias": (m,)}, {"adapter_up.weight": (d_out, m)}
        return down | up | {"adapter_up.bias": (d_out,)}

    def widths(self, module: nn.Module) -> tuple[int, int]:
        """Return the width that an adapter of `module` reads (its input's or output's) and writes (its output's)."""
        linears = _linears(module)
        d_out = linears[-1].out_features
        return linears[0].in_features if self.placement == "parallel" else d_out, d_out

    def adapt(self, module: nn.Module, rng) -> "BottleneckLayer":
        return BottleneckLayer(module, self, rng)


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [inner for _, inner in module.named_modules() if isinstance(inner, nn.Linear)]


class BottleneckLayer(AdapterLayer):
    """A module (..., d) -> (..., d) with a bottleneck adapter after it, or beside it."""

    def __init__(self, base_layer: nn.Module, config: BottleneckConfig, rng):
        m, (d_in, d_out), dtype = config.bottleneck_size, config.widths(base_layer), _linears(base_layer)[-1].dtype
        w1 = nn.Linear(d_in, m, bias=False, rng=rng).weight.data.astype(dtype)  # uniform in ±1/sqrt(d)
        self.base_layer = base_layer
        self.adapter_down = nn.Linear.from_arrays(w1, xp.zeros(m, dtype=dtype))
        self.adapter_up = nn.Linear.from_arrays(xp.zeros((d_out, m), dtype=dtype), xp.zeros(d_out, dtype=dtype))
        self.activation, self.is_parallel = config.activation, config.placement == "parallel"
        self.scaling = PARALLEL_SCALING if self.is_parallel else 1.0  # s

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        """Map x (..., d) to (..., d). Other arguments, such as a cache, go to the adapted module."""
        h = self.base_layer(x, *args, **kwargs)
        inside = ACTIVATIONS[self.activation](self.adapter_down(x if self.is_parallel else h))  # (..., m)
        change = self.adapter_up(inside)  # (..., d)
        return h + (change if self.scaling == 1 else change * self.scaling)

    def neutral(self) -> dict[str, float]:
        return {"adapter_up.weight": 0.0, "adapter_up.bias": 0.0}


def plan(shape: Any, options: Any) -> Trainable:
    places, m = ("self_attn", "mlp") if options.placement == "houlsby" else ("mlp",), options.bottleneck_size
    return Trainable(
        Counts(block=len(places) * (2 * shape.hidden * m + shape.hidden + m)),
        adapters=places,
        parallel=options.placement == "parallel",
        bottleneck=m,
    )


register(
    name="bottleneck",
    label="adapters",
    description="small networks between the layers (adapters)",
    family="adapters",
    marker="h",
    linestyle="-",
    lr=9e-3,
    large_lr=9e-4,
    config=BottleneckConfig,
    settings=lambda options, tokens: {"bottleneck_size": options.bottleneck_size, "placement": options.placement},
    options={
        "bottleneck_size": Option(whole(64, least=1), "width of an adapter", int),
        "placement": Option(choice("pfeiffer", *PLACEMENTS), "places of the adapters: pfeiffer, houlsby or parallel"),
    },
    plan=plan,
    other_names=("adapter", "adapters"),
)
