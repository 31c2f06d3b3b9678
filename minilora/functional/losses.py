"""Cross-entropy of logits, and of a linear map whose logits are never all in memory."""

from math import prod

from minilora import backend, kernels
from minilora.backend import Array, xp
from minilora.functional.activations import plain_log_softmax
from minilora.functional.rows import as_rows, row_blocks
from minilora.ops import raw
from minilora.tensor import Operand, Tensor, is_recording, record, wrap

# The plain form


def plain_cross_entropy(logits: Tensor, targets: Array) -> Tensor:
    """Compute the mean of -log softmax(logits)[target]. logits (N, V), targets (N,); every target counts."""
    return -plain_log_softmax(logits)[wrap(xp.arange(logits.shape[0])), targets].mean()


# The fused forms


def cross_entropy(logits: Operand, targets: Operand, ignore_index: int = -100, num_items: int | None = None) -> Tensor:
    """Compute the mean of -log softmax(logits)[target] over the targets that count, in nats.

    logits: (..., V); targets: integers (...); a target of `ignore_index` does not count. num_items: number to divide
    the sum by, by default the number of targets that count; for a part of a larger batch, pass the whole batch's.
    Raises IndexError for a target outside 0 … V-1, and ValueError if the shapes do not fit, no target counts or
    num_items is not positive.
    """
    a = raw(logits)
    shape, dtype = a.shape, a.dtype
    valid, target, num_items = _valid_targets(targets, shape, ignore_index, num_items)
    rows = as_rows(a)
    used = rows if valid is None else rows[valid]
    exps = xp.empty(used.shape, dtype=dtype)
    total, sums = _exp_rows(used, exps, target)

    def rule(g: Array) -> Array:
        exps[xp.arange(len(target)), target] -= sums
        return _put_rows(xp.multiply(exps, (g / num_items / sums)[:, None], out=exps), valid, shape)

    return record(total / num_items, (logits, rule))


def linear_cross_entropy(
    x: Operand, weight: Operand, targets: Operand, ignore_index: int = -100, num_items: int | None = None
) -> Tensor:
    """Compute the cross-entropy of the logits x Wᵀ, a chunk of rows at a time, without ever holding all logits: with a
    language model's vocabulary, they would be its largest array.

    x: (..., C); weight: (V, C); targets: integers (...). num_items, and errors: as for `cross_entropy`. If gradients
    are needed, they are computed in the forward pass already, while each chunk of logits is at hand.
    """
    a, w = raw(x), raw(weight)
    shape, classes = a.shape, w.shape[0]
    valid, target, num_items = _valid_targets(targets, (*shape[:-1], classes), ignore_index, num_items)
    rows = as_rows(a)
    used = rows if valid is None else rows[valid]
    x_is_live = is_recording() and isinstance(x, Tensor) and x.requires_grad
    weight_is_live = is_recording() and isinstance(weight, Tensor) and weight.requires_grad

    total = xp.zeros((), dtype=a.dtype)
    dx: Array = xp.empty(used.shape, dtype=a.dtype) if x_is_live else None
    dw = xp.zeros(w.shape, dtype=w.dtype) if weight_is_live and not len(target) else None
    chunk = chunk_rows(classes, shape[-1], a.dtype.itemsize)
    buffer = xp.empty((min(chunk, len(target)), classes), dtype=xp.result_type(a.dtype, w.dtype))
    for start in range(0, len(target), chunk):
        s = slice(start, start + chunk)
        logits = xp.matmul(used[s], w.T, out=buffer[: len(target) - start])  # (chunk, V)
        chunk_total, sums = _exp_rows(logits, logits, target[s])
        total = total + chunk_total
        if x_is_live or weight_is_live:
            # These rows, divided by their sums, are d loss / d logits · num_items. The division comes later, where rows
            # are short: C instead of V.
            logits[xp.arange(logits.shape[0]), target[s]] -= sums
            inverse = (1 / sums)[:, None]
            if x_is_live:
                xp.matmul(logits, w, out=dx[s])
                dx[s] *= inverse
            if weight_is_live:
                part = logits.T @ (used[s] * inverse)
                dw = part if dw is None else xp.add(dw, part, out=dw)
                del part  # frees it before the next one is made

    def rule_x(g: Array) -> Array:
        return _put_rows(xp.multiply(dx, g / num_items, out=dx), valid, shape)

    def rule_w(g: Array) -> Array:
        return xp.multiply(dw, g / num_items, out=dw)

    return record(total / num_items, (x, rule_x), (weight, rule_w))


CHUNK_BYTES = 2 * 2**20, 8 * 2**20  # logits in memory at a time: at least, at most


def chunk_rows(classes: int, width: int, itemsize: int) -> int:
    """Choose how many rows of logits `linear_cross_entropy` computes at a time, for a weight (classes, width).

    A small chunk stays in the cache, but every chunk reads the whole weight and updates its whole gradient.
    """
    least, most = CHUNK_BYTES
    return max(64, min(max(least, 4 * classes * width * itemsize), most) // (classes * itemsize))


def _valid_targets(
    targets: Operand, shape: tuple[int, ...], ignore_index: int, num_items: int | None
) -> tuple[Array, Array, int]:
    """Check and copy targets, for logits of `shape`: return the flat positions of those that count (None if all do),
    those targets, and the number to divide by. Callers of a loss need not check their targets themselves.
    """
    host = backend.to_numpy(targets._data if isinstance(targets, Tensor) else targets)
    if host.shape != tuple(shape[:-1]):
        raise ValueError(f"targets of shape {host.shape} do not fit logits of shape {tuple(shape)}")
    flat = host.reshape(-1)
    counts = flat != ignore_index
    valid = None if counts.all() else counts.nonzero()[0]
    used = flat if valid is None else flat[valid]
    if num_items is None and not len(used):
        raise ValueError(f"cross_entropy has no target that counts: all are {ignore_index}")
    if num_items is None:
        num_items = len(used)
    elif hasattr(num_items, "item"):  # a Tensor or an array of one number
        num_items = num_items.item()
    if not num_items > 0:
        raise ValueError(f"num_items, which the loss is divided by, must be positive, not {num_items}")
    target = backend.checked_indices(used, shape[-1], "target")
    return None if valid is None else backend.asarray(valid), target, num_items


def _put_rows(rows: Array, valid: Array, shape: tuple[int, ...]) -> Array:
    """Return `rows` in `shape`. If only `valid` rows were used, put them among rows of zeros."""
    if valid is None:
        return rows.reshape(shape)
    out = xp.zeros((prod(shape[:-1]), shape[-1]), dtype=rows.dtype)
    out[valid] = rows
    return out.reshape(shape)


def _exp_rows(logits: Array, out: Array, target: Array) -> tuple[Array, Array]:
    """Write exp(logits - row maximum) to `out`, which may be `logits`. Return the sum of -log softmax at the targets,
    and the sum of each row written; the row divided by it is the softmax.
    """
    total, sums = xp.zeros((), dtype=logits.dtype), xp.empty(logits.shape[0], dtype=logits.dtype)
    ones = xp.ones(logits.shape[1], dtype=logits.dtype)
    for s in row_blocks(logits):
        rows, index = logits[s], xp.arange(logits[s].shape[0])
        chosen = rows[index, target[s]]
        top = rows.max(axis=1)
        kernels.exp_below(rows, top[:, None], out[s])
        xp.matmul(out[s], ones, out=sums[s])
        total = total + kernels.row_losses(sums[s], top, chosen).sum()
    return total, sums
