"""The rows of a batch over the cores of the processor: a loss whose parts are computed, and walked back, side by side.

    forward     the rows are split into parts, and each part's loss is computed on a thread, with a graph of its own;
                the loss of them all is one node
    backward    the rule of that node walks the parts' graphs, each on a thread, and adds up in the order of the parts

NumPy releases Python's lock while it computes, so threads run side by side. Splitting the batch keeps each thread's
work whole (its matrices stay in its core's cache), where a threaded matrix product leaves everything else on one core,
and waits for its threads where the machine has other work. So matrix products use one thread meanwhile.
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

_count: ContextVar[int | None] = ContextVar("threads", default=None)  # None: one a core

WORTH_A_PART = 2**15  # elements of a hidden state; with fewer, threads wait for Python's lock more than they compute


def count() -> int:
    """Count the threads that work is spread over here: by default as many as there are cores; on a GPU one."""
    return (_count.get() or blas.cores()) if backend.is_cpu() else 1


@contextmanager
def using(threads: int | None) -> Iterator[None]:
    """Within the block (and this thread), work is spread over so many threads; None: one a core. With 1 nothing is
    split.
    """
    token = _count.set(threads)
    try:
        yield
    finally:
        _count.reset(token)


def split_rows(rows: range, parts: int) -> list[range]:
    """`rows` in `parts` runs, in order and as even as can be; where there are fewer rows than parts, some are empty."""
    cuts = [len(rows) * i // parts for i in range(parts + 1)]
    return [rows[i:j] for i, j in zip(cuts, cuts[1:], strict=False)]


def parts_of(rows: int, elements: int, cores: int) -> int:
    """Number of parts to split a batch into: 1 if it is too small to be worth splitting, 0 to leave the parallelism to
    BLAS, or if there is none. (On an idle machine BLAS would share out few rows, too, and sooner; beside other work its
    threads wait for one another.)

    elements: of the batch's hidden state.
    """
    parts = max(1, elements // WORTH_A_PART)
    return 0 if cores == 1 or rows == 1 < parts else min(rows, cores, parts)


def side_by_side(function: Callable[..., Result], *arguments: Any) -> list[Result]:
    """`function` of each, as `map`, on `count()` threads, of which the caller's is one.

    Each runs in the caller's context (gradients on or off, dropout), with nothing in it split again. An error, or what
    a signal raises here, waits until nothing runs any more (see `stop_if_given_up`). Of several, the first in order is
    raised, but Ctrl-C and its like before errors.
    """
    calls = list(zip(*arguments, strict=True))
    if len(calls) < 2 or count() == 1:
        return [function(*call) for call in calls]
    # A signal can raise nearly anywhere, so each of these changes in a single step, and nothing is locked: not what
    # Python's threads, executors and futures lock, either.
    left = iter(range(len(calls)))  # not begun; each thread takes the next
    ended: list[int] = []  # or never begun
    given_up: list[bool] = []
    wake: SimpleQueue[None] = SimpleQueue()
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}

    def give_up() -> None:
        given_up.append(True)
        ended.extend(left)

    def compute() -> None:
        for index in left:
            try:
                with using(1):
                    results[index] = function(*calls[index])
            except _GivenUp:
                pass
            except BaseException as error:  # noqa: BLE001 (raised below)
                errors[index] = error
                give_up()
            finally:
                ended.append(index)
                wake.put(None)

    def wait() -> None:
        while len(ended) < len(calls):
            wake.get()

    with blas.one_thread():
        try:
            for _ in range(min(count(), len(calls)) - 1):
                context = copy_context()
                context.run(_given_up.set, given_up)
                start_new_thread(context.run, (compute,))
            compute()
            wait()
        except BaseException:
            give_up()
            wait()
            raise
    _raise_first(errors)
    return [results.pop(index) for index in range(len(calls))]  # a thread that ends late holds on to none


def _raise_first(errors: dict[int, BaseException]) -> None:
    """Raise one of the errors of `side_by_side`, if there are any."""
    try:
        for index in sorted(errors, key=lambda index: (isinstance(errors[index], Exception), index)):
            raise errors[index]
    finally:
        errors.clear()  # which their tracebacks lead to


class _GivenUp(BaseException):
    """Ends a call whose result nobody needs."""


_given_up: ContextVar[Sequence[bool]] = ContextVar("given up", default=())  # not empty: nobody needs this call's result


def stop_if_given_up() -> None:
    """End this call of `side_by_side` if nobody needs its result, after an error or a signal elsewhere.

    Python cannot interrupt a thread, and the error waits for it: a model asks between its blocks.
    """
    if _given_up.get():
        raise _GivenUp


def joined_loss(run: Callable[[Any], Any], parts: Sequence[Any]) -> tuple[Tensor, Callable[[], Tensor]]:
    """The sum of the losses of `run` for the parts of a batch, computed and walked back side by side, and a function
    that joins their `logits`. parts: the arguments of `run`, which gives something with a 0-d Tensor `loss`.
    """
    since = next(clock)
    with blas.one_thread():
        results = side_by_side(run, parts)
    losses = [result.loss for result in results]
    more: list[dict[Any, Array]] = [{} for _ in parts]  # gradients that begin elsewhere than in the losses

    def walk_back(g: Array) -> tuple[Array | None, ...]:
        def walk(loss: Tensor, others: dict[Any, Array]) -> dict[Any, Array]:
            roots: dict[Any, Array] = {loss._node: g} if g or not others else {}  # 0 beside others adds nothing
            return gradients_of(roots | others, ends=set(inputs))

        with blas.one_thread():
            sums = add_up(side_by_side(walk, losses, more))
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
            for others, piece, start, end in zip(more, pieces, ends, ends[1:], strict=False):
                others[piece._node] = g[start:end]
            return xp.zeros(joined.shape, dtype=joined.dtype)  # and to the loss's rule, which walks the parts

        return record(xp.concatenate([piece.data for piece in pieces]), (joined, rule))

    return joined, logits


def add_up(found: list[dict[Any, Array]]) -> dict[Any, Array]:
    """The gradients of all dictionaries added into the first's, in order (so that a rerun gives the same bits)."""

    def add(name: Any) -> Array:
        first, *others = [gradients[name] for gradients in found if name in gradients]
        for array in others:
            first += array
        return first

    names = list({name: None for gradients in found for name in gradients})
    return dict(zip(names, spread(add, [(name, prod(name.shape)) for name in names]), strict=True))


WORTH_A_TASK = 2**18  # elements; handing fewer to a thread costs more than it saves


def spread(function: Callable[[Any], Result], sized: list[tuple[Any, int]]) -> list[Result]:
    """`function` of each item, in order, groups of neighbours side by side. sized: (item, how many elements it has)."""
    groups: list[list[Any]] = []
    missing = 0  # elements until the last group is worth a task
    for item, size in sized:
        if missing <= 0:
            groups.append([])
            missing = WORTH_A_TASK
        groups[-1].append(item)
        missing -= size
    with blas.one_thread() if count() > 1 else nullcontext():
        found = side_by_side(lambda group: [function(item) for item in group], groups)
    return [result for results in found for result in results]
