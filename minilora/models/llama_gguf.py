"""A Llama-family model of a GGUF file in Hugging Face's words: configuration, names, and the order of rotary rows.

llama.cpp rotates neighbouring pairs of numbers, Hugging Face a number with the one half a head away, so the rows of q
and k are stored in another order. (Qwen2's files are not: llama.cpp rotates those halves as Hugging Face does.)
"""

from __future__ import annotations

import numpy as np

from ..errors import FormatError, show
from ..formats.gguf import GGUF
from ..formats.stored import StoredTensor
from .rotary import inverse_frequencies

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2"}  # general.architecture -> model_type
FIELDS = {  # of config.json -> key after the architecture, and the type of its value
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
ROPE_FACTORS = "rope_freqs.weight"  # what the rotary frequencies are divided by
LLAMA3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def llama_of(gguf: GGUF, where: str) -> tuple[dict, dict[str, StoredTensor]]:
    """(the content of a config.json, tensors by Hugging Face's names). Errors: FormatError; `where` names the file."""
    metadata, tensors = gguf.metadata, dict(gguf.tensors)
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise FormatError(
            f"{where} holds a model of architecture {show(repr(architecture))}; minilora reads "
            f"{', '.join(ARCHITECTURES)} from GGUF files"
        )
    config: dict = {"model_type": ARCHITECTURES[architecture]}
    for table in (FIELDS, OPTIONAL):
        for field, (key, kind) in table.items():
            value = metadata.get(f"{architecture}.{key}")
            if value is None and table is OPTIONAL:
                continue
            if type(value) is not kind:
                raise FormatError(f"{where}: {architecture}.{key} is {show(repr(value))}, not of type {kind.__name__}")
            config[field] = value
    config |= {field: metadata[key] for field, key in TOKENS.items() if key in metadata}
    if architecture == "qwen2":
        config["attention_bias"] = True
    if "token_embd.weight" not in tensors or len(tensors["token_embd.weight"].shape) != 2:
        raise FormatError(f"{where} has no table of embeddings (token_embd.weight)")
    config["vocab_size"] = tensors["token_embd.weight"].shape[0]
    config["tie_word_embeddings"] = "output.weight" not in tensors
    scaling = metadata.get(f"{architecture}.rope.scaling.type", "none")
    if scaling == "linear":
        factor = metadata.get(f"{architecture}.rope.scaling.factor")
        config["rope_scaling"] = {"rope_type": "linear", "factor": factor}
    elif scaling != "none":
        raise FormatError(f"{where} asks for rotary scaling {show(repr(scaling))}, which is not supported")
    if ROPE_FACTORS in tensors:
        config["rope_scaling"] = _llama3_scaling(tensors.pop(ROPE_FACTORS).read(), config, where)

    heads = config["num_attention_heads"]
    rotated = {"attn_q": heads, "attn_k": config.get("num_key_value_heads", heads)} if architecture == "llama" else {}
    named = {}
    for name, tensor in tensors.items():
        path, part, kind = _split(name)
        if path is None:
            raise FormatError(f"{where} has a tensor that a {architecture} model does not have: {show(name)}")
        if part in rotated and tensor.shape:
            tensor = _in_halves(tensor, rotated[part], f"{where}: tensor {show(name)}")
        named[f"{path}.{kind}"] = tensor
    return config, named


def _split(name: str) -> tuple[str | None, str, str]:
    """(path in Hugging Face's names or None, llama.cpp's name of the part, weight or bias)."""
    stem, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None, stem, kind
    if stem in NAMES:
        return NAMES[stem], stem, kind
    first, _, rest = stem.partition(".")
    layer, _, part = rest.partition(".")
    if first != "blk" or not (layer.isascii() and layer.isdigit()) or part not in BLOCK_NAMES:
        return None, part, kind
    return f"model.layers.{int(layer)}.{BLOCK_NAMES[part]}", part, kind


def _in_halves(tensor: StoredTensor, heads: int, where: str) -> StoredTensor:
    """Rows of q or k (H·D, C), in each head as (D/2, 2), put as (2, D/2)."""
    if heads < 1 or tensor.shape[0] % (2 * heads):
        raise FormatError(f"{where} has {tensor.shape[0]} rows, which do not fit {heads} heads")
    pairs = tensor.shape[0] // heads // 2

    def halves(array: np.ndarray) -> np.ndarray:
        return array.reshape(heads, pairs, 2, -1).swapaxes(1, 2).reshape(array.shape)

    return tensor.then(halves)


def _llama3_scaling(factors: np.ndarray, config: dict, where: str) -> dict:
    """The scaling of Llama 3 that divides the frequencies by these factors: the file holds them, not its parameters."""
    size, theta = 2 * factors.size, config.get("rope_theta", 10000.0)
    scaling = LLAMA3 | {"factor": float(factors.max(initial=1.0))}
    with np.errstate(all="ignore"):
        scaled = inverse_frequencies(size, theta) / factors
    if not np.allclose(scaled, inverse_frequencies(size, theta, scaling), rtol=1e-4, atol=0):
        raise FormatError(f"{where}: {ROPE_FACTORS} is not Llama 3's rotary scaling, which alone is supported")
    return scaling
