"""python tests/golden/make_nn.py: what PyTorch's modules and optimizers do, as nn.safetensors and optim.safetensors.

nn: a module of an embedding, a LayerNorm and a Linear: its state dict, a batch of ids, the result and all gradients.
optim: each setting of `OPTIMIZERS` moves two parameters for 100 steps along `gradient`; stored after 1, 10 and 100.
All is computed in float64; inputs are stored as float32, which they fit exactly.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

HERE = Path(__file__).parent
STEPS = (1, 10, 100)

OPTIMIZERS = {
    "adamw": (torch.optim.AdamW, {"lr": 0.01}),
    "adamw_settings": (torch.optim.AdamW, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw_no_decay": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.0}),
    "sgd": (torch.optim.SGD, {"lr": 0.05}),
    "sgd_momentum": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9}),
    "sgd_settings": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.5, "weight_decay": 0.1}),
}


def start(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the parameters, and the targets that their gradients push them to."""
    shapes = {"w": (3, 4), "b": (4,), "goal_w": (3, 4), "goal_b": (4,)}
    return {name: rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()}


def gradient(p, goal, step: int):
    """Return a gradient that depends on the parameter and on the step (for arrays and tensors alike)."""
    return (p - goal) * (1 + step % 3) + 0.1 * (step % 5 - 2)


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 4)
        self.norm = torch.nn.LayerNorm(4)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 3, bias=False)])

    def forward(self, ids):
        x = self.norm(self.embed(ids))
        return self.layers[1](torch.nn.functional.gelu(self.layers[0](x)))


def small() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    model = Small().double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(rng.standard_normal(p.shape).astype("float32")))
    ids, flow = rng.integers(0, 7, (2, 5)), rng.standard_normal((2, 5, 3)).astype("float32")
    out = model(torch.from_numpy(ids))
    out.backward(torch.from_numpy(flow).double())
    arrays = {"ids": ids, "flow": flow, "out": out.detach().numpy()}
    arrays |= {f"state.{name}": p.detach().numpy().astype("float32") for name, p in model.named_parameters()}
    return arrays | {f"grad.{name}": p.grad.numpy() for name, p in model.named_parameters()}


def optimize(name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the parameters after the steps in STEPS: {"NAME.STEP.w": …}."""
    make, settings = OPTIMIZERS[name]
    params = {key: torch.from_numpy(arrays[key].astype("float64")).requires_grad_() for key in ("w", "b")}
    optimizer = make(params.values(), **settings)
    out = {}
    for step in range(1, max(STEPS) + 1):
        for key, p in params.items():
            p.grad = gradient(p.detach(), torch.from_numpy(arrays[f"goal_{key}"].astype("float64")), step)
        optimizer.step()
        if step in STEPS:
            out |= {f"{name}.{step}.{key}": p.detach().numpy().copy() for key, p in params.items()}
    return out


def main() -> None:
    save_file({name: np.array(a, order="C") for name, a in small().items()}, HERE / "nn.safetensors")
    arrays = start(np.random.default_rng(0))
    moved = {key: a for name in OPTIMIZERS for key, a in optimize(name, arrays).items()}
    save_file(arrays | moved, HERE / "optim.safetensors")


if __name__ == "__main__":
    main()
