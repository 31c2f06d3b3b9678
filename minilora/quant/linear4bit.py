"""Linear layers whose weights are stored in 4 bits and made anew for each product (Dettmers et al. 2023, "QLoRA").

    y = x dequantize(codes)ᵀ + b        codes and b frozen, the gradient flows to x

A weight of 4 bits cannot be trained: a step of an optimizer is far smaller than the distance between two codes. It can
carry an adapter, which is trained in float32 beside it: QLoRA is LoRA over such layers.

    parameters  in · out, in 4.5 bits each (4.127 with double quantization) where float32 takes 32
    start       the layer that was quantized, each weight off by at most 0.152 of its block's absmax (NF4)
    memory      the float weight exists while its product runs, forward and backward, and not in between
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minilora import backend, nn
from minilora.backend import Array
from minilora.errors import MiniloraError, first_few
from minilora.quant.blockwise import BLOCKSIZE, QuantState, check_array, check_options, dequantize_4bit, quantize_4bit
from minilora.tensor import Tensor, wrap


class Linear4bit(nn.Linear):
    """A Linear with a frozen weight in 4 bits. Made by `from_linear`; `to_float` leads back.

    packed: uint8 ((in · out + 1) // 2, 1); quant_state: QuantState; bias: (out,) or None; weight_digest: SHA-256 of the
    weight before it was quantized, by which an adapter knows its base.
    """

    def __init__(self, packed: Array, quant_state: QuantState, bias: Tensor | None = None, weight_digest: str = ""):
        assert quant_state.shape is not None  # as it is for 8 bits
        self.out_features, self.in_features = quant_state.shape
        self.packed, self.quant_state = packed, quant_state
        self.bias, self.weight_digest = bias, weight_digest

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, blocksize: int = BLOCKSIZE, quant_type: str = "nf4", compress_statistics: bool = False
    ) -> "Linear4bit":
        """`linear` with its weight in 4 bits and a frozen copy of its bias. Changes nothing in `linear`.

        Errors as for `quantize_4bit`.
        """
        if isinstance(linear, Linear4bit):
            raise MiniloraError("the layer is in 4 bits already")
        weight = linear.weight.data
        packed, state = quantize_4bit(weight, blocksize, quant_type, compress_statistics)
        bias = None if linear.bias is None else nn.Parameter(linear.bias.data, requires_grad=False)
        layer = cls(packed, state, bias, weight_digest(weight))
        layer.training = linear.training
        return layer

    def to_float(self) -> nn.Linear:
        """A plain Linear with the weight that this layer computes with; it trains, as any new one."""
        linear = nn.Linear.from_arrays(self.dequantize(), None if self.bias is None else self.bias.data.copy())
        linear.training = self.training
        return linear

    def dequantize(self) -> Array:
        """The weight (out, in), made anew."""
        return dequantize_4bit(self.packed, self.quant_state)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # cannot be assigned here
        """A frozen Tensor of the weight, made anew, and read-only: what is written into it would be lost."""
        array = self.dequantize()
        backend.lock(array)
        return wrap(array)

    @property
    def product_weight(self) -> Any:
        """Dequantizes the weight on demand."""
        return self.dequantize

    @property
    def dtype(self) -> Any:
        """The dtype of the weight, as a number to compute with."""
        return self.quant_state.dtype

    @property
    def num_quantized(self) -> int:  # type: ignore[override]  # as above
        """The number of weights."""
        return self.in_features * self.out_features

    @property
    def nbytes(self) -> int:
        """Bytes of the codes and their statistics."""
        return self.packed.nbytes + self.quant_state.nbytes

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments of `from_linear` by which it was quantized."""
        state = self.quant_state
        return {"blocksize": state.blocksize, "quant_type": state.quant_type, "compress_statistics": state.nested}


def weight_digest(array: Array) -> str:
    """SHA-256 over the float32 bytes of an array of the backend, as hexadecimal digits."""
    host = np.ascontiguousarray(backend.to_numpy(array), dtype="<f4")
    return hashlib.sha256(host.reshape(-1).view(np.uint8).data).hexdigest()


# Whole models


def linears_of_blocks(model: nn.Module) -> list[str]:
    """Paths of all Linears in the model's lists of blocks; of all that it has, where it has no such lists."""
    found = [path for path, module in model.named_modules() if path and isinstance(module, nn.Linear)]
    return [path for path in found if _in_block(path)] or found


def _in_block(path: str) -> bool:
    return any(part.isdigit() for part in path.split("."))


def quantize_model(
    model: nn.Module, blocksize: int = BLOCKSIZE, quant_type: str = "nf4", compress_statistics: bool = False
) -> nn.Module:
    """Put the Linears of the model's blocks into 4 bits, in place and frozen; the rest stays as it is. Returns `model`.

    Embeddings, norms and the head stay float: they are few, or read by lookup, and the head's errors go straight into
    the logits. Raises MiniloraError, and changes nothing then: as `quantize_4bit` does, and for a model that
    is quantized or adapted already.
    """
    check_options(blocksize, quant_type)
    if quantized := quantized_linears(model):
        raise MiniloraError(f"the model is quantized already: {first_few(quantized)}; dequantize_model() leads back")
    if adapted := nn.adapted_modules(model):
        raise MiniloraError(f"the model has an adapter: {first_few(adapted)}; quantize the plain model, then adapt it")
    linears: dict[str, Any] = {path: model.get_submodule(path) for path in linears_of_blocks(model)}
    for path, linear in linears.items():
        check_array(linear.weight.data, path)
    for path in list(linears):  # one by one: a float weight can go as soon as its codes are there
        linear = linears.pop(path)
        model.replace(path, Linear4bit.from_linear(linear, blocksize, quant_type, compress_statistics))
    return _recomputing(model, True)


def load_4bit(family: Any, path: str | os.PathLike[str], **settings: Any) -> nn.Module:
    """`quantize_model(family.from_pretrained(path), **settings)`, one layer at a time: no more than one is in float at
    once.

    family: a model class, such as LlamaForCausalLM; path: as its `from_pretrained` takes it. Errors are those of both.
    """

    def quantized(path: str, module: nn.Module) -> nn.Module:
        if not (isinstance(module, nn.Linear) and _in_block(path)):
            return module
        check_array(module.weight.data, path)
        return Linear4bit.from_linear(module, **settings)

    return _recomputing(family.from_pretrained(path, each=quantized), True)


def _recomputing(model: nn.Module, flag: bool) -> nn.Module:
    """Who holds weights in 4 bits is short of memory: what costs little time is made again in backward."""
    for _, module in model.named_modules():
        if hasattr(module, "selective_recomputation"):
            module.selective_recomputation = flag
    return model


def dequantize_model(model: nn.Module) -> nn.Module:
    """Put plain Linears, with the weights that they computed with, in the place of all Linear4bit. Returns `model`.

    Raises MiniloraError for a model with an adapter, which merges into floats itself.
    """
    if adapted := nn.adapted_modules(model):
        raise MiniloraError(f"the model has an adapter: {first_few(adapted)}; merge_and_unload() or unload() it before")
    layers = _in_4_bits(model)
    for path in list(layers):  # one by one, as above
        model.replace(path, layers.pop(path).to_float())
    return _recomputing(model, False)


@contextmanager
def in_float(model: nn.Module) -> Iterator[nn.Module]:
    """Within the block, all Linear4bit of `model` (and under its adapters) are plain Linears with the weights that they
    compute with: for many products with few rows, such as generating. The very layers come back.
    """
    modules, lent = dict(model.named_modules()), []
    try:
        for path, layer in _in_4_bits(model).items():
            above = max((other for other in modules if path.startswith(f"{other}.")), key=len, default="")
            holder, name = modules[above], path.removeprefix(f"{above}.")
            plain = layer.to_float().requires_grad_(False)
            holder.replace(name, plain)
            lent.append((holder, name, plain, layer))
        yield model
    finally:
        for holder, name, plain, layer in lent:
            if holder.get_submodule(name) is plain:  # else another adapter has been set meanwhile
                holder.replace(name, layer)


def quantized_linears(model: nn.Module) -> list[str]:
    """Paths of the Linears in 4 bits."""
    return list(_in_4_bits(model))


def _in_4_bits(model: nn.Module) -> dict[str, Linear4bit]:
    return {path: module for path, module in model.named_modules() if isinstance(module, Linear4bit)}


def quantization(model: nn.Module) -> dict[str, Any] | None:
    """The arguments of `quantize_model` that made the model what it is, None where it is all float.

    Where layers were quantized one by one and differ in a setting, this one is None.
    """
    found = [layer.settings for layer in _in_4_bits(model).values()]
    if not found:
        return None
    return {name: value if all(other[name] == value for other in found) else None for name, value in found[0].items()}
