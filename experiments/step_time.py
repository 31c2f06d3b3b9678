"""A cost model of a training step, from its shape, four rates of the machine and four fixed costs; none is fitted.

    products       the operations of `flops`, and with LoRA those that add the updates to the weights, at the rate of a
                   large product on all cores
    elementwise    passes over the data times their elements, at the rate of a multiplication over blocks that stay in a
                   core's cache. The passes are counted in `functional/`.
    updates        the same for clipping and the optimizer (`optim`), which use all cores
    exponentials   of the scores under the causal mask, of the logits, and twice of the gate
    memory         bytes moved because no cache holds them: trained weights, their gradients and moments, in the
                   optimizer's step and in summing the workers' gradients; at the rate of a plain copy
    fixed          the time of a step and a layer with almost nothing to compute: Python, and, if a batch is split,
                   threads that wait for Python's lock. Measured on models of width 32 with 32 tokens per core, whole
                   and split.

A batch that is too small to split keeps one core busy (`threads.parts_of`), and so does a single sequence except for
its products. The model ignores caches, and that thin products run slower than large ones. If a measurement grows
differently, one of these is the cause.

    N = B·T tokens, h hidden, f intermediate, P trained parameters
"""

from dataclasses import dataclass, replace

from minilora import threads
from minilora.peft.method import METHODS, Options
from minilora.plan.activations import CAUSAL_BLOCK, Step
from minilora.plan.shapes import Shape

# Passes over N·h in a block, forward and backward: two norms, rotary positions of queries and keys, attention apart
# from its scores, and the sums where paths meet.
STREAM_PASSES = 2 * (3 + 6) + 2 * (4 + 4) + 11 + 7
GATE_PASSES = 4 + 11  # over N·f: a sigmoid forward, and again backward
SCORE_PASSES = 3 + 4  # over each score
LOGIT_PASSES = 3
OPTIMIZER_PASSES = 2 + 13  # over P: clipping, and AdamW
TABLE_PASSES = 3  # over a trained embedding: summing rows, and adding the head's gradient
OPTIMIZER_BYTES = 4 * (3 + 7)  # per parameter: clipping scales a gradient; AdamW reads four arrays and writes three
SUM_BYTES = 4 * 3  # bytes moved per parameter to add up the gradients of each further worker


@dataclass(frozen=True)
class Rates:
    """The rates of a machine per second with all its cores, and its fixed times."""

    products: float  # operations, in a large matrix product
    elements: float  # of one elementwise operation
    exponentials: float
    memory: float  # bytes; a copy reads half of them and writes half
    layer: float  # seconds
    step: float  # seconds
    split_layer: float  # seconds, if threads share the batch
    split_step: float  # seconds


def step_seconds(shape: Shape, method: str, options: Options, step: Step, rates: Rates) -> dict[str, float]:
    """Return the seconds of a training step by kind, on as many cores as the step has workers."""
    parts = _parts(shape, step)
    work = step_work(shape, method, options, replace(step, workers=parts or 1))
    slower = step.workers / (parts or 1)  # all cores, over those that also work outside of matrix products
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
    """Return the number of cores that the step's matrix products use."""
    return _parts(shape, step) or step.workers


def _parts(shape: Shape, step: Step) -> int:
    return threads.parts_of(step.batch, step.batch * step.length * shape.hidden, step.workers)


def step_work(shape: Shape, method: str, options: Options, step: Step) -> dict[str, float]:
    """Return the operations, passes, exponentials and bytes of a training step."""
    n, what = step.batch * step.length, METHODS[method].plan(shape, options)
    count = what.counts.total(shape.layers)
    scores = step.batch * shape.heads * shape.layers * step.length * (step.length + min(CAUSAL_BLOCK, step.length)) / 2
    gates, logits = n * shape.intermediate * shape.layers, n * shape.vocab
    passes = n * shape.hidden * shape.layers * STREAM_PASSES + gates * GATE_PASSES + scores * SCORE_PASSES
    passes += logits * LOGIT_PASSES
    if what.embedding:
        passes += step.workers * shape.in_embedding * TABLE_PASSES + 2 * shape.layers * n * shape.hidden
    extra = 0
    if what.adds_up:  # each worker computes W + s B A, forward and backward
        sizes = [shape.linears[name] for name in what.reads]
        made = sum(i * o for i, o in sizes if 2 * n > step.workers * o) * shape.layers * step.workers * 2
        extra, passes = 2 * what.rank * made, passes + 2 * made
    return {
        "products": sum(flops(shape, method, options, step).values()) + extra,
        "elementwise": passes,
        "updates": count * OPTIMIZER_PASSES,
        "exponentials": scores + logits + 2 * gates,
        "memory": count * (OPTIMIZER_BYTES + SUM_BYTES * (step.workers - 1)),
    }


def flops(shape: Shape, method: str, options: Options, step: Step) -> dict[str, float]:
    """Return the operations of a step of full fine-tuning or LoRA: 2 per weight and token for each product.

    forward             every product, and attention's scores and sums, half of them because of the causal mask
    input gradients     the same, through frozen weights as well; attention's products twice
    weight gradients    the products of the trained weights
    """
    what, n = METHODS[method].plan(shape, options), step.batch * step.length
    adapters = 0 if what.is_base else what.counts.block * shape.layers
    products = 2 * n * (shape.in_linears + adapters + shape.in_embedding)
    attention = 2 * n * step.length * shape.query_width * shape.layers
    return {
        "forward": products + attention,
        "input gradients": products + 2 * attention,
        "weight gradients": 2 * n * (what.counts.head + what.counts.block * shape.layers),
    }
