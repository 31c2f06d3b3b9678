"""A Llama-family model of a GGUF file in Hugging Face's words, and back: configuration, names, order of rotary rows.

llama.cpp rotates neighbouring pairs of numbers, Hugging Face a number with the one half a head away, so the rows of q
and k are stored in another order. (Qwen2's files are not: llama.cpp rotates those halves as Hugging Face does.)
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
QUANTIZATION_VERSION = 2  # of ggml
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
ROTATED = "rope.dimension_count"  # numbers of each head that are rotated
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
BIASED = {  # architecture -> parts of which llama.cpp reads a bias; it would refuse the file for another
    "llama": ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"),
    "qwen2": ("attn_q", "attn_k", "attn_v"),
}
ROPE_FACTORS = "rope_freqs.weight"  # what the rotary frequencies are divided by
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def llama_of(gguf: GGUF, where: str) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """(the content of a config.json, tensors by Hugging Face's names). Errors: FormatError; `where` names the file."""
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
    places = _places(min(config["num_hidden_layers"], len(tensors)))  # a file may claim any number
    named = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".")
        if stem not in places or kind not in ("weight", "bias"):
            raise FormatError(f"{where} has a tensor that this {architecture} model does not have: {escape(name)}")
        if (part := stem.rpartition(".")[2]) in rotated and tensor.shape:
            tensor = _in_halves(tensor, rotated[part], f"{where}: tensor {escape(name)}")
        named[f"{places[stem]}.{kind}"] = tensor
    return config, named


