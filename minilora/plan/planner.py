"""Planning the memory to adapt a model, from its shape alone, before anything is downloaded.

There are two kinds of plan. In 16 bits, the arithmetic is that of the papers: weights and adapters in 2 bytes, or a
base in 4 bits, fused attention, and everything in memory at once. In float32, it follows minilora's own engine, array
by array (`activations.py`).

    weights         parameters · bytes; in 4 bits, the linear layers of the blocks take half a byte per parameter
    constants       the scales of 4-bit weights: 32 bits per block of 64; with double quantization 8 bits, and 32 for
                    every 256 of them (Dettmers et al. 2023, "QLoRA", section 3)
    adapters        the parameters that the method adds, in the precision of the activations
    gradients       as large as the trainable parameters
    optimizer       AdamW's two moments, 4 bytes each per trainable parameter; no float32 master weights
    activations     what the forward pass saves for backward; with checkpointing, the input of each block, and what one
                    block saves while it is recomputed
    logits          in 16 bits, and in float32: themselves, their logarithms and their gradient. (minilora's engine
                    holds only a chunk of them.)
    workspace       one linear layer dequantized from 4 bits, and the gradients inside one MLP. (For minilora's engine,
                    whatever else is alive at the peak.)
"""

from dataclasses import replace
from math import inf, prod
from typing import NamedTuple

from minilora.errors import MiniloraError
from minilora.peft.method import METHODS, Options, Trainable, find
from minilora.plan.activations import Step, engine_peaks, kept_by_block, rows_of
from minilora.plan.shapes import LARGEST, Shape
from minilora.quant.blockwise import STATISTICS_BLOCKSIZE, check_options

DTYPES = {"bfloat16": 2, "float16": 2, "float32": 4}
MEMORIES = (8, 16, 24, 32, 40, 48, 80, 141)  # GB of GPUs, from a small one to an H200
MOMENTS = 8  # bytes of AdamW's state per trainable parameter


class Memory(NamedTuple):
    """The memory of one step, in bytes."""

    kinds: dict[str, float]  # the maximum of each kind
    peak: float  # the most that is alive at once


class Plan(NamedTuple):
    """The costs of one method on one shape, without and with checkpointing."""

    method: str
    trainable: int
    total: int
    saved_bytes: int  # size of the files after training: the adapter, or the trained weights
    memory: Memory
    checkpointed: Memory

    def fits(self, memory: float) -> str:
        """Return "yes", "with checkpointing" or "no"."""
        if self.memory.peak <= memory:
            return "yes"
        return "with checkpointing" if self.least <= memory else "no"

    @property
    def least(self) -> float:
        """The smaller of the two peaks."""
        return min(self.memory.peak, self.checkpointed.peak)


def make_plan(shape: Shape, method: str, options: Options | None = None, step: Step | None = None) -> Plan:
    """Plan a step of `method` on a model of this shape.

    step: an itemsize of 2 (16 bits) selects the arithmetic of the papers, 4 (float32) that of minilora's own engine.
    Raises MiniloraError for impossible sizes.
    """
    method, options, step = find(method), options or Options(), step or Step(1, 512, 2, fused=True)
    check(shape, method, options, step)
    trainable = METHODS[method].plan(shape, options)
    count = trainable.counts.total(shape.layers)
    in_all = shape.parameters + added(shape, trainable)
    arithmetic = engine_memory if step.itemsize == DTYPES["float32"] else memory
    plain, checkpointed = (arithmetic(shape, method, options, step, flag) for flag in (False, True))
    saved = (count + trainable.frozen) * step.itemsize
    return Plan(method, round(count), round(in_all), round(saved), plain, checkpointed)


def added(shape: Shape, trainable: Trainable) -> float:
    """Return how many trainable parameters the adapted model holds beside the base's. (BitFit trains copies, too.)"""
    return 0 if trainable.is_base else trainable.counts.total(shape.layers)


