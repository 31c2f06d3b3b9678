"""Prompt tuning: trained embeddings before those of the text (Lester et al. 2021, section 2).

    h = body(p₁ … p_P, E[x₁] … E[x_T])        p_i (d,) trained; the body and its embedding table E (V, d) frozen

    shapes      prompt_embeddings (P, d). As in PEFT, the logits begin with those of the P virtual positions; a
                classifier reads the last real token.
    start       normal(0, 1), as in PEFT, or embeddings of real tokens: those of a text, repeated or cut to P, or drawn
                at random from the vocabulary. Real ones learn sooner (section 3.2), because the table's rows are much
                shorter than normal(0, 1) and the body was trained on them.
    parameters  P · d, whatever the number of layers: 81,920 for P = 20 at d = 4096
    rate        large: 0.3 in the paper (with Adafactor), 1e-2 … 1e-1 with AdamW
    merging     none: no weight changes

The adapter takes the place of the model's body. Positions of real tokens begin at P, every token sees all virtual ones,
and the model must have positions for both. The same holds for prefix tuning, whose virtual tokens are keys and values
(`prefix.py`), so this file also has what the two share.

The adapted model does not begin as the base, since it reads P more tokens. The last virtual position predicts the first
token of a text, which the base never predicts: as in PEFT, the label of that token counts in the loss unless it is
-100. In a batch padded on the left, each row gives the same result as alone. PEFT agrees if nothing is padded, but its
positions count padding, and its classifier reads the padding of a text that is padded on the right.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from minilora import backend, nn, ops
from minilora.errors import MiniloraError, escape
from minilora.fields import checked, choice, is_list_of, is_whole, whole
from minilora.models.batch import host_ids, token_ids
from minilora.models.language_model import Body
from minilora.models.llama import LlamaForSequenceClassification
from minilora.peft.config import AdapterLayer, PeftConfig
from minilora.peft.method import Counts, Option, Trainable, register
from minilora.tensor import Tensor

STARTS = ("RANDOM", "SAMPLE_VOCAB", "TEXT")
VIRTUAL_TOKENS = {"virtual_tokens": Option(whole(10, least=1), "length of a prefix or a prompt", int)}
IDS = checked(None, "a list of token ids", lambda value: value and is_list_of(is_whole, value), optional=True)


@dataclass
class VirtualTokensConfig(PeftConfig):
    """The fields that both configurations share, with PEFT's names.

    task_type follows from the model; in a classifier the head trains as well.
    """

    num_virtual_tokens: int | None = whole(None, least=1)  # P; required
    token_dim: int | None = None  # this and the next three describe the model, and are filled in from it
    num_transformer_submodules: int | None = None
    num_attention_heads: int | None = None
    num_layers: int | None = None
    # Ids of the tokens that the virtual tokens start from; not in PEFT.
    init_token_ids: list[int] | None = field(default=None, kw_only=True, metadata=IDS.metadata)

    own: ClassVar[frozenset[str]] = frozenset({"init_token_ids"})
    root: ClassVar[str] = "base_model."  # here PEFT has one wrapper fewer than for methods that change layers

    def __post_init__(self):
        if isinstance(self.init_token_ids, np.ndarray | tuple):
            self.init_token_ids = np.asarray(self.init_token_ids).tolist()
        super().__post_init__()

    def of_model(self, config) -> dict[str, int]:
        """Return token_dim and other fields that PEFT fills in from the model for this method. config: the body's."""
        raise NotImplementedError

    def complete(self, model: nn.Module) -> None:
        if not (bodies := self.targets(model)):
            raise MiniloraError(
                f"{self.peft_type} needs a language model or a classifier with a Llama or GPT-2 body for its virtual "
                f"tokens; {type(model).__name__} has none"
            )
        body = getattr(model, bodies[0])
        task = "SEQ_CLS" if isinstance(model, LlamaForSequenceClassification) else "CAUSAL_LM"
        same = {"task_type": task, "num_transformer_submodules": 1, "num_layers": body.config.num_hidden_layers}
        for name, value in (same | self.of_model(body.config)).items():
            if getattr(self, name) is None:
                setattr(self, name, value)
            elif name != "encoder_hidden_size" and getattr(self, name) != value:  # a projection may have any width
                raise MiniloraError(f"{name} is {escape(repr(getattr(self, name)))}, but the model's is {value!r}")
        if (count := self.num_virtual_tokens) >= (room := body.config.max_position_embeddings):
            raise MiniloraError(f"{count} virtual tokens leave no room in the model's {room} positions")

    def targets(self, model: nn.Module) -> list[str]:
        return [name for name, part in vars(model).items() if isinstance(part, Body)]

    def check(self, path: str, module: Body) -> list[str]:
        size = module.config.vocab_size
        outside = [i for i in self.init_token_ids or [] if i >= size]
        return [f"init_token_ids {escape(repr(outside))} are outside the vocabulary of {size}"] if outside else []

    def file_name(self, path: str, name: str) -> str:
        return name

    def first_ids(self) -> list[int]:
        """Return init_token_ids, repeated or cut to the number of virtual tokens."""
        return np.resize(np.array(self.init_token_ids), self.num_virtual_tokens or 0).tolist()


