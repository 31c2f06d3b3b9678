"""A shared prefix, computed once: an instruction, system message or chat header that all rows of a batch begin with.

Under a causal mask, a token's hidden state depends only on the tokens before it. So if the first P tokens of all rows
are equal, so are their hidden states, keys and values. They are computed for one row, every row attends to them, and
their gradient is the sum over the rows. A batch (B, T) then costs P + B (T - P) tokens instead of B T.
"""

from typing import Any

import numpy as np

from minilora import nn, ops
from minilora.models.batch import host_ids
from minilora.tensor import Tensor

LEAST_SAVED = 2**15  # elements of hidden state; saving fewer does not pay for a second pass over the layers


def read_rows(model: Any, ids: np.ndarray, attention_mask: Any, unlabelled: np.ndarray) -> tuple[Tensor | None, Tensor]:
    """Compute hidden states with the model's body: (1, P, C) of the shared beginning, and (B, T - P, C) of the rest.
    The first is None if every row is read whole.

    unlabelled: (B, T), True for a token without a label that counts. Active dropout rules out a shared beginning,
    because every row draws its own masks.
    """
    mask = np.ones_like(ids) if attention_mask is None else host_ids(attention_mask)
    fits = ids.shape == mask.shape == unlabelled.shape  # if not, the body or the loss raises an error
    shared = shared_length(ids, unlabelled & (mask != 0), model.config.hidden_size) if fits else 0
    if not shared or nn.active_dropouts(model):
        return None, model.body(ids, attention_mask)
    cache = SharedCache()
    beginning = model.body(ids[:1, :shared], None, cache)
    cache.keeps_nothing = True
    return beginning, model.body(ids[:, shared:], attention_mask, cache)


class SharedCache:
    """A stand-in for KVCache that holds the keys and values of the shared beginning as part of the graph.

    First it stores the keys and values of one row, the beginning. Once `keeps_nothing` is set, `update` stores no more
    and puts the beginning before each of the B rows. A block may then run twice, as gradient checkpointing needs.

    layers: {layer: [keys, values]}, each (1, H_kv, P, D), if they exist already.
    """

    def __init__(self, layers: dict[int, list[Tensor]] | None = None) -> None:
        self.layers = layers or {}
        self.length = self.layers[0][0].shape[2] if layers else 0
        self.keeps_nothing = bool(layers)

    def update(self, layer: int, k: Tensor, v: Tensor) -> list[Tensor]:
        """Put the beginning before k and v: (B, H_kv, T, D) -> (B, H_kv, P + T, D)."""
        seen = [k, v]
        if layer in self.layers:
            before = (a.broadcast_to((k.shape[0], *a.shape[1:])) for a in self.layers[layer])
            seen = [ops.concatenate(pair, axis=2) for pair in zip(before, seen, strict=True)]
        if not self.keeps_nothing:
            self.layers[layer] = seen
        return seen


def shared_length(ids: np.ndarray, only_read: np.ndarray, width: int) -> int:
    """Return how many first tokens to compute once for all rows; 0 if that saves too little.

    ids: (B, T). only_read: (B, T), True if a token is not padding and has no label that counts. The last of the shared
    tokens is left to each row, which predicts its next token from it. width: size of a hidden state.
    """
    if len(ids) < 2 or (ids[:, 0] != ids[0, 0]).any():
        return 0
    shared = ((ids == ids[0]) & only_read).all(axis=0)
    length = int(np.append(shared, False).argmin()) - 1
    return length if (len(ids) - 1) * length * width >= LEAST_SAVED else 0
