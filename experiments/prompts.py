"""Prompts with examples, for the labelled task and for free answers after a long common beginning."""

from collections.abc import Sequence

import numpy as np

from minilora import threads
from minilora.data.batches import padded_left
from minilora.data.chat import Conversation, find_format
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError
from minilora.models.cache import KVCache
from minilora.tensor import no_grad
from minilora.train.answers import check_prompts, common_prefix, end_token_ids, in_batches
from minilora.train.world import take
from notebooks.figures.few_shot import prompt_for
from notebooks.figures.labelled import Example


def classify_by_prompt(
    model,
    tokenizer: Tokenizer,
    classes: Sequence[str],
    shots: Sequence[Example],
    texts: Sequence[str],
    batch_size: int = 16,
) -> tuple[np.ndarray, float]:
    """Return the class of each text by prompting, and the mean number of tokens per query.

    A class's score is the probability of its name's first token after "Topic:". Raises MiniloraError if two names share
    it. A prompt that is longer than the model's positions loses its first tokens.
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


def answers_after(
    model,
    tokenizer: Tokenizer,
    conversations: Sequence[Conversation],
    max_new_tokens: int,
    at_once: int = 32_000,
) -> list[str]:
    """Return the greedy answers, as `answers` does, but read the common beginning of all prompts only once.

    at_once: tokens of prompts in a batch, which bounds the memory of keys and values (SmolLM2: 1.5 GB).
    """
    lengths = check_prompts(model, tokenizer, conversations, max_new_tokens)
    encoded = find_format(tokenizer).encode_many(tokenizer, conversations, add_generation_prompt=True)
    prompts, ends = [ids for ids, _ in encoded], end_token_ids(tokenizer, model.config)
    prefix = KVCache(shared := common_prefix(prompts))
    with no_grad():
        model.body(prompts[0][None, :shared], past_key_values=prefix)

    def continued(rows: list[np.ndarray]) -> list[np.ndarray]:
        part = padded_left(rows)
        ids, mask = part["input_ids"], np.pad(part["attention_mask"], ((0, 0), (shared, 0)), constant_values=1)
        cache, columns = prefix.expanded(len(rows), ids.shape[1] + max_new_tokens), [np.full(len(rows), -1)]
        while len(columns) <= max_new_tokens and not np.isin(columns, ends).any(axis=0).all():
            with no_grad():
                ids = model.logits(model.body(ids, mask, cache)[:, -1]).numpy().argmax(axis=1)[:, None]
            mask = np.pad(mask, ((0, 0), (0, 1)), constant_values=1)
            columns.append(ids[:, 0])
        return list(np.stack(columns[1:], axis=1))

    def text_of(row: np.ndarray) -> str:
        ended = np.flatnonzero(np.isin(row, ends))
        return tokenizer.decode(row[: ended[0]] if ended.size else row).strip()

    batch, rests = max(1, min(16, at_once // max(lengths))), [ids[shared:] for ids in prompts]
    return list(map(text_of, in_batches(continued, rests, lengths, batch, lambda n: None)))
