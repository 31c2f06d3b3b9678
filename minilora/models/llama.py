"""The Llama family: a decoder with RMSNorm, rotary positions, grouped-query attention and a gated MLP.

    block       x + self_attn(input_layernorm(x)), then x + mlp(post_attention_layernorm(x))
    attention   queries and keys rotated by position (Su et al. 2021); several query heads share a key/value head
    mlp         down(silu(gate(x)) · up(x))    (Shazeer 2020)

Configuration fields and module paths are Hugging Face's, so a state dict needs no renaming.
Shapes: B sequences, T tokens, C hidden size, H query heads, H_kv key/value heads, D head size, V vocabulary.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import numpy as np

from minilora import backend, nn
from minilora import functional as F
from minilora.errors import MiniloraError, escape
from minilora.formats.stored import StoredTensor
from minilora.models.batch import Output, host_ids, over_rows, token_ids
from minilora.models.language_model import Body, LanguageModel, Pretrained, new_linear, normal
from minilora.models.llama_config import LlamaConfig
from minilora.models.llama_gguf import llama_of
from minilora.models.rotary import inverse_frequencies, rotary_tables
from minilora.tensor import Tensor


class LlamaAttention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: LlamaConfig, layer: int, rng: np.random.Generator | None):
        self.layer = layer
        self.head_dim = config.head_dim
        linear = partial(new_linear, deviation=config.initializer_range, rng=rng)
        heads, kv_heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = linear(config.hidden_size, heads, config.attention_bias)
        self.k_proj = linear(config.hidden_size, kv_heads, config.attention_bias)
        self.v_proj = linear(config.hidden_size, kv_heads, config.attention_bias)
        self.o_proj = linear(heads, config.hidden_size, config.attention_bias and config.model_type != "qwen2")

    def forward(self, x: Tensor, cos: Any, sin: Any, mask: Any = None, cache: Any = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C).

        cos, sin: (T, D) or (B, T, D). mask: None, or booleans that broadcast to (B, H, T, S).
        """
        batch, length, _ = x.shape

        def split(t: Tensor) -> Tensor:
            return t.reshape(batch, length, -1, self.head_dim)  # (B, T, H·D) -> (B, T, H, D)

        q = F.rotary(split(self.q_proj(x)), cos, sin).swapaxes(1, 2)  # (B, H, T, D)
        k = F.rotary(split(self.k_proj(x)), cos, sin).swapaxes(1, 2)  # (B, H_kv, T, D)
        v = split(self.v_proj(x)).swapaxes(1, 2)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # (B, H_kv, S, D)
        y = F.scaled_dot_product_attention(q, k, v, mask=mask, is_causal=True)  # (B, H, T, D)
        return self.o_proj(y.swapaxes(1, 2).reshape(batch, length, -1))


class LlamaMLP(nn.Module):
    """The gated MLP: down(silu(gate(x)) · up(x))."""

    def __init__(self, config: LlamaConfig, rng: np.random.Generator | None):
        linear = partial(new_linear, bias=config.mlp_bias, deviation=config.initializer_range, rng=rng)
        self.gate_proj = linear(config.hidden_size, config.intermediate_size)
        self.up_proj = linear(config.hidden_size, config.intermediate_size)
        self.down_proj = linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.swiglu(self.gate_proj(x), self.up_proj(x)))


class LlamaDecoderLayer(nn.Module):
    """One block: attention and MLP, each applied to the normalized residual stream and added back to it."""

    def __init__(self, config: LlamaConfig, layer: int, rng: np.random.Generator | None):
        self.self_attn = LlamaAttention(config, layer, rng)
        self.mlp = LlamaMLP(config, rng)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Any, sin: Any, mask: Any = None, cache: Any = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaModel(Body):
    """The body: embedding, blocks and the last norm; token ids to hidden states."""

    def __init__(self, config: LlamaConfig, rng: np.random.Generator | None = None):
        self.config = config
        table = normal((config.vocab_size, config.hidden_size), config.initializer_range, rng)
        self.embed_tokens = nn.Embedding.from_array(table)
        self.layers = [LlamaDecoderLayer(config, i, rng) for i in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, past_key_values: Any = None, inputs_embeds: Any = None
    ) -> Tensor:
        """Return hidden states (B, T, C) of input_ids, integers (B, T), or of inputs_embeds (B, T, C) instead.

        attention_mask: (B, S), 0 for padding; S counts the tokens in the cache and the T new ones. Positions count only
        real tokens, so padding on the left changes nothing.
        """
        x = self.embedded(input_ids, inputs_embeds)  # (B, T, C)
        mask, positions = self.mask_and_positions(attention_mask, x, past_key_values)
        config = self.config
        frequencies = inverse_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
        cos, sin = (backend.asarray(table, dtype=x.dtype) for table in rotary_tables(positions, frequencies))
        return self.norm(self.run_blocks(self.layers, x, cos, sin, mask, cache=past_key_values))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens


