"""How long a training step takes, by its shape, four rates of the machine and four fixed costs; none fitted to a step.

    products       the operations of `flops`, and with LoRA what it takes to add the updates to the
                   weights, at the rate of a large product on every core at once
    elementwise    passes: how often an operation goes over a number, times the numbers; at the rate of a multiplication
                   over blocks that stay in a core's cache. They are counted in `functional/`.
    updates        the same, of clipping and the optimizer (`optim`), which are spread over all cores
    exponentials   of the scores that a causal mask leaves, of the logits, and twice of the gate
    memory         bytes to and from memory of what no cache holds: the weights that train, their gradients and moments,
                   in the optimizer's step and where the workers' gradients are added up; at the rate of a plain copy
    fixed          what a step and a layer take where there is next to nothing to compute: Python, and where a batch is
                   split, threads that wait for Python's lock more than they compute. Measured on models of width 32
                   with 32 tokens per core, whole and split.

A batch that is worth no second thread keeps one core busy (`threads.parts_of`), and so does all of one sequence but its
products. It knows no caches and no thin products that miss the rate of large ones: where a measurement grows otherwise
than this, one of these is the cause.

    N = B·T tokens, h hidden, f intermediate, P trained numbers
"""

from dataclasses import dataclass, replace

from minilora import threads
from minilora.peft.method import METHODS, Options
from minilora.plan.activations import CAUSAL_BLOCK, Step
from minilora.plan.planner import rows_of
from minilora.plan.shapes import Shape

# Passes over N·h in a block, forward and backward: two norms, rotary positions of queries and keys, attention outside
# of its scores, and the sums where paths meet.
STREAM_PASSES = 2 * (3 + 6) + 2 * (4 + 4) + 11 + 7
GATE_PASSES = 4 + 11  # over N·f: a sigmoid forward, and again backward
SCORE_PASSES = 3 + 4  # over each score
LOGIT_PASSES = 3
OPTIMIZER_PASSES = 2 + 13  # over P: clipping, and AdamW
TABLE_PASSES = 3  # over an embedding that trains: rows added up, and the sum with the head's gradient
OPTIMIZER_BYTES = 4 * (3 + 7)  # of each of P: clipping, a scaled gradient; AdamW, four arrays read and three written
SUM_BYTES = 4 * 3  # of each of P, for each worker but the first


@dataclass(frozen=True)
class Rates:
    """What a machine does a second with all its cores, and what is there without any work."""

    products: float  # operations, in a large matrix product
    elements: float  # numbers that one elementwise operation goes over
    exponentials: float
    memory: float  # bytes, of which a copy reads half and writes half
    layer: float  # seconds
    step: float  # seconds
    split_layer: float  # seconds, where threads share the batch
    split_step: float  # seconds


def step_seconds(shape: Shape, method: str, options: Options, step: Step, rates: Rates) -> dict[str, float]:
    """Seconds of a training step of minilora's engine, by kind, on as many cores as the step has workers."""
    parts = _parts(shape, step)
    work = step_work(shape, method, options, replace(step, workers=parts or 1))
    slower = step.workers / (parts or 1)  # all cores over those that do more than products
    whole = rates.step + rates.layer * shape.layers
    return {
        "products": work["products"] / rates.products * step.workers / product_cores(shape, step),
        "elementwise": work["elementwise"] / rates.elements * slower,
        "updates": work["updates"] / rates.elements,
        "exponentials": work["exponentials"] / rates.exponentials * slower,
        "memory": work["memory"] / rates.memory,
        "fixed": rates.split_step + rates.split_layer * shape.layers if parts > 1 else whole,
    }


def product_cores(shape: Shape, step: Step) -> int:
    """How many of the cores the step's matrix products use."""
    return _parts(shape, step) or step.workers


def _parts(shape: Shape, step: Step) -> int:
    return threads.parts_of(step.batch, step.batch * step.length * shape.hidden, step.workers)


def step_work(shape: Shape, method: str, options: Options, step: Step) -> dict[str, float]:
    """Operations, passes, exponentials and bytes of a training step."""
    operations = flops(shape, method, options, step)
    n, what = step.batch * step.length, METHODS[method].plan(shape, options)
    count = what.counts.total(shape.layers)
    scores = step.batch * shape.heads * shape.layers * step.length * (step.length + min(CAUSAL_BLOCK, step.length)) / 2
    gates, logits = n * shape.intermediate * shape.layers, n * shape.vocab
    passes = n * shape.hidden * shape.layers * STREAM_PASSES + gates * GATE_PASSES + scores * SCORE_PASSES
    passes += logits * LOGIT_PASSES
    if what.embedding:
        passes += step.workers * shape.in_embedding * TABLE_PASSES + 2 * shape.layers * n * shape.hidden
    extra = 0
    if what.adds_up and not METHODS[method].is_quantized:  # each worker makes the sum W + s B A, forward and backward
        sizes = [shape.linears[name] for name in what.reads]
        made = sum(i * o for i, o in sizes if 2 * n > step.workers * o) * shape.layers * step.workers * 2
        extra, passes = 2 * what.rank * made, passes + 2 * made
    return {
        "products": sum(work for kind, work in operations.items() if kind != "again") + extra,
        "elementwise": passes,
        "updates": count * OPTIMIZER_PASSES,
        "exponentials": scores + logits + 2 * gates,
        "memory": count * (OPTIMIZER_BYTES + SUM_BYTES * (step.workers - 1)),
    }


def flops(shape: Shape, method: str, options: Options, step: Step) -> dict[str, float]:
    """Operations of a step, by kind: 2 a weight and token for each product that a weight takes part in.

    forward             every product once, and the scores and sums of attention, half of them under the causal mask
    input gradients     the same again, through frozen weights as well; attention's products come twice
    weight gradients    for what trains, once
    again               with checkpointing, the blocks once more
    """
    what = METHODS[method].plan(shape, options)
    length, n = rows_of(step, what)
    extra = 0 if what.is_base or what.prefix else (what.counts.block + what.frozen_products) * shape.layers
    blocks, head = 2 * n * (shape.in_linears + extra), 2 * n * shape.in_embedding
    products = blocks + head
    attention = 2 * step.batch * length * (length + 2 * what.prefix) * shape.query_width * shape.layers
    deep = bool(what.counts.block or what.counts.embedding)
    matrices = what.counts.head + (shape.layers * what.counts.block if what.products else 0)
    return {
        "forward": products + attention,
        "input gradients": products + 2 * attention if deep else 0,
        "weight gradients": 2 * n * matrices,
        "again": blocks + attention if deep else 0,
    }
