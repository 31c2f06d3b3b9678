"""The configuration of the Llama family, with Hugging Face's fields, and the variants that a config.json may have."""

from dataclasses import dataclass, field, fields
from typing import Any

from minilora.errors import FormatError, MiniloraError, escape
from minilora.fields import choice, field_problems, flag, is_whole, number, tokens, whole
from minilora.models.rotary import checked_scaling

MODEL_TYPES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
}  # model_type -> prefix of transformers' classes
NO_WINDOW = {"sliding_window": None, "use_sliding_window": False}  # some families have a window by default


@dataclass
class LlamaConfig:
    """Hugging Face's fields of a Llama configuration, with its defaults."""

    vocab_size: int = whole(32000, least=1)
    hidden_size: int = whole(4096, least=1)
    intermediate_size: int = whole(11008, least=1)  # width of the gated MLP
    num_hidden_layers: int = whole(32)
    num_attention_heads: int = whole(32, least=1)
    num_key_value_heads: int = whole(None, least=1)  # query heads share them in groups; None: as many as query heads
    head_dim: int = whole(None, least=1, optional=True)  # None: hidden_size / num_attention_heads
    max_position_embeddings: int = whole(2048, least=1)
    rope_theta: float = number(10000.0, above=0)  # base of the rotary frequencies
    rope_scaling: dict[str, Any] | None = None  # scaling of the rotary positions for long texts, see `rotary`
    rms_norm_eps: float = number(1e-6, above=0)
    initializer_range: float = number(0.02, above=0)  # standard deviation of initial weights
    tie_word_embeddings: bool = flag(False)  # the head is the embedding table
    attention_bias: bool = flag(False)  # biases on q, k, v and (except in qwen2) o
    mlp_bias: bool = flag(False)
    hidden_act: str = choice("silu", "silu")
    model_type: str = choice("llama", *MODEL_TYPES)
    bos_token_id: int | None = whole(1, optional=True)
    eos_token_id: int | list[int] | None = tokens(2)
    pad_token_id: int | None = whole(None, optional=True)
    num_labels: int = whole(2, least=1)  # number of classes of a sequence classifier
    # Fields of a config.json that minilora does not use
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        problems = field_problems(self)
        if not problems:
            if self.head_dim is None and self.hidden_size % self.num_attention_heads:
                problems.append(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads")
            self.head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
            if self.head_dim % 2:
                problems.append(f"head_dim must be even for rotary positions, not {self.head_dim}")
            if self.num_attention_heads % self.num_key_value_heads:
                problems.append(
                    f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                    f"num_key_value_heads {self.num_key_value_heads}"
                )
        if problems:
            raise MiniloraError("; ".join(problems))

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "LlamaConfig":
        """Build the configuration from the content of a config.json, with `rope_theta` or transformers 5's
        `rope_parameters`.

        Raises FormatError for another model type and for options that are not supported.
        """
        config = {"model_type": "llama", **config}
        if not isinstance(config["model_type"], str) or config["model_type"] not in MODEL_TYPES:
            kind = escape(repr(config["model_type"]))
            raise FormatError(f"config.json describes a {kind} model; minilora reads {', '.join(MODEL_TYPES)}")
        rope = config.get("rope_parameters") or config.get("rope_scaling")
        config["rope_scaling"] = checked_scaling(rope)
        config["rope_theta"] = (rope or {}).get("rope_theta", config.get("rope_theta", cls.rope_theta))
        if config["model_type"] == "qwen2":  # Qwen2 has biases, but its files do not say so
            config["attention_bias"] = True
        _limit_to_window(config)
        labels = config.get("id2label")
        if labels is not None:
            named = isinstance(labels, dict) and labels and all(isinstance(label, str) for label in labels.values())
            if not named or not all(str(key).isdecimal() for key in labels):
                raise FormatError(f"id2label of config.json must name the classes, not {escape(repr(labels))}")
            config["num_labels"] = len(labels)
        known = {f.name for f in fields(cls)} - {"extra"}
        used = {name: value for name, value in config.items() if name in known}
        return cls(**used, extra={name: value for name, value in config.items() if name not in known})

    def to_dict(self, architecture: str) -> dict[str, Any]:
        """Return the content of a config.json that transformers reads."""
        config = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("extra", "num_labels")}
        config |= {
            "architectures": [MODEL_TYPES[self.model_type] + architecture.removeprefix("Llama")],
            "dtype": "float32",
        }
        if self.model_type != "llama":
            config |= NO_WINDOW
        if self.rope_scaling is None:
            del config["rope_scaling"]
        if architecture == "LlamaForSequenceClassification":
            config["id2label"] = self.extra.get("id2label", {})
            if len(config["id2label"]) != self.num_labels:
                config["id2label"] = {str(i): f"LABEL_{i}" for i in range(self.num_labels)}
            config |= {name: value for name, value in self.extra.items() if name == "problem_type"}
            config["label2id"] = {label: int(i) for i, label in config["id2label"].items()}
        return config


def _limit_to_window(config: dict[str, Any]) -> None:
    """Limit the positions to the sliding window, if there is one: within it, attention is plain causal attention."""
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if window is None:
        return
    if not is_whole(window, 1):
        raise FormatError(
            f"sliding_window of config.json must be a whole number of at least 1, not {escape(repr(window))}"
        )
    positions = config.get("max_position_embeddings", window)
    config["max_position_embeddings"] = min(positions, window) if is_whole(positions) else positions