def _config_of(
    metadata: dict[str, object], tensors: dict[str, StoredTensor], architecture: str, where: str
) -> dict[str, Any]:
    """The content of a config.json, but for Llama 3's rotary scaling."""

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
        raise FormatError(f"{where} has no table of embeddings (token_embd.weight)")
    config["vocab_size"] = tensors["token_embd.weight"].shape[0]
    config["tie_word_embeddings"] = "output.weight" not in tensors

    head_dim = config.get("head_dim", config["hidden_size"] // max(config["num_attention_heads"], 1))
    if (key := f"{architecture}.{ROTATED}") in metadata and read(key, int) != head_dim:
        raise FormatError(f"{where}: {key} is {metadata[key]}: heads of {head_dim} can be rotated whole only")
    older = metadata.get(f"{architecture}.rope.scale_linear")  # without a type, as is a factor alone
    factor = metadata.get(f"{architecture}.rope.scaling.factor", older)
    scaling = metadata.get(f"{architecture}.rope.scaling.type", "none" if factor in (None, 0, 1) else "linear")
    if scaling != "none":
        raise FormatError(f"{where} asks for rotary scaling {escape(repr(scaling))}, which is not supported")
    return config


def gguf_of(model: Any, matrices: str = "F16") -> GGUF:
    """A language model of this family as the content of a GGUF file, without a tokenizer: matrices are to be stored as
    said (of FILE_TYPES), vectors in F32. Read again by `llama_of`, it is the same model but for that rounding.

    MiniloraError for a model that such a file has no words for: of another family, with layers in 4 bits or an adapter
    that is not merged, with a rotary scaling or biases that llama.cpp does not know.
    """
    check_plain(model)
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in WRITTEN or not hasattr(model, "lm_head"):
        what = type(model).__name__ + (f" of type {kind}" if kind else "")
        raise MiniloraError(f"{what} cannot be written as GGUF: only language models of {', '.join(WRITTEN)} can")
    config = model.config
    architecture, usual = WRITTEN[config.model_type], config.hidden_size / config.num_attention_heads
    if architecture == "qwen2" and config.head_dim != usual:
        raise MiniloraError(f"a qwen2 model of a GGUF file has heads of {usual:g}, this one of {config.head_dim}")
    rotated = _rotated(architecture, config.num_attention_heads, config.num_key_value_heads)
    names = {ours: theirs for theirs, ours in _places(config.num_hidden_layers).items()}
    written, homeless = {}, []
    for path, parameter in model.named_parameters():
        module, _, suffix = path.rpartition(".")
        name, part = names.get(module), names.get(module, "").rpartition(".")[2]
        if name is None or (suffix == "bias" and part not in BIASED[architecture]):
            homeless.append(path)
            continue
        stored = _stored(parameter, matrices)
        if part in rotated:  # back from halves to pairs
            stored = stored.then(partial(_swapped, groups=(rotated[part], 2, config.head_dim // 2)))
        written[f"{name}.{suffix}"] = stored
    if homeless:
        raise MiniloraError(
            f"{first_few(homeless)} have no place in a {architecture} model of a GGUF file; an adapter must be merged "
            "before"
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


def _places(layers: int) -> dict[str, str]:
    """GGUF's names of a model's modules -> their paths."""
    blocks = {
        f"blk.{i}.{name}": f"model.layers.{i}.{ours}" for i in range(layers) for name, ours in BLOCK_NAMES.items()
    }
    return NAMES | blocks


def _stored(parameter: Tensor, kind: str) -> StoredTensor:
    """A matrix as `kind`, where its rows are whole blocks; else in F16. A vector in F32."""
    shape = tuple(parameter.shape)
    kind = "F32" if len(shape) != 2 else kind if shape[-1] % BLOCK[kind] == 0 else "F16"
    return StoredTensor(shape, lambda: backend.to_numpy(parameter.data), kind)


def _rotated(architecture: str, heads: int, kv_heads: int | None) -> dict[str, int]:
    """The parts whose rows are in llama.cpp's order, with their number of heads."""
    return {"attn_q": heads, "attn_k": heads if kv_heads is None else kv_heads} if architecture == "llama" else {}


def _in_halves(tensor: StoredTensor, heads: int, where: str) -> StoredTensor:
    """Rows of q or k (H·D, C), in each head as (D/2, 2), put as (2, D/2)."""
    if heads < 1 or tensor.shape[0] % (2 * heads):
        raise FormatError(f"{where} has {tensor.shape[0]} rows, which do not fit {heads} heads")
    return tensor.then(partial(_swapped, groups=(heads, tensor.shape[0] // heads // 2, 2)))


def _swapped(array: np.ndarray, groups: tuple[int, int, int]) -> np.ndarray:
    """Rows in groups (heads, i, j), put as (heads, j, i)."""
    return array.reshape(*groups, -1).swapaxes(1, 2).reshape(array.shape)


def _llama3_factors(config: Any) -> StoredTensor:
    """Divisors of the configuration's frequencies: the file holds those, not the parameters behind them."""
    size, theta, scaling = config.head_dim, config.rope_theta, config.rope_scaling
    factors = inverse_frequencies(size, theta) / inverse_frequencies(size, theta, scaling)
    try:
        _llama3_scaling(factors, vars(config), "the file")
    except FormatError:
        words = ", ".join(f"{name} {value:g}" for name, value in scaling.items() if name != "rope_type")
        raise MiniloraError(f"rotary scaling with {words} would not be found again in a GGUF file") from None
    return StoredTensor(factors.shape, lambda: factors, "F32")


def _llama3_scaling(factors: np.ndarray, config: dict[str, Any], where: str) -> dict[str, Any]:
    """The scaling of Llama 3 that divides the frequencies by these factors: the file holds them, not its parameters."""
    size, theta = 2 * factors.size, config.get("rope_theta", 10000.0)
    scaling: dict[str, Any] = LLAMA3 | {"rope_type": "llama3", "factor": float(factors.max(initial=1.0))}
    with np.errstate(all="ignore"):
        scaled = inverse_frequencies(size, theta) / factors
    if not np.allclose(scaled, inverse_frequencies(size, theta, scaling), rtol=1e-4, atol=0):
        raise FormatError(f"{where}: {ROPE_FACTORS} is not Llama 3's rotary scaling, which alone is supported")
    return scaling
