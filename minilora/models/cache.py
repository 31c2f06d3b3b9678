"""The KV cache: keys and values of the tokens read so far, so that generation does not compute them again."""

from typing import Any

import numpy as np

from minilora import backend
from minilora.backend import xp
from minilora.errors import MiniloraError
from minilora.ops import raw
from minilora.tensor import Tensor, wrap


class KVCache:
    """Keys and values of all layers, in arrays allocated once for `capacity` positions; `length` of them are filled.

    For generation only: it holds arrays, not a graph. To drop the last positions, reduce `length`.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.length = 0
        self._layers: dict[int, tuple[Any, Any]] = {}

    def update(self, layer: int, k: Any, v: Any) -> list[Tensor]:
        """Append k and v, (B, H_kv, T, D), and return all of the layer's so far, (B, H_kv, length + T, D)."""
        if layer not in self._layers:
            batch, heads, _, size = k.shape
            shape = (batch, heads, self.capacity, size)
            self._layers[layer] = xp.empty(shape, dtype=k.dtype), xp.empty(shape, dtype=v.dtype)
        if (held := len(self._layers[layer][0])) != len(k):
            raise MiniloraError(f"the cache holds {held} sequences, but the batch has {len(k)}; use a new cache")
        end = self.length + k.shape[2]
        if end > self.capacity:
            raise MiniloraError(f"a cache of {self.capacity} positions has no room for {end}; use a larger one")
        seen = []
        for store, new in zip(self._layers[layer], (k, v), strict=True):
            store[:, :, self.length : end] = raw(new)
            seen.append(wrap(store[:, :, :end]))
        return seen

    def expanded(self, rows: int, more: int) -> "KVCache":
        """Return a cache for `rows` sequences that all begin with the one in this cache, with `more` free positions."""
        cache = KVCache(self.capacity + more)
        cache.length = self.length
        for layer, arrays in self._layers.items():
            stores = [xp.empty((rows, a.shape[1], cache.capacity, a.shape[3]), dtype=a.dtype) for a in arrays]
            for store, a in zip(stores, arrays, strict=True):
                store[:, :, : self.length] = a[:, :, : self.length]
            cache._layers[layer] = stores[0], stores[1]
        return cache

    def keep_rows(self, rows: np.ndarray) -> None:
        """Keep only the sequences at the indices `rows`."""
        index = backend.asarray(rows)
        self._layers = {layer: (k[index], v[index]) for layer, (k, v) in self._layers.items()}
