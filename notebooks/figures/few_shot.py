"""Prompting: nothing trains; what the model should do stands in front of what it is asked (Brown et al. 2020, "Language
models are few-shot learners", section 2). More examples in the prompt cost more at every single query.
"""

from collections.abc import Sequence

import numpy as np

from minilora.data.batches import IGNORED, evaluation_windows
from minilora.data.tasks import Example
from minilora.data.tokenizer import TokenStream
from minilora.train.metrics import bits_per_character

SHOT = "{text}\nTopic: {label}\n\n"
QUERY = "{text}\nTopic:"


def bits_after(model, context: np.ndarray, stream: TokenStream, seq_len: int, batch_size: int) -> float:
    """Return bits per character of the stream in windows of `seq_len` tokens, each read after `context` (C,), which
    costs no bits: the context is what prompting has in place of training.
    """
    batches = evaluation_windows(stream.ids, seq_len, batch_size)
    return bits_per_character(model, (_after(context, batch) for batch in batches), stream.characters)


def _after(context: np.ndarray, batch: dict) -> dict:
    before = np.broadcast_to(context, (len(batch["input_ids"]), len(context)))
    ids = np.concatenate([before, batch["input_ids"]], axis=1)
    return {"input_ids": ids, "labels": np.concatenate([np.full_like(before, IGNORED), batch["labels"]], axis=1)}


def prompt_for(classes: Sequence[str], shots: Sequence[Example], text: str) -> str:
    """Return the shots with their labels, then the text with its label left out."""
    before = "".join(SHOT.format(text=shot.text, label=classes[shot.label]) for shot in shots)
    return before + QUERY.format(text=text)
