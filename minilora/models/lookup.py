"""Prompt lookup decoding: guess that the text repeats itself, and verify several guessed tokens in one pass.

    draft       if the n-gram at the end of the text also occurs earlier, the k tokens that followed it there
    verify      one pass reads the last token and the draft, and gives the likeliest token after each of them
    accept      the draft, as long as it agrees with those tokens, and one more token; the cache's `length` is set back
                to what was accepted

This is speculative decoding (Leviathan et al. 2023, algorithm 1) for greedy decoding, with the text itself in place of
a small draft model (Saxena 2023, "Prompt Lookup Decoding"). A pass over several tokens reads the weights only once,
like a pass over one token. The gain is larger with 4-bit weights, which every pass has to dequantize.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from minilora import backend
from minilora.errors import MiniloraError
from minilora.models.cache import KVCache
from minilora.tensor import Tensor, no_grad

NUM_TOKENS = 7  # longest draft in the commands; measured, see docs/log.md
NGRAMS = (4, 3, 2)  # lengths to look up, longest first
_FIRST = 2  # tokens in the first draft


class Drafts:
    """Guesses of the next tokens, taken from the text so far. tokens: the text; most: length of the longest draft.

    A draft is twice as long as the previous one if all of that was accepted, and otherwise as long as the accepted part
    of it (at least 1), so that text without repetitions costs little.
    """

    def __init__(self, tokens: list[int], most: int):
        self.tokens: list[int] = []
        self._most, self._length = most, min(_FIRST, most)
        self._ends: dict[tuple[int, ...], int] = {}  # n-gram -> end of its latest occurrence
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """Add a token to the text, and index the n-grams that end just before it: they now have a next token."""
        end = len(self.tokens)
        for n in NGRAMS:
            if n <= end:
                self._ends[tuple(self.tokens[end - n :])] = end
        self.tokens.append(token)

    def next(self, room: int) -> list[int]:
        """Return a draft of at most `room` tokens; empty if no n-gram at the end of the text occurs earlier."""
        for n in NGRAMS:
            end = self._ends.get(tuple(self.tokens[-n:]))
            if end is not None:
                period = len(self.tokens) - end  # assume that the text repeats with this period
                return [self.tokens[end + i % period] for i in range(min(self._length, room))]
        return []

    def report(self, drafted: int, accepted: int) -> None:
        """Adapt the length of the next draft to how many tokens of the last one were accepted."""
        if drafted:
            self._length = min(2 * self._length, self._most) if accepted == drafted else max(accepted, 1)


def host_logits(logits: Tensor) -> np.ndarray:
    """Return the logits on the host. Raises MiniloraError if one is NaN, because then no token is the likeliest."""
    host: np.ndarray = backend.to_numpy(logits.data)
    if np.isnan(host).any():
        raise MiniloraError("the model's logits are NaN: its weights are NaN or infinite, or too large for their dtype")
    return host


def lookup_stream(
    model: Any, drafts: Drafts, mask: np.ndarray, max_new_tokens: int, eos: np.ndarray, cache: KVCache
) -> Iterator[np.ndarray]:
    """Yield the tokens (1,) of greedy decoding after the text of `drafts`. mask: (1, T), with its zeros on the left.

    At each token, the cache holds the same as without lookup: all tokens but that one.
    """
    virtual, left = model.body.virtual_tokens, max_new_tokens
    while left:
        unread = drafts.tokens[max(cache.length - virtual, 0) :]
        beyond = max(cache.length, virtual) + len(unread)
        draft = drafts.next(min(left - 1, cache.capacity - beyond))
        new = np.ones((1, len(drafts.tokens) + len(draft) - mask.shape[1]), dtype=mask.dtype)
        seen = np.concatenate([mask, new], axis=1)
        with no_grad():  # not around the yield, or the caller's code would run under it
            hidden = model.body(np.array([unread + draft]), attention_mask=seen, past_key_values=cache)  # (1, T, C)
            logits = host_logits(model.logits(hidden[:, -1 - len(draft) :]))  # (1, k + 1, V)
        likeliest = logits[0].argmax(axis=1)
        accepted = int(np.append(likeliest[:-1] == draft, False).argmin())
        drafts.report(len(draft), accepted)
        for token in likeliest[: accepted + 1]:
            cache.length = virtual + len(drafts.tokens)
            drafts.append(int(token))
            yield token[None]
            if token in eos:
                return
        left -= accepted + 1
