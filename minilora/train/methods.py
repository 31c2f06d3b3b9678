"""Every way to adapt a language model, under the name that the command line and the comparisons give it."""

from collections.abc import Callable
from dataclasses import dataclass

from minilora.errors import MiniloraError, escape, unknown
from minilora.models.llama import LlamaForCausalLM, LlamaForSequenceClassification
from minilora.nn import Linear
from minilora.peft import (
    BitFitConfig,
    BottleneckConfig,
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from minilora.quant import quantization, quantize_model


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a method may be told. Each reads its own (`Method.options`)."""

    rank: int = 8  # of LoRA's updates
    alpha: float | None = None  # LoRA's scale is alpha / rank; None: alpha is twice the rank
    dropout: float = 0.0  # on LoRA's branch
    targets: list[str] | str = "all-linear"  # modules that LoRA adapts
    virtual_tokens: int = 10  # length of a prefix or a prompt
    bottleneck_size: int = 64  # width of an adapter
    placement: str = "pfeiffer"  # of adapters: pfeiffer, houlsby or parallel
    quant_type: str = "nf4"  # the 4-bit codes of the frozen base
    blocksize: int = 64  # weights that share a scale
    double_quantization: bool = False  # whether the scales are quantized as well

    @property
    def quantization(self) -> dict:
        """The arguments of `quant.quantize_model`."""
        return {
            "blocksize": self.blocksize,
            "quant_type": self.quant_type,
            "compress_statistics": self.double_quantization,
        }


LORA = ("rank", "alpha", "dropout", "targets")
FOUR_BIT = ("quant_type", "blocksize", "double_quantization")


@dataclass(frozen=True)
class Method:
    """A way to adapt.

    config: makes the configuration of the adapter from the options and from token ids of the text that is to be
    learned; None where the model's own weights train and there is no adapter.
    """

    words: str  # what it trains
    lr: float  # a learning rate that serves on the package's base
    config: Callable[[Options, list[int]], PeftConfig] | None = None
    options: tuple[str, ...] = ()  # the options that it reads
    lora_plus: float = 1.0  # the learning rate of LoRA's B, in multiples of A's


def _lora(options: Options, tokens: list[int] | None = None, **variant) -> LoraConfig:
    return LoraConfig(
        r=options.rank,
        lora_alpha=2 * options.rank if options.alpha is None else options.alpha,
        target_modules=options.targets,
        lora_dropout=options.dropout,
        **variant,
    )


METHODS = {
    "full": Method("every weight", lr=5e-4),
    "feature-extraction": Method("the head alone, on a frozen body", lr=3e-3),
    "lora": Method("low-rank updates of frozen weights", 3e-3, _lora, LORA),
    "rslora": Method("LoRA scaled by alpha / sqrt(rank)", 1e-3, lambda o, _: _lora(o, use_rslora=True), LORA),
    "dora": Method("LoRA, with the length of each row apart", 3e-3, lambda o, _: _lora(o, use_dora=True), LORA),
    "pissa": Method(
        "LoRA that starts from the weights' largest part", 1e-3, lambda o, _: _lora(o, init_lora_weights="pissa"), LORA
    ),
    "lora-plus": Method("LoRA whose B learns 16 times faster than A", 1e-3, _lora, LORA, lora_plus=16.0),
    "qlora": Method("LoRA over a base in 4 bits", 3e-3, _lora, LORA + FOUR_BIT),
    "prefix": Method(
        "keys and values in front of every layer's own",
        1e-2,
        lambda o, tokens: PrefixTuningConfig(
            num_virtual_tokens=o.virtual_tokens, init_token_ids=tokens[: o.virtual_tokens]
        ),
        ("virtual_tokens",),
    ),
    "prompt": Method(
        "embeddings in front of the text's",
        1e-2,
        lambda o, tokens: PromptTuningConfig(
            num_virtual_tokens=o.virtual_tokens, init_token_ids=tokens[: o.virtual_tokens]
        ),
        ("virtual_tokens",),
    ),
    "bottleneck": Method(
        "small networks between the layers (adapters)",
        3e-3,
        lambda o, _: BottleneckConfig(bottleneck_size=o.bottleneck_size, placement=o.placement),
        ("bottleneck_size", "placement"),
    ),
    "ia3": Method("factors on keys, values and the MLP", 1e-2, lambda o, _: IA3Config()),
    "bitfit": Method("biases (where there are any) and norms", 3e-3, lambda o, _: BitFitConfig(norms=True)),
    "norms": Method("the norms' weights", 3e-3, lambda o, _: LNTuningConfig()),
}
OTHER_NAMES = {
    "adapter": "bottleneck",
    "adapters": "bottleneck",
    "feature_extraction": "feature-extraction",
    "full-fine-tuning": "full",
    "lora+": "lora-plus",
    "ln-tuning": "norms",
    "prefix-tuning": "prefix",
    "prompt-tuning": "prompt",
}


def find(name: str) -> str:
    """The name in METHODS that `name` means. Raises MiniloraError that lists them all."""
    name = OTHER_NAMES.get(name, name)
    if name not in METHODS:
        raise MiniloraError(unknown("method", name, METHODS))
    return name


def adapt(
    model: LlamaForCausalLM | LlamaForSequenceClassification,
    name: str,
    options: Options | None = None,
    tokens=(),
    seed: int = 0,
):
    """Make the model trainable by a method, in place; returns what to train. The head of a classifier always trains.

    tokens: ids from the text that is to be learned, from which virtual tokens start. seed: of what starts random. A
    model that is in 4 bits already (`recipes.load_model` with `options.quantization`) stays as it is; MiniloraError
    where that is otherwise than the options say.
    """
    method, options = METHODS[find(name)], options or Options()
    is_classifier = isinstance(model, LlamaForSequenceClassification)
    if method.config is not None:
        if "quant_type" in method.options:
            _quantize(model, options.quantization)
        config = method.config(options, [int(token) for token in tokens])
        config.task_type = "SEQ_CLS" if is_classifier else "CAUSAL_LM"
        return get_peft_model(model, config, seed=seed)
    if name == "full":
        return model.requires_grad_(True)
    model.requires_grad_(False)
    if is_classifier:
        model.score.requires_grad_(True)
        return model
    if model.config.tie_word_embeddings:  # the head trains, the embeddings do not
        model.lm_head = Linear.from_arrays(model.lm_head.weight.data.copy())
        model.config.tie_word_embeddings = False
    model.lm_head.requires_grad_(True)
    return model


def _quantize(model, asked: dict) -> None:
    found = quantization(model)
    if found is None:
        quantize_model(model, **asked)
    elif differing := [
        f"{name} {escape(found[name])}, not {escape(asked[name])}" for name in asked if found[name] != asked[name]
    ]:
        raise MiniloraError(f"the model is in 4 bits already, with {', '.join(differing)}; load it with these options")
