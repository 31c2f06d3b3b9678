"""GPT-2: a pre-LayerNorm decoder with learned positions and biases everywhere (Radford et al. 2019).

    block       x + attn(ln_1(x)), then x + mlp(ln_2(x)); queries, keys and values come from one product, c_attn
    positions   a table (P, C), added to the embeddings; a text longer than P raises MiniloraError
    files       transformers stores the weights of c_attn, c_proj and c_fc as (in, out). Here they are Linears, with
                weights (out, in), so that every adapter and quantizer works on them. Loading and saving transpose them.

Configuration fields and module paths are Hugging Face's. The dropouts of its configurations are not applied.
Shapes: B sequences, T tokens, C hidden size, H heads, D head size, V vocabulary.
"""

from dataclasses import dataclass, field, fields
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from minilora import functional as F
from minilora import nn
from minilora.errors import FormatError, MiniloraError, escape
from minilora.fields import choice, field_problems, flag, number, tokens, whole
from minilora.formats.stored import StoredTensor
from minilora.models.language_model import Body, LanguageModel, new_linear, normal
from minilora.tensor import Tensor

# Fields of a config.json that change the computation, each with the only value that is supported here.
_ONLY = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}
_DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")  # not applied, but written back when the model is saved


@dataclass
class GPT2Config:
    """Hugging Face's fields of a GPT-2 configuration, with its defaults: those of the smallest GPT-2."""

    vocab_size: int = whole(50257, least=1)
    n_positions: int = whole(1024, least=1)  # length of the table of positions
    n_embd: int = whole(768, least=1)  # hidden size
    n_layer: int = whole(12)
    n_head: int = whole(12, least=1)
    n_inner: int | None = whole(None, least=1, optional=True)  # width of the MLP; None: 4 n_embd
    activation_function: str = choice("gelu_new", "gelu_new")  # GELU, tanh approximation
    layer_norm_epsilon: float = number(1e-5, above=0)
    initializer_range: float = number(0.02, above=0)  # standard deviation of initial weights
    tie_word_embeddings: bool = flag(True)  # the head is the embedding table
    bos_token_id: int | None = whole(50256, optional=True)
    eos_token_id: int | list[int] | None = tokens(50256)
    pad_token_id: int | None = whole(None, optional=True)
    # Fields of a config.json that minilora does not use
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    model_type: ClassVar[str] = "gpt2"

    def __post_init__(self) -> None:
        problems = field_problems(self)
        if not problems and self.n_embd % self.n_head:
            problems.append(f"n_embd {self.n_embd} is not a multiple of {self.n_head} heads")
        if problems:
            raise MiniloraError("; ".join(problems))

    # The names that all families share, which transformers' GPT2Config has as well.

    hidden_size = property(lambda self: self.n_embd)
    num_hidden_layers = property(lambda self: self.n_layer)
    num_attention_heads = num_key_value_heads = property(lambda self: self.n_head)
    max_position_embeddings = property(lambda self: self.n_positions)
    head_dim = property(lambda self: self.n_embd // self.n_head)
    intermediate_size = property(lambda self: self.n_inner or 4 * self.n_embd)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "GPT2Config":
        """Build the configuration from the content of a config.json. Dropouts are kept in `extra` and not applied.

        Raises FormatError for another model type and for variants of attention that are not supported.
        """
        if config.get("model_type", "gpt2") != "gpt2":
            raise FormatError(f"config.json describes a {escape(repr(config['model_type']))} model, not gpt2")
        unsupported = [
            f"{name} = {escape(repr(config[name]))}" for name, only in _ONLY.items() if config.get(name, only) != only
        ]
        if unsupported:
            raise FormatError(f"config.json asks for {', '.join(unsupported)}, which is not supported")
        known = {f.name for f in fields(cls)} - {"extra"}
        used = {name: value for name, value in config.items() if name in known}
        return cls(**used, extra={name: value for name, value in config.items() if name not in known})

    def to_dict(self, architecture: str) -> dict[str, Any]:
        """Return the content of a config.json that transformers reads. Dropouts are as they were read, else 0."""
        config = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        config |= {name: self.extra.get(name, 0.0) for name in _DROPOUTS}
        return config | {"model_type": "gpt2", "architectures": [architecture], "dtype": "float32"}


class GPT2Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, config: GPT2Config, layer: int, rng: np.random.Generator | None):
        self.layer = layer
        self.n_head = config.n_head
        self.c_attn = new_linear(config.n_embd, 3 * config.n_embd, True, config.initializer_range, rng)
        self.c_proj = new_linear(config.n_embd, config.n_embd, True, _residual_deviation(config), rng)

    def forward(self, x: Tensor, mask: Any = None, cache: Any = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C). mask: None, or booleans that broadcast to (B, H, T, S)."""
        batch, length, width = x.shape
        qkv = self.c_attn(x).reshape(batch, length, 3, self.n_head, width // self.n_head)  # (B, T, 3, H, D)
        q, k, v = (qkv[:, :, i].swapaxes(1, 2) for i in range(3))  # (B, H, T, D)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # (B, H, S, D)
        y = F.scaled_dot_product_attention(q, k, v, mask=mask, is_causal=True)  # (B, H, T, D)
        return self.c_proj(y.swapaxes(1, 2).reshape(batch, length, width))


class GPT2MLP(nn.Module):
    """The MLP: c_proj(gelu(c_fc(x)))."""

    def __init__(self, config: GPT2Config, rng: np.random.Generator | None):
        self.c_fc = new_linear(config.n_embd, config.intermediate_size, True, config.initializer_range, rng)
        self.c_proj = new_linear(config.intermediate_size, config.n_embd, True, _residual_deviation(config), rng)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class GPT2Block(nn.Module):
    """One block: attention and MLP, each applied to the normalized residual stream and added back to it."""

    def __init__(self, config: GPT2Config, layer: int, rng: np.random.Generator | None):
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = GPT2Attention(config, layer, rng)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config, rng)

    def forward(self, x: Tensor, mask: Any = None, cache: Any = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), mask, cache)
        return x + self.mlp(self.ln_2(x))


class GPT2Model(Body):
    """The body: embeddings of tokens and positions, the blocks and the last norm; token ids to hidden states."""

    def __init__(self, config: GPT2Config, rng: np.random.Generator | None = None):
        self.config = config
        deviation = config.initializer_range
        self.wte = nn.Embedding.from_array(normal((config.vocab_size, config.n_embd), deviation, rng))
        self.wpe = nn.Embedding.from_array(normal((config.n_positions, config.n_embd), deviation, rng))
        self.h = [GPT2Block(config, i, rng) for i in range(config.n_layer)]
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, past_key_values: Any = None, inputs_embeds: Any = None
    ) -> Tensor:
        """Return hidden states (B, T, C) of input_ids, integers (B, T), or of inputs_embeds (B, T, C) instead.

        attention_mask: (B, S), 0 for padding; S counts the tokens in the cache and the T new ones. Positions count only
        real tokens, so padding on the left changes nothing. Raises MiniloraError for a row longer than the table of
        positions.
        """
        x = self.embedded(input_ids, inputs_embeds)  # (B, T, C)
        mask, positions = self.mask_and_positions(attention_mask, x, past_key_values)
        if (tokens := int(np.max(positions, initial=-1)) + 1) > (limit := self.config.n_positions):
            raise MiniloraError(f"{tokens} tokens exceed the model's {limit} positions; shorten the text")
        x = x + self.wpe(positions)  # (T, C) or (B, T, C)
        return self.ln_f(self.run_blocks(self.h, x, mask, cache=past_key_values))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.wte


class GPT2LMHeadModel(LanguageModel):
    """The language model: body and head. The head is the embedding table unless the configuration unties it.

    seed: for the initial weights, normal(0, initializer_range); None leaves them uninitialized, for loading.
    """

    config_class, body_class, body_path = GPT2Config, GPT2Model, "transformer"
    transformer: GPT2Model
    transposed_linears = ("c_attn", "c_proj", "c_fc")
    buffers = (".attn.bias", ".attn.masked_bias")  # the causal triangle

    def named_as_here(self, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
        if not any(name.startswith("transformer.") for name in tensors):  # a file of the body only
            tensors = {name if name == "lm_head.weight" else f"transformer.{name}": a for name, a in tensors.items()}
        return super().named_as_here(tensors)


def _residual_deviation(config: GPT2Config) -> float:
    """Return the initial standard deviation of the 2 L weights that write to the residual stream (Radford et al. 2019,
    section 2.3).
    """
    return config.initializer_range / sqrt(2 * config.n_layer)
