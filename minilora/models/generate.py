"""Generation: sampling a continuation one token at a time, with a KV cache."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from minilora import backend, nn
from minilora.elsewhere import check_arguments
from minilora.errors import MiniloraError, escape
from minilora.fields import checked, checked_value, field_problems, flag, is_number, number, whole
from minilora.models.cache import KVCache
from minilora.models.lookup import Drafts, host_logits, lookup_stream
from minilora.ops import raw
from minilora.tensor import no_grad


@dataclass
class Sampling:
    """The settings of `generate`, which say how the next token is chosen."""

    temperature: float = number(1.0, least=0)
    top_k: int | None = whole(None, least=1, optional=True)
    top_p: float | None = checked(
        None, "a number above 0 and at most 1", lambda p: is_number(p) and 0 < p <= 1, optional=True
    )
    eos_token_id: Any = None
    pad_token_id: int | None = whole(None, optional=True)
    seed: Any = 0
    prompt_lookup_num_tokens: int | None = whole(None, least=1, optional=True)
    do_sample: bool = flag(True)

    def __post_init__(self) -> None:
        if problems := field_problems(self):
            raise MiniloraError("; ".join(problems))
        self.temperature = self.temperature if self.do_sample else 0

    def ends(self, config: Any) -> tuple[np.ndarray, int]:
        """Return (the tokens that end a row, the token to pad ended rows with)."""
        eos_ids = config.eos_token_id if self.eos_token_id is None else self.eos_token_id
        eos = np.atleast_1d([] if eos_ids is None else eos_ids)
        if eos.size and eos.dtype.kind not in "iu":
            raise MiniloraError(f"eos_token_id must be token ids, not {escape(repr(eos.tolist()))}")
        pad = config.pad_token_id if self.pad_token_id is None else self.pad_token_id
        return eos.astype(np.int64), (int(eos[0]) if eos.size else 0) if pad is None else pad

    def generators(self, rows: int) -> list[np.random.Generator]:
        """Return a random generator for each row."""
        seeds = self.seed if isinstance(self.seed, list) else [self.seed] * rows
        if len(seeds) != rows:
            raise MiniloraError(f"generate was given {len(seeds)} seeds for {rows} rows")
        return [np.random.default_rng(checked_value("seed", seed, whole(0))) for seed in seeds]


def generate(
    model: Any,
    input_ids: Any,
    max_new_tokens: int,
    attention_mask: Any = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_token_id: int | list[int] | None = None,
    pad_token_id: int | None = None,
    seed: int | list[int] = 0,
    **settings: Any,
) -> np.ndarray:
    """Continue each row of `input_ids` (B, T); returns prompts and continuations, integers (B, T + new) on the host.

    attention_mask: (B, T), 0 for padding, which must be on the left. temperature: divides the logits; 0, or do_sample
    False, takes the most likely token. top_k: sample from the k most likely tokens. top_p: sample from the most likely
    tokens that together reach probability p (Holtzman et al. 2020). eos_token_id: tokens that end a row, by default the
    configuration's. pad_token_id: fills up rows that have ended; by default the configuration's, else the first eos.
    seed: each row draws from its own generator with this seed, so that it gets the same continuation alone and in a
    batch; a list has a seed for each row.

    prompt_lookup_num_tokens: for one row at temperature 0, guess up to this many tokens from the text so far and verify
    them in one pass (see `lookup`). This gives the same tokens, and is faster if the text repeats itself. (A pass over
    several tokens can round differently, by about 2e-6 of the largest logit, so if the two best tokens are closer than
    that, either may be chosen.)

    Raises MiniloraError for unknown settings or values out of range, if prompt and continuation exceed the model's
    positions, if dropout is active because the model is in training mode, and if logits are NaN.
    """
    ids, _ = _prompts(input_ids, attention_mask)
    settings |= {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    settings |= {"eos_token_id": eos_token_id, "pad_token_id": pad_token_id}
    new = generate_stream(model, input_ids, max_new_tokens, attention_mask, **settings)
    return np.column_stack([ids, *new])


def generate_stream(
    model: Any,
    input_ids: Any,
    max_new_tokens: int,
    attention_mask: Any = None,
    past_key_values: KVCache | None = None,
    **settings: Any,
) -> Iterator[np.ndarray]:
    """Generate like `generate`, and yield the new tokens as they are drawn: the next token of each row, integers (B,).

        for (token,) in model.generate_stream(ids, 40, temperature=0):
            print(tokenizer.decode([token]), end="", flush=True)

    The iterator ends when all rows have ended, so the last tokens include the ones that ended them. Arguments are those
    of `generate`; its errors are raised by this call, before the first token. past_key_values: a cache that holds the
    first tokens of `input_ids`, but not all of them. Those are not read again, and new tokens are added to it (all but
    the last one drawn), so that the next turn of a conversation can begin where this one ended. With several rows, the
    cache goes on with padding for a row that has ended.
    """
    max_new_tokens = checked_value("max_new_tokens", max_new_tokens, whole(0))
    known = [field.name for field in fields(Sampling)]
    unexpected = {name: settings.pop(name) for name in settings.keys() - known}
    check_arguments("generate", unexpected, ["max_new_tokens", "attention_mask", *known])
    sampling = Sampling(**settings)
    ids, mask = _prompts(input_ids, attention_mask)
    if nn.active_dropouts(model):
        raise MiniloraError(
            "the model is in training mode, in which dropout is active: call model.eval() before generating"
        )
    (batch, length), lookup = ids.shape, sampling.prompt_lookup_num_tokens
    if lookup is not None and (batch > 1 or sampling.temperature != 0):
        raise MiniloraError(
            "prompt_lookup_num_tokens is for one row at temperature 0, "
            f"not for {batch} row{'s' * (batch > 1)} at temperature {sampling.temperature}"
        )
    virtual, limit = model.body.virtual_tokens, model.config.max_position_embeddings
    if virtual + length + max_new_tokens > limit:
        words = f"{virtual} virtual tokens, " if virtual else ""
        raise MiniloraError(
            f"{words}a prompt of {length} and {max_new_tokens} new tokens exceed the model's {limit} positions; "
            "shorten the prompt or generate less"
        )
    eos, pad = sampling.ends(model.config)
    rngs = sampling.generators(batch)
    cache = KVCache(virtual + length + max_new_tokens) if past_key_values is None else past_key_values
    held = max(cache.length - virtual, 0)
    if held >= length:
        raise MiniloraError(f"the cache holds {held} tokens and the prompt has {length}: there is no new token to read")
    if lookup is not None:
        return lookup_stream(model, Drafts(ids[0].tolist(), lookup), mask, max_new_tokens, eos, cache)

    def draw() -> Iterator[np.ndarray]:
        rows: np.ndarray = np.arange(batch)
        ended: np.ndarray = np.zeros(batch, dtype=bool)
        seen, step_ids = mask, ids[:, held:]
        for _ in range(max_new_tokens):
            with no_grad():  # not around the yield, or the caller's code would run under it
                hidden = model.body(step_ids, attention_mask=seen, past_key_values=cache)  # (b, T, C)
                logits = host_logits(model.logits(hidden[:, -1]))  # (b, V)
            tokens = np.where(ended, pad, _sample(logits, sampling, [rngs[row] for row in rows]))
            column = np.full(batch, pad, dtype=np.int64)
            column[rows] = tokens
            yield column
            ended = ended | np.isin(tokens, eos)
            if ended.all():
                return
            if ended.any() and past_key_values is None:  # the caller's own cache keeps all rows
                cache.keep_rows((~ended).nonzero()[0])
                rows, seen, tokens, ended = (a[~ended] for a in (rows, seen, tokens, ended))
            step_ids = tokens[:, None]
            seen = np.concatenate([seen, np.ones_like(step_ids)], axis=1)

    return draw()


def _sample(logits: np.ndarray, sampling: Sampling, rngs: list[np.random.Generator]) -> np.ndarray:
    """Choose a token for each row of the logits (b, V)."""
    if sampling.temperature == 0:
        return logits.argmax(axis=1)
    scaled = (logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) / sampling.temperature
    order = np.argsort(-scaled, axis=1, kind="stable")  # most likely first
    probabilities = np.exp(np.take_along_axis(scaled, order, axis=1))
    if sampling.top_k is not None:
        probabilities[:, sampling.top_k :] = 0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if sampling.top_p is not None:
        before = probabilities.cumsum(axis=1) - probabilities
        probabilities[before >= sampling.top_p] = 0  # keeps the token with which the sum reaches p
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    cumulative = probabilities.cumsum(axis=1)
    drawn = [
        np.searchsorted(row, rng.random() * row[-1], side="right") for row, rng in zip(cumulative, rngs, strict=True)
    ]
    return order[np.arange(len(rngs)), drawn]


def _prompts(input_ids: Any, attention_mask: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and mask as integers (B, T) on the host. The mask is 1 for tokens and 0 for padding."""
    ids = backend.to_numpy(raw(input_ids) if hasattr(input_ids, "dtype") else np.asarray(input_ids))
    if ids.dtype.kind not in "iu":
        raise MiniloraError(f"input_ids must be integers, not {ids.dtype}")
    if ids.ndim != 2 or 0 in ids.shape:
        raise MiniloraError(f"generate needs input_ids of shape (batch, length), not {ids.shape}")
    ids = ids.astype(np.int64)
    if attention_mask is None:
        return ids, np.ones_like(ids)
    mask = backend.to_numpy(raw(attention_mask)).astype(np.int64)
    if mask.shape != ids.shape or not (mask[:, -1] == 1).all() or (np.diff(mask, axis=1) < 0).any():
        raise MiniloraError("attention_mask must have the shape of input_ids, with zeros on the left and then ones")
    return ids, mask
