"""The activations that a training step saves for backward: a walk through a block, with a name for each array.

A gradient rule saves what it needs, and a frozen input has no rule (`minilora.tensor`). So at each module, this walk
asks the same questions as the engine: does a gradient have to flow through here (`live`), and does something that
trains read this array? The terms are the closures of `functional/` and `peft/`, in the order of `LlamaDecoderLayer`.

    N = B·T rows, h hidden, q = heads · head size, kv = key/value heads · head size, f intermediate, m bottleneck

    norm                    its input N·h, and 1/rms of each row
    linear                  its input, if its weight or an update of it trains; nothing if it is frozen. On a base in
                            4 bits, minilora recomputes the outputs of norms and gated activations instead of saving
                            them.
    rotary                  a signed copy of the sines, T · head size, once for queries and once for keys
    attention               queries N·q, keys and values 2·N·kv, and the exponentials of the scores: with a causal mask,
                            in blocks of 64 queries, about half of heads · B · T². On a base in 4 bits the exponentials
                            are recomputed, and two numbers per row and head are saved. Fused attention, as on a GPU,
                            saves its output and one number per row and head.
    gated activation        gate and up, 2·N·f (without a gate: its input N·f)
    factors (IA3, DoRA)     the array that they multiply; VeRA's also N·r inside its update
    adapter (bottleneck)    its input N·h, and N·m before its activation and, unless the base is in 4 bits, after it
    dropout                 the input after dropout, one byte of mask per element, and the N·r between A and B

With checkpointing (Chen et al. 2016, "Training deep nets with sublinear memory cost") each block saves only its input,
N·h, and is recomputed when the gradient arrives, one block at a time.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from minilora.functional import chunk_rows
from minilora.peft.method import Counts, Trainable
from minilora.plan.shapes import Shape

CACHE_BLOCK = 512 * 1024  # bytes that an elementwise chain processes at a time, in backend.row_blocks
CAUSAL_BLOCK = 64  # queries at a time, in functional.scaled_dot_product_attention


@dataclass(frozen=True)
class Step:
    """One training step: B sequences of T tokens, in elements of `itemsize` bytes."""

    batch: int
    length: int
    itemsize: int = 4
    fused: bool = False  # attention is one kernel, as on a GPU; False: as in minilora's engine
    selective: bool = False  # `functional.selective_recomputation` in backward, as on a base in 4 bits
    workers: int = 1  # threads that share the batch


@dataclass
class SavedForBackward:
    """The bytes of each array that a block saves for backward, by name, in the order in which they are computed."""

    early: dict[str, float] = field(default_factory=dict)  # up to the gated activation
    late: dict[str, float] = field(default_factory=dict)  # after it
    live: bool = True  # True if a gradient has to flow into the block's output

    @property
    def total(self) -> float:
        return sum(self.early.values()) + sum(self.late.values())


def rows_of(step: Step, trainable: Trainable) -> tuple[int, int]:
    """Return (tokens per sequence, N), including the virtual tokens that pass through the layers."""
    length = step.length + trainable.prompt
    return length, step.batch * length


def score_count(shape: Shape, step: Step, trainable: Trainable) -> int:
    """Count the attention scores with a causal mask, computed in blocks of queries; the keys of a prefix count."""
    length, _ = rows_of(step, trainable)
    whole, rest = divmod(length, CAUSAL_BLOCK)
    keys = CAUSAL_BLOCK * whole * (whole + 1) // 2 + whole * trainable.prefix  # summed over the whole blocks
    return step.batch * shape.heads * (CAUSAL_BLOCK * keys + rest * (length + trainable.prefix))


def kept_by_block(  # noqa: C901 (one walk through the block, in the order of the engine's rules)
    shape: Shape, step: Step, trainable: Trainable, live: bool
) -> SavedForBackward:
    """Walk through one block and list what it saves. live: True if a gradient has to flow into the block's input."""
    length, n = rows_of(step, trainable)
    h, q, f, selective = shape.hidden, shape.query_width, shape.intermediate, step.selective
    keys = step.batch * (length + trainable.prefix) * shape.kv_width
    saved = SavedForBackward()

    def keep(where: dict[str, float], name: str, numbers: float) -> None:
        where[name] = step.itemsize * numbers  # an array has one name, however many rules hold it

    def linears(where: dict[str, float], input_name: str, numbers: int, *names: str, remade: bool = False) -> bool:
        """Add what the linears that read one array save. Return True if something in them trains.

        remade: the array is recomputed in backward, so it need not be saved.
        """
        reading = [name for name in names if name in trainable.reads]
        scaled = [name for name in names if name in trainable.scaled]
        if scaled or (reading and not trainable.dropout and not remade):
            keep(where, f"input of {input_name}", numbers)
        for name in reading if trainable.dropout else ():
            keep(where, f"dropped input of {name}", numbers * (1 + 1 / step.itemsize) + n * trainable.rank)
        for name in names:
            if name in trainable.inner:
                keep(where, f"inside the update of {name}", n * trainable.rank)
            if name in trainable.factors:
                keep(where, f"output of {name} before its factors", n * shape.linears[name][1])
        return any(name in trainable.reads | trainable.scaled | trainable.factors for name in names)

    def adapter(where: dict[str, float], module: str, remade: bool = False) -> bool:
        if module not in trainable.adapters:
            return False
        if not (trainable.parallel and remade):
            keep(where, "input of gate and up" if trainable.parallel else f"output of {module}", n * h)
        keep(where, f"inside the adapter of {module}", (1 if selective else 2) * n * trainable.bottleneck)
        return True

    keep(saved.early, "made of the adapter's parameters", trainable.made)

    # Attention
    live |= trainable.norms
    if live:
        keep(saved.early, "input of the first norm", n * h + n)
    names = ("q_proj", "k_proj", "v_proj")
    live |= linears(saved.early, "q, k and v", n * h, *names, remade=live and selective) or trainable.prefix > 0
    if live:
        if not shape.positions:
            keep(saved.early, "sines", 2 * length * shape.head_dim * min(step.workers, step.batch))
        keep(saved.early, "queries, keys and values", n * q + 2 * keys)
        if step.fused:
            keep(saved.early, "input of o", n * q)
        keep(saved.early, "maxima and sums of scores", (2 if selective else 1) * n * shape.heads)
        if not (step.fused or selective):
            keep(saved.early, "exponentials of scores", score_count(shape, step, trainable))
    live |= linears(saved.early, "o", n * q, "o_proj")
    live |= adapter(saved.early, "self_attn")

    # MLP
    live |= trainable.norms
    if live:
        keep(saved.early, "input of the second norm", n * h + n)
    first = ("gate_proj", "up_proj") if shape.gated else ("up_proj",)
    normal = live and selective
    live |= linears(saved.early, "gate and up", n * h, *first, remade=normal)
    if live:
        keep(saved.early, "gate and up", len(first) * n * f)
    live |= linears(saved.late, "down", n * f, "down_proj", remade=live and selective)
    live |= adapter(saved.late, "mlp", normal)
    saved.live = live
    return saved


