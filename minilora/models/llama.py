"""The Llama family: a decoder with RMSNorm, rotary positions, grouped key/value heads and a gated MLP.

Configuration fields and module paths are Hugging Face's, so a state dict needs no renaming and a folder opens on both
sides.
Shapes: B sequences, T tokens, C hidden size, H query heads, H_kv key/value heads, D head size, V vocabulary.
"""

from dataclasses import dataclass, field, fields

import numpy as np

from minilora import backend, nn
from minilora import functional as F
from minilora.errors import FormatError, MiniloraError, escape
from minilora.fields import choice, field_problems, flag, is_whole, number, token, tokens, whole
from minilora.formats.stored import StoredTensor
from minilora.models.pretrained import (
    Body,
    LanguageModel,
    Output,
    Pretrained,
    host_ids,
    normal,
    token_ids,
)
from minilora.models.rotary import checked_scaling, inverse_frequencies, rotary_tables
from minilora.tensor import Tensor

MODEL_TYPES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}  # model_type -> transformers' classes of it
NO_WINDOW = {"sliding_window": None, "use_sliding_window": False}  # said where a family has one by default


@dataclass
class LlamaConfig:
    """Hugging Face's fields of a Llama configuration, with its defaults."""

    vocab_size: int = whole(32000, least=1)
    hidden_size: int = whole(4096, least=1)
    intermediate_size: int = whole(11008, least=1)  # width of the gated MLP
    num_hidden_layers: int = whole(32)
    num_attention_heads: int = whole(32, least=1)
    num_key_value_heads: int = whole(None, least=1)  # query heads share them in groups; None: as many as query heads
    head_dim: int = whole(None, least=1, optional=True)  # None: hidden_size / num_attention_heads
    max_position_embeddings: int = whole(2048, least=1)
    rope_theta: float = number(10000.0, above=0)  # base of the rotary frequencies
    rope_scaling: dict | None = None  # how they are stretched over long texts, see `rotary`
    rms_norm_eps: float = number(1e-6, above=0)
    initializer_range: float = number(0.02, above=0)  # standard deviation of fresh weights
    tie_word_embeddings: bool = flag(False)  # the head is the embedding table
    attention_bias: bool = flag(False)  # biases on q, k, v and, but for qwen2, o
    mlp_bias: bool = flag(False)
    hidden_act: str = choice("silu", "silu")
    model_type: str = choice("llama", *MODEL_TYPES)  # of the family: a key of MODEL_TYPES
    bos_token_id: int | None = token(1)
    eos_token_id: int | list[int] | None = tokens(2)
    pad_token_id: int | None = token(None)
    num_labels: int = whole(2, least=1)  # of a sequence classifier
    extra: dict = field(default_factory=dict, repr=False)  # fields of a config.json that minilora does not use

    def __post_init__(self):
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        problems = field_problems(self)
        if not problems:
            if self.head_dim is None and self.hidden_size % self.num_attention_heads:
                problems.append(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads")
            self.head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
            if self.head_dim % 2:
                problems.append(f"head_dim must be even for rotary positions, not {self.head_dim}")
            if self.num_attention_heads % self.num_key_value_heads:
                problems.append(
                    f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                    f"num_key_value_heads {self.num_key_value_heads}"
                )
        if problems:
            raise MiniloraError("; ".join(problems))

    @classmethod
    def from_dict(cls, config: dict) -> "LlamaConfig":
        """From the content of a config.json: both `rope_theta` and transformers 5's `rope_parameters` are read.

        Raises FormatError for another model type and for what is computed otherwise here.
        """
        config = {"model_type": "llama", **config}
        if not isinstance(config["model_type"], str) or config["model_type"] not in MODEL_TYPES:
            kind = escape(repr(config["model_type"]))
            raise FormatError(f"config.json describes a {kind} model; minilora reads {', '.join(MODEL_TYPES)}")
        rope = config.get("rope_parameters") or config.get("rope_scaling")
        config["rope_scaling"] = checked_scaling(rope)
        config["rope_theta"] = (rope or {}).get("rope_theta", config.get("rope_theta", cls.rope_theta))
        if config["model_type"] == "qwen2":
            config["attention_bias"] = True
        _within_window(config)
        labels = config.get("id2label")
        if labels is not None:
            if not isinstance(labels, dict) or not labels:
                raise FormatError(f"id2label of config.json must name the classes, not {escape(repr(labels))}")
            config["num_labels"] = len(labels)
        known = {f.name for f in fields(cls)} - {"extra"}
        used = {name: value for name, value in config.items() if name in known}
        return cls(**used, extra={name: value for name, value in config.items() if name not in known})

    def fewest_weights(self) -> int:
        """Parameters of the body, without biases and norms."""
        attention = 2 * self.head_dim * (self.num_attention_heads + self.num_key_value_heads)
        layer = self.hidden_size * (attention + 3 * self.intermediate_size)
        return self.vocab_size * self.hidden_size + self.num_hidden_layers * layer

    def to_dict(self, architecture: str) -> dict:
        """The content of a config.json that transformers reads."""
        config = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("extra", "num_labels")}
        config |= {
            "architectures": [MODEL_TYPES[self.model_type] + architecture.removeprefix("Llama")],
            "dtype": "float32",
        }
        if self.model_type != "llama":
            config |= NO_WINDOW
        if self.rope_scaling is None:
            del config["rope_scaling"]
        if architecture == "LlamaForSequenceClassification":
            config["id2label"] = {str(i): f"LABEL_{i}" for i in range(self.num_labels)}
            config["label2id"] = {label: int(i) for i, label in config["id2label"].items()}
        return config


