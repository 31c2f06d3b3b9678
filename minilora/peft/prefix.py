"""Prefix tuning: trained keys and values before those of the text, in every layer (Li & Liang 2021, section 4).

    attention(q, [K_l; k], [V_l; v])        K_l, V_l (P, H_kv, D) of layer l trained, the model frozen

    shapes      prompt_embeddings (P, 2·L·H_kv·D), seen as (P, 2L, H_kv, D): index 2l is K_l, 2l + 1 is V_l. They are
                used as they are: K_l is not rotated by a position. Outputs are those of the real tokens.
    start       normal(0, 1), as PEFT has it; zeros; or the keys and values that the model itself computes for P given
                tokens, which the paper finds better where data are few (section 7). The keys of those were rotated to
                the positions 0 … P-1, so the adapted model begins as the base that has read the tokens.
    parameters  P · 2·L·H_kv·D: 92,160 for P = 8 in SmolLM2-135M (L = 30, H_kv = 3, D = 64), 0.07 % of it
    projection  the paper trains an MLP that makes the prefix (section 4.3): steadier there, and a little better. Here
                the prefix itself trains, so that results are not the paper's. PEFT has both; files of both open here.
    rate        1e-2 … 3e-2 with AdamW
    merging     none: no weight changes

It does not begin as the base: with prefixes of zeros, too, every token attends to P more positions.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minilora import backend
from minilora.backend import xp
from minilora.fields import choice, flag, whole
from minilora.models.beginning import SharedCache
from minilora.models.language_model import Body
from minilora.peft.method import Counts, Trainable, register
from minilora.peft.prompt import VIRTUAL_TOKENS, VirtualTokensConfig, VirtualTokensLayer, settings
from minilora.tensor import Tensor, no_grad


@dataclass
class PrefixTuningConfig(VirtualTokensConfig):
    """The prefix's length, its start and the way to train it, in PEFT's names and with its defaults.

    init_token_ids is minilora's: a start from the keys and values of these tokens, whatever init_weights says.
    """

    encoder_hidden_size: int | None = whole(None, least=1, optional=True)  # of PEFT's projection, and in its files
    prefix_projection: bool = flag(False)  # True in files that PEFT made so
    init_weights: str | None = choice(None, "zero", optional=True)  # "zero": the prefix starts at zero

    peft_type: ClassVar[str] = "PREFIX_TUNING"

    def of_model(self, config) -> dict[str, int]:
        heads = config.num_key_value_heads  # num_attention_heads is PEFT's word for the heads of a prefix
        width = heads * config.head_dim
        return {"token_dim": width, "num_attention_heads": heads, "encoder_hidden_size": width}

    def shapes(self, module: Body) -> dict[str, tuple[int, ...]]:
        config = module.config
        width = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        return {"prompt_embeddings": (self.num_virtual_tokens or 0, width)}

    def check(self, path: str, module: Body) -> list[str]:
        found = super().check(path, module)
        if self.prefix_projection:
            found.append("prefix_projection: minilora trains the prefix itself, and PEFT makes it by an MLP")
        return found

    def adapt(self, module: Body, rng: np.random.Generator) -> "PrefixLayer":
        if self.init_token_ids is not None:
            return PrefixLayer(module, keys_and_values(module, self.first_ids()))
        layer = self.restore(module)
        if self.init_weights is None:
            start = rng.standard_normal(layer.prompt_embeddings.shape, dtype="float32")
            layer.prompt_embeddings.data = backend.asarray(start.astype(layer.prompt_embeddings.dtype))
        return layer

    def restore(self, module: Body) -> "PrefixLayer":
        dtype = module.get_input_embeddings().weight.dtype
        return PrefixLayer(module, xp.zeros(self.shapes(module)["prompt_embeddings"], dtype=dtype))


class PrefixLayer(VirtualTokensLayer):
    """A body in each of whose layers trained keys and values stand before those of the text.

    prompt_embeddings: an array (P, 2·L·H_kv·D).
    """

    def begin(self, ids: np.ndarray, attention_mask: np.ndarray | None, cache) -> Tensor:
        config = self.config
        layers, heads, size = config.num_hidden_layers, config.num_key_value_heads, config.head_dim
        prefix = self.prompt_embeddings.reshape(self.virtual_tokens, 2 * layers, heads, size)
        prefix = prefix.transpose(1, 2, 0, 3)  # (P, 2L, H_kv, D) -> (2L, H_kv, P, D)
        pairs = {layer: [prefix[i : i + 1] for i in (2 * layer, 2 * layer + 1)] for layer in range(layers)}
        if cache is None:
            cache = SharedCache(pairs)
        else:
            for layer, pair in pairs.items():
                cache.update(layer, *(a.broadcast_to((len(ids), *a.shape[1:])) for a in pair))
            cache.length = self.virtual_tokens
        return self.base_layer(ids, attention_mask, cache)


def keys_and_values(body: Body, token_ids: list[int]):
    """The prefix that stands for having read the P tokens: an array (P, 2·L·H_kv·D)."""
    cache = SharedCache()
    with no_grad():
        body(np.array([token_ids]), past_key_values=cache)
    seen = [a.data[0] for pair in cache.layers.values() for a in pair]  # (H_kv, P, D) each
    return xp.stack(seen).transpose(2, 0, 1, 3).reshape(len(token_ids), -1)  # (2L, H_kv, P, D) before


def plan(shape: Any, options: Any) -> Trainable:
    count = options.virtual_tokens
    return Trainable(Counts(block=count * 2 * shape.kv_width), prefix=count, products=False)


register(
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
