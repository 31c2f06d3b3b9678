"""Prompt tuning: trained embeddings before those of the text (Lester et al. 2021, section 2).

    h = body(p₁ … p_P, E[x₁] … E[x_T])        p_i (d,) trained; the body and its embedding table E (V, d) frozen

    shapes      prompt_embeddings (P, d). Logits come for the P virtual positions too, before those of the tokens, as
                in PEFT; a classifier reads the last real token.
    start       normal(0, 1), as PEFT has it, or embeddings of real tokens: those of a text, repeated or cut to P, or
                drawn from the vocabulary. Real ones learn sooner (section 3.2): a table's rows are much shorter than
                normal(0, 1), and the body knows what to do with them.
    parameters  P · d, whatever the number of layers: 81,920 for P = 20 at d = 4096
    rate        large: 0.3 in the paper (with Adafactor), 1e-2 … 1e-1 with AdamW
    merging     none: no weight changes

It does not begin as the base. The last virtual position predicts the first token of a text, which nothing predicts in
the base: its label counts in the loss, as in PEFT, unless it is -100. A row of a batch that is padded on the left gives
what it gives alone. PEFT agrees where nothing is padded; it counts positions over padding, and reads the padding of a
text to classify that is padded on the right.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minilora import backend, nn, ops
from minilora.backend import xp
from minilora.fields import checked, choice
from minilora.models.language_model import Body
from minilora.peft.method import Counts, Method, Trainable, register
from minilora.peft.virtual import VIRTUAL_TOKENS, VirtualTokensConfig, VirtualTokensLayer, settings
from minilora.tensor import Tensor

STARTS = ("RANDOM", "SAMPLE_VOCAB", "TEXT")


def _text() -> Any:
    return checked(None, "text", lambda value: isinstance(value, str), optional=True)


@dataclass
class PromptTuningConfig(VirtualTokensConfig):
    """The number of virtual tokens and their start, in PEFT's names and with its defaults.

    init_token_ids is minilora's: a start from these tokens, whatever prompt_tuning_init says. "TEXT" needs them (PEFT
    reads the text with a tokenizer of transformers) and keeps the text and the tokenizer's name for PEFT's file.
    """

    prompt_tuning_init: str = choice("RANDOM", *STARTS)
    prompt_tuning_init_text: str | None = _text()
    tokenizer_name_or_path: str | None = _text()

    peft_type: ClassVar[str] = "PROMPT_TUNING"
    unused: ClassVar[frozenset[str]] = VirtualTokensConfig.unused | {"tokenizer_kwargs"}

    def problems(self) -> list[str]:
        found = super().problems()
        for name in ("prompt_tuning_init_text", "tokenizer_name_or_path"):
            if self.prompt_tuning_init == "TEXT" and not getattr(self, name):
                found.append(f"prompt_tuning_init 'TEXT' needs {name}; init_token_ids alone starts from text as well")
        return found

    def of_model(self, config) -> dict[str, int]:
        return {"token_dim": config.hidden_size, "num_attention_heads": config.num_attention_heads}

    def width(self, config) -> int:
        return config.hidden_size

    def check(self, path: str, module: Body) -> list[str]:
        found = super().check(path, module)
        if self.prompt_tuning_init == "TEXT" and self.init_token_ids is None:
            found.append("prompt_tuning_init 'TEXT' needs init_token_ids: the token ids of prompt_tuning_init_text")
        return found

    def adapt(self, module: Body, rng: np.random.Generator) -> "PromptTuningLayer":
        count, table = self.num_virtual_tokens or 0, module.get_input_embeddings().weight.data
        if self.init_token_ids is None and self.prompt_tuning_init == "RANDOM":
            drawn = rng.standard_normal((count, table.shape[1]), dtype="float32")
            return PromptTuningLayer(module, backend.asarray(drawn.astype(table.dtype)))
        if self.init_token_ids is None:
            ids = rng.integers(table.shape[0], size=count)
        else:
            ids = np.resize(np.asarray(self.init_token_ids), count)  # repeated or cut
        return PromptTuningLayer(module, table[backend.asarray(ids)])

    def restore(self, module: Body) -> "PromptTuningLayer":
        shape = self.shapes(module)["prompt_embeddings"]
        return PromptTuningLayer(module, xp.zeros(shape, dtype=module.get_input_embeddings().weight.dtype))


class PromptTuningLayer(VirtualTokensLayer):
    """A body with embeddings before those of its tokens. prompt_embeddings: an array (P, d)."""

    def __init__(self, base_layer: Body, prompt_embeddings):
        super().__init__(base_layer, len(prompt_embeddings))
        self.virtual_outputs = self.virtual_tokens
        self.prompt_embeddings = nn.Parameter(prompt_embeddings)

    def begin(self, ids: np.ndarray, attention_mask: np.ndarray | None, cache) -> Tensor:
        prompt = self.prompt_embeddings
        rows = prompt.broadcast_to((len(ids), *prompt.shape))  # (P, d) -> (B, P, d)
        x = ops.concatenate([rows, self.base_layer.get_input_embeddings()(ids)], axis=1)  # (B, P + T, d)
        return self.base_layer(None, attention_mask, cache, inputs_embeds=x)


def plan(shape: Any, options: Any) -> Trainable:
    return Trainable(Counts(embedding=options.virtual_tokens * shape.hidden), prompt=options.virtual_tokens)


register(
    Method(
        name="prompt",
        label="prompt tuning",
        description="embeddings in front of the text's",
        family="virtual tokens",
        marker="p",
        linestyle=(0, (1, 2)),
        lr=0.27,
        large_lr=2.7e-2,
        config=PromptTuningConfig,
        settings=settings,
        options=VIRTUAL_TOKENS,
        plan=plan,
        other_names=("prompt-tuning",),
    )
)
