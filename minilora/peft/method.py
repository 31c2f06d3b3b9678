"""What a method says of itself: one record, from which flags, names, looks, tables, planner and advice are made.

Each file of this folder that has a method `register`s its record. An unknown name is an error everywhere: `find` for
what a reader typed, `METHODS[name]` for the rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field
from math import log
from types import SimpleNamespace
from typing import Any

from minilora.errors import MiniloraError, unknown
from minilora.fields import Kind
from minilora.peft.config import PeftConfig

METHODS: dict[str, "Method"] = {}  # in the order of all tables; filled by the imports of __init__.py
CONFIGS: dict[str, type[PeftConfig]] = {}  # peft_type -> configuration

SIZES = (2_828_736, 134_515_008)  # parameters of the models that learning rates were measured on: base and SmolLM2-135M
LARGE_SHARE = 0.1  # what a rate falls by from one to the other where it was not measured

# Each family of methods has a colour in all figures: those of Okabe and Ito (2008), which the colour-blind tell apart.
FAMILIES = {
    "own weights": "#0072B2",
    "own vectors": "#E69F00",
    "virtual tokens": "#56B4E9",
    "adapters": "#000000",
    "low rank": "#009E73",
}


# What a method may be told


class Option:
    """An option of a method: a field of `minilora.fields`, whose kind checks its value, and the help of its flag."""

    def __init__(self, checked: Any, help: str, parse: Callable[[str], Any] = str, default: str = ""):
        """checked: a field of `minilora.fields`. default: the default in words, where its value does not say it."""
        assert isinstance(checked, Field)
        self.default: Any = checked.default
        self.kind: Kind = checked.metadata["kind"]
        self.help = help
        self.default_words = default or str(checked.default)
        self.parse = parse


class Options(SimpleNamespace):
    """Values of the methods' options by name; `Options(rank=4).rank`. Each method reads its own.

    What is not given has its default. Raises TypeError for a name that no method has.
    """

    def __init__(self, **values: Any):
        known = known_options()
        if strange := values.keys() - known.keys():
            raise TypeError(f"no method has an option {', '.join(sorted(strange))}; there are {', '.join(known)}")
        vars(self).update({name: option.default for name, option in known.items()} | values)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))

    def with_(self, **values: Any) -> "Options":
        """Return the same options with other values."""
        return Options(**vars(self) | values)

    @property
    def quantization(self) -> dict[str, Any]:
        """The arguments of `quant.quantize_model`."""
        return {
            "blocksize": self.blocksize,
            "quant_type": self.quant_type,
            "compress_statistics": self.double_quantization,
        }


def known_options() -> dict[str, Option]:
    """The options of all methods, by name."""
    return {name: option for method in METHODS.values() for name, option in method.options.items()}


# What the planner asks


@dataclass(frozen=True)
class Counts:
    """Numbers that train, or bytes of their gradients, by where they are."""

    head: float = 0  # its gradient is made along with the loss, in the forward pass
    block: float = 0
    down: float = 0  # that part of the block that is in the MLP's last linear
    embedding: float = 0  # of what comes before the blocks; a tied table counts as the head alone
    norm: float = 0  # the last one

    def total(self, layers: int) -> float:
        return self.head + layers * self.block + self.embedding + self.norm


@dataclass(frozen=True)
class Trainable:
    """The part of a decoder that a method trains, and its needs in backward. Linears are named as in a Llama."""

    counts: Counts
    is_base: bool = False  # the numbers are the base's own: the adapted model holds no more than it
    embedding: bool = False  # the table trains, so that everything after it is live
    norms: bool = False
    products: bool = True  # the block's numbers take part in matrix products
    reads: frozenset[str] = frozenset()  # linears whose input something that trains reads
    scaled: frozenset[str] = frozenset()  # linears whose input is multiplied by what trains
    factors: frozenset[str] = frozenset()  # linears whose output is multiplied by what trains
    inner: frozenset[str] = frozenset()  # linears beside which `rank` numbers per token are multiplied by what trains
    prefix: int = 0  # keys and values in front of every layer's own
    prompt: int = 0  # embeddings in front of the text's
    adapters: tuple[str, ...] = ()  # modules of a block with a bottleneck adapter
    parallel: bool = False  # they read what their module is given, in place of what that returns
    bottleneck: int = 0  # width of those adapters
    dropout: bool = False
    rank: int = 0
    adds_up: bool = False  # the update is added to the weight before the product (`functional.low_rank_linear`)
    made: float = 0  # numbers of each block that are made of what trains, and kept for backward
    copied: frozenset[str] = frozenset()  # linears whose weight the adapted model holds once more
    frozen: float = 0  # numbers that the adapter holds once for the whole model, and does not train
    frozen_products: float = 0  # how many of them take part in products of each block, however often


# The record


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to adapt a model."""

    name: str
    label: str  # in tables and figures
    description: str  # what it trains
    family: str  # of FAMILIES
    marker: str  # in figures; with `linestyle` it tells methods apart in grey
    linestyle: str | tuple
    lr: float  # the learning rate of a model of SIZES[0] parameters, where a search starts
    plan: Callable[[Any, Any], Trainable]  # of a shape (`minilora.plan.shapes.Shape`) and the options
    large_lr: float | None = None  # of SIZES[1] parameters; None: not measured, and LARGE_SHARE of `lr`
    config: type[PeftConfig] | None = None  # None: some of the model's own weights train, without an adapter
    variant: Mapping[str, Any] = field(default_factory=dict)  # settings that tell it from others of its configuration
    settings: Callable[[Any, list[int]], dict[str, Any]] = lambda options, tokens: {}  # further ones of the config
    make_trainable: Callable[[Any], None] | None = None  # in place of a config: sets what trains in a model
    options: Mapping[str, Option] = field(default_factory=dict)
    other_names: tuple[str, ...] = ()
    color: str = ""  # where it is not the family's
    lora_plus: float = 1.0  # the learning rate of LoRA's B, in multiples of A's

    @property
    def look(self) -> dict[str, Any]:
        """Arguments of matplotlib's plot functions."""
        return {"color": self.color or FAMILIES[self.family], "marker": self.marker, "linestyle": self.linestyle}

    @property
    def is_quantized(self) -> bool:
        """True if its base is in 4 bits."""
        return "quant_type" in self.options

    def rate(self, parameters: int) -> float:
        """The learning rate for a model of so many parameters, to two digits.

        In between SIZES its logarithm is interpolated in that of the size; beyond them it stays as it is.
        """
        large = self.lr * LARGE_SHARE if self.large_lr is None else self.large_lr
        share = log(parameters / SIZES[0]) / log(SIZES[1] / SIZES[0])
        return float(f"{self.lr * (large / self.lr) ** min(max(share, 0), 1):.2g}")

    def make_config(self, options: Options, tokens: list[int]) -> PeftConfig:
        """The adapter's configuration. tokens: ids of the text that is to be learned, where virtual tokens start."""
        assert self.config is not None
        return self.config(**self.variant, **self.settings(options, tokens))


def register(**record: Any) -> Method:
    """Enter a method, a `Method` of these fields, under its name, and its configuration under its peft_type."""
    method = Method(**record)
    assert method.name not in METHODS and method.family in FAMILIES
    METHODS[method.name] = method
    if method.config is not None:
        CONFIGS[method.config.peft_type] = method.config
    return method


def find(name: str, others: tuple[str, ...] = ()) -> str:
    """The name in METHODS or in `others` that `name` means. Raises MiniloraError that lists them all."""
    for method in METHODS.values():
        if name == method.name or name in method.other_names:
            return method.name
    if name not in others:
        raise MiniloraError(unknown("method", name, [*others, *METHODS]))
    return name