def check(shape: Shape, method: str, options: Options, step: Step) -> None:
    """Raise MiniloraError for sizes with which no training is possible."""
    for name, value, most in (("batch size", step.batch, LARGEST), ("sequence length", step.length, 2**24)):
        if not 1 <= value <= most:
            raise MiniloraError(f"the {name} must be from 1 to {most:,}, not {value:,}")
    if METHODS[method].is_quantized:
        check_options(options.blocksize, options.quant_type)
    trainable = METHODS[method].plan(shape, options)
    for name in sorted(trainable.reads):
        if trainable.rank > (width := min(shape.linears[name])):
            raise MiniloraError(
                f"rank {trainable.rank:,} is larger than the width {width:,} of {name}; choose a smaller one"
            )
    used, room = step.length + trainable.prefix + trainable.prompt, shape.positions or inf
    if used > room:
        raise MiniloraError(f"{used:,} tokens exceed the {room:,} positions that the model has learned; use fewer")


def held(shape: Shape, method: str, options: Options, step: Step) -> dict[str, float]:
    """Return the bytes that stay in memory between steps, by kind."""
    size, trainable = step.itemsize, METHODS[method].plan(shape, options)
    count = trainable.counts.total(shape.layers)
    kinds = {"weights": float(shape.parameters * size), "constants": 0.0}
    if METHODS[method].is_quantized:
        kinds["weights"] -= shape.in_linears * size
        for n_in, n_out in shape.linears.values():
            blocks = -(-n_in * n_out // options.blocksize)
            nested = blocks + 4 * -(-blocks // STATISTICS_BLOCKSIZE) + 4
            kinds["weights"] += shape.layers * ((n_in * n_out + 1) // 2)
            kinds["constants"] += shape.layers * (nested if options.double_quantization else 4 * blocks)
    kinds["weights"] += size * shape.layers * sum(prod(shape.linears[name]) for name in trainable.copied)
    kinds["adapters"] = (added(shape, trainable) + trainable.frozen) * size
    return kinds | {"gradients": count * size, "optimizer": count * MOMENTS}


def memory(shape: Shape, method: str, options: Options, step: Step, checkpointing: bool) -> Memory:
    """Calculate the memory as in the papers: everything is in memory at once, and the peak is the sum."""
    trainable, kinds = METHODS[method].plan(shape, options), held(shape, method, options, step)
    _, n = rows_of(step, trainable)
    first = kept_by_block(shape, step, trainable, live=trainable.embedding or trainable.prompt > 0)
    other = kept_by_block(shape, step, trainable, first.live)
    live = other.live or trainable.norms
    stream = step.itemsize * n * shape.hidden
    plain = first.total + (shape.layers - 1) * other.total
    # Each block keeps its input, once a gradient can flow into it.
    again = (shape.layers if live else 0) * stream + max(first.total, other.total)
    ends = live + bool(trainable.counts.head)  # the inputs of the last norm and of the head
    kinds["activations"] = (min(again, plain) if checkpointing else plain) + ends * stream
    kinds["logits"] = n * shape.vocab * (step.itemsize + 3 * 4)
    kinds["workspace"] = step.itemsize * n * shape.intermediate * (3 if live else 1)
    if METHODS[method].is_quantized:
        kinds["workspace"] += step.itemsize * max(n_in * n_out for n_in, n_out in shape.linears.values())
    return Memory(kinds, sum(kinds.values()))


def engine_memory(shape: Shape, method: str, options: Options, step: Step, checkpointing: bool) -> Memory:
    """Calculate the memory of minilora's own engine.

    Gradients and activations are not all alive at once, so the kinds may add up to more than the peak; if they add up
    to less, the rest is workspace.
    """
    kinds, step = held(shape, method, options, step), replace(step, selective=METHODS[method].is_quantized)
    peaks = engine_peaks(shape, step, METHODS[method].plan(shape, options), checkpointing)
    gradients = min(step.workers, step.batch) * kinds["gradients"]
    kinds |= {"gradients": gradients, "activations": peaks.activations, "logits": peaks.logits}
    always = sum(kinds[kind] for kind in ("weights", "constants", "adapters", "optimizer"))
    peak = always + max(peaks.phases.values())
    return Memory(kinds | {"workspace": max(0.0, peak - sum(kinds.values()))}, peak)
