"""Whether this machine can hold a training step: asked before anything is made, so arithmetic answers."""

from dataclasses import replace

from minilora.errors import MiniloraError
from minilora.models.gpt2 import GPT2Config
from minilora.models.llama_config import LlamaConfig
from minilora.peft.method import Counts, Options, Trainable, find
from minilora.plan.activations import Step, engine_peaks
from minilora.plan.devices import machine_memory
from minilora.plan.planner import engine_memory
from minilora.plan.shapes import Shape, shape_of
from minilora.show.grids import show_size

MOST = 10**18  # of any one size: beyond it, the answer is the same
STEP_FLAGS = {"batch": "--batch-size", "length": "--seq-len"}
SHAPE_FLAGS = {
    "layers": "--num-layers",
    "hidden": "--hidden-size",
    "intermediate": "--intermediate-size",
    "heads": "--num-heads",
    "kv_heads": "--num-kv-heads",
    "vocab": "--vocab-size",
}


def check_fits(
    model: Shape | LlamaConfig | GPT2Config,
    method: str | None,
    step: Step,
    memory: float | None = None,
    *,
    options: Options | None = None,
    checkpointing: bool = False,
    new_model: bool = False,
) -> None:
    """Raises MiniloraError, which names flags, where `planner.engine_memory` of a step is more bytes than there are.

    method: None for evaluation of a model that is loaded already, without gradients. memory: bytes; None: of this
    machine. new_model: whether the model's own sizes are flags, too, as in `pretrain`.
    """
    memory = machine_memory() if memory is None else memory
    if memory is None:
        return
    shape = model if isinstance(model, Shape) else shape_of(model)
    sizes = {name: getattr(shape, name) for name in SHAPE_FLAGS} | {name: getattr(step, name) for name in STEP_FLAGS}
    options = options or Options()
    if set(shape.linears).isdisjoint(options.targets):  # "all-linear", or names that only another family has
        options = options.with_(targets="all-linear")

    def needed(**smaller: int) -> float:
        now = {name: max(1, min(size, MOST)) for name, size in (sizes | smaller).items()}
        of_step = replace(step, **{name: now.pop(name) for name in STEP_FLAGS})
        now["head_dim"] = min(shape.head_dim, now["hidden"])  # follows where the hidden size is made smaller
        of_shape = replace(shape, **now)
        if method is None:
            peaks = engine_peaks(
                of_shape, of_step, Trainable(Counts()), Counts(), copies=0, tied=False, checkpointing=False
            )
            return max(peaks.phases.values())
        return engine_memory(of_shape, find(method), options, of_step, checkpointing).peak

    if (there := needed()) <= memory:
        return
    flags = STEP_FLAGS | (SHAPE_FLAGS if new_model else {})
    flags = {name: flag for name, flag in flags.items() if sizes[name] > 1}
    alone = [name for name in flags if needed(**{name: 1}) <= memory]
    if not alone and needed(**dict.fromkeys(flags, 1)) > memory:
        advice = "--model"
    else:
        words = [f"{flags[name]} than {sizes[name]:,}" for name in alone or flags]
        advice = (" or " if alone else " and ").join(words)
    raise MiniloraError(
        f"{'a batch of evaluation' if method is None else 'a training step'} takes {show_size(there)} of memory, and "
        f"this machine has {show_size(memory)}: choose a smaller {advice}"
    )
