"""The record of a method, from which flags, names, plot styles, tables, the planner and the advice are made.

Each file of this folder that implements a method calls `register` with its record. An unknown name is always an error:
use `find` for a name that a user typed, and `METHODS[name]` everywhere else.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field
from math import log
from types import SimpleNamespace
from typing import Any

from minilora.errors import MiniloraError, unknown
from minilora.fields import Kind
from minilora.palette import FAMILIES
from minilora.peft.config import PeftConfig

METHODS: dict[str, "Method"] = {}  # in the order of all tables; filled by the imports of __init__.py
CONFIGS: dict[str, type[PeftConfig]] = {}  # peft_type -> configuration

SIZES = (2_828_736, 134_515_008)  # parameters of base and SmolLM2-135M, on which the learning rates were measured
LARGE_SHARE = 0.1  # learning rate at SIZES[1] as a share of the one at SIZES[0], if it was not measured

# Options


class Option:
    """An option of a method: its default, the check of its value and the help text of its flag."""

    def __init__(self, checked: Any, help: str, parse: Callable[[str], Any] = str, default: str = ""):
        """Declare an option. checked: a field of `minilora.fields`. default: in words, if the value is not clear."""
        assert isinstance(checked, Field)
        self.default: Any = checked.default
        self.kind: Kind = checked.metadata["kind"]
        self.help = help
        self.default_words = default or str(checked.default)
        self.parse = parse


class Options(SimpleNamespace):
    """Values of the methods' options by name, as in `Options(rank=4).rank`. Each method reads its own.

    Options that are not given have their defaults. Raises TypeError for a name that no method has.
    """

    def __init__(self, **values: Any):
        options = known_options()
        if extra := ", ".join(sorted(values.keys() - options.keys())):
            raise TypeError(f"no method has an option {extra}; the options are {', '.join(options)}")
        vars(self).update({name: option.default for name, option in options.items()} | values)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))

    def with_(self, **values: Any) -> "Options":
        """Return a copy with these values changed."""
        return Options(**vars(self) | values)

    @property
    def quantization(self) -> dict[str, Any]:
        """The arguments for `quant.quantize_model`."""
        return {
            "blocksize": self.blocksize,
            "quant_type": self.quant_type,
            "compress_statistics": self.double_quantization,
        }


def known_options() -> dict[str, Option]:
    """Return the options of all methods, by name."""
    return {name: option for method in METHODS.values() for name, option in method.options.items()}


# What the planner needs


@dataclass(frozen=True)
class Counts:
    """Trainable parameters, or bytes of their gradients, by their place in the model."""

    head: float = 0  # its gradient is computed together with the loss, in the forward pass
    block: float = 0
    down: float = 0  # the part of `block` that is in the MLP's last linear
    embedding: float = 0  # everything before the blocks; a tied table counts only as the head
    norm: float = 0  # the final one

    def total(self, layers: int) -> float:
        return self.head + layers * self.block + self.embedding + self.norm


@dataclass(frozen=True)
class Trainable:
    """The part of a decoder that a method trains, and what its backward needs. Linears are named as in a Llama."""

    counts: Counts
    is_base: bool = False  # the base's own parameters train: the adapted model holds no extra ones
    embedding: bool = False  # the embedding table trains, so everything after it needs a gradient
    norms: bool = False
    reads: frozenset[str] = frozenset()  # linears whose input is read by trained parameters
    scaled: frozenset[str] = frozenset()  # linears whose input is multiplied by trained parameters
    factors: frozenset[str] = frozenset()  # linears whose output is multiplied by trained parameters
    inner: frozenset[str] = frozenset()  # linears whose low-rank branch scales its `rank` values per token
    prefix: int = 0  # number of trained keys and values in front of every layer's own
    prompt: int = 0  # number of trained embeddings in front of the text's
    adapters: tuple[str, ...] = ()  # modules of a block that get a bottleneck adapter
    parallel: bool = False  # these adapters read their module's input instead of its output
    bottleneck: int = 0  # width of those adapters
    dropout: bool = False
    rank: int = 0
    adds_up: bool = False  # the update is added to the weight before the product (`functional.low_rank_linear`)
    made: float = 0  # elements per block that are computed from trained parameters and kept for backward
    copied: frozenset[str] = frozenset()  # linears whose weight the adapted model holds a second time
    frozen: float = 0  # frozen elements that the adapter holds once for the whole model


# The record


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to adapt a model."""

    name: str
    label: str  # name in tables and figures
    description: str  # what it trains
    family: str  # one of palette.FAMILIES
    marker: str  # marker in figures; together with `linestyle` it distinguishes methods in black and white
    linestyle: str | tuple
    lr: float  # learning rate for a model with SIZES[0] parameters; searches start here
    plan: Callable[[Any, Any], Trainable]  # takes a shape (`minilora.plan.shapes.Shape`) and the options
    large_lr: float | None = None  # learning rate at SIZES[1] parameters; None: not measured, LARGE_SHARE * lr
    config: type[PeftConfig] | None = None  # None: some of the model's own weights train, without an adapter
    variant: Mapping[str, Any] = field(default_factory=dict)  # settings that set it apart from others with this config
    settings: Callable[[Any, list[int]], dict[str, Any]] = lambda options, tokens: {}  # settings of the config
    make_trainable: Callable[[Any], None] | None = None  # instead of a config: sets which weights of a model train
    options: Mapping[str, Option] = field(default_factory=dict)
    other_names: tuple[str, ...] = ()
    color: str = ""  # replaces the family's
    lora_plus: float = 1.0  # learning rate of LoRA's B as a multiple of A's

    @property
    def look(self) -> dict[str, Any]:
        """The style of its lines and points, as arguments for matplotlib's plot functions."""
        return {"color": self.color or FAMILIES[self.family], "marker": self.marker, "linestyle": self.linestyle}

    @property
    def is_quantized(self) -> bool:
        """True if its base is in 4 bits."""
        return "quant_type" in self.options

    def rate(self, parameters: int) -> float:
        """Return the learning rate for a model with this many parameters, to two digits.

        Between the two SIZES, log(rate) is interpolated linearly in log(parameters); beyond them the rate is constant.
        """
        large = self.lr * LARGE_SHARE if self.large_lr is None else self.large_lr
        share = log(parameters / SIZES[0]) / log(SIZES[1] / SIZES[0])
        return float(f"{self.lr * (large / self.lr) ** min(max(share, 0), 1):.2g}")

    def make_config(self, options: Options, tokens: list[int]) -> PeftConfig:
        """Return the adapter's configuration. tokens: ids of the training text, from which virtual tokens start."""
        assert self.config is not None
        return self.config(**self.variant, **self.settings(options, tokens))


def register(**record: Any) -> Method:
    """Create a `Method` from these fields, and enter it in METHODS and its configuration in CONFIGS."""
    method = Method(**record)
    assert method.name not in METHODS and method.family in FAMILIES
    METHODS[method.name] = method
    if method.config is not None:
        CONFIGS[method.config.peft_type] = method.config
    return method


def find(name: str, others: tuple[str, ...] = ()) -> str:
    """Return the name in METHODS or `others` that `name` stands for. Raises MiniloraError, which lists all of them."""
    for method in METHODS.values():
        if name == method.name or name in method.other_names:
            return method.name
    if name not in others:
        raise MiniloraError(unknown("method", name, [*others, *METHODS]))
    return name
