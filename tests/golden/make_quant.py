"""python tests/golden/make_quant.py: what bitsandbytes computes on a CPU, as quant.safetensors.

`values` holds random float32 numbers of varying size, with a stretch of zeros and one of a constant. Each 4-bit case
quantizes a part of them (from `start` on), of odd length and with a short last block: packed bytes, absmax, and SHA-256
of what dequantizing gives. With double quantization the packed bytes are the same and left out, and the part is one
where PyTorch's mean of the absmax values is the rightly rounded one: PyTorch adds up in float32 and may be off by two
units in the last place, in a way that depends on the processor. The 8-bit cases hold codes and absmax, `dynamic_map`
the codebook.
"""

import hashlib
from pathlib import Path

import bitsandbytes.functional as bf
import numpy as np
import torch
from safetensors.numpy import save_file

HERE = Path(__file__).parent
BLOCKSIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
QUANT_TYPES = ("nf4", "fp4")


def draw_values() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(10_600) * np.repeat(10 ** rng.uniform(-2, 0, 106), 100)
    values[1200:1400], values[1500:1600] = 0, 0.01
    return values.astype("float32")


def length(blocksize: int, double: bool) -> int:
    """Return an odd length with a short last block; with double quantization, the last block of absmax is short too."""
    if double:
        return max(2 * blocksize, 300 * 32) + blocksize // 2 + 1
    return 2 * blocksize + blocksize // 2 + 1


def digest(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(array.tobytes()).digest(), np.uint8)


def four_bits(values: np.ndarray, blocksize: int, quant_type: str, double: bool) -> dict[str, np.ndarray]:
    packed, state = bf.quantize_4bit(
        torch.from_numpy(values), blocksize=blocksize, quant_type=quant_type, compress_statistics=double
    )
    dequantized = bf.dequantize_4bit(packed, state).numpy()
    arrays = {"absmax": state.absmax.numpy(), "dequantized": digest(dequantized)}
    if double:
        return arrays | {"offset": state.offset.numpy(), "state2.absmax": state.state2.absmax.numpy()}
    return arrays | {"packed": packed.numpy()}


def mean_is_rightly_rounded(values: np.ndarray, blocksize: int) -> bool:
    _, state = bf.quantize_4bit(torch.from_numpy(values), blocksize=blocksize, quant_type="nf4")
    return np.float32(state.absmax.numpy().astype("float64").mean()) == state.absmax.mean().numpy()


def main() -> None:
    torch.compiler.set_stance("force_eager")
    values = draw_values()
    arrays = {"values": values, "dynamic_map": bf.create_dynamic_map().numpy()}
    for blocksize in BLOCKSIZES:
        for double in (False, True):
            n, start = length(blocksize, double), 0
            while double and not mean_is_rightly_rounded(values[start : start + n], blocksize):
                start += 1
            for quant_type in QUANT_TYPES:
                quantized = four_bits(values[start : start + n], blocksize, quant_type, double)
                name = f"{quant_type}.{blocksize}{'.double' if double else ''}"
                arrays |= {f"{name}.{key}": a for key, a in quantized.items()} | {f"{name}.start": np.array(start)}
    for blocksize in (64, 256, 4096):
        codes, state = bf.quantize_blockwise(torch.from_numpy(values[:5001]), blocksize=blocksize)
        arrays |= {f"8bit.{blocksize}.codes": codes.numpy(), f"8bit.{blocksize}.absmax": state.absmax.numpy()}
        arrays[f"8bit.{blocksize}.dequantized"] = digest(bf.dequantize_blockwise(codes, state).numpy())
    save_file({name: np.array(a, order="C") for name, a in arrays.items()}, HERE / "quant.safetensors")


if __name__ == "__main__":
    main()
