"""Whether this machine can hold a training step: asked before anything is made, so arithmetic answers."""

from minilora.errors import MiniloraError
from minilora.models.gpt2 import GPT2Config
from minilora.models.llama_config import LlamaConfig
from minilora.peft.method import Counts, Options, Trainable, find
from minilora.plan.activations import Step, engine_peaks
from minilora.plan.devices import machine_memory
from minilora.plan.planner import engine_memory
from minilora.plan.shapes import Shape, shape_of
from minilora.show.grids import show_size

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
    sizes = {flag: getattr(step, name) for name, flag in STEP_FLAGS.items()}
    if new_model:
        sizes |= {flag: getattr(shape, name) for name, flag in SHAPE_FLAGS.items()}
    options = options or Options()
    if set(shape.linears).isdisjoint(options.targets):  # "all-linear", or names that only another family has
        options = options.with_(targets="all-linear")
    if method is None:
        none = Trainable(Counts())
        needed = max(engine_peaks(shape, step, none, Counts(), 0, tied=False, checkpointing=False).phases.values())
    else:
        needed = engine_memory(shape, find(method), options, step, checkpointing).peak
    if needed > memory:
        flags = ", ".join(f"{flag} ({size:,})" for flag, size in sizes.items())
        raise MiniloraError(
            f"{'a batch of evaluation' if method is None else 'a training step'} takes {show_size(needed)} of memory, "
            f"and this machine has {show_size(memory)}: choose a smaller {flags}{'' if new_model else ' or --model'}"
        )