class _LlamaPretrained(Pretrained):
    """Loading and saving, as all models of the family need it."""

    config_class = LlamaConfig
    buffers = ("rotary_emb.inv_freq",)
    translate_gguf = staticmethod(llama_of)


class LlamaForCausalLM(_LlamaPretrained, LanguageModel):
    """The language model: body and head. The head may be the embedding table.

    seed: for the initial weights, normal(0, initializer_range); None leaves them uninitialized, for loading.
    """

    body_class, body_path = LlamaModel, "model"
    model: LlamaModel


class LlamaForSequenceClassification(_LlamaPretrained):
    """A classifier: the linear map `score`, applied to the hidden state of each sequence's last real token."""

    label_axes = 1  # labels (B,)

    def __init__(self, config: LlamaConfig, seed: int | None = 0):
        rng = None if seed is None else np.random.default_rng(seed)
        self.config = config
        self.model = LlamaModel(config, rng)
        self.score = new_linear(config.hidden_size, config.num_labels, False, config.initializer_range, rng)

    @classmethod
    def from_language_model(cls, model: LlamaForCausalLM, num_labels: int, seed: int = 0) -> Self:
        """Build a classifier that shares the body of a language model, with a new head."""
        classifier, rng = cls.__new__(cls), np.random.default_rng(seed)
        classifier.config = config = LlamaConfig(**{**vars(model.config), "num_labels": num_labels})
        classifier.model = model.model
        classifier.score = new_linear(config.hidden_size, num_labels, False, config.initializer_range, rng)
        return classifier

    def named_as_here(self, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
        if "score.weight" not in tensors:  # a language model's folder: use its body, with a new head
            shape = self.score.weight.shape
            new_head = backend.to_numpy(normal(shape, self.config.initializer_range, np.random.default_rng(0)))
            tensors = {name: a for name, a in tensors.items() if name != "lm_head.weight"}
            tensors["score.weight"] = StoredTensor(shape, lambda: new_head)
        return super().named_as_here(tensors)

    def forward(
        self, input_ids: Any, attention_mask: Any = None, labels: Any = None, num_items_in_batch: int | None = None
    ) -> Output:
        """Return the logits (B, num_labels) of input_ids (B, T), and with labels (B,) the loss.

        The loss is the mean over labels that are not -100, or their sum divided by `num_items_in_batch`. The last real
        token is the last one that attention_mask marks; without a mask, the last one that is not padding. With labels,
        raises MiniloraError if the configuration has only one class, or asks for another loss than cross-entropy.
        """
        ids = token_ids(input_ids)
        if labels is None:
            return Output(None, self.logits(ids, attention_mask))
        kind = self.config.extra.get("problem_type") or "single_label_classification"
        if self.config.num_labels == 1 or kind != "single_label_classification":
            raise MiniloraError(
                f"only single-label classification has a loss here, not num_labels={self.config.num_labels} with "
                f"problem_type {escape(repr(kind))}; pass no labels, and compute your own loss from the logits"
            )
        return over_rows(self, self._with_loss, ids, attention_mask, labels, num_items_in_batch)

    def logits(self, ids: np.ndarray, attention_mask: Any = None) -> Tensor:
        """Map token ids (B, T) to logits over the classes (B, num_labels)."""
        if attention_mask is not None:
            real = host_ids(attention_mask) != 0
        elif self.config.pad_token_id is not None:
            real = ids != self.config.pad_token_id
        else:
            real = np.ones(ids.shape, dtype=bool)
        last = np.where(real.any(axis=1), ids.shape[1] - 1 - real[:, ::-1].argmax(axis=1), ids.shape[1] - 1)
        hidden = self.model(ids, attention_mask)  # (B, T, C), virtual tokens of the body first
        last += hidden.shape[1] - ids.shape[1]
        return self.score(hidden[np.arange(len(ids)), last])

    def _with_loss(self, ids: np.ndarray, attention_mask: Any, labels: Any, num_items: int | None) -> Output:
        logits = self.logits(ids, attention_mask)
        return Output(F.cross_entropy(logits, labels, num_items=num_items), logits)

    @staticmethod
    def count_targets(labels: Any) -> int:
        """Return the number of labels (B,) that count in the loss."""
        return int((host_ids(labels) != -100).sum())
