"""AdaLoRA: low-rank updates that share a budget of rank, which goes where it counts (Zhang et al. 2023, section 3).

    y = base(x) + s · x (B diag(e) A)ᵀ        A (r, in), e (r,) and B (out, r) trained; s = α / r

    start       e zero, A and B normal with deviation 0.02: the adapted model begins as the base, bit for bit
    rank        A triplet is a row of A, an entry of e and a column of B. All layers begin with r = init_r triplets;
                those that are least important in all layers together have their e set to zero.
    importance  of a number p, |p · ∂loss/∂p| smoothed over steps, times how much it varies, smoothed (equations 9 to
                11); of a triplet, that of e, the mean over A's row and the mean over B's column (equation 7)
    budget      after tinit steps, from init_r to target_r a layer along a cubic, every deltaT steps; the last tfinal
                steps train what is left (equation 12)
    loss        orth_reg_weight times the mean of ‖A Aᵀ - 1‖ and ‖Bᵀ B - 1‖ over the layers: without orthogonality, a
                triplet would not be a singular value (equation 4)
    parameters  r · (in + out + 1) a layer while it trains; a file has the triplets that are left
    merging     W + s · B diag(e) A is a plain weight of W's shape

What is exact here is PEFT's SVDLinear and RankAllocator, which differ from the paper in small things.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from minilora import backend, nn
from minilora import functional as F
from minilora.backend import xp
from minilora.errors import MiniloraError
from minilora.fields import checked, is_list_of, number, whole
from minilora.peft.config import AdapterLayer, TargetedConfig, TrainingHook, changed, few, with_weight
from minilora.peft.lora_methods import LORA, LoraConfig, alpha_of, planned_linears
from minilora.peft.lora_methods import plan as plan_lora
from minilora.peft.method import Counts, Method, Trainable, register
from minilora.tensor import Tensor

NAMES = ("lora_A", "lora_E", "lora_B")
TINY = 1e-30  # lost beside any norm but 0, where the root would have no gradient


def _is_pattern(value: Any) -> bool:
    rows = value.values() if isinstance(value, dict) else [None]
    return all(is_list_of(lambda kept: type(kept) is bool, row) for row in rows)


@dataclass
class AdaLoraConfig(TargetedConfig):
    """The modules to adapt by AdaLoRA and the settings, in PEFT's names and with its defaults.

    tinit, tfinal: steps; None: a tenth and three tenths of the training's. total_step: None: as many as the training
    has. rank_pattern: which triplets a file has left, as PEFT writes it.

    `train.loop` does the rest by itself. A loop of your own calls the hook, or no rank falls and nothing is orthogonal:

        hook = adapted.training_hook(steps)
        for step in range(1, steps + 1):
            (adapted(ids, labels=ids).loss + hook.extra_loss()).backward()  # None where orth_reg_weight is 0
            optimizer.step()
            hook.after_step(step)  # it reads the gradients
            optimizer.zero_grad()
    """

    target_r: int = whole(8, least=1)  # triplets a layer at the end, on average
    init_r: int = whole(12, least=1)  # at the start
    tinit: int | None = whole(0, optional=True)
    tfinal: int | None = whole(0, optional=True)
    deltaT: int = whole(1, least=1)  # noqa: N815 (PEFT's name)
    beta1: float = number(0.85, above=0, below=1)  # of the smoothed sensitivity
    beta2: float = number(0.85, above=0, below=1)  # of its smoothed variation
    orth_reg_weight: float = number(0.5, least=0)
    total_step: int | None = whole(None, least=1, optional=True)
    rank_pattern: dict[str, list[bool]] | None = checked(
        None, "lists of True and False by name", _is_pattern, optional=True
    )
    lora_alpha: float = number(8, above=0)  # α
    lora_dropout: float = number(0.0, least=0, below=1)

    peft_type: ClassVar[str] = "ADALORA"
    unused: ClassVar[frozenset[str]] = LoraConfig.unused | {"r", "init_lora_weights"}
    means_off: ClassVar[dict[str, tuple]] = LoraConfig.means_off
    defaults: ClassVar[dict[str, list[str]]] = LoraConfig.defaults

    def __post_init__(self):
        super().__post_init__()
        self.rank = self.init_r  # of the layer at hand
        self.trained: AdaLoraConfig | None = None  # with the steps of the latest training

    def problems(self) -> list[str]:
        found = super().problems()
        if not found and self.target_r > self.init_r:
            found.append(f"target_r is {self.target_r}, and a rank of init_r = {self.init_r} can only fall")
        if not found and self.total_step is not None:
            start, end = self.tinit or 0, self.total_step - (self.tfinal or 0)
            if start >= end:
                found.append(f"the rank would fall from step {start} = tinit to step {end} = total_step - tfinal")
        return found

    def targets(self, model: nn.Module) -> list[str]:
        paths = super().targets(model)
        pattern = {f"{path}.lora_E": [] for path in paths} if self.rank_pattern is None else self.rank_pattern
        wrong = [f"no row for {path}" for path in paths if f"{path}.lora_E" not in pattern]
        wrong += [f"{name} is not adapted" for name in pattern if name.removesuffix(".lora_E") not in paths]
        lengths = {name: len(row) for name, row in pattern.items() if row and len(row) != self.init_r}
        wrong += [f"{name} has {length}, not {self.init_r}" for name, length in lengths.items()]
        if wrong:
            raise MiniloraError(f"rank_pattern: {few(wrong)}")
        return paths

    def at(self, path: str) -> Self:
        return self if self.rank_pattern is None else changed(self, rank=sum(self.rank_pattern[f"{path}.lora_E"]))

    def shapes(self, module: nn.Linear) -> dict[str, tuple[int, ...]]:
        r = self.rank
        return {"lora_A": (r, module.in_features), "lora_E": (r, 1), "lora_B": (module.out_features, r)}

    def adapt(self, module: nn.Linear, rng: np.random.Generator) -> "AdaLoraLinear":
        drawn = {name: 0.02 * rng.standard_normal(shape) for name, shape in self.shapes(module).items()}
        drawn["lora_E"] *= 0
        arrays = [backend.asarray(array, dtype=module.dtype) for array in drawn.values()]
        dropout = nn.Dropout(self.lora_dropout, int(rng.spawn(1)[0].integers(2**63)))
        return AdaLoraLinear(module, arrays, self.lora_alpha / (self.init_r + 1e-5), dropout)

    def training_hook(self, model: nn.Module, steps: int) -> "AdaLoraHook":
        """Create the rank allocator for one run, which begins with the whole budget."""
        total = steps if self.total_step is None else self.total_step
        start = total // 10 if self.tinit is None else self.tinit
        tfinal = 3 * total // 10 if self.tfinal is None else self.tfinal
        self.trained = changed(self, tinit=start, tfinal=tfinal, total_step=total, trained=None)
        if problems := self.trained.problems():
            raise MiniloraError("; ".join(problems))
        layers = [layer for _, layer in model.named_modules() if isinstance(layer, AdaLoraLinear)]
        for layer in layers:
            layer.kept = None
        return AdaLoraHook(self, layers, start, total - tfinal)

    def as_saved(self, layers: dict[str, Any]) -> "AdaLoraConfig":
        """With the triplets that are left, once the budget has been spent, and the steps that PEFT asks for."""
        kept = {f"{path}.lora_E": layer.kept_triplets() for path, layer in layers.items()}
        left = {name: row.tolist() for name, row in kept.items() if row is not None}
        told = self.trained or self
        tinit, tfinal = told.tinit or 0, told.tfinal or 0
        total = told.total_step or tinit + tfinal + 1
        return changed(self, tinit=tinit, tfinal=tfinal, total_step=total, rank_pattern=left or self.rank_pattern)


class AdaLoraLinear(AdapterLayer):
    """A Linear (in -> out) and its triplets: lora_A (r, in), lora_E (r, 1) and lora_B (out, r)."""

    def __init__(self, base_layer: nn.Linear, arrays: list[Any], scaling: float, lora_dropout: nn.Dropout):
        self.base_layer, self.scaling, self.lora_dropout = base_layer, scaling, lora_dropout
        self.lora_A, self.lora_E, self.lora_B = map(nn.Parameter, arrays)
        self.kept: Any = None  # which triplets the budget has left in the end, (r,); None: it is not spent yet

    def forward(self, x: Tensor) -> Tensor:
        A, B = self.lora_A * self.lora_E, self.lora_B
        if self.training and self.lora_dropout.p:
            return self.base_layer(x) + F.linear(F.linear(self.lora_dropout(x), A), B) * self.scaling
        return F.low_rank_linear(x, self.base_layer.product_weight, self.base_layer.bias, A, B, self.scaling)

    def merged(self) -> nn.Linear:
        update = self.lora_B.data @ (self.lora_A.data * self.lora_E.data) * self.scaling
        return with_weight(self.base_layer, self.base_layer.weight.data + update)

    def neutral(self) -> dict[str, float]:
        return {"lora_E": 0.0}

    def keep(self, mask: Any) -> None:
        """Set the e of other triplets to zero. mask: (r,)."""
        self.lora_E.data = xp.where(mask[:, None], self.lora_E.data, 0)

    def kept_triplets(self) -> np.ndarray | None:
        """Mark the triplets that a file holds: those that the budget has left, and any that are not zero; None: all."""
        return None if self.kept is None else backend.to_numpy(self.kept | (self.lora_E.data[:, 0] != 0))

    def saved_parameters(self) -> dict[str, Tensor]:
        A, E, B = (parameter.data for parameter in (self.lora_A, self.lora_E, self.lora_B))
        if (kept := self.kept_triplets()) is not None:
            rows = backend.asarray(np.flatnonzero(kept))
            A, E, B = A[rows], E[rows], B[:, rows]
        return dict(zip(NAMES, (Tensor(A), Tensor(E), Tensor(B)), strict=True))

    def extra_repr(self) -> str:
        return f"r={self.lora_E.shape[0]}, scaling={self.scaling:g}"


class AdaLoraHook(TrainingHook):
    """Keeps the importance of what trains, and spends the budget between the steps `start` and `end`."""

    def __init__(self, config: AdaLoraConfig, layers: list[AdaLoraLinear], start: int, end: int):
        self.config, self.layers, self.start, self.end = config, layers, start, end
        self.parameters = {f"{i}.{name}": getattr(layer, name) for i, layer in enumerate(layers) for name in NAMES}
        self.sensitivity = {name: xp.zeros_like(p.data) for name, p in self.parameters.items()}
        self.variation = {name: xp.zeros_like(p.data) for name, p in self.parameters.items()}

    def extra_loss(self) -> Tensor | None:
        if not self.config.orth_reg_weight:
            return None
        total = Tensor(0.0)
        for layer in (layer for layer in self.layers if layer.lora_E.size):  # in a file, a layer may have no rank left
            for product in (layer.lora_A @ layer.lora_A.T, layer.lora_B.T @ layer.lora_B):
                difference = product - Tensor(xp.eye(product.shape[0], dtype=product.dtype))
                total = total + ((difference * difference).sum() + TINY).sqrt()
        return total * (self.config.orth_reg_weight / (2 * len(self.layers)))

    def after_step(self, step: int) -> None:
        if self.config.rank_pattern is not None or self.end < 2:  # spent before, in a file; or nothing to go by
            return
        if step < self.end:
            self.measure()
        if step == self.end or (self.start < step < self.end and step % self.config.deltaT == 0):
            for layer, mask in zip(self.layers, self.allocate(self.budget(step)), strict=True):
                layer.keep(mask)
                layer.kept = mask if step == self.end else None
        elif step > self.end:
            for layer in self.layers:
                layer.keep(layer.kept)

    def measure(self) -> None:
        """Smooth the sensitivity of each number, and how much it varies."""
        b1, b2 = self.config.beta1, self.config.beta2
        for name, p in self.parameters.items():
            if p.grad is None:
                continue
            now = abs(p.data * p.grad)
            mean = self.sensitivity[name] = b1 * self.sensitivity[name] + (1 - b1) * now
            self.variation[name] = b2 * self.variation[name] + (1 - b2) * abs(now - mean)

    def budget(self, step: int) -> int:
        """Count the triplets of all layers that are left after a step."""
        first, last = (r * len(self.layers) for r in (self.config.init_r, self.config.target_r))
        return int((first - last) * (1 - (step - self.start) / (self.end - self.start)) ** 3 + last)

    def allocate(self, budget: int) -> list[Any]:
        """Mark, layer by layer, the triplets that are among the most important ones of all, at most `budget`."""
        scores = []
        for i in range(len(self.layers)):
            A, E, B = (self.sensitivity[f"{i}.{name}"] * self.variation[f"{i}.{name}"] for name in NAMES)
            scores.append(E[:, 0] + (A.mean(axis=1) + B.mean(axis=0)))
        every = xp.sort(xp.concatenate(scores))
        dropped = len(every) - budget
        return [score > every[dropped - 1] if dropped else xp.ones(score.shape, dtype=bool) for score in scores]

    def state_dict(self) -> dict[str, Any]:
        kept = {f"{i}.kept": layer.kept for i, layer in enumerate(self.layers) if layer.kept is not None}
        parts = {"sensitivity": self.sensitivity, "variation": self.variation}
        return kept | {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.parameters:
            self.sensitivity[name] = backend.asarray(state[f"sensitivity.{name}"])
            self.variation[name] = backend.asarray(state[f"variation.{name}"])
        for i, layer in enumerate(self.layers):
            if (kept := state.get(f"{i}.kept")) is not None:
                layer.kept = backend.asarray(kept)


def plan(shape: Any, options: Any) -> Trainable:
    """Plan LoRA of the rank at the start, with one number more for each triplet."""
    sizes, r = planned_linears(shape, options.targets), initial_rank(options)
    numbers = {name: r * (sum(size) + 1) for name, size in sizes.items()}
    return replace(
        plan_lora(shape, options),
        counts=Counts(block=sum(numbers.values()), down=numbers.get("down_proj", 0)),
        rank=r,
        made=r * sum(i for i, _ in sizes.values()),  # diag(e) A
        state=2,
    )


def initial_rank(options: Any) -> int:
    return (3 * options.rank + 1) // 2


register(
    Method(
        name="adalora",
        label="AdaLoRA",
        description="LoRA whose rank goes to the layers where it counts",
        family="low rank",
        marker="+",
        linestyle=(0, (5, 2, 1, 2)),
        lr=3e-2,
        large_lr=9e-3,
        config=AdaLoraConfig,
        settings=lambda options, tokens: {
            "target_r": options.rank,
            "init_r": initial_rank(options),
            "tinit": None,
            "tfinal": None,
            "lora_alpha": alpha_of(options),
            "lora_dropout": options.dropout,
            "target_modules": options.targets,
        },
        options=LORA,
        plan=plan,
    )
)
