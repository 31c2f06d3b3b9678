"""GPTQ: rounding weights to 4 bits so that the error of a layer's outputs is small (Frantar et al. 2022)."""

import numpy as np

from minilora import nn
from minilora.backend import asarray, to_numpy
from minilora.quant.codebooks import midpoints, order, values_of
from minilora.tensor import no_grad

BLOCKSIZE = 64
DAMPING = 0.01  # added to the diagonal of the Hessian, relative to its mean
# The layers of a block, grouped by their input.
SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


def gptq(weight: np.ndarray, hessian: np.ndarray, quant_type: str) -> np.ndarray:
    """Round `weight` (out, in) to 4-bit codes column by column (Frantar et al. 2022, "GPTQ", algorithm 1).

    hessian: (in, in), the sum of x xᵀ over inputs of the layer. The columns to the right compensate for the error of a
    column as far as inputs are correlated; if the Hessian is a multiple of the identity, each weight takes its nearest
    code. Each block of a row is scaled by its absmax, as in `quantize_4bit`.
    """
    values, limits = values_of(quant_type)[order(quant_type)], midpoints(quant_type)
    weight, columns = weight.astype(np.float64), len(hessian)
    damped = hessian + DAMPING * hessian.diagonal().mean() * np.eye(columns)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T  # inverse = upperᵀ upper
    rounded = np.empty_like(weight)
    for start in range(0, columns, BLOCKSIZE):
        stop = min(start + BLOCKSIZE, columns)
        absmax = np.abs(weight[:, start:stop]).max(axis=1).clip(1e-38)
        errors = np.empty((len(weight), stop - start))
        for j in range(start, stop):
            rounded[:, j] = values[np.searchsorted(limits, weight[:, j] / absmax)] * absmax
            errors[:, j - start] = (weight[:, j] - rounded[:, j]) / upper[j, j]
            weight[:, j + 1 : stop] -= np.outer(errors[:, j - start], upper[j, j + 1 : stop])
        weight[:, stop:] -= errors @ upper[start:stop, stop:]  # for the whole block at once, which is faster
    return rounded


class Watched(nn.Linear):
    """A Linear that records the sum of x xᵀ over its inputs."""

    hessian: np.ndarray

    def forward(self, x):
        rows = to_numpy(x.data).reshape(-1, self.in_features).astype(np.float64)
        self.hessian = rows.T @ rows
        return super().forward(x)


def quantize(model, ids: np.ndarray, quant_type: str, rounding: str) -> dict[str, float]:
    """Round the linears of the model's blocks in place while the text `ids` (rows, tokens) passes through them.

    Returns the relative squared errors of the weights and of the layers' outputs on the text. The inputs of a layer
    come from the layers before it, which are rounded already.
    """
    sums = np.zeros((2, 2))  # sums of the squared (errors, values) of (weights, outputs)

    def run_blocks(blocks, x, *arguments, cache=None):
        for block in blocks:
            for names in SAME_INPUT:
                holder = block.self_attn if hasattr(block.self_attn, names[0]) else block.mlp
                first = getattr(holder, names[0])
                setattr(holder, names[0], watched := Watched.from_arrays(first.weight.data))
                block(x, *arguments)
                setattr(holder, names[0], first)
                seen = watched.hessian if rounding == "gptq" else np.eye(first.in_features)
                for linear in (getattr(holder, name) for name in names):
                    weight = to_numpy(linear.weight.data)
                    rounded = gptq(weight, seen, quant_type)
                    for total, change in zip(sums, (rounded - weight, weight), strict=True):
                        total += (change**2).sum(), (change @ watched.hessian * change).sum()
                    linear.weight.data = asarray(rounded.astype(np.float32))
            x = block(x, *arguments)
        return x

    model.model.run_blocks = run_blocks
    with no_grad():
        model.model(ids)
    del model.model.run_blocks
    weights, outputs = sums[0] / sums[1]
    return {"weights_off": float(weights), "outputs_off": float(outputs)}
