"""Prefix tuning: trained keys and values before those of the text, in every layer (Li & Liang 2021, section 4).

    attention(q, [K_l; k], [V_l; v])        K_l, V_l (P, H_kv, D) of layer l trained, the model frozen

    shapes      prompt_embeddings (P, 2·L·H_kv·D), viewed as (P, 2L, H_kv, D): index 2l is K_l, 2l + 1 is V_l. K_l is
                not rotated to a position. Only the real tokens have outputs.
    start       normal(0, 1), as in PEFT; zeros; or the keys and values that the model itself computes for P given
                tokens, which the paper finds better if there is little data (section 7). Their keys were rotated to
                the positions 0 … P-1, so the adapted model begins as the base that has already read these tokens.
    parameters  P · 2·L·H_kv·D: 92,160 for P = 8 in SmolLM2-135M (L = 30, H_kv = 3, D = 64), 0.07 % of it
    projection  the paper trains an MLP that produces the prefix (section 4.3): more stable there, and a little better.
                Here the prefix itself trains, so results differ from the paper's. PEFT has both, and both its kinds of
                files open here.
    rate        1e-2 … 3e-2 with AdamW
    merging     none: no weight changes

The adapted model does not begin as the base: even if the prefix is zero, every token attends to P more positions.
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
    """The prefix's length, its start and the way to train it, with PEFT's names and defaults.

    init_token_ids is a field of minilora's own: the prefix starts from the keys and values of these tokens, whatever
    init_weights says.
    """

    encoder_hidden_size: int | None = whole(
        None, least=1, optional=True
    )  # width of PEFT's projection; in all its files
    prefix_projection: bool = flag(False)  # True in files of PEFT whose prefix was produced by an MLP
    init_weights: str | None = choice(None, "zero", optional=True)  # "zero": the prefix starts at zero

    peft_type: ClassVar[str] = "PREFIX_TUNING"

    def of_model(self, config) -> dict[str, int]:
        heads = config.num_key_value_heads  # PEFT calls the heads of a prefix num_attention_heads
        width = heads * config.head_dim
        return {"token_dim": width, "num_attention_heads": heads, "encoder_hidden_size": width}

    def shapes(self, module: Body) -> dict[str, tuple[int, ...]]:
        config = module.config
        width = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        return {"prompt_embeddings": (self.num_virtual_tokens or 0, width)}

    def check(self, path: str, module: Body) -> list[str]:
        problems = super().check(path, module)
        if self.prefix_projection:
            problems.append("prefix_projection must be False: minilora trains the prefix itself, without PEFT's MLP")
        return problems

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
    """A body that attends, in every layer, to trained keys and values before those of the text.

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
    """Return the prefix after which the body acts as if it had read the P tokens: an array (P, 2·L·H_kv·D)."""
    cache = SharedCache()
    with no_grad():
        body(np.array([token_ids]), past_key_values=cache)
    seen = [a.data[0] for pair in cache.layers.values() for a in pair]  # (H_kv, P, D) each
    return xp.stack(seen).transpose(2, 0, 1, 3).reshape(len(token_ids), -1)  # (2L, H_kv, P, D) before


def plan(shape: Any, options: Any) -> Trainable:
    count = options.virtual_tokens
    return Trainable(Counts(block=count * 2 * shape.kv_width), prefix=count)


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
