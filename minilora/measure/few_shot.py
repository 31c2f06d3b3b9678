"""Prompting: nothing trains; what the model should do stands in front of what it is asked (Brown et al. 2020, "Language
models are few-shot learners", section 2). More examples in the prompt cost more at every single query.
"""

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np

from minilora import threads
from minilora.data.batches import IGNORED, evaluation_windows, padded_left
from minilora.data.tasks import Example
from minilora.data.tokenizer import Tokenizer, TokenStream
from minilora.errors import MiniloraError
from minilora.tensor import no_grad
from minilora.train.evaluate import bits_per_character
from minilora.train.parallel import split_batch

SHOT = "{text}\nTopic: {label}\n\n"
QUERY = "{text}\nTopic:"


def crossover(seconds: float, prompt_ms: float, trained_ms: float) -> int | None:
    """Queries after which the time that training took is saved; None where a prompt is no slower."""
    saved = prompt_ms - trained_ms
    return ceil(1000 * seconds / saved) if saved > 0 else None


def bits_after(model, context: np.ndarray, stream: TokenStream, seq_len: int, batch_size: int) -> float:
    """Bits per character of the stream in windows of `seq_len` tokens, each read after `context` (C,), which costs no
    bits: the context is what prompting has in place of training.
    """
    batches = _after(context, evaluation_windows(stream.ids, seq_len, batch_size))
    return bits_per_character(model, batches, stream.characters)


def _after(context: np.ndarray, batches: Iterator[dict]) -> Iterator[dict]:
    for batch in batches:
        rows = len(batch["input_ids"])
        before = np.broadcast_to(context, (rows, len(context)))
        yield {
            "input_ids": np.concatenate([before, batch["input_ids"]], axis=1),
            "labels": np.concatenate([np.full_like(before, IGNORED), batch["labels"]], axis=1),
        }


def prompt_for(classes: Sequence[str], shots: Sequence[Example], text: str) -> str:
    """The shots with their labels, then the text with its label left out."""
    before = "".join(SHOT.format(text=shot.text, label=classes[shot.label]) for shot in shots)
    return before + QUERY.format(text=text)


def classify_by_prompt(
    model,
    tokenizer: Tokenizer,
    classes: Sequence[str],
    shots: Sequence[Example],
    texts: Sequence[str],
    batch_size: int = 16,
) -> tuple[np.ndarray, float]:
    """The class of each text by the model's own words, and the mean tokens that a query takes.

    A class's score is the probability of its name's first token after "Topic:"; there the names must differ
    (MiniloraError). A prompt that is longer than the model's positions loses its first tokens.
    """
    first = [int(tokenizer.encode(f" {name}")[0]) for name in classes]
    if len(set(first)) < len(first):
        raise MiniloraError(f"the names of the classes must differ in their first token: {', '.join(classes)}")
    limit = model.config.max_position_embeddings
    prompts = [ids[-limit:] for ids in tokenizer.encode_many([prompt_for(classes, shots, text) for text in texts])]

    def choose(batch: dict) -> np.ndarray:
        with no_grad():
            hidden = model.model(batch["input_ids"], attention_mask=batch["attention_mask"])
            logits = model.logits(hidden[:, -1]).numpy()
        return logits[:, first].argmax(axis=1)

    predicted = []
    for start in range(0, len(prompts), batch_size):
        batch = padded_left(prompts[start : start + batch_size])
        predicted += threads.side_by_side(choose, split_batch(batch, threads.count()))
    return np.concatenate(predicted), float(np.mean([len(prompt) for prompt in prompts]))
