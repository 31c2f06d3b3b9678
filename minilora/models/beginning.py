"""What all rows of a batch begin with, read once: an instruction, a system message, the format of a chat.

Under a causal mask a token's hidden state depends on those before it alone. Where the first P tokens of all rows are
the same, so are their hidden states, keys and values; they are computed for one row, every row attends to them, and
their gradient is the sum over the rows. A batch (B, T) then costs P + B (T - P) tokens in place of B T.
"""

from typing import Any

import numpy as np

from minilora import nn, ops
from minilora.models.batch import host_ids
from minilora.tensor import Tensor

LEAST_SAVED = 2**15  # numbers of hidden states; a second pass over the layers costs more than fewer save


def read_rows(model: Any, ids: np.ndarray, attention_mask: Any, unlabelled: np.ndarray) -> tuple[Tensor | None, Tensor]:
    """Compute hidden states by the model's body: of what all rows begin with (1, P, C), None if each row is read whole,
    and of the rest (B, T - P, C).

    unlabelled: (B, T), whether a token has no label that counts. Dropout draws for each row, and so rules out a shared
    beginning.
    """
    mask = np.ones_like(ids) if attention_mask is None else host_ids(attention_mask)
    fits = ids.shape == mask.shape == unlabelled.shape  # if not, the body or the loss says so
    shared = shared_length(ids, unlabelled & (mask != 0), model.config.hidden_size) if fits else 0
    if not shared or nn.active_dropouts(model):
        return None, model.body(ids, attention_mask)
    cache = SharedCache()
    beginning = model.body(ids[:1, :shared], None, cache)
    cache.keeps_nothing = True
    return beginning, model.body(ids[:, shared:], attention_mask, cache)


class SharedCache:
    """Stands in for a KVCache: the keys and values of the beginning, as a part of the graph.

    It takes those of one row as they come. Once it `keeps_nothing`, as with `layers` that are given, it gives each of
    the B rows those of the beginning before its own, so that a block may be computed twice.

    layers: {layer: [keys, values]}, each (1, H_kv, P, D).
    """

    def __init__(self, layers: dict[int, list[Tensor]] | None = None) -> None:
        self.layers = layers or {}
        self.length = self.layers[0][0].shape[2] if layers else 0
        self.keeps_nothing = bool(layers)

    def update(self, layer: int, k: Tensor, v: Tensor) -> list[Tensor]:
        """k, v: (B, H_kv, T, D) -> (B, H_kv, P + T, D)."""
        seen = [k, v]
        if layer in self.layers:
            before = (a.broadcast_to((k.shape[0], *a.shape[1:])) for a in self.layers[layer])
            seen = [ops.concatenate(pair, axis=2) for pair in zip(before, seen, strict=True)]
        if not self.keeps_nothing:
            self.layers[layer] = seen
        return seen


def shared_length(ids: np.ndarray, only_read: np.ndarray, width: int) -> int:
    """Count the tokens to read once for all rows; 0 if that saves little.

    ids: (B, T). only_read: (B, T), whether a token is real and has no label that counts. One of those is left to each
    row, to predict from. width: numbers of a hidden state.
    """
    if len(ids) < 2 or (ids[:, 0] != ids[0, 0]).any():
        return 0
    shared = ((ids == ids[0]) & only_read).all(axis=0)
    length = int(np.append(shared, False).argmin()) - 1
    return length if (len(ids) - 1) * length * width >= LEAST_SAVED else 0