class Peaks(NamedTuple):
    """Bytes alive in a step besides weights and optimizer."""

    activations: float  # saved for backward at the end of the forward pass, plus the gradient of the last hidden states
    logits: float  # bytes of logits in memory at the same time
    phases: dict[str, float]  # everything that is alive, at each moment that can be the peak


def engine_peaks(shape: Shape, step: Step, trainable: Trainable, checkpointing: bool) -> Peaks:
    """Return what minilora's own engine keeps alive in a step. Each worker has its own gradients. The moments are:

    forward, last block     what all earlier blocks save, and everything that the last block has computed
    loss                    what all blocks save; the hidden states twice, all of them and those with a label; their
                            gradient and the head's; a chunk of logits. If there are several chunks, two are alive
                            while one is computed, with the sum of the head's gradient and the shares of two chunks.
    backward, last MLP      almost nothing is freed yet; the gradients of the residual stream and around the
                            activation, or the linear's copies, are added
    backward, last adapter  everything is still saved; a bottleneck's exact GELU and its slope take nine arrays, a
                            block at a time
    backward, first MLP     almost everything is freed, and most weights have their gradient
    backward, embedding     all weights have their gradient; the rows of the table's are sorted and summed
    """
    size, workers = step.itemsize, min(step.workers, step.batch)
    gradients = Counts(**{name: size * count for name, count in vars(trainable.counts).items()})
    length, n = rows_of(step, trainable)
    sequences = -(-step.batch // workers)  # sequences per worker
    stream, inner = size * n * shape.hidden, size * n * shape.intermediate  # bytes of N·h and N·f
    branches = 2 if shape.gated else 1
    first = kept_by_block(shape, step, trainable, live=trainable.embedding or trainable.prompt > 0)
    last = kept_by_block(shape, step, trainable, first.live) if shape.layers > 1 else first
    before = first.total + (shape.layers - 2) * last.total if shape.layers > 1 else 0
    body = before + last.total
    if checkpointing and first.live:
        sines = 0 if shape.positions else size * workers * 2 * length * shape.head_dim  # one unsigned copy for all
        before = (shape.layers - 1) * stream + sines
        body = before + stream  # the input of each block
    live = last.live or trainable.norms
    norm = stream + size * n if live else 0  # the last norm's input
    # Arrays of a linear's size, per worker, while its product runs: none for a plain weight, one for W + s B A, and one
    # for W itself if it is dequantized from 4 bits.
    adds_up = trainable.adds_up and not trainable.dropout and "down_proj" in trainable.reads
    copies = step.selective + (adds_up and 2 * sequences * step.length > shape.hidden)
    copy = workers * copies * size * shape.hidden * shape.intermediate
    cached = min(workers * CACHE_BLOCK, inner)  # one array of an elementwise chain, a block at a time
    several = cached < inner  # then the arrays of the block before are still alive

    computed = dict.fromkeys(("input of the first norm", "input of the second norm", "input of gate and up"), stream)
    computed |= {"gate and up": branches * inner, "input of down": inner}
    saved = last.early | last.late
    mlp = last.total + sum(count for name, count in computed.items() if name not in saved)
    scores = size * min(step.batch, workers) * shape.heads * CAUSAL_BLOCK * (length + trainable.prefix)
    if not step.selective:  # either saved, and counted above, or alive until the operation ends
        scores = 0 if live else size * score_count(shape, step, trainable)
    attention = 2 * stream + size * n * 2 * (shape.query_width + shape.kv_width) + scores
    in_block = max(mlp + 2 * cached, mlp + stream + copy, attention)

    chunk = chunk_rows(shape.vocab, shape.hidden, size)
    rows = sequences * max(1, step.length - (trainable.prompt == 0))  # rows with a label
    chunks = -(-rows // chunk)
    logits, head = workers * min(rows, chunk) * shape.vocab * size, workers * gradients.head
    loss = min(chunks, 2) * head + logits

    phases = {"forward, last block": before + in_block, "loss": body + norm + (3 if live else 2) * stream + loss}
    grown = workers * gradients.total(shape.layers)
    if live:
        whole = before + last.total  # once the last block has been recomputed
        # If the input of the last linear was recomputed, its sigmoids are still there and are not computed once more.
        remade = step.selective and "down_proj" in trainable.reads and "input of down" not in saved
        again = inner if remade and not trainable.dropout else 0
        slopes = cached * ((3 if several else 2) if again else (5 if several else 3))
        around = stream + (1 + branches) * inner + again + slopes + workers * gradients.down
        down = stream + inner + again + copy
        start = whole - sum(last.late.values()) + head
        phases["backward, last MLP"] = start + max(around, down)
        if trainable.bottleneck:
            inside = size * n * trainable.bottleneck
            gelu = 2 * inside + 9 * min(workers * CACHE_BLOCK, inside)
            phases["backward, last adapter"] = whole + head + 2 * stream + gelu
        phases["backward, first MLP"] = sum(first.early.values()) + grown - workers * gradients.block + around
    sorting = 3 * stream + (workers * size * shape.in_embedding if shape.tied else 0) if trainable.embedding else 0
    phases["backward, embedding"] = grown + sorting
    return Peaks(body + norm + (stream if live else 0), logits, phases)
