"""The shapes of models, by name or from a config.json: all that the planner needs, without any weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilora.errors import FormatError, MiniloraError, escape, unknown
from minilora.formats.atomic import read_json, show_path
from minilora.models.gpt2 import GPT2Config
from minilora.models.llama_config import LlamaConfig

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LARGEST = 2**31  # upper limit of any one size; a larger number is a mistake


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder; its linear layers have a Llama's names."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocab: int
    head_dim: int = 0  # 0: hidden / heads
    tied: bool = False
    gated: bool = True  # the MLP has a gate_proj beside up_proj
    biased: tuple[str, ...] = ()  # the linears that have a bias
    norm_biases: bool = False
    positions: int = 0  # rows of a learned table; 0 if positions are rotary

    def __post_init__(self) -> None:
        if not self.head_dim:
            object.__setattr__(self, "head_dim", self.hidden // self.heads)

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """{name: (in, out)} of the linear layers of a block."""
        h, f, q, kv = self.hidden, self.intermediate, self.query_width, self.kv_width
        mlp = {"gate_proj": (h, f)} if self.gated else {}
        mlp |= {"up_proj": (h, f), "down_proj": (f, h)}
        return dict(zip(ATTENTION, ((h, q), (h, kv), (h, kv), (q, h)), strict=True)) | mlp

    @property
    def in_linears(self) -> int:
        """The number of weights in the linear layers of all blocks, without biases: those that 4 bits can hold."""
        return self.layers * sum(n_in * n_out for n_in, n_out in self.linears.values())

    @property
    def in_embedding(self) -> int:
        return self.vocab * self.hidden

    @property
    def in_biases(self) -> int:
        """The number of biases in the linear layers of all blocks."""
        return self.layers * sum(self.linears[name][1] for name in self.biased)

    @property
    def parameters(self) -> int:
        tables = self.in_embedding * (1 if self.tied else 2) + self.positions * self.hidden
        norms = (2 * self.layers + 1) * self.hidden * (1 + self.norm_biases)  # two norms per block and one at the end
        return self.in_linears + self.in_biases + norms + tables


_SMOLLM2 = Shape(30, 576, 1536, 9, 3, 49152, tied=True)
_LLAMA_7B = Shape(32, 4096, 11008, 32, 32, 32000)
_LLAMA_13B = Shape(40, 5120, 13824, 40, 40, 32000)
_GPT: dict[str, Any] = {"gated": False, "biased": (*ATTENTION, "up_proj", "down_proj"), "norm_biases": True}

# From the papers' tables and the published configurations: layers, hidden, intermediate, heads, key/value heads and
# vocabulary.
PRESETS = {
    "base": Shape(6, 192, 512, 6, 3, 2048, tied=True),  # comes with the package
    "smollm2": _SMOLLM2,  # as `minilora models` calls it
    "smollm2-135m": _SMOLLM2,
    "qwen2.5-0.5b": Shape(24, 896, 4864, 14, 2, 151936, tied=True, biased=ATTENTION[:3]),
    "tinyllama-1.1b": Shape(22, 2048, 5632, 32, 4, 32000),
    "llama-7b": _LLAMA_7B,
    "llama-2-7b": _LLAMA_7B,
    "mistral-7b": Shape(32, 4096, 14336, 32, 8, 32000),
    "qwen2.5-7b": Shape(28, 3584, 18944, 28, 4, 152064, biased=ATTENTION[:3]),
    "llama-3-8b": Shape(32, 4096, 14336, 32, 8, 128256),
    "llama-13b": _LLAMA_13B,
    "llama-2-13b": _LLAMA_13B,
    "llama-33b": Shape(60, 6656, 17920, 52, 52, 32000),
    "llama-65b": Shape(80, 8192, 22016, 64, 64, 32000),
    "llama-2-70b": Shape(80, 8192, 28672, 64, 8, 32000),
    "llama-3-70b": Shape(80, 8192, 28672, 64, 8, 128256),
    "gpt-3-175b": Shape(96, 12288, 49152, 96, 96, 50257, tied=True, **_GPT, positions=2048),
}

_NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def find_shape(source: str) -> Shape:
    """Return the shape of a preset, or of the model that a config.json (or the folder with it) describes.

    Raises MiniloraError, with similar names, if `source` is neither, and FormatError if a config.json is incomplete.
    """
    if (shape := PRESETS.get(source.lower())) is not None:
        return shape
    path = Path(source)
    for file in (path / "config.json", path / "model" / "config.json", path):  # a run folder has its model inside
        if file.is_file():
            return shape_from_config(read_json(file), source)
    if path.is_dir():
        raise MiniloraError(f"{show_path(path)} is not a model folder: there is no config.json in it")
    raise MiniloraError(f"{unknown('model', source, PRESETS)}; or give a config.json or a model folder")


def shape_from_config(config: dict, where: str = "config.json") -> Shape:
    """Return the shape that the content of a config.json describes. Raises the errors of `find_shape`."""
    if missing := [name for name in _NEEDED if config.get(name) is None]:
        raise FormatError(f"{escape(where)} lacks {', '.join(missing)}, which planning needs")
    try:
        shape = shape_of(LlamaConfig.from_dict(config))
    except MiniloraError as error:
        raise FormatError(f"{escape(where)}: {error}") from error
    sizes = {name: n for name, n in vars(shape).items() if type(n) is int and name != "positions"}
    if wrong := [f"{name} {n}" for name, n in sizes.items() if not 1 <= n <= LARGEST]:
        raise FormatError(f"{escape(where)}: {escape(', '.join(wrong))}; sizes must be between 1 and {LARGEST:,}")
    return shape


def shape_of(config: LlamaConfig | GPT2Config) -> Shape:
    """Return the shape of the model that a configuration describes."""
    if isinstance(config, GPT2Config):
        extra = {**_GPT, "positions": config.max_position_embeddings}
    else:
        of_attention = ATTENTION[:3] if config.model_type == "qwen2" else ATTENTION
        of_mlp = ("gate_proj", "up_proj", "down_proj") if config.mlp_bias else ()
        extra = {"biased": (of_attention if config.attention_bias else ()) + of_mlp}
    return Shape(
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.vocab_size,
        config.head_dim,
        config.tie_word_embeddings,
        **extra,
    )
