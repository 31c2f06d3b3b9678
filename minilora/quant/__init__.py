"""4-bit weights, under the names of bitsandbytes: codebooks, blockwise quantization, linear layers."""

from minilora.quant.blockwise import BLOCKSIZE, BLOCKSIZE_FIELD, BLOCKSIZES, QuantState, dequantize_4bit, quantize_4bit
from minilora.quant.codebooks import CODEBOOKS, dynamic_map, fp4, int4, nf4
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

__all__ = ["BLOCKSIZE", "BLOCKSIZES", "BLOCKSIZE_FIELD", "QuantState", "dequantize_4bit", "quantize_4bit"]
__all__ += ["CODEBOOKS", "dynamic_map", "fp4", "int4", "nf4"]
__all__ += ["Linear4bit", "dequantize_model", "in_float", "linears_of_blocks", "load_4bit", "quantization"]
__all__ += ["quantize_model", "quantized_linears", "weight_digest"]
