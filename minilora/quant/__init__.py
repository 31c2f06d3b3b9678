"""Weights in 4 bits, in the names of bitsandbytes: codebooks, blockwise quantization, linear layers."""

from minilora.quant.blockwise import (
    BLOCKSIZE,
    BLOCKSIZES,
    QuantState,
    blocksize_field,
    dequantize_4bit,
    dequantize_blockwise,
    quantize_4bit,
    quantize_blockwise,
)
from minilora.quant.codebooks import CODEBOOKS, dynamic_map, fp4, int4, nf4, register_codebook
from minilora.quant.linear4bit import (
    Linear4bit,
    dequantize_model,
    in_float,
    linears_of_blocks,
    load_4bit,
    quantization,
    quantize_model,
    quantized_linears,
    weight_digest,
)

__all__ = [
    "BLOCKSIZE",
    "BLOCKSIZES",
    "CODEBOOKS",
    "Linear4bit",
    "QuantState",
    "blocksize_field",
    "dequantize_4bit",
    "dequantize_blockwise",
    "dequantize_model",
    "dynamic_map",
    "fp4",
    "in_float",
    "int4",
    "linears_of_blocks",
    "load_4bit",
    "nf4",
    "quantization",
    "quantize_4bit",
    "quantize_blockwise",
    "quantize_model",
    "quantized_linears",
    "register_codebook",
    "weight_digest",
]
