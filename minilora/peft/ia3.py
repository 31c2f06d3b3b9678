"""IA3: learned factors amplify or inhibit activations (Liu et al. 2022, "Few-shot parameter-efficient fine-tuning is
better and cheaper than in-context learning", section 3.3).

    keys, values    y = l ⊙ (x Wᵀ + b)      W (out, in) and b (out,) frozen, l (out,) trained, one factor per output
    feedforward     y = (l ⊙ x) Wᵀ + b      l (in,) trained, one factor per input of the MLP's last layer

    shapes      ia3_l (out, 1); (1, in) for a feedforward layer, so that merging multiplies W by it without a reshape
    start       all ones: the adapted model begins as the base, bit for bit
    parameters  out, or in, per layer. A Llama block with d_kv = key/value heads · head size has 2 d_kv + f: with 32
                blocks, d_kv = 4096 and f = 11,008 (LLaMA-7B), that is 614,400, 0.009 % of the model
    merging     W ← l ⊙ W and b ← l ⊙ b, or W ← W ⊙ l with b unchanged: a plain layer again, at no extra cost
    rate        large, since every factor starts at 1: 3e-3 in the paper

The attention of the paper's T5 has no biases; if there is one, it is scaled with the output, as in PEFT.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from minilora import nn
from minilora.backend import xp
from minilora.errors import MiniloraError, escape
from minilora.peft.config import AdapterLayer, TargetedConfig, as_list, meant, names, of_family, with_weight
from minilora.peft.method import Counts, Trainable, register
from minilora.tensor import Tensor

FEEDFORWARD = {"llama": ["down_proj"], "gpt2": ["mlp.c_proj"]}


@dataclass
class IA3Config(TargetedConfig):
    """The modules that IA3 adapts, with PEFT's names and defaults.

    feedforward_modules must be among target_modules. Raises MiniloraError if one is not.
    """

    feedforward_modules: list[str] | str | None = names()  # scaled at the input; None: the MLP's last layer

    peft_type: ClassVar[str] = "IA3"
    unused: ClassVar[frozenset[str]] = TargetedConfig.unused | {"init_ia3_weights"}  # only decides the start
    # PEFT's defaults. In GPT-2 the queries are scaled as well, because c_attn computes them with keys and values.
    defaults: ClassVar[dict[str, list[str]]] = {
        "llama": ["k_proj", "v_proj", "down_proj"],
        "gpt2": ["c_attn", "mlp.c_proj"],
    }

    def __post_init__(self):
        self.feedforward_modules = as_list(self.feedforward_modules)
        super().__post_init__()

    def complete(self, model: nn.Module) -> None:
        super().complete(model)
        if self.feedforward_modules in (None, *FEEDFORWARD.values()):  # PEFT writes it whatever the targets are
            names, targets = self.feedforward_modules or of_family(model, FEEDFORWARD), super().targets(model)
            self.feedforward_modules = [name for name in names if meant([name], targets)]

    def targets(self, model: nn.Module) -> list[str]:
        targets, names = super().targets(model), as_list(self.feedforward_modules)
        last_names = escape(", ".join(dict.fromkeys(path.rpartition(".")[2] for path in targets)), 400)
        unmatched = [escape(repr(name)) for name in names if not meant([name], targets)]
        if problems := [f"{name} is not among the adapted modules ({last_names})" for name in unmatched]:
            raise MiniloraError(f"feedforward_modules: {'; '.join(problems)}")
        return targets

    def at(self, path: str) -> Self:
        return replace(self, feedforward_modules=meant(as_list(self.feedforward_modules), [path]))

    def shapes(self, module: nn.Linear) -> dict[str, tuple[int, ...]]:
        return {"ia3_l": (1, module.in_features) if self.feedforward_modules else (module.out_features, 1)}

    def adapt(self, module: nn.Linear, rng) -> "IA3Linear":
        start = xp.ones(self.shapes(module)["ia3_l"], dtype=module.dtype)
        return IA3Linear(module, start, is_feedforward=bool(self.feedforward_modules))

    def to_dict(self, targets: list[str]) -> dict:
        content, names = super().to_dict(targets), as_list(self.feedforward_modules)
        if not set(names) <= set(content["target_modules"]):  # PEFT needs the same strings in both lists
            return content | {"target_modules": targets, "feedforward_modules": meant(names, targets)}
        return content


class IA3Linear(AdapterLayer):
    """A Linear whose output, or input, is scaled element by element.

    base_layer: nn.Linear (in -> out); ia3_l: an array (out, 1), or (1, in) if is_feedforward.
    """

    def __init__(self, base_layer: nn.Linear, ia3_l, is_feedforward: bool):
        self.base_layer = base_layer
        self.ia3_l = nn.Parameter(ia3_l)
        self.is_feedforward = is_feedforward

    def forward(self, x: Tensor) -> Tensor:
        factors = self.ia3_l.reshape(-1)
        return self.base_layer(x * factors) if self.is_feedforward else self.base_layer(x) * factors

    def merged(self) -> nn.Linear:
        """Return a Linear with the weight l ⊙ W, and the bias l ⊙ b if the output is scaled."""
        factors, bias = self.ia3_l.data, self.base_layer.bias
        linear = with_weight(self.base_layer, self.base_layer.weight.data * factors)  # (out, in)
        if bias is not None and not self.is_feedforward:
            linear.bias = nn.Parameter(bias.data * factors[:, 0])
        return linear

    def neutral(self) -> dict[str, float]:
        return {"ia3_l": 1.0}


def plan(shape: Any, options: Any) -> Trainable:
    return Trainable(
        Counts(block=2 * shape.kv_width + shape.intermediate, down=shape.intermediate),
        scaled=frozenset({"down_proj"}),
        factors=frozenset({"k_proj", "v_proj"}),
    )


register(
    name="ia3",
    label="IA3",
    description="factors on keys, values and the MLP",
    family="own vectors",
    marker=">",
    linestyle=(0, (2, 1)),
    lr=0.09,
    large_lr=2.7e-2,
    config=IA3Config,
    plan=plan,
)
