"""The labelled task by a prompt: examples with their labels in front of each text, and the class's name to guess."""

from collections.abc import Sequence

import numpy as np

from minilora import threads
from minilora.data.batches import padded_left
from minilora.data.tasks import Example
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError
from minilora.tensor import no_grad
from minilora.train.world import take
from notebooks.figures.few_shot import prompt_for


def classify_by_prompt(
    model,
    tokenizer: Tokenizer,
    classes: Sequence[str],
    shots: Sequence[Example],
    texts: Sequence[str],
    batch_size: int = 16,
) -> tuple[np.ndarray, float]:
    """Return the class of each text by the model's own words, and the mean tokens that a query takes.

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
        count = len(batch["input_ids"])
        runs = threads.split_rows(range(count), min(threads.count(), count))
        predicted += threads.side_by_side(choose, [take(batch, run) for run in runs])
    return np.concatenate(predicted), float(np.mean([len(prompt) for prompt in prompts]))
