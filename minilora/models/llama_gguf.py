"""Conversion of Llama-family models from GGUF files to Hugging Face's form and back: configuration, names, row order.

llama.cpp rotates pairs of neighbouring elements of a head, Hugging Face pairs of elements half a head apart, so a GGUF
file has the rows of q and k in another order. (Qwen2's files do not: for them, llama.cpp pairs halves as well.)
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minilora import backend
from minilora.errors import FormatError, MiniloraError, escape, first_few
from minilora.formats.gguf import BLOCK, GGUF
from minilora.formats.stored import StoredTensor
from minilora.models.language_model import check_plain
from minilora.models.rotary import inverse_frequencies
from minilora.tensor import Tensor

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2"}  # general.architecture -> model_type
WRITTEN = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}  # model_type -> general.architecture
FILE_TYPES = {"F16": 1, "Q8_0": 7}  # how matrices are stored -> general.file_type
QUANTIZATION_VERSION = 2  # ggml's version of its formats
FIELDS = {  # field of config.json -> key after the architecture, and the type of its value
    "hidden_size": ("embedding_length", int),
    "intermediate_size": ("feed_forward_length", int),
    "num_hidden_layers": ("block_count", int),
    "num_attention_heads": ("attention.head_count", int),
    "max_position_embeddings": ("context_length", int),
    "rms_norm_eps": ("attention.layer_norm_rms_epsilon", float),
}
OPTIONAL = {
    "num_key_value_heads": ("attention.head_count_kv", int),
    "head_dim": ("attention.key_length", int),
    "rope_theta": ("rope.freq_base", float),
}
ROTATED = "rope.dimension_count"  # number of elements of each head that are rotated
TOKENS = {name: f"tokenizer.ggml.{word}_token_id" for name, word in
          (("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding"))}  # fmt: skip
NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
BIASED = {  # architecture -> parts for which llama.cpp reads a bias; with any other bias it rejects the file
    "llama": ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"),
    "qwen2": ("attn_q", "attn_k", "attn_v"),
}
ROPE_FACTORS = "rope_freqs.weight"  # divisors of the rotary frequencies
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def llama_of(gguf: GGUF, where: str) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """Convert a GGUF file to (content of a config.json, tensors by Hugging Face's names).

    where: the file, for errors. Raises FormatError if the model is not supported or the file is damaged.
    """
    architecture = gguf.metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise FormatError(
            f"{where} holds a model of architecture {escape(repr(architecture))}; minilora reads "
            f"{', '.join(ARCHITECTURES)} from GGUF files"
        )
    tensors = dict(gguf.tensors)
    config = _config_of(gguf.metadata, tensors, architecture, where)
    if ROPE_FACTORS in tensors:
        config["rope_scaling"] = _llama3_scaling(tensors.pop(ROPE_FACTORS).read(), config, where)

    rotated = _rotated(architecture, config["num_attention_heads"], config.get("num_key_value_heads"))
    paths = _paths_by_name(min(config["num_hidden_layers"], len(tensors)))  # a file may claim any number
    named = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".")
        if stem not in paths or kind not in ("weight", "bias"):
            raise FormatError(f"{where} has a tensor that does not belong to a {architecture} model: {escape(name)}")
        if (part := stem.rpartition(".")[2]) in rotated and tensor.shape:
            tensor = _in_halves(tensor, rotated[part], f"{where}: tensor {escape(name)}")
        named[f"{paths[stem]}.{kind}"] = tensor
    return config, named


def _config_of(
    metadata: dict[str, object], tensors: dict[str, StoredTensor], architecture: str, where: str
) -> dict[str, Any]:
    """Return the content of a config.json, without Llama 3's rotary scaling."""

    def read(key: str, kind: type) -> Any:
        value = metadata[key]
        if type(value) is not kind:
            raise FormatError(f"{where}: {key} is {escape(repr(value))}, not of type {kind.__name__}")
        return value

    config: dict[str, Any] = {"model_type": ARCHITECTURES[architecture]}
    for field, (word, kind) in (FIELDS | OPTIONAL).items():
        key = f"{architecture}.{word}"
        if key in metadata:
            config[field] = read(key, kind)
        elif field in FIELDS:
            raise FormatError(f"{where} lacks {key}")
    config |= {field: metadata[key] for field, key in TOKENS.items() if key in metadata}
    config["attention_bias"] = architecture == "qwen2" or "blk.0.attn_q.bias" in tensors
    config["mlp_bias"] = "blk.0.ffn_up.bias" in tensors
    if "token_embd.weight" not in tensors or len(tensors["token_embd.weight"].shape) != 2:
        raise FormatError(f"{where} has no embedding table (token_embd.weight)")
    config["vocab_size"] = tensors["token_embd.weight"].shape[0]
    config["tie_word_embeddings"] = "output.weight" not in tensors

    head_dim = config.get("head_dim", config["hidden_size"] // max(config["num_attention_heads"], 1))
    if (key := f"{architecture}.{ROTATED}") in metadata and read(key, int) != head_dim:
        raise FormatError(f"{where}: {key} is {metadata[key]}, but only heads rotated whole ({head_dim}) are supported")
    older = metadata.get(f"{architecture}.rope.scale_linear")  # a linear factor, as any factor without a type is
    factor = metadata.get(f"{architecture}.rope.scaling.factor", older)
    scaling = metadata.get(f"{architecture}.rope.scaling.type", "none" if factor in (None, 0, 1) else "linear")
    if scaling != "none":
        raise FormatError(f"{where} asks for rotary scaling {escape(repr(scaling))}, which is not supported")
    return config


def gguf_of(model: Any, matrices: str = "F16") -> GGUF:
    """Convert a language model of this family to the content of a GGUF file, without a tokenizer. `llama_of` converts
    it back, to the same model except for rounding.

    matrices: how to store matrices, one of FILE_TYPES; vectors are stored as F32. Raises MiniloraError for a model that
    a GGUF file cannot hold: one of another family, with layers in 4 bits or an adapter that is not merged, or with a
    rotary scaling or biases that llama.cpp does not support.
    """
    check_plain(model)
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in WRITTEN or not hasattr(model, "lm_head"):
        what = type(model).__name__ + (f" of type {kind}" if kind else "")
        raise MiniloraError(f"{what} cannot be written as GGUF: only language models of {', '.join(WRITTEN)} can")
    config = model.config
    architecture, usual = WRITTEN[config.model_type], config.hidden_size / config.num_attention_heads
    if architecture == "qwen2" and config.head_dim != usual:
        raise MiniloraError(f"in a GGUF file, a qwen2 model has heads of size {usual:g}, not {config.head_dim}")
    rotated = _rotated(architecture, config.num_attention_heads, config.num_key_value_heads)
    names = {path: name for name, path in _paths_by_name(config.num_hidden_layers).items()}
    written, unsupported = {}, []
    for path, parameter in model.named_parameters():
        module, _, suffix = path.rpartition(".")
        name, part = names.get(module), names.get(module, "").rpartition(".")[2]
        if name is None or (suffix == "bias" and part not in BIASED[architecture]):
            unsupported.append(path)
            continue
        stored = _stored(parameter, matrices)
        if part in rotated:  # reorder from halves back to pairs
            stored = stored.then(partial(_swapped, groups=(rotated[part], 2, config.head_dim // 2)))
        written[f"{name}.{suffix}"] = stored
    if unsupported:
        raise MiniloraError(
            f"a {architecture} model in a GGUF file cannot have {first_few(unsupported)}; merge an adapter first"
        )
    metadata: dict[str, object] = {"general.architecture": architecture}
    for field, (key, kind) in (FIELDS | OPTIONAL).items():
        metadata[f"{architecture}.{key}"] = kind(getattr(config, field))
    metadata |= {
        f"{architecture}.attention.value_length": config.head_dim,
        f"{architecture}.{ROTATED}": config.head_dim,
        f"{architecture}.vocab_size": config.vocab_size,
        "general.file_type": FILE_TYPES[matrices],
    }
    if matrices != "F16":
        metadata["general.quantization_version"] = QUANTIZATION_VERSION
    if config.rope_scaling is not None:
        written[ROPE_FACTORS] = _llama3_factors(config)
    return GGUF(metadata, written)


def _paths_by_name(layers: int) -> dict[str, str]:
    """Map GGUF's names of modules to their paths here."""
    blocks = {
        f"blk.{i}.{name}": f"model.layers.{i}.{path}" for i in range(layers) for name, path in BLOCK_NAMES.items()
    }
    return NAMES | blocks


def _stored(parameter: Tensor, kind: str) -> StoredTensor:
    """Return a parameter to be stored: a matrix as `kind`, or as F16 if rows are not whole blocks; a vector as F32."""
    shape = tuple(parameter.shape)
    kind = "F32" if len(shape) != 2 else kind if shape[-1] % BLOCK[kind] == 0 else "F16"
    return StoredTensor(shape, lambda: backend.to_numpy(parameter.data), kind)


def _rotated(architecture: str, heads: int, kv_heads: int | None) -> dict[str, int]:
    """Return the parts whose rows are in llama.cpp's order, with their number of heads."""
    return {"attn_q": heads, "attn_k": heads if kv_heads is None else kv_heads} if architecture == "llama" else {}


def _in_halves(tensor: StoredTensor, heads: int, where: str) -> StoredTensor:
    """Reorder the rows of q or k (H·D, C), within each head, from pairs (D/2, 2) to halves (2, D/2)."""
    if heads < 1 or tensor.shape[0] % (2 * heads):
        raise FormatError(f"{where} has {tensor.shape[0]} rows, which cannot be divided into {heads} heads")
    return tensor.then(partial(_swapped, groups=(heads, tensor.shape[0] // heads // 2, 2)))


def _swapped(array: np.ndarray, groups: tuple[int, int, int]) -> np.ndarray:
    """Reorder rows that are grouped (heads, i, j) to (heads, j, i)."""
    return array.reshape(*groups, -1).swapaxes(1, 2).reshape(array.shape)


def _llama3_factors(config: Any) -> StoredTensor:
    """Return the divisors of the configuration's frequencies: a GGUF file holds these, not the scaling's parameters."""
    size, theta, scaling = config.head_dim, config.rope_theta, config.rope_scaling
    factors = inverse_frequencies(size, theta) / inverse_frequencies(size, theta, scaling)
    try:
        _llama3_scaling(factors, vars(config), "the file")
    except FormatError:
        words = ", ".join(f"{name} {value:g}" for name, value in scaling.items() if name != "rope_type")
        raise MiniloraError(f"a GGUF file cannot hold rotary scaling with {words}") from None
    return StoredTensor(factors.shape, lambda: factors, "F32")


def _llama3_scaling(factors: np.ndarray, config: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the Llama 3 scaling that divides the frequencies by these factors, as a config.json holds it."""
    size, theta = 2 * factors.size, config.get("rope_theta", 10000.0)
    scaling: dict[str, Any] = LLAMA3 | {"rope_type": "llama3", "factor": float(factors.max(initial=1.0))}
    with np.errstate(all="ignore"):
        scaled = inverse_frequencies(size, theta) / factors
    if not np.allclose(scaled, inverse_frequencies(size, theta, scaling), rtol=1e-4, atol=0):
        raise FormatError(f"{where}: {ROPE_FACTORS} is not Llama 3's rotary scaling, the only one supported")
    return scaling
