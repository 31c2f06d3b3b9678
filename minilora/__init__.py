"""minilora: transfer learning built from arrays up. See README.md for where to start.

Names are loaded when they are first asked for, so that the command line starts fast.
"""

from importlib import import_module

TYPE_CHECKING = False  # typing's own takes as long to import as all else that is loaded before Ctrl-C is handled
if TYPE_CHECKING:  # what type checkers and editors see of the names below
    from minilora import backend, data, functional, gradcheck, models, nn, ops, optim, peft, quant, train
    from minilora.tensor import Tensor, no_grad

__version__ = "0.2.0"
__all__ = [
    "Tensor", "backend", "data", "functional", "gradcheck", "models", "nn", "no_grad", "ops", "optim", "peft", "quant",
    "train",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in ("Tensor", "no_grad"):
        return getattr(import_module("minilora.tensor"), name)
    if name in __all__:
        return import_module(f"minilora.{name}")
    raise AttributeError(f"module 'minilora' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
