"""BitFit and norm tuning: nothing is added; a few of the model's own parameters train.

    BitFit      every bias b, in y = x Wᵀ + b and in y = normal(x) ⊙ g + b (Ben Zaken et al. 2022, section 3)
    LN tuning   only the norms: g, and b if there is one (Zhao et al. 2023, "Tuning LayerNorm in attention")

    shapes      the parameters' own: (out,) for a Linear's bias, (d,) for a norm's weight and bias
    start       the values that they have: the adapted model begins as the base, bit for bit
    parameters  those of a Llama with L blocks hold (2 L + 1) d in their norms: 266,240 in LLaMA-7B
    merging     the trained values replace the original ones, exactly

A Llama's norms are RMSNorms, x / rms(x) ⊙ g, which have a weight and no bias. Its linear layers have no biases either,
unless the configuration says attention_bias or mlp_bias. So BitFit finds nothing in most Llamas, and says so; with
norms=True it trains the weights of the norms as well.

Copies of the parameters train; the model's own do not change, so disabling and unloading are exact.
"""

from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from minilora import nn
from minilora.errors import MiniloraError, escape
from minilora.fields import flag
from minilora.peft.config import AdapterLayer, TargetedConfig
from minilora.peft.method import Counts, Trainable, register
from minilora.tensor import Tensor

NORMS = (nn.RMSNorm, nn.LayerNorm)


@dataclass(kw_only=True)
class TunedConfig(TargetedConfig):
    """The configuration of a method that trains some of the modules' own parameters."""

    def trained(self, module: nn.Module) -> list[str]:
        """Return the names of the parameters of `module` that train."""
        raise NotImplementedError

    def shapes(self, module: nn.Module) -> dict[str, tuple[int, ...]]:
        return {f"tuned.{name}": getattr(module, name).shape for name in self.trained(module)}

    def adapt(self, module: nn.Module, rng) -> "TunedLayer":
        return TunedLayer(module, self.trained(module))


@dataclass
class BitFitConfig(TunedConfig):
    """The modules whose biases train. PEFT does not have this method, and cannot read its files.

    target_modules: Linears and norms; None: all of them that have something to train. Raises MiniloraError if a named
    module has nothing to train, or if no module has.
    """

    norms: bool = flag(False)  # also train the weights of norms

    peft_type: ClassVar[str] = "BITFIT"
    in_peft: ClassVar[bool] = False
    target_kind: ClassVar[tuple] = (nn.Linear, *NORMS)

    def trained(self, module: nn.Module) -> list[str]:
        has_bias = getattr(module, "bias", None) is not None
        return ["weight"] * (self.norms and isinstance(module, NORMS)) + ["bias"] * has_bias

    def default_targets(self, model: nn.Module) -> list[str]:
        modules = model.named_modules()
        return [path for path, module in modules if isinstance(module, self.target_kind) and self.trained(module)]

    def targets(self, model: nn.Module) -> list[str]:
        paths = super().targets(model)
        bare = [path for path in paths if not self.trained(model.get_submodule(path))]
        if bare or not paths:
            where = ", ".join(bare) or f"{type(model).__name__}, as in most Llamas"
            hint = "" if self.norms else "; norms=True trains the weights of norms as well"
            raise MiniloraError(f"BitFit: there is no bias to train in {escape(where, 400)}{hint}")
        return paths

    def file_name(self, path: str, name: str) -> str:
        return super().file_name(path, name.removeprefix("tuned."))  # under the name of the model's own parameter


@dataclass
class LNTuningConfig(TunedConfig):
    """The norms that train, weights and biases, with PEFT's names and defaults."""

    peft_type: ClassVar[str] = "LN_TUNING"
    target_kind: ClassVar[tuple] = NORMS
    # PEFT's defaults.
    defaults: ClassVar[dict[str, list[str]]] = {
        "llama": ["input_layernorm", "post_attention_layernorm", "norm"],
        "gpt2": ["ln_1", "ln_2", "ln_f"],
    }

    def trained(self, module: nn.Module) -> list[str]:
        return [name for name, _ in module.named_parameters()]

    def file_name(self, path: str, name: str) -> str:
        return super().file_name(path, f"ln_tuning_layers.{name.removeprefix('tuned.')}")


class TunedLayer(AdapterLayer):
    """A module with trained copies in place of some of its parameters.

    base_layer: any module; names: its attributes that are to train. tuned: {name: trained copy}.
    """

    def __init__(self, base_layer: nn.Module, names: list[str]):
        self.base_layer = base_layer
        self.tuned = {name: nn.Parameter(getattr(base_layer, name)) for name in names}
        self.changes_weights = "weight" in names

    def forward(self, *args, **kwargs):
        return self._with(self.tuned)(*args, **kwargs)

    def merged(self) -> nn.Module:
        """Return a module of the base layer's class with the trained values."""
        return self._with({name: nn.Parameter(parameter) for name, parameter in self.tuned.items()})

    def neutral(self) -> dict[str, Any]:
        return {f"tuned.{name}": getattr(self.base_layer, name).data for name in self.tuned}

    def _with(self, parameters: dict[str, Tensor]) -> nn.Module:
        """Return the base layer with these parameters instead; everything else is shared with it."""
        module = copy(self.base_layer)
        vars(module).update(parameters)
        return module


def plan_norms(shape: Any, options: Any, biases: float = 0) -> Trainable:
    """Plan the two norms of a block and the final one. biases: elements in the biases of a block's linears."""
    norm = shape.hidden * (1 + shape.norm_biases)
    return Trainable(Counts(block=2 * norm + biases, norm=norm), norms=True)


register(
    name="norms",
    label="norms",
    description="the norms' weights",
    family="own vectors",
    marker="v",
    linestyle=(0, (3, 1, 1, 1)),
    lr=8.1e-2,
    large_lr=2.7e-3,
    config=LNTuningConfig,
    plan=plan_norms,
    other_names=("ln-tuning",),
)
register(
    name="bitfit",
    label="BitFit and norms",
    description="biases (where there are any) and norms",
    family="own vectors",
    marker="<",
    linestyle=(0, (4, 1)),
    lr=8.1e-2,
    large_lr=2.7e-3,
    config=BitFitConfig,
    settings=lambda options, tokens: {"norms": True},
    plan=lambda shape, options: plan_norms(shape, options, shape.in_biases // shape.layers),
)
