# %% [markdown]
# # Lesson 10: prefix, soft prompts and plain prompts
#
# Six tasks: a prompt of words, what virtual tokens do to masks and positions, a soft prompt, attention with a prefix, a
# prefix in every layer of a model, and a start that works. The reading is README.md beside this file.
# `minilora check 10` says how far you are, `minilora check 10 --hint` helps.
#
# Shapes: B rows, T tokens, P virtual tokens, V vocabulary, d hidden size, L layers, H heads, D head size.

# %%
import numpy as np

import minilora.functional as F
from minilora import Tensor, nn, no_grad, ops

# %% [markdown]
# ## Task 1: a prompt of words
#
# Nothing trains: examples stand in front of the question. The model goes on writing, and its next token is the answer.
# A shot is a text and its topic, written as two lines and an empty line:
#
#     Return the next item.
#     Topic: files
#
# The text that is asked about comes last and ends in "Topic:", without a space: the tokens of " files" and " web" begin
# with one. The mark for the end of a line in a Python string is \n.


# %%
def few_shot_prompt(shots: list[tuple[str, str]], text: str) -> str:
    """Each shot (text, topic) with its topic, an empty line after it, and the text with its topic left out."""
    ### BEGIN SOLUTION task 1: write a prompt, read the answer
    before = "".join(f"{shot}\nTopic: {topic}\n\n" for shot, topic in shots)
    return f"{before}{text}\nTopic:"
    ### END SOLUTION


def choose_class(logits: np.ndarray, first_tokens: list[int]) -> int:
    """Which class the model would write next: an index into first_tokens.

    logits (T, V): those of a prompt of T tokens. first_tokens: the id of the first token of each class's name.
    """
    ### BEGIN SOLUTION task 1: write a prompt, read the answer
    return int(np.argmax(logits[-1, first_tokens]))
    ### END SOLUTION


# %% [markdown]
# ## Task 2: masks and positions
#
# P virtual tokens stand before every row. A batch's short rows are padded on the left. Who may look at whom now, and at
# which position does each token stand?