def _within_window(config: dict) -> None:
    """Where attention is limited to a sliding window, keep to as many positions: within them it is the same."""
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if window is None:
        return
    if not is_whole(window, 1):
        raise FormatError(
            f"sliding_window of config.json must be a whole number of at least 1, not {escape(repr(window))}"
        )
    positions = config.get("max_position_embeddings", window)
    config["max_position_embeddings"] = min(positions, window) if is_whole(positions) else positions


class LlamaAttention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: LlamaConfig, layer: int, rng):
        self.layer = layer
        self.head_dim = config.head_dim
        heads, kv_heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = _linear(config.hidden_size, heads, config.attention_bias, config, rng)
        self.k_proj = _linear(config.hidden_size, kv_heads, config.attention_bias, config, rng)
        self.v_proj = _linear(config.hidden_size, kv_heads, config.attention_bias, config, rng)
        output_bias = config.attention_bias and config.model_type != "qwen2"
        self.o_proj = _linear(heads, config.hidden_size, output_bias, config, rng)

    def forward(self, x: Tensor, cos, sin, mask=None, cache=None) -> Tensor:
        """x: (B, T, C); cos, sin: (T, D) or (B, T, D); mask: booleans that broadcast to (B, H, T, S) or None."""
        batch, length, _ = x.shape
        split = lambda t: t.reshape(batch, length, -1, self.head_dim)  # (B, T, H·D) -> (B, T, H, D)  # noqa: E731
        q = F.rotary(split(self.q_proj(x)), cos, sin).swapaxes(1, 2)  # (B, H, T, D)
        k = F.rotary(split(self.k_proj(x)), cos, sin).swapaxes(1, 2)  # (B, H_kv, T, D)
        v = split(self.v_proj(x)).swapaxes(1, 2)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # (B, H_kv, S, D)
        y = F.scaled_dot_product_attention(q, k, v, mask=mask, is_causal=True)  # (B, H, T, D)
        return self.o_proj(y.swapaxes(1, 2).reshape(batch, length, -1))


class LlamaMLP(nn.Module):
    """down(silu(gate(x)) · up(x))."""

    def __init__(self, config: LlamaConfig, rng):
        self.gate_proj = _linear(config.hidden_size, config.intermediate_size, config.mlp_bias, config, rng)
        self.up_proj = _linear(config.hidden_size, config.intermediate_size, config.mlp_bias, config, rng)
        self.down_proj = _linear(config.intermediate_size, config.hidden_size, config.mlp_bias, config, rng)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.swiglu(self.gate_proj(x), self.up_proj(x)))


