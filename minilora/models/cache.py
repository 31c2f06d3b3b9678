"""Keys and values of what a model has read, kept for the tokens to come."""

from typing import Any

import numpy as np

from minilora import backend
from minilora.backend import xp
from minilora.errors import MiniloraError
from minilora.ops import raw
from minilora.tensor import Tensor, wrap


class KVCache:
    """Keys and values of all layers for up to `capacity` positions, in arrays made once. `length` positions are filled.

    For generation only: it holds arrays, not a graph. To forget the last positions, make `length` smaller.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.length = 0
        self._layers: dict[int, tuple[Any, Any]] = {}

    def update(self, layer: int, k: Any, v: Any) -> list[Tensor]:
        """Append k and v, (B, H_kv, T, D); returns all that the layer has seen, (B, H_kv, length + T, D)."""
        if layer not in self._layers:
            batch, heads, _, size = k.shape
            shape = (batch, heads, self.capacity, size)
            self._layers[layer] = xp.empty(shape, dtype=k.dtype), xp.empty(shape, dtype=v.dtype)
        if (held := len(self._layers[layer][0])) != len(k):
            raise MiniloraError(f"the cache holds {held} sequences and the batch has {len(k)}; make one for each")
        end = self.length + k.shape[2]
        if end > self.capacity:
            raise MiniloraError(f"a cache of {self.capacity} positions cannot take {end}; make it with room for all")
        seen = []
        for store, new in zip(self._layers[layer], (k, v), strict=True):
            store[:, :, self.length : end] = raw(new)
            seen.append(wrap(store[:, :, :end]))
        return seen

    def expanded(self, rows: int, more: int) -> "KVCache":
        """A cache for `rows` sequences that all begin with the one in this, with room for `more` positions."""
        cache = KVCache(self.capacity + more)
        cache.length = self.length
        for layer, arrays in self._layers.items():
            stores = [xp.empty((rows, a.shape[1], cache.capacity, a.shape[3]), dtype=a.dtype) for a in arrays]
            for store, a in zip(stores, arrays, strict=True):
                store[:, :, : self.length] = a[:, :, : self.length]
            cache._layers[layer] = stores[0], stores[1]
        return cache

    def keep_rows(self, rows: np.ndarray) -> None:
        """Drop all sequences but `rows`."""
        index = backend.asarray(rows)
        self._layers = {layer: (k[index], v[index]) for layer, (k, v) in self._layers.items()}
