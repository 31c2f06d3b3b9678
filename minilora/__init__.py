"""minilora: transfer learning built from arrays up. See README.md for where to start.

Names are loaded when they are first asked for, so that the command line starts fast.
"""

from importlib import import_module

__version__ = "0.2.0"

_HOMES = {"Tensor": ".tensor", "no_grad": ".tensor"}
_MODULES = tuple("backend nn optim ops functional gradcheck models quant peft data train".split())
__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'minilora' has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
