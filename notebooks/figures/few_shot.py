"""Prompting: nothing trains; what the model should do stands in front of what it is asked (Brown et al. 2020, "Language
models are few-shot learners", section 2). More examples in the prompt cost more at every single query.
"""

from collections.abc import Sequence
from math import log

import numpy as np

from minilora.data.batches import evaluation_windows
from minilora.data.tokenizer import TokenStream
from minilora.models.cache import KVCache
from minilora.models.language_model import shifted
from minilora.tensor import no_grad

from .labelled import Example

SHOT = "{text}\nTopic: {label}\n\n"
QUERY = "{text}\nTopic:"


def bits_after(model, context: np.ndarray, stream: TokenStream, seq_len: int, batch_size: int) -> float:
    """Return bits per character of the stream in windows of `seq_len` tokens, each read after `context` (C,), which
    costs no bits: the context is what prompting has in place of training.
    """
    return bits_beyond(model, read_context(model, context), stream, seq_len, batch_size)


def bits_beyond(model, cache: KVCache, stream: TokenStream, seq_len: int, batch_size: int) -> float:
    """Return the same as `bits_after`, for a context that was read once for all windows (`read_context`)."""
    nats = 0.0
    with no_grad():
        for batch in evaluation_windows(stream.ids, seq_len, batch_size):
            ids = batch["input_ids"]  # (B, T)
            hidden = model.body(ids, past_key_values=cache.expanded(*ids.shape))
            nats += float(model.loss(hidden, shifted(batch["labels"], ids.shape), 1))
    return nats / log(2) / stream.characters


def read_context(model, context: np.ndarray) -> KVCache:
    """Return the keys and values of the tokens (C,), which `KVCache.expanded` copies for every row that follows."""
    cache = KVCache(len(context))
    if len(context):
        with no_grad():
            model.body(context[None], past_key_values=cache)
    return cache


def prompt_for(classes: Sequence[str], shots: Sequence[Example], text: str) -> str:
    """Return the shots with their labels, then the text with its label left out."""
    before = "".join(SHOT.format(text=shot.text, label=classes[shot.label]) for shot in shots)
    return before + QUERY.format(text=text)
