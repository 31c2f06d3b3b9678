"""Prefix tuning: trained keys and values before those of the text, in every layer (Li & Liang 2021, section 4).

    attention(q, [K_l; k], [V_l; v])        K_l, V_l (P, H_kv, D) of layer l trained, the model frozen

    shapes      prompt_embeddings (P, 2·L·H_kv·D), seen as (P, 2L, H_kv, D): index 2l is K_l, 2l + 1 is V_l. They are
                used as they are: K_l is not rotated by a position. Outputs are those of the real tokens.
    start       normal(0, 1), as PEFT has it; zeros; or the keys and values that the model itself computes for P given
                tokens, which the paper finds better where data are few (section 7). The keys of those were rotated to
                the positions 0 … P-1, so the adapted model begins as the base that has read the tokens.
    parameters  P · 2·L·H_kv·D: 92,160 for P = 8 in SmolLM2-135M (L = 30, H_kv = 3, D = 64), 0.07 % of it
    projection  prefix_projection trains a smaller matrix E (P, d) and an MLP in the prefix's place (section 4.3):
                tanh(E W₁ᵀ + b₁) W₂ᵀ + b₂ with d = H_kv·D, W₁ (m, d), W₂ (2·L·d, m): P·d + m·(d + 1) + 2·L·d·(m + 1)
                parameters, at most. They are dropped when it is saved: what is written is the prefix.
    rate        1e-2 … 3e-2 with AdamW, less with the projection
    merging     none: no weight changes

It does not begin as the base: with prefixes of zeros, too, every token attends to P more positions.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minilora import backend, nn, ops
from minilora.backend import xp
from minilora.fields import choice, flag, is_whole, whole
from minilora.models.language_model import Body
from minilora.peft.method import Counts, Method, Trainable, register
from minilora.peft.virtual import VIRTUAL_TOKENS, VirtualTokensConfig, VirtualTokensLayer, settings
from minilora.tensor import Tensor, no_grad


@dataclass
class PrefixTuningConfig(VirtualTokensConfig):
    """The prefix's length, its start and the way to train it, in PEFT's names and with its defaults.

    init_token_ids is minilora's: P tokens, from whose keys and values the prefix starts.
    """

    encoder_hidden_size: int | None = whole(None, least=1, optional=True)  # m, of the projection's MLP; None: d
    prefix_projection: bool = flag(False)
    init_weights: str | None = choice(None, "zero", optional=True)  # "zero": the prefix starts at zero

    peft_type: ClassVar[str] = "PREFIX_TUNING"

    def problems(self) -> list[str]:
        found = super().problems()
        ids = self.init_token_ids
        if ids is not None:
            if self.prefix_projection:
                found.append("init_token_ids gives the prefix itself a start, and prefix_projection makes it by an MLP")
            if self.init_weights is not None:
                found.append("init_token_ids and init_weights are two starts: give one")
            count = self.num_virtual_tokens
            if isinstance(ids, list) and is_whole(count, 1) and len(ids) != count:
                found.append(f"init_token_ids are {len(ids)}, for {count} virtual tokens: give as many")
        return found

    def of_model(self, config) -> dict[str, int]:
        heads = config.num_key_value_heads  # num_attention_heads is PEFT's word for the heads of a prefix
        return {"token_dim": heads * config.head_dim, "num_attention_heads": heads}

    def complete(self, model: nn.Module) -> None:
        super().complete(model)
        if self.encoder_hidden_size is None:
            self.encoder_hidden_size = self.token_dim

    def width(self, config) -> int:
        return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim

    def check(self, path: str, module: Body) -> list[str]:
        found = super().check(path, module)
        if module.config.num_hidden_layers == 0:
            found.append("a model without layers has no place for a prefix")
        return found

    def adapt(self, module: Body, rng: np.random.Generator) -> "PrefixLayer":
        count, width = self.shapes(module)["prompt_embeddings"]
        dtype = module.get_input_embeddings().weight.dtype
        if self.prefix_projection:
            encoder = PrefixEncoder(count, self.token_dim or 0, self.encoder_hidden_size or 0, width, rng)
            if self.init_weights == "zero":
                for p in encoder.up.parameters():
                    p.data = xp.zeros(p.shape)
            for p in encoder.parameters():
                p.data = p.data.astype(dtype)
            return PrefixLayer(module, count, encoder)
        if self.init_token_ids is not None:
            return PrefixLayer(module, count, nn.Parameter(keys_and_values(module, self.init_token_ids)))
        if self.init_weights == "zero":
            return self.restore(module)
        start = rng.standard_normal((count, width), dtype="float32")
        return PrefixLayer(module, count, nn.Parameter(backend.asarray(start.astype(dtype))))

    def restore(self, module: Body) -> "PrefixLayer":
        shape, dtype = self.shapes(module)["prompt_embeddings"], module.get_input_embeddings().weight.dtype
        return PrefixLayer(module, shape[0], nn.Parameter(xp.zeros(shape, dtype=dtype)))

    def notes_on_more_training(self) -> list[str]:
        if not self.prefix_projection:
            return []
        return ["the MLP that made the prefix was dropped when it was saved: the prefix itself goes on training"]


class PrefixEncoder(nn.Module):
    """The projection: P rows of `embedding`, through an MLP, are the prefix (P, width)."""

    def __init__(self, count: int, size: int, hidden_size: int, width: int, rng):
        self.embedding = nn.Embedding(count, size, rng=rng)
        self.down = nn.Linear(size, hidden_size, rng=rng)
        self.up = nn.Linear(hidden_size, width, rng=rng)

    def forward(self) -> Tensor:
        return self.up(ops.tanh(self.down(self.embedding.weight)))


class PrefixLayer(VirtualTokensLayer):
    """A body in each of whose layers trained keys and values stand before those of the text.

    source: the prefix (P, 2·L·H_kv·D) as a Tensor, or the PrefixEncoder that makes it.
    """

    def __init__(self, base_layer: Body, virtual_tokens: int, source: Tensor | PrefixEncoder):
        super().__init__(base_layer, virtual_tokens)
        self.prompt_embeddings: Any = source if isinstance(source, Tensor) else None
        self.prompt_encoder: Any = None if isinstance(source, Tensor) else source

    def prefix(self) -> Tensor:
        """(P, 2·L·H_kv·D), made by the encoder where there is one."""
        return self.prompt_embeddings if self.prompt_encoder is None else self.prompt_encoder()

    def saved_parameters(self) -> dict[str, Tensor]:
        with no_grad():
            return {"prompt_embeddings": self.prefix()}

    def begin(self, ids: np.ndarray, attention_mask: np.ndarray | None, cache) -> Tensor:
        config = self.config
        layers, heads, size = config.num_hidden_layers, config.num_key_value_heads, config.head_dim
        prefix = self.prefix().reshape(self.virtual_tokens, 2 * layers, heads, size)
        prefix = prefix.transpose(1, 2, 0, 3)  # (P, 2L, H_kv, D) -> (2L, H_kv, P, D)
        if cache is None:
            cache = _Prefix(prefix)
        else:
            for layer in range(layers):
                cache.update(layer, *_of_layer(prefix, layer, len(ids)))
            cache.length = self.virtual_tokens
        return self.base_layer(ids, attention_mask, cache)


class _Prefix:
    """Stands in for a cache: gives each layer the prefix before its own keys and values, and keeps none of them."""

    keeps_nothing = True  # so a block may be computed twice with it

    def __init__(self, prefix: Tensor):
        self.prefix = prefix  # (2L, H_kv, P, D)
        self.length = prefix.shape[2]

    def update(self, layer: int, k: Tensor, v: Tensor) -> list[Tensor]:
        """k, v: (B, H_kv, T, D) -> (B, H_kv, P + T, D)."""
        rows = _of_layer(self.prefix, layer, k.shape[0])
        return [ops.concatenate(pair, axis=2) for pair in zip(rows, (k, v), strict=True)]


def _of_layer(prefix: Tensor, layer: int, batch: int) -> list[Tensor]:
    """The keys and the values of a layer, (B, H_kv, P, D) each."""
    return [prefix[i].broadcast_to((batch, *prefix.shape[1:])) for i in (2 * layer, 2 * layer + 1)]


class _Reader:
    """Stands in for a cache: remembers the keys and values of the one sequence that is read."""

    length = 0

    def __init__(self):
        self.seen = []

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += [k.data[0], v.data[0]]  # (H_kv, P, D)
        return k, v


def keys_and_values(body: Body, token_ids: list[int]):
    """The prefix that stands for having read the P tokens: an array (P, 2·L·H_kv·D)."""
    reader = _Reader()
    with no_grad():
        body(np.array([token_ids]), past_key_values=reader)
    return xp.stack(reader.seen).transpose(2, 0, 1, 3).reshape(len(token_ids), -1)  # (2L, H_kv, P, D) before


def plan(shape: Any, options: Any) -> Trainable:
    count = options.virtual_tokens
    return Trainable(Counts(block=count * 2 * shape.kv_width), prefix=count, products=False)


register(
    Method(
        name="prefix",
        label="prefix tuning",
        description="keys and values in front of every layer's own",
        family="virtual tokens",
        marker="P",
        linestyle=(0, (5, 1, 1, 1)),
        lr=0.81,
        large_lr=3e-2,
        config=PrefixTuningConfig,
        settings=settings,
        options=VIRTUAL_TOKENS,
        plan=plan,
        other_names=("prefix-tuning",),
    )
)