# %%
def mask_and_positions(P: int, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """real (B, T): 1 for a token, 0 for padding on the left -> mask (B, T, P + T) of booleans, positions (B, T).

    mask[b, i, j] is True where token i of row b sees key j: the virtual tokens, which come first, and the real tokens
    up to itself. Positions count virtual and real tokens from 0; what a padding token sees and where it stands is free.
    """
    ### BEGIN SOLUTION task 2: who sees whom, and from where
    B, T = real.shape
    own = np.tril(np.ones((T, T), dtype=bool)) & (real[:, None, :] == 1)  # (B, T, T)
    mask = np.concatenate([np.ones((B, T, P), dtype=bool), own], axis=2)
    return mask, P + np.cumsum(real, axis=1) - 1
    ### END SOLUTION


# %% [markdown]
# ## Task 3: a soft prompt
#
# A prompt whose tokens are not words: P vectors in front of the embeddings, which train. `model` is the library's
# language model, in two parts: `model.model` is its body, and `model.lm_head(hidden)` makes logits of hidden states.
# In the body, `model.model.embed_tokens(ids)` gives embeddings (B, T, d), and `model.model(inputs_embeds=x)` the hidden
# states of all that is in x. `model.model.embed_tokens.weight.data` is the table (V, d).
# Tensors are sliced as arrays are. `ops.concatenate([a, b], axis=1)` joins them, `t.broadcast_to(shape)` repeats one.
# `nn.Parameter(array)` makes a Tensor that trains, and `model.requires_grad_(False)` freezes, as in lesson 08.


# %%
class SoftPrompt(nn.Module):
    """A frozen language model that reads trained vectors first.

    model: the language model, frozen; prompt (P, d): a Tensor that trains, and starts as the embeddings of token_ids.
    """

    def __init__(self, model: nn.Module, token_ids: list[int]):
        ### BEGIN SOLUTION task 3: put vectors in front
        self.model = model.requires_grad_(False)
        self.prompt = nn.Parameter(model.model.embed_tokens.weight.data[np.array(token_ids)])
        ### END SOLUTION

    def forward(self, ids: np.ndarray) -> Tensor:
        """ids (B, T) -> logits (B, T, V) of the real tokens."""
        ### BEGIN SOLUTION task 3: put vectors in front
        P, d = self.prompt.shape
        rows = self.prompt.broadcast_to((len(ids), P, d))
        x = ops.concatenate([rows, self.model.model.embed_tokens(ids)], axis=1)  # (B, P + T, d)
        hidden = self.model.model(inputs_embeds=x)
        return self.model.lm_head(hidden[:, P:])
        ### END SOLUTION


# %% [markdown]
# ## Task 4: attention with a prefix
#
# Trained keys and values stand before those of the text. Tensors have `a @ b`, `k.swapaxes(-1, -2)` and
# `t.sum(axis=-1)`; `F.softmax(scores, axis=-1)` and `ops.where(condition, a, b)` are there as well. Where a query must
# not look, a score of -1e9 will do. Also return how much of its attention each query spends on the prefix.


# %%
def prefix_attention(
    q: Tensor, k: Tensor, v: Tensor, prefix_k: Tensor, prefix_v: Tensor, mask: np.ndarray
) -> tuple[Tensor, Tensor]:
    """q, k, v (B, H, T, D), prefix_k, prefix_v (H, P, D), mask (B, T, P + T) as in task 2, the same for all heads.

    Returns what attention gives, (B, H, T, D), and the share of the weights that lies on the prefix, (B, H, T).
    Gradients come back through both.
    """
    ### BEGIN SOLUTION task 4: attend to the prefix
    B, _, _, D = q.shape
    H, P, _ = prefix_k.shape
    keys = ops.concatenate([prefix_k.broadcast_to((B, H, P, D)), k], axis=2)  # (B, H, P + T, D)
    values = ops.concatenate([prefix_v.broadcast_to((B, H, P, D)), v], axis=2)
    scores = q @ keys.swapaxes(-1, -2) * D**-0.5  # (B, H, T, P + T)
    weights = F.softmax(ops.where(mask[:, None], scores, -1e9), axis=-1)
    return weights @ values, weights[..., :P].sum(axis=-1)
    ### END SOLUTION


# %% [markdown]
# ## Task 5: a prefix for every layer
#
# When the library's model generates, it keeps the keys and values of what it has read in a cache: `cache.length` says
# how many positions are in it, and each layer calls `cache.update(layer, k, v)` with its new keys and values and
# attends to what comes back. A prefix can pretend to be such a cache: as if P tokens had been read before.
#
# The language model takes it as `past_key_values`: `self.model(ids, attention_mask, past_key_values=cache)` returns a
# result that has `.logits`, and adds T to `cache.length` when it is done. attention_mask is None or (B, P + T): 1 for
# what is real, virtual tokens included.


# %%
class PrefixCache:
    """Looks to a model like a cache with the prefix in it. length: how many positions are in it; keeps nothing."""

    def __init__(self, keys: Tensor, values: Tensor):
        """keys, values (L, H, P, D)."""
        ### BEGIN SOLUTION task 5: a prefix in every layer
        self.keys, self.values = keys, values
        self.length = keys.shape[2]
        ### END SOLUTION

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (B, H, T, D), those of the text in this layer -> (B, H, P + T, D) each, the prefix's first."""
        ### BEGIN SOLUTION task 5: a prefix in every layer
        first_k, first_v = (t[layer].broadcast_to((len(k), *t.shape[1:])) for t in (self.keys, self.values))
        return ops.concatenate([first_k, k], axis=2), ops.concatenate([first_v, v], axis=2)
        ### END SOLUTION


class Prefix(nn.Module):
    """A frozen language model with trained keys and values before those of the text, in every layer.

    model: the language model, frozen; keys, values (L, H, P, D): Tensors that train.
    """

    def __init__(self, model: nn.Module, keys: np.ndarray, values: np.ndarray):
        ### BEGIN SOLUTION task 5: a prefix in every layer
        self.model = model.requires_grad_(False)
        self.keys, self.values = nn.Parameter(keys), nn.Parameter(values)
        ### END SOLUTION

    def forward(self, ids: np.ndarray, real: np.ndarray | None = None) -> Tensor:
        """ids (B, T); real (B, T), 0 for padding on the left, or None where there is none -> logits (B, T, V)."""
        ### BEGIN SOLUTION task 5: a prefix in every layer
        cache, mask = PrefixCache(self.keys, self.values), None
        if real is not None:
            mask = np.concatenate([np.ones((len(ids), cache.length), dtype=real.dtype), real], axis=1)
        return self.model(ids, mask, past_key_values=cache).logits
        ### END SOLUTION


# %% [markdown]
# ## Task 6: a start that works
#
# Let the model read P real tokens, and take the keys and values that it computes for them. Something that looks like a
# cache can write them down as they come by: give it to the model as in task 5, with ids (1, P). `t.numpy()` is the
# array of a Tensor, and nothing is recorded for gradients within `with no_grad():`.


# %%
class Recorder:
    """Looks to a model like an empty cache, and writes down what passes.

    length: how many positions are in it, 0; seen[layer]: the pair (k, v) of that layer.
    """

    def __init__(self):
        ### BEGIN SOLUTION task 6: start from real tokens
        self.length, self.seen = 0, []
        ### END SOLUTION

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Called for layer 0, 1, … in turn with k, v (1, H, P, D); the layer attends to what comes back."""
        ### BEGIN SOLUTION task 6: start from real tokens
        self.seen.append((k, v))
        return k, v
        ### END SOLUTION


def real_start(model: nn.Module, token_ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """keys, values (L, H, P, D) with which a Prefix begins as the model that has read the P tokens: two arrays."""
    ### BEGIN SOLUTION task 6: start from real tokens
    recorder = Recorder()
    with no_grad():
        model(np.array([token_ids]), past_key_values=recorder)
    keys = np.stack([k.numpy()[0] for k, _ in recorder.seen])
    values = np.stack([v.numpy()[0] for _, v in recorder.seen])
    return keys, values
    ### END SOLUTION
