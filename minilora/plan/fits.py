"""Whether this machine can hold a training step: asked before anything is made, so arithmetic answers."""

import os
from contextlib import suppress
from pathlib import Path

from minilora import backend
from minilora.errors import MiniloraError
from minilora.models.gpt2 import GPT2Config
from minilora.models.llama_config import LlamaConfig
from minilora.peft.method import Counts, Options, Trainable, find
from minilora.plan.activations import Step, engine_peaks
from minilora.plan.planner import engine_memory
from minilora.plan.shapes import Shape, shape_of
from minilora.show.grids import show_size

STEP_FLAGS = {"batch": "--batch-size", "length": "--seq-len"}
SHAPE_FLAGS = {"layers": "--num-layers", "hidden": "--hidden-size", "intermediate": "--intermediate-size"}
SHAPE_FLAGS |= {"heads": "--num-heads", "kv_heads": "--num-kv-heads", "vocab": "--vocab-size"}
_CONTAINER = "/sys/fs/cgroup/memory.max"  # what a container may use


def machine_memory() -> int | None:
    """Bytes of memory that the GPU has, or the machine, or that its container may use; None where no one says."""
    if backend.name == "cupy":
        return int(backend.xp.cuda.Device().mem_info[1])
    found = []
    with suppress(AttributeError, OSError, ValueError):  # not on Windows
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # no such file, or "max"
        found.append(int(Path(_CONTAINER).read_text(encoding="ascii")))
    return min((size for size in found if size > 0), default=None)


def check_fits(
    model: Shape | LlamaConfig | GPT2Config,
    method: str | None,
    step: Step,
    memory: float | None = None,
    *,
    options: Options | None = None,
    checkpointing: bool = False,
    new_model: bool = False,
) -> tuple[float, float | None]:
    """Return the bytes that a step needs (`planner.engine_memory`), and those that there are, if that is known. Raises
    MiniloraError, which names flags, if there are too few.

    method: None for evaluation of a model that is loaded already, without gradients. memory: bytes; None: of this
    machine. new_model: whether the model's own sizes are flags, too, as in `pretrain`.
    """
    memory = machine_memory() if memory is None else memory
    shape = model if isinstance(model, Shape) else shape_of(model)
    options = options or Options()
    if set(shape.linears).isdisjoint(options.targets):  # "all-linear", or names that only another family has
        options = options.with_(targets="all-linear")
    if method is None:
        needed = max(engine_peaks(shape, step, Trainable(Counts()), checkpointing=False).phases.values())
    else:
        needed = engine_memory(shape, find(method), options, step, checkpointing).peak
    if memory is not None and needed > memory:
        sizes = {flag: getattr(step, name) for name, flag in STEP_FLAGS.items()}
        sizes |= {flag: getattr(shape, name) for name, flag in SHAPE_FLAGS.items()} if new_model else {}
        flags = ", ".join(f"{flag} ({size:,})" for flag, size in sizes.items())
        raise MiniloraError(
            f"{'a batch of evaluation' if method is None else 'a training step'} takes {show_size(needed)} of memory, "
            f"and this machine has {show_size(memory)}: choose a smaller {flags}{'' if new_model else ' or --model'}"
        )
    return needed, memory
