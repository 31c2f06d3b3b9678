"""Drawing the inputs of a search."""

from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np

SEEDS = 1000  # number of different seeds for the values in an example
NORMAL, TIES, ZEROS, LARGE, TINY = "normal", "ties", "zeros", "large", "tiny"
KINDS = (NORMAL, TIES, ZEROS, LARGE, TINY)  # kinds of values in an array; a search shrinks towards the first


class Draws:
    """A source of random inputs. An example's calls share their sizes and choices, which shrink to the first option."""

    def __init__(
        self, choose: Callable[[int], int], twin_of: "Draws | None" = None, waived: Container[str] = frozenset()
    ):
        self._choose, self._twin_of, self._waived = choose, twin_of, waived
        self.clauses: list[str] = []  # the remarks of all draws by `fine` that were not plain
        self._drawn: list[Any] = []
        self._seed: int = twin_of._seed if twin_of else choose(SEEDS)
        self._rng = np.random.default_rng([self._seed, twin_of is not None])
        self.dtype = self.choice("float64", "float32")  # default of `array`

    def choice(self, *options: Any) -> Any:
        """Draw one of the options, the same in both calls."""
        twin = self._twin_of
        self._drawn.append(twin._drawn[len(self._drawn)] if twin else options[self._choose(len(options))])
        return self._drawn[-1]

    def fine(self, remark: str, plain: Any, *others: Any) -> Any:
        """Draw an option as `choice` does; all but `plain` test a fine clause.

        An answer that is wrong only for one of the others passes, with the remark. After that, the remark is in
        `waived`, and only the plain option is drawn.
        """
        chosen = self.choice(*range(1 + len(others)))
        if chosen == 0 or remark in self._waived:
            return plain
        self.clauses.append(remark)
        return others[chosen - 1]

    def size(self, least: int = 1, most: int = 4) -> int:
        """Draw a whole number from `least` to `most`, the same in both calls."""
        return self.choice(*range(least, most + 1))

    def shape(self, axes: tuple[int, ...], least: int = 1, most: int = 3) -> tuple[int, ...]:
        """Draw a shape: `axes` has the possible numbers of axes, each of length `least` to `most`."""
        return tuple([self.size(least, most) for _ in range(self.choice(*axes))])

    def number(self, *options: float) -> Any:
        """Draw one of the options, and a different one in the second call."""
        chosen = self.choice(*options)
        others = [x for x in options if x != chosen]
        return chosen if self._twin_of is None or not others else others[self._rng.integers(len(others))]

    def array(self, *shape: int, kinds: Sequence[str] = KINDS, dtype: str | None = None) -> np.ndarray:
        """Draw numbers with one decimal. ties: only two values; zeros: half are 0; large: up to ±1000; tiny: ±1e-4."""
        kind = self.choice(*kinds)
        array = np.round(self._rng.standard_normal(shape), 1)
        array = np.where(array == 0, 0.1, array)
        if kind == TIES:
            array = self._rng.choice([-1.0, 0.5], size=shape)
        elif kind == ZEROS:
            array = array * self._rng.integers(0, 2, shape)
        elif kind in (LARGE, TINY):
            array = array * (1000 if kind == LARGE else 1e-4) / max(float(np.abs(array).max(initial=0)), 1)
        return np.asarray(array).astype(dtype or self.dtype)

    def whole(self, *shape: int, below: int, least: int = 0, dtype: str = "int64") -> np.ndarray:
        """Draw an array of whole numbers from `least` to `below` - 1."""
        return self._rng.integers(least, below, shape).astype(dtype)

    def eighths(self, *shape: int) -> np.ndarray:
        """Draw -8 to 8 times 1/8, 128 or 2⁻¹⁴. Sums of a few of these are exact, so their order does not matter."""
        scale = self.choice(0.125, 128.0, 2.0**-14)
        return (self._rng.integers(-8, 9, shape) * scale).astype(self.dtype)

    def mask(self, *shape: int) -> np.ndarray:
        """Draw an array of booleans."""
        return self._rng.integers(0, 2, shape).astype(bool)

    def shuffled(self, items: Sequence[Any]) -> list[Any]:
        """Return the items in random order, a different one in each call."""
        return [items[i] for i in self._rng.permutation(len(items))]
