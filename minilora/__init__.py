"""minilora: transfer learning built from arrays up. See README.md for where to start.

Names are imported on first use, so that the command line starts fast.
"""

from importlib import import_module

TYPE_CHECKING = False  # importing typing for it would double the time until Ctrl-C is handled
if TYPE_CHECKING:  # for type checkers and editors: the names that __getattr__ imports
    from minilora import backend, data, functional, gradcheck, models, nn, ops, optim, peft, quant, train
    from minilora.optim.lr_scheduler import get_linear_schedule_with_warmup
    from minilora.tensor import Tensor, no_grad
    from minilora.train.auto import AutoModelForCausalLM, AutoPeftModelForCausalLM, AutoTokenizer

__version__ = "0.2.0"
__all__ = [
    "AutoModelForCausalLM", "AutoPeftModelForCausalLM", "AutoTokenizer", "Tensor", "backend", "data", "functional",
    "get_linear_schedule_with_warmup", "gradcheck", "models", "nn", "no_grad", "ops", "optim", "peft", "quant", "train",
]  # fmt: skip
_HOMES = {"Tensor": "tensor", "no_grad": "tensor", "get_linear_schedule_with_warmup": "optim.lr_scheduler"}


def __getattr__(name: str) -> object:
    name = {"inference_mode": "no_grad"}.get(name, name)
    if name in __all__:
        home = "train.auto" if name.startswith("Auto") else _HOMES.get(name)
        return getattr(import_module(f"minilora.{home}"), name) if home else import_module(f"minilora.{name}")
    if name in ("float32", "float16", "bfloat16"):  # dtypes, for code with `import minilora as torch`
        return name
    raise import_module("minilora.elsewhere").missing("minilora", name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