class VirtualTokensLayer(AdapterLayer):
    """A body with virtual tokens before the real ones, called like the body.

    base_layer: the body; prompt_embeddings: an array (P, …), all that trains. A subclass implements `begin`.
    """

    changes_weights = False
    virtual_outputs = 0  # number of hidden states for virtual tokens, which come before those of the real tokens

    def __init__(self, base_layer: Body, prompt_embeddings):
        self.base_layer = base_layer
        self.virtual_tokens = len(prompt_embeddings)
        self.prompt_embeddings = nn.Parameter(prompt_embeddings)

    @property
    def config(self):
        """The body's configuration."""
        return self.base_layer.config

    def forward(self, input_ids, attention_mask=None, past_key_values=None) -> Tensor:
        """Return the body's hidden states of the tokens, which attend to the virtual tokens as well.

        input_ids, attention_mask: as for the body, without the virtual tokens. past_key_values: a cache with room for
        them; if it is empty, they go in first.
        """
        ids = token_ids(input_ids)
        if attention_mask is not None:
            real = host_ids(attention_mask)
            virtual = np.ones((len(real), self.virtual_tokens), dtype=real.dtype)
            attention_mask = np.concatenate([virtual, real], axis=1)  # (B, P + S)
        if past_key_values is not None and past_key_values.length:
            return self.base_layer(ids, attention_mask, past_key_values)
        return self.begin(ids, attention_mask, past_key_values)

    def begin(self, ids: np.ndarray, attention_mask: np.ndarray | None, cache) -> Tensor:
        """Return the hidden states of sequences that begin here. ids: (B, T); attention_mask: (B, P + T), with the
        virtual tokens, or None; cache: empty, or None.
        """
        raise NotImplementedError


def settings(options: Any, tokens: list[int]) -> dict[str, Any]:
    """Return settings for P virtual tokens that start from the first P tokens of the text."""
    return {"num_virtual_tokens": options.virtual_tokens, "init_token_ids": tokens[: options.virtual_tokens]}


@dataclass
class PromptTuningConfig(VirtualTokensConfig):
    """The number of virtual tokens and their start, with PEFT's names and defaults.

    init_token_ids is a field of minilora's own: the prompt starts from these tokens, whatever prompt_tuning_init says.
    "TEXT" needs it, because minilora does not tokenize the text itself (PEFT does, with a tokenizer of transformers);
    the text and the tokenizer's name are kept for PEFT's file.
    """

    prompt_tuning_init: str = choice("RANDOM", *STARTS)
    prompt_tuning_init_text: str | None = checked(None, "text", lambda v: isinstance(v, str), optional=True)
    tokenizer_name_or_path: str | None = checked(None, "text", lambda v: isinstance(v, str), optional=True)

    peft_type: ClassVar[str] = "PROMPT_TUNING"
    unused: ClassVar[frozenset[str]] = VirtualTokensConfig.unused | {"tokenizer_kwargs"}

    def of_model(self, config) -> dict[str, int]:
        return {"token_dim": config.hidden_size, "num_attention_heads": config.num_attention_heads}

    def shapes(self, module: Body) -> dict[str, tuple[int, ...]]:
        return {"prompt_embeddings": (self.num_virtual_tokens or 0, module.config.hidden_size)}

    def check(self, path: str, module: Body) -> list[str]:
        problems = super().check(path, module)
        text = self.prompt_tuning_init_text and self.tokenizer_name_or_path and self.init_token_ids
        if self.prompt_tuning_init == "TEXT" and not text:
            problems.append(
                "prompt_tuning_init 'TEXT' needs init_token_ids, and for PEFT's file prompt_tuning_init_text and "
                "tokenizer_name_or_path; to start from a text, init_token_ids alone is enough"
            )
        return problems

    def adapt(self, module: Body, rng: np.random.Generator) -> "PromptTuningLayer":
        count, table = self.num_virtual_tokens or 0, module.get_input_embeddings().weight.data
        if self.init_token_ids is None and self.prompt_tuning_init == "RANDOM":
            drawn = rng.standard_normal((count, table.shape[1]), dtype="float32")
            return PromptTuningLayer(module, backend.asarray(drawn.astype(table.dtype)))
        ids = rng.integers(table.shape[0], size=count) if self.init_token_ids is None else self.first_ids()
        return PromptTuningLayer(module, table[backend.asarray(ids)])


class PromptTuningLayer(VirtualTokensLayer):
    """A body with embeddings before those of its tokens. prompt_embeddings: an array (P, d)."""

    @property
    def virtual_outputs(self) -> int:  # type: ignore[override]
        return self.virtual_tokens

    def begin(self, ids: np.ndarray, attention_mask: np.ndarray | None, cache) -> Tensor:
        prompt = self.prompt_embeddings
        rows = prompt.broadcast_to((len(ids), *prompt.shape))  # (P, d) -> (B, P, d)
        x = ops.concatenate([rows, self.base_layer.get_input_embeddings()(ids)], axis=1)  # (B, P + T, d)
        return self.base_layer(None, attention_mask, cache, inputs_embeds=x)


def plan(shape: Any, options: Any) -> Trainable:
    return Trainable(Counts(embedding=options.virtual_tokens * shape.hidden), prompt=options.virtual_tokens)


register(
    name="prompt",
    label="prompt tuning",
    description="embeddings in front of the text's",
    family="virtual tokens",
    marker="p",
    linestyle=(0, (1, 2)),
    lr=0.09,
    large_lr=2.7e-2,
    config=PromptTuningConfig,
    settings=settings,
    options=VIRTUAL_TOKENS,
    plan=plan,
    other_names=("prompt-tuning",),
)
