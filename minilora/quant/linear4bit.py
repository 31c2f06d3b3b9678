"""Linear layers whose weights are stored in 4 bits and dequantized for each product (Dettmers et al. 2023, "QLoRA").

    y = x dequantize(codes)ᵀ + b        codes and b are frozen, the gradient flows to x

A 4-bit weight cannot be trained, because an optimizer's step is far smaller than the distance between two codes. But it
can carry an adapter that is trained in float32: QLoRA is LoRA on top of such layers.

    parameters  in · out, of 4.5 bits each (4.127 with double quantization) instead of 32
    error       at the start, each weight is off by at most 0.152 of its block's absmax (NF4)
    memory      the float weight exists only while a product runs, in forward and in backward
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
    """A Linear with a frozen 4-bit weight. `from_linear` makes one, and `to_float` converts it back.

    packed: uint8 ((in · out + 1) // 2, 1); quant_state: QuantState; bias: (out,) or None; weight_digest: SHA-256 of the
    weight before quantization, by which an adapter recognizes its base.
    """

    def __init__(self, packed: Array, quant_state: QuantState, bias: Tensor | None = None, weight_digest: str = ""):
        assert quant_state.shape is not None  # None is for 8 bits
        self.out_features, self.in_features = quant_state.shape
        self.packed, self.quant_state = packed, quant_state
        self.bias, self.weight_digest = bias, weight_digest

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, blocksize: int = BLOCKSIZE, quant_type: str = "nf4", compress_statistics: bool = False
    ) -> "Linear4bit":
        """Quantize the weight of `linear`, and copy its bias, frozen. `linear` itself does not change.

        Raises the same errors as `quantize_4bit`.
        """
        if isinstance(linear, Linear4bit):
            raise MiniloraError("the layer is already in 4 bits")
        weight = linear.weight.data
        packed, state = quantize_4bit(weight, blocksize, quant_type, compress_statistics)
        bias = None if linear.bias is None else nn.Parameter(linear.bias.data, requires_grad=False)
        layer = cls(packed, state, bias, weight_digest(weight))
        layer.training = linear.training
        return layer

    def to_float(self) -> nn.Linear:
        """Return a plain, trainable Linear with the dequantized weight."""
        linear = nn.Linear.from_arrays(self.dequantize(), None if self.bias is None else self.bias.data.copy())
        linear.training = self.training
        return linear

    def dequantize(self) -> Array:
        """Return the weight (out, in), dequantized at each call."""
        return dequantize_4bit(self.packed, self.quant_state)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # cannot be assigned here
        """The dequantized weight, a new Tensor each time. It is read-only, because changes to it would be lost."""
        array = self.dequantize()
        backend.lock(array)
        return wrap(array)

    @property
    def product_weight(self) -> Any:
        """A function that dequantizes the weight, for `functional.linear`."""
        return self.dequantize

    @property
    def dtype(self) -> Any:
        """The dtype in which the weight takes part in products."""
        return self.quant_state.dtype

    @property
    def num_quantized(self) -> int:  # type: ignore[override]  # as above
        """The number of quantized weights."""
        return self.in_features * self.out_features

    @property
    def nbytes(self) -> int:
        """Bytes of the codes and their statistics."""
        return self.packed.nbytes + self.quant_state.nbytes

    @property
    def settings(self) -> dict[str, Any]:
        """The keyword arguments of `from_linear` with which the layer was quantized."""
        state = self.quant_state
        return {"blocksize": state.blocksize, "quant_type": state.quant_type, "compress_statistics": state.nested}


def weight_digest(array: Array) -> str:
    """Compute the SHA-256 of the float32 bytes of an array of the backend, in hexadecimal digits."""
    host = np.ascontiguousarray(backend.to_numpy(array), dtype="<f4")
    return hashlib.sha256(host.reshape(-1).view(np.uint8).data).hexdigest()


# Whole models


def linears_of_blocks(model: nn.Module) -> list[str]:
    """List the paths of all Linears in the model's blocks, or of all Linears if it has no list of blocks."""
    linears = [path for path, module in model.named_modules() if path and isinstance(module, nn.Linear)]
    return [path for path in linears if _in_block(path)] or linears


def _in_block(path: str) -> bool:
    return any(part.isdigit() for part in path.split("."))


def quantize_model(
    model: nn.Module, blocksize: int = BLOCKSIZE, quant_type: str = "nf4", compress_statistics: bool = False
) -> nn.Module:
    """Quantize the Linears of the model's blocks to 4 bits, in place, and freeze them. Returns `model`.

    Embeddings, norms and the head stay float: norms are small, embeddings are only looked up, and errors of the head
    would go straight into the logits. Raises MiniloraError, and changes nothing, for weights that `quantize_4bit`
    cannot quantize, and for a model that is already quantized or has an adapter.
    """
    check_options(blocksize, quant_type)
    if quantized := quantized_linears(model):
        raise MiniloraError(f"the model is already quantized: {first_few(quantized)}; call dequantize_model() first")
    if adapted := nn.adapted_modules(model):
        raise MiniloraError(f"the model has an adapter: {first_few(adapted)}; quantize the plain model, then adapt it")
    linears: dict[str, Any] = {path: model.get_submodule(path) for path in linears_of_blocks(model)}
    for path, linear in linears.items():
        check_array(linear.weight.data, path)
    for path in list(linears):  # one by one, so that each float weight is freed as soon as it is quantized
        linear = linears.pop(path)
        model.replace(path, Linear4bit.from_linear(linear, blocksize, quant_type, compress_statistics))
    return _recomputing(model, True)


def load_4bit(family: Any, path: str | os.PathLike[str], **settings: Any) -> nn.Module:
    """Load a model and quantize it one layer at a time, so that at most one layer is in float at once. Result and
    errors are those of `quantize_model(family.from_pretrained(path), **settings)`.

    family: a model class, such as LlamaForCausalLM; path: as its `from_pretrained` takes it.
    """

    def quantized(path: str, module: nn.Module) -> nn.Module:
        if not (isinstance(module, nn.Linear) and _in_block(path)):
            return module
        check_array(module.weight.data, path)
        return Linear4bit.from_linear(module, **settings)

    return _recomputing(family.from_pretrained(path, each=quantized), True)


def _recomputing(model: nn.Module, flag: bool) -> nn.Module:
    """Switch selective recomputation on or off: with 4-bit weights, memory is scarce, and it costs little time."""
    for _, module in model.named_modules():
        if hasattr(module, "selective_recomputation"):
            module.selective_recomputation = flag
    return model


def dequantize_model(model: nn.Module) -> nn.Module:
    """Replace every Linear4bit by a plain Linear with the dequantized weight, in place. Returns `model`.

    Raises MiniloraError for a model with an adapter: merging that gives float layers anyway.
    """
    if adapted := nn.adapted_modules(model):
        raise MiniloraError(
            f"the model has an adapter: {first_few(adapted)}; call merge_and_unload() or unload() first"
        )
    layers = _in_4_bits(model)
    for path in list(layers):  # one by one, as above
        model.replace(path, layers.pop(path).to_float())
    return _recomputing(model, False)


@contextmanager
def in_float(model: nn.Module) -> Iterator[nn.Module]:
    """Within the block, replace every Linear4bit of `model`, also inside adapters, by a plain Linear: for many products
    with few rows, as in generation, where dequantizing each time would dominate. The original layers are then restored.
    """
    modules, replaced = dict(model.named_modules()), []
    try:
        for path, layer in _in_4_bits(model).items():
            parent = max((other for other in modules if path.startswith(f"{other}.")), key=len, default="")
            holder, name = modules[parent], path.removeprefix(f"{parent}.")
            plain = layer.to_float().requires_grad_(False)
            holder.replace(name, plain)
            replaced.append((holder, name, plain, layer))
        yield model
    finally:
        for holder, name, plain, layer in replaced:
            if holder.get_submodule(name) is plain:  # if not, another adapter was put there meanwhile
                holder.replace(name, layer)


def quantized_linears(model: nn.Module) -> list[str]:
    """List the paths of the Linears in 4 bits."""
    return list(_in_4_bits(model))


def _in_4_bits(model: nn.Module) -> dict[str, Linear4bit]:
    return {path: module for path, module in model.named_modules() if isinstance(module, Linear4bit)}


def quantization(model: nn.Module) -> dict[str, Any] | None:
    """Return the arguments of `quantize_model` with which the model was quantized; None if it is all float.

    If layers were quantized one by one and differ in a setting, that setting is None.
    """
    settings = [layer.settings for layer in _in_4_bits(model).values()]
    if not settings:
        return None
    return {
        name: value if all(other[name] == value for other in settings) else None for name, value in settings[0].items()
    }
