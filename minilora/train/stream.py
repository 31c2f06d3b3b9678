"""Gradients that are summed over the ranks while backward still computes others."""

from threading import Event, Lock, Thread

import numpy as np

from minilora.tensor import Tensor
from minilora.train.world import World

PIECE = 2_000_000  # bytes that are sent together: much more than a message costs by itself
LOOK_EVERY = 1e-3  # seconds; MPI moves data only while somebody asks it how far it is


def worth_streaming(parameters: list[Tensor]) -> bool:
    """Whether the gradients fill more than one piece, and one buffer can hold them."""
    one_dtype = len({p.dtype for p in parameters}) == 1
    return one_dtype and sum(p.size * p.dtype.itemsize for p in parameters) > PIECE


class Stream:
    """One buffer for the gradients of `parameters`, sent piece by piece as they are whole; `with Stream(…)`.

    Backward comes to the last parameters first, so the buffer holds them in reverse; and a piece is sent when the one
    before it is, so that all ranks send in one order (Li et al. 2020, "PyTorch Distributed", section 3.2.3).

    parts: how many threads each give a gradient of each parameter. before: gradients that are to be added to theirs.
    """

    def __init__(self, world: World, parameters: list[Tensor], parts: int, before: dict[Tensor, np.ndarray]):
        self.world, self.parts, self.before = world, parts, before
        self.places: dict[Tensor, slice] = {}
        self.ends: list[int] = []  # of the pieces, which are the same on all ranks
        end = 0
        for p in reversed(parameters):
            self.places[p] = slice(end, end + p.size)
            end += p.size
            if (end - (self.ends or [0])[-1]) * p.dtype.itemsize >= PIECE:
                self.ends.append(end)
        self.tail = end  # here the loss and what signals ask follow
        self.flat = np.zeros(end + 1 + len(world.stop_flags()), dtype=parameters[0].dtype)
        self.ends.append(len(self.flat))
        self.found: dict[Tensor, dict[int, np.ndarray]] = {p: {} for p in parameters}
        self.waiting = list(self.places)[::-1]  # parameters that are not whole, the next at the end
        self.sent = 0
        self.requests: list = []  # MPI's
        self._lock, self._ended = Lock(), Event()

    def __enter__(self) -> "Stream":
        self._thread = Thread(target=self._keep_moving)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._stop()

    def _stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def take(self, part: int, parameter: Tensor, gradient: np.ndarray) -> None:
        """The gradient of a parameter that thread number `part` computed."""
        with self._lock:
            self.found[parameter][part] = gradient
            while self.waiting and len(self.found[self.waiting[-1]]) == self.parts:
                self._add(self.waiting.pop())
            self._send(self.places[self.waiting[-1]].start if self.waiting else self.tail)

    def finish(self, loss) -> tuple[np.ndarray, dict[Tensor, np.ndarray]]:
        """The sums over the ranks of the loss and of the gradients, which are views of the buffer."""
        with self._lock:
            while self.waiting:  # no gradient from some thread, or from none
                self._add(self.waiting.pop())
            self.flat[self.tail] = loss
            self.flat[self.tail + 1 :] = self.world.stop_flags()
            self._send(len(self.flat))
        self._stop()  # two threads must not ask after one request
        self.world.complete(self.requests)
        self.world.read_stop_flags(self.flat[self.tail + 1 :])
        return self.flat[self.tail], {p: self.flat[place].reshape(p.shape) for p, place in self.places.items()}

    def _add(self, parameter: Tensor) -> None:
        """Write the sum of the threads' gradients, in their order, into the buffer."""
        target, found = self.flat[self.places[parameter]], self.found.pop(parameter)
        arrays = [self.before[parameter]] if parameter in self.before else []
        for array in arrays + [found[part] for part in sorted(found)]:
            target += array.reshape(-1)

    def _send(self, ready: int) -> None:
        """Send the pieces that end at `ready` or before."""
        while self.ends and self.ends[0] <= ready:
            end = self.ends.pop(0)
            self.requests.append(self.world.begin_all_reduce(self.flat[self.sent : end]))
            self.sent = end

    def _keep_moving(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            with self._lock:
                self.world.advance(self.requests)
