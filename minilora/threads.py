"""Data parallelism over the cores of a CPU: a batch is split by rows, and forward and backward run on threads.

    forward     the rows are split into parts, and each part's loss is computed on a thread, with a graph of its own;
                the total loss is one node
    backward    the rule of that node walks the parts' graphs, each on a thread, and sums gradients in the parts' order

NumPy releases Python's global lock while it computes, so the threads run in parallel. Splitting the batch lets each
core do the whole computation for its rows, with matrices that stay in its cache. A multi-threaded matrix product would
leave everything else to a single core, and its threads would wait for each other if the machine has other work. So
matrix products use one thread each meanwhile.
"""

from _thread import start_new_thread
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from itertools import accumulate
from math import prod
from queue import SimpleQueue
from typing import Any, TypeVar

from minilora import backend, blas
from minilora.backend import Array, xp
from minilora.graph import clock, gradients_of, inputs_of, nodes_since
from minilora.tensor import Tensor, record, record_graph, wrap

Result = TypeVar("Result")

_count: ContextVar[int | None] = ContextVar("threads", default=None)  # None: one per core

WORTH_A_PART = 2**15  # elements of hidden state per part; with fewer, threads mostly wait for Python's global lock


def count() -> int:
    """Return the number of threads to spread work over: one per core by default, 1 on a GPU."""
    return (_count.get() or blas.cores()) if backend.is_cpu() else 1


@contextmanager
def using(threads: int | None) -> Iterator[None]:
    """Spread work over this many threads within the block, on this thread; None: one per core; 1: split nothing."""
    token = _count.set(threads)
    try:
        yield
    finally:
        _count.reset(token)


def split_rows(rows: range, parts: int) -> list[range]:
    """Split `rows` into `parts` consecutive ranges, as even as possible; with too few rows, some are empty."""
    cuts = [len(rows) * i // parts for i in range(parts + 1)]
    return [rows[i:j] for i, j in zip(cuts, cuts[1:], strict=False)]


def parts_of(rows: int, elements: int, cores: int) -> int:
    """Return the number of parts to split a batch into: 1 if it is too small to be worth splitting, 0 to leave the
    parallelism to BLAS, or if there is none. (On an idle machine, BLAS would also be faster for few rows; on a busy one
    its threads wait for each other.)

    elements: size of the batch's hidden state.
    """
    parts = max(1, elements // WORTH_A_PART)
    return 0 if cores == 1 or rows == 1 < parts else min(rows, cores, parts)


def side_by_side(function: Callable[..., Result], *arguments: Any) -> list[Result]:
    """Call `function` on each of the arguments, as `map` does, on `count()` threads including the caller's.

    Calls run in the caller's context (gradients on or off, dropout), and do not split their own work again. An error,
    or an exception raised by a signal, is raised once the calls that had begun have ended. If there are several,
    KeyboardInterrupt and its like come before errors, then the order of the arguments decides.
    """
    calls = list(zip(*arguments, strict=True))
    if len(calls) < 2 or count() == 1:
        return [function(*call) for call in calls]
    # A signal handler can raise nearly anywhere, so each of these changes in a single step and there are no locks. That
    # rules out Python's threads, executors and futures too, which have locks inside.
    left = iter(range(len(calls)))  # calls not started yet; each thread takes the next
    ended: list[int] = []  # calls that have ended, or will never start
    wake: SimpleQueue[None] = SimpleQueue()
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}

    def compute() -> None:
        for index in left:
            try:
                with using(1):
                    results[index] = function(*calls[index])
            except BaseException as error:  # noqa: BLE001 (raised below)
                errors[index] = error
                ended.extend(left)
            finally:
                ended.append(index)
                wake.put(None)

    def wait() -> None:
        while len(ended) < len(calls):
            wake.get()

    with blas.one_thread():
        try:
            for _ in range(min(count(), len(calls)) - 1):
                start_new_thread(copy_context().run, (compute,))
            compute()
            wait()
        except BaseException:
            ended.extend(left)
            wait()
            raise
    _raise_first(errors)
    return [results.pop(index) for index in range(len(calls))]  # popped: a thread that ends late keeps none alive


def _raise_first(errors: dict[int, BaseException]) -> None:
    """Raise the first of the errors of `side_by_side`, if there are any."""
    try:
        for index in sorted(errors, key=lambda index: (isinstance(errors[index], Exception), index)):
            raise errors[index]
    finally:
        errors.clear()  # breaks a reference cycle: the tracebacks lead to this dictionary


def joined_loss(run: Callable[[Any], Any], parts: Sequence[Any]) -> tuple[Tensor, Callable[[], Tensor]]:
    """Return the summed loss of a batch's parts, and a function that joins their `logits`. Forward and backward run in
    parallel. parts: the arguments of `run`, whose result has a 0-d Tensor `loss`.
    """
    since = next(clock)
    with blas.one_thread():
        results = side_by_side(run, parts)
    losses = [result.loss for result in results]
    from_logits: list[dict[Any, Array]] = [{} for _ in parts]  # gradients that enter through each part's logits

    def walk_back(g: Array) -> tuple[Array | None, ...]:
        def walk(loss: Tensor, others: dict[Any, Array]) -> dict[Any, Array]:
            roots: dict[Any, Array] = {loss._node: g} if g or not others else {}  # g may be 0 if only logits are used
            return gradients_of(roots | others, ends=set(inputs))

        with blas.one_thread():
            sums = add_up(side_by_side(walk, losses, from_logits))
        return tuple(sums.get(x) for x in inputs)

    total = sum(loss.data for loss in losses)
    if any(loss._node is None for loss in losses):  # nothing trains
        joined = wrap(total)
    else:
        inputs = inputs_of(nodes_since([loss._node for loss in losses], since))
        joined = record_graph(total, inputs, walk_back)

    def logits() -> Tensor:
        pieces = [result.logits for result in results]
        ends = list(accumulate(map(len, pieces), initial=0))

        def rule(g: Array) -> Array:
            for others, piece, start, end in zip(from_logits, pieces, ends, ends[1:], strict=False):
                others[piece._node] = g[start:end]
            return xp.zeros(joined.shape, dtype=joined.dtype)  # leads on to the loss's rule, which walks the parts

        return record(xp.concatenate([piece.data for piece in pieces]), (joined, rule))

    return joined, logits


def add_up(dictionaries: list[dict[Any, Array]]) -> dict[Any, Array]:
    """Sum gradients by name, in place and in order, so that a rerun gives the same bits."""

    def add(name: Any) -> Array:
        first, *others = [gradients[name] for gradients in dictionaries if name in gradients]
        for array in others:
            first += array
        return first

    names = list({name: None for gradients in dictionaries for name in gradients})
    return dict(zip(names, spread(add, [(name, prod(name.shape)) for name in names]), strict=True))


WORTH_A_TASK = 2**18  # elements per task; handing fewer to a thread costs more than it saves


def spread(function: Callable[[Any], Result], sized: list[tuple[Any, int]]) -> list[Result]:
    """Call `function` on each item, with groups of neighbouring items in parallel; returns the results in order.

    sized: (item, number of elements).
    """
    groups: list[list[Any]] = []
    missing = 0  # elements that the last group still needs to be worth a task
    for item, size in sized:
        if missing <= 0:
            groups.append([])
            missing = WORTH_A_TASK
        groups[-1].append(item)
        missing -= size
    with blas.one_thread() if count() > 1 else nullcontext():
        by_group = side_by_side(lambda group: [function(item) for item in group], groups)
    return [result for results in by_group for result in results]
