"""Virtual tokens: what prefix tuning and prompt tuning have in common.

Both train P vectors (or P keys and values in each layer) that stand before the tokens of every sequence, and leave the
weights alone. Their adapter stands in the place of the model's body; positions of real tokens begin at P, every token
sees all virtual ones, and the model's `max_position_embeddings` has to hold both. The adapted model is not the base,
not even at its start: P more tokens are read.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from minilora import nn
from minilora.errors import MiniloraError, escape
from minilora.fields import checked, is_list_of, is_whole, whole
from minilora.models.batch import host_ids, token_ids
from minilora.models.language_model import Body
from minilora.models.llama import LlamaForSequenceClassification
from minilora.peft.config import AdapterLayer, PeftConfig
from minilora.peft.method import Option
from minilora.tensor import Tensor

VIRTUAL_TOKENS = {"virtual_tokens": Option(whole(10, least=1), "length of a prefix or a prompt", int)}


def _token_ids() -> Any:
    kind = checked(None, "a list of token ids", lambda value: value and is_list_of(is_whole, value), optional=True)
    return field(default=None, kw_only=True, metadata=kind.metadata)


@dataclass
class VirtualTokensConfig(PeftConfig):
    """The fields of both methods' configurations, in PEFT's names. task_type is the model's; on a classifier the head
    trains along.
    """

    num_virtual_tokens: int | None = whole(None, least=1)  # P; must be given
    token_dim: int | None = None  # this and the next three describe the model, and are filled in from it
    num_transformer_submodules: int | None = None
    num_attention_heads: int | None = None
    num_layers: int | None = None
    init_token_ids: list[int] | None = _token_ids()  # start from these tokens; not in PEFT

    own: ClassVar[frozenset[str]] = frozenset({"init_token_ids"})
    root: ClassVar[str] = "base_model."  # PEFT wraps the model once less than for methods that change layers

    def __post_init__(self):
        if isinstance(self.init_token_ids, np.ndarray | tuple):
            self.init_token_ids = np.asarray(self.init_token_ids).tolist()
        super().__post_init__()

    def of_model(self, config) -> dict[str, int]:
        """token_dim and num_attention_heads, as PEFT writes them for this method. config: the body's."""
        raise NotImplementedError

    def complete(self, model: nn.Module) -> None:
        if not (bodies := self.targets(model)):
            raise MiniloraError(
                f"{self.peft_type} puts virtual tokens before those of a language model or a classifier with a Llama "
                f"or GPT-2 body; {type(model).__name__} has none"
            )
        body = getattr(model, bodies[0])
        task = "SEQ_CLS" if isinstance(model, LlamaForSequenceClassification) else "CAUSAL_LM"
        problems = []
        same = {"task_type": task, "num_transformer_submodules": 1, "num_layers": body.config.num_hidden_layers}
        for name, value in (same | self.of_model(body.config)).items():
            if getattr(self, name) is None:
                setattr(self, name, value)
            elif getattr(self, name) != value:
                problems.append(f"{name} is {escape(repr(getattr(self, name)))}, and the model's is {value!r}")
        room = body.config.max_position_embeddings
        if self.num_virtual_tokens >= room:
            problems.append(f"{self.num_virtual_tokens} virtual tokens leave no room in the model's {room} positions")
        if problems:
            raise MiniloraError("; ".join(problems))

    def targets(self, model: nn.Module) -> list[str]:
        return [name for name, part in vars(model).items() if isinstance(part, Body)]

    def check(self, path: str, module: Body) -> list[str]:
        size = module.config.vocab_size
        outside = [i for i in self.init_token_ids or [] if i >= size]
        return [f"init_token_ids {escape(repr(outside))} are outside the vocabulary of {size}"] if outside else []

    def shapes(self, module: Body) -> dict[str, tuple[int, ...]]:
        return {"prompt_embeddings": (self.num_virtual_tokens or 0, self.width(module.config))}

    def width(self, config) -> int:
        """Numbers a virtual token."""
        raise NotImplementedError

    def file_name(self, path: str, name: str) -> str:
        return name


class VirtualTokensLayer(AdapterLayer):
    """A body with virtual tokens before the real ones: called as the body is.

    base_layer: the body; virtual_tokens: P. A subclass writes `begin`.
    """

    changes_weights = False
    virtual_outputs = 0  # how many hidden states there are for virtual tokens, before those of the real ones

    def __init__(self, base_layer: Body, virtual_tokens: int):
        self.base_layer = base_layer
        self.virtual_tokens = virtual_tokens

    @property
    def config(self):
        """The body's configuration."""
        return self.base_layer.config

    def forward(self, input_ids, attention_mask=None, past_key_values=None) -> Tensor:
        """input_ids, attention_mask: as of the body, without the virtual tokens. past_key_values: a cache, with room
        for them; an empty one gets them first.

        Raises MiniloraError where virtual and real tokens together pass the model's positions.
        """
        ids = token_ids(input_ids)
        past = 0 if past_key_values is None else past_key_values.length
        tokens = max(past - self.virtual_tokens, 0) + ids.shape[1]
        if self.virtual_tokens + tokens > (limit := self.config.max_position_embeddings):
            raise MiniloraError(
                f"{self.virtual_tokens} virtual tokens and {tokens} tokens pass the model's {limit} positions; "
                "shorten one"
            )
        if attention_mask is not None:
            real = host_ids(attention_mask)
            virtual = np.ones((len(real), self.virtual_tokens), dtype=real.dtype)
            attention_mask = np.concatenate([virtual, real], axis=1)  # (B, P + S)
        if past:
            return self.base_layer(ids, attention_mask, past_key_values)
        return self.begin(ids, attention_mask, past_key_values)

    def begin(self, ids: np.ndarray, attention_mask: np.ndarray | None, cache) -> Tensor:
        """The hidden states of sequences that begin here. ids: (B, T); attention_mask: (B, P + T), of both, or None;
        cache: empty, or None.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"virtual_tokens={self.virtual_tokens}"


def settings(options: Any, tokens: list[int]) -> dict[str, Any]:
    """P virtual tokens that start from the first P tokens of the text."""
    return {"num_virtual_tokens": options.virtual_tokens, "init_token_ids": tokens[: options.virtual_tokens]}
