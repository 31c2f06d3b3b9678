"""Checking by arithmetic, before anything is allocated, that a training step fits into this machine's memory."""

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
_CONTAINER = "/sys/fs/cgroup/memory.max"  # the memory limit of a container


def machine_memory() -> int | None:
    """Return the bytes of memory of the GPU, or of the machine or its container's limit; None if they are unknown."""
    if backend.name == "cupy":
        return int(backend.xp.cuda.Device().mem_info[1])
    limits = []
    with suppress(AttributeError, OSError, ValueError):  # not on Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # no such file, or "max"
        limits.append(int(Path(_CONTAINER).read_text(encoding="ascii")))
    return min((size for size in limits if size > 0), default=None)


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
    """Return the bytes that a step needs (`planner.engine_memory`) and the bytes available, None if unknown.

    method: None to evaluate a model that is already loaded, without gradients. memory: the bytes available; None: those
    of this machine. new_model: True if the model's own sizes are flags, too, as in `pretrain`. Raises MiniloraError,
    which names the flags to reduce, if the step does not fit.
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
            f"{'an evaluation batch' if method is None else 'a training step'} needs {show_size(needed)} of memory, "
            f"but this machine has {show_size(memory)}: choose a smaller {flags}{'' if new_model else ' or --model'}"
        )
    return needed, memory