class LlamaDecoderLayer(nn.Module):
    """One block: attention and MLP, each on a normalized copy of the stream and added back to it."""

    def __init__(self, config: LlamaConfig, layer: int, rng):
        self.self_attn = LlamaAttention(config, layer, rng)
        self.mlp = LlamaMLP(config, rng)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos, sin, mask=None, cache=None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaModel(Body):
    """Embedding, blocks and the last norm: token ids to hidden states."""

    def __init__(self, config: LlamaConfig, rng=None):
        self.config = config
        self.embed_tokens = nn.Embedding.from_array(_normal((config.vocab_size, config.hidden_size), config, rng))
        self.layers = [LlamaDecoderLayer(config, i, rng) for i in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, input_ids=None, attention_mask=None, past_key_values=None, inputs_embeds=None) -> Tensor:
        """input_ids: integers (B, T), or in their place inputs_embeds: (B, T, C) -> (B, T, C). attention_mask: (B, S),
        0 for padding, S the past and T.

        Positions count the real tokens of a row, so padding on the left moves nothing.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("the model reads input_ids or inputs_embeds, one of the two")
        x = inputs_embeds
        if x is None:
            x = self.embed_tokens(token_ids(input_ids))  # (B, T) -> (B, T, C)
        past = past_key_values.length if past_key_values is not None else 0
        batch, length, _ = x.shape
        mask, positions = self.mask_and_positions(attention_mask, batch, past, length)
        cos, sin = self._rotary_tables(positions, x.dtype)
        for layer in self.layers:
            x = self.run_block(layer, x, cos, sin, mask, cache=past_key_values)
        if past_key_values is not None:
            past_key_values.length += length
        return self.norm(x)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def _rotary_tables(self, positions, dtype):
        """cos and sin, (T, D) or (B, T, D), in float32 steps as transformers computes them, then in `dtype`."""
        config = self.config
        frequencies = inverse_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
        cos, sin = rotary_tables(positions, frequencies)
        return backend.asarray(cos, dtype=dtype), backend.asarray(sin, dtype=dtype)


class LlamaForCausalLM(LanguageModel):
    """The language model: hidden states to logits over the vocabulary, through a head that may be the embedding table.

    seed: of the fresh weights, normal(0, initializer_range); None leaves them unset, for loading.
    """

    config_class = LlamaConfig

    def __init__(self, config: LlamaConfig, seed: int | None = 0):
        rng = None if seed is None else np.random.default_rng(seed)
        self.config = config
        self.model = LlamaModel(config, rng)
        self.lm_head = _linear(config.hidden_size, config.vocab_size, False, config, rng, tied=self.model.embed_tokens)

    @property
    def body(self) -> nn.Module:
        return self.model


class LlamaForSequenceClassification(Pretrained):
    """A classifier: the hidden state of each sequence's last real token, through the linear map `score`."""

    config_class = LlamaConfig

    def __init__(self, config: LlamaConfig, seed: int | None = 0):
        rng = None if seed is None else np.random.default_rng(seed)
        self.config = config
        self.model = LlamaModel(config, rng)
        self.score = _linear(config.hidden_size, config.num_labels, False, config, rng)

    @classmethod
    def from_language_model(
        cls, model: LlamaForCausalLM, num_labels: int, seed: int = 0
    ) -> "LlamaForSequenceClassification":
        """A classifier on the body of a language model, which it shares, with a fresh head."""
        classifier = cls.__new__(cls)
        classifier.config = LlamaConfig(**{**vars(model.config), "num_labels": num_labels})
        classifier.model = model.model
        classifier.score = _linear(
            model.config.hidden_size, num_labels, False, model.config, np.random.default_rng(seed)
        )
        return classifier

    def _load(self, tensors: dict, each=None) -> None:
        if "score.weight" not in tensors:  # the folder of a language model: its body, and a fresh head
            shape = self.score.weight.shape
            fresh = backend.to_numpy(_normal(shape, self.config, np.random.default_rng(0)))
            tensors = {**tensors, "score.weight": StoredTensor(shape, lambda: fresh)}
            tensors.pop("lm_head.weight", None)
        super()._load(tensors, each)

    def forward(self, input_ids, attention_mask=None, labels=None, num_items_in_batch=None) -> Output:
        """input_ids: (B, T); labels: (B,). The loss is the mean over labels that are not -100, or their sum divided by
        `num_items_in_batch`. The last real token is the last that attention_mask marks, else the last that is not
        padding.
        """
        ids = token_ids(input_ids)
        if attention_mask is not None:
            real = host_ids(attention_mask) != 0
        elif self.config.pad_token_id is not None:
            real = ids != self.config.pad_token_id
        else:
            real = np.ones(ids.shape, dtype=bool)
        last = np.where(real.any(axis=1), ids.shape[1] - 1 - real[:, ::-1].argmax(axis=1), ids.shape[1] - 1)
        hidden = self.model(ids, attention_mask)  # (B, T, C), virtual tokens of the body first
        last += hidden.shape[1] - ids.shape[1]
        logits = self.score(hidden[np.arange(len(ids)), last])  # (B, num_labels)
        if labels is None:
            return Output(None, logits)
        return Output(F.cross_entropy(logits, labels, num_items=num_items_in_batch), logits)

    @staticmethod
    def count_targets(labels) -> int:
        """How many of the labels (B,) count in the loss."""
        return int((host_ids(labels) != -100).sum())


def _normal(shape, config: LlamaConfig, rng):
    return normal(shape, config.initializer_range, rng)


def _linear(in_features: int, out_features: int, bias: bool, config: LlamaConfig, rng, tied=None) -> nn.Linear:
    if tied is not None and config.tie_word_embeddings:
        head = nn.Linear.from_arrays(tied.weight.data)
        head.weight = tied.weight
        return head
    weight = _normal((out_features, in_features), config, rng)
    return nn.Linear.from_arrays(weight, backend.xp.zeros(out_features, dtype="float32") if bias else None)
