"""Optimizers: SGD with momentum, AdamW, clipping of the gradient norm, and learning-rate schedules (`lr_scheduler`).

Parameters are Tensors, or groups of them: `[{"params": [...], "lr": 1e-3}, {"params": [...]}]`. Settings that a group
does not have come from the optimizer's arguments. A step does not touch parameters that are frozen or have no gradient,
not even by weight decay.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import sqrt
from typing import Any, TypeAlias

from minilora import backend, kernels
from minilora.backend import Array, xp
from minilora.elsewhere import missing
from minilora.errors import unknown
from minilora.ops import number
from minilora.tensor import Tensor, writable_data
from minilora.threads import spread

Group: TypeAlias = dict[str, Any]  # "params", a list of Tensors, and the group's settings
Params: TypeAlias = Iterable[Tensor] | Iterable[Group]
Betas: TypeAlias = tuple[float, float]
USED_UP = " (a generator, such as model.parameters(), is empty after its first use)"


class Optimizer:
    """Base class: parameter groups, and a state of arrays for each parameter. Subclasses implement `_update`."""

    arrays: tuple[str, ...] = ()  # names of the arrays in a parameter's state

    def __init__(self, params: Params, **defaults: Any) -> None:
        groups: list[Any] = list(params)
        if groups and not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        known = {"params", *defaults}
        if unexpected := [name for group in groups for name in group if name not in known]:
            raise ValueError(unknown("parameter group setting", unexpected[0], sorted(known)))
        if any(isinstance(tensors, Tensor) for tensors in (params, *(group["params"] for group in groups))):
            raise TypeError(f"{type(self).__name__} takes Tensors in a list: [tensor], not the tensor itself")
        self.param_groups = [{**defaults, **group, "params": list(group["params"])} for group in groups]
        self.state: dict[int, dict[str, Any]] = {}  # position of the parameter -> its arrays and counts
        everything = self._all_parameters()
        if not everything:
            raise ValueError(f"{type(self).__name__} was given no parameters{USED_UP}")
        if not all(isinstance(p, Tensor) for p in everything):
            raise TypeError(f"{type(self).__name__} takes a list of Tensors, or of dictionaries with such a list")
        if computed := [p.shape for p in everything if p._node is not None]:
            raise ValueError(f"a computed tensor, of shape {computed[0]}, is not a leaf: optimize the leaves behind it")
        if len(set(everything)) != len(everything):
            raise ValueError(f"{type(self).__name__} was given a parameter twice")
        for group in self.param_groups:
            for name in {"lr", "weight_decay", "momentum"} & group.keys():
                if not 0 <= group[name] < float("inf"):
                    raise ValueError(f"{name} must be finite and not negative: {group[name]}")

    def _all_parameters(self) -> list[Tensor]:
        """Return the parameters of all groups, in the order of their positions."""
        return [p for group in self.param_groups for p in group["params"]]

    def _live(self) -> Iterator[tuple[int, Tensor, Group]]:
        """Yield (position, parameter, group) for every parameter that a step changes."""
        groups = [group for group in self.param_groups for _ in group["params"]]
        for position, (p, group) in enumerate(zip(self._all_parameters(), groups, strict=True)):
            if p.requires_grad and p.grad is not None:
                if not backend.is_array(p.grad):
                    raise TypeError(f"the gradient of parameter {position} must be an array, not {type(p.grad)}")
                if p.grad.shape != p.shape:
                    raise ValueError(f"parameter {position}, of shape {p.shape}, has a gradient of {p.grad.shape}")
                yield position, p, group

    def zero_grad(self) -> None:
        """Drop the gradients of all parameters."""
        for p in self._all_parameters():
            p.grad = None

    def step(self) -> None:
        """Update each parameter that has a gradient, spread over all cores."""

        def update(live: tuple[int, Tensor, Group]) -> None:
            position, p, group = live
            group = {name: number(value) for name, value in group.items()}
            state = self.state.setdefault(position, {"step": 0})
            state["step"] += 1
            self._update(p, p.grad, state, group)

        spread(update, [(live, live[1].size) for live in self._live()])

    def _update(self, p: Tensor, g: Array, state: dict[str, Any], group: Group) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return {"position.name": array or number}: everything but the parameters and the groups' settings."""
        return {f"{i}.{name}": value for i, state in self.state.items() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a `state_dict` of the same parameters in the same order. Arrays are copied, and converted to the
        parameters' dtypes.

        Raises ValueError, and changes nothing, for a state that does not fit.
        """
        params = self._all_parameters()
        new: dict[int, dict[str, Any]] = {}
        for key, value in state.items():
            position, _, name = key.partition(".")
            if not position.isdigit() or int(position) >= len(params) or name not in ("step", *self.arrays):
                raise ValueError(f"the state does not fit {len(params)} parameters: {key!r} is unknown")
            p = params[int(position)]
            entry: Any = int(value) if name == "step" else backend.asarray(value).astype(p.dtype)
            if name != "step" and entry.shape != p.shape:
                raise ValueError(f"state {key!r} has shape {entry.shape}, not {p.shape}")
            new.setdefault(int(position), {})[name] = entry
        self.state = new


class SGD(Optimizer):
    """SGD with momentum, in PyTorch's form: b ← momentum · b + g + weight_decay · p, then p ← p - lr · b."""

    arrays = ("momentum",)  # missing without momentum

    def __init__(self, params: Params, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def _update(self, p: Tensor, g: Array, state: dict[str, Any], group: Group) -> None:
        data = writable_data(p)
        if group["weight_decay"]:
            g = g + group["weight_decay"] * data
        if group["momentum"]:
            if "momentum" in state:
                state["momentum"] *= group["momentum"]
                state["momentum"] += g
            else:
                state["momentum"] = g.copy()
            g = state["momentum"]
        data -= group["lr"] * g


def plain_adamw_step(
    p: Array, g: Array, m: Array, v: Array, step: int, lr: float, betas: Betas, eps: float, weight_decay: float
) -> tuple[Array, Array, Array]:
    """Take an AdamW step (Loshchilov & Hutter 2019, algorithm 2); return the new parameter and both moments."""
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    m_hat = m / (1 - betas[0] ** step)
    v_hat = v / (1 - betas[1] ** step)
    return p - lr * weight_decay * p - lr * m_hat / (xp.sqrt(v_hat) + eps), m, v


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2): `plain_adamw_step`, in place."""

    arrays = ("m", "v")

    def __init__(
        self, params: Params, lr: float, betas: Betas = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        for group in self.param_groups:
            betas, eps = group["betas"], group["eps"]
            if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas) or not eps >= 0:
                raise ValueError(f"betas must be two numbers in [0, 1) and eps be at least 0: {betas}, {eps}")

    def _update(self, p: Tensor, g: Array, state: dict[str, Any], group: Group) -> None:
        if "m" not in state:
            state["m"], state["v"] = xp.zeros(p.shape, dtype=p.dtype), xp.zeros(p.shape, dtype=p.dtype)
        beta1, beta2 = group["betas"]
        # Both bias corrections are folded into lr and eps, so that the update is p -= lr · m / (sqrt(v) + eps).
        correction1, correction2 = 1 - beta1 ** state["step"], sqrt(1 - beta2 ** state["step"])
        lr, eps = group["lr"] * correction2 / correction1, group["eps"] * correction2
        keep = 1 - group["lr"] * group["weight_decay"]
        flat = [a.reshape(-1) for a in (g, writable_data(p), state["m"], state["v"])]
        for s in backend.row_blocks(p.size, p.dtype.itemsize * 4) if backend.is_cpu() else [...]:
            gradient, data, m, v = (a[s] for a in flat)
            kernels.adamw(gradient, lr, eps, keep, beta1, beta2, data, m, v)


def clip_grad_norm_(params: Tensor | Iterable[Tensor], max_norm: float) -> Array:
    """Scale all gradients so that their joint norm is at most `max_norm`, and return the norm before that.

    params: Tensors or, as in PyTorch, a single one. The norm is a 0-d array, so that on a GPU nothing waits for it.
    Raises ValueError if max_norm is not positive or there are no parameters.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, not {max_norm}")
    params = [params] if isinstance(params, Tensor) else list(params)
    if not params:
        raise ValueError(f"there are no parameters to clip{USED_UP}")
    max_norm, grads = number(max_norm), [p.grad for p in params if p.grad is not None]
    if not grads:
        return xp.zeros(())
    sized = [(g, g.size) for g in grads]
    total = xp.zeros((), dtype=grads[0].dtype)
    for square in spread(lambda g: xp.dot(g.reshape(-1), g.reshape(-1)), sized):
        total = total + square
    norm = xp.sqrt(total)
    scale = xp.minimum(max_norm / (norm + 1e-6), 1)
    spread(lambda g: xp.multiply(g, scale, out=g), sized)
    return norm


def __getattr__(name: str) -> object:
    raise missing("minilora.optim", name)


from minilora.optim import lr_scheduler as lr_scheduler  # noqa: E402 (it takes an Optimizer)
