"""Prompt look-up decoding: what followed the last tokens earlier in the text is guessed, and verified in one pass.

    draft       an n-gram that the text ends with stands in it earlier, too: what followed there, k tokens, is the draft
    verify      one pass reads the last token and the draft, and gives the likeliest token after each of them
    accept      drafts as far as they are those tokens, and the token after the last accepted one; the cache's `length`
                is set back to what was accepted

Speculative decoding (Leviathan et al. 2023, algorithm 1) for greedy decoding, with the text in place of a small model
(Saxena 2023, "Prompt Lookup Decoding"). A pass of several tokens reads the weights once, as one of a single token does;
for weights in 4 bits, which are dequantized in each pass, the gain is larger.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from minilora import backend
from minilora.errors import MiniloraError
from minilora.models.cache import KVCache
from minilora.tensor import Tensor, no_grad

NUM_TOKENS = 7  # of a draft at most, in the commands: measured, see docs/log.md
NGRAMS = (4, 3, 2)  # lengths that are looked up, the longest first
_FIRST = 2  # tokens of the first draft


class Drafts:
    """Drafts from the text so far. tokens: the text; most: tokens of a draft.

    A draft is twice as long as the last one where all of that was accepted, and as long as what was accepted of it
    otherwise (at least 1), so that text without repetitions costs little.
    """

    def __init__(self, tokens: list[int], most: int):
        self.tokens: list[int] = []
        self._most, self._length = most, min(_FIRST, most)
        self._ends: dict[tuple[int, ...], int] = {}  # where the latest occurrence of an n-gram ends
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """Add a token to the text. The n-grams that end before it have now a token that follows."""
        end = len(self.tokens)
        for n in NGRAMS:
            if n <= end:
                self._ends[tuple(self.tokens[end - n :])] = end
        self.tokens.append(token)

    def next(self, room: int) -> list[int]:
        """The draft, at most `room` tokens; empty where no n-gram at the end of the text stands in it earlier."""
        for n in NGRAMS:
            end = self._ends.get(tuple(self.tokens[-n:]))
            if end is not None:
                period = len(self.tokens) - end  # the text is taken to go on in it
                return [self.tokens[end + i % period] for i in range(min(self._length, room))]
        return []

    def report(self, drafted: int, accepted: int) -> None:
        """Say how many tokens of the draft were accepted."""
        if drafted:
            self._length = min(2 * self._length, self._most) if accepted == drafted else max(accepted, 1)


def host_logits(logits: Tensor) -> np.ndarray:
    """The logits on the host. MiniloraError if one is NaN, beside which no token is the likeliest."""
    host: np.ndarray = backend.to_numpy(logits.data)
    if np.isnan(host).any():
        raise MiniloraError("the model's logits are NaN: its weights are NaN or infinite, or too large for their dtype")
    return host


def lookup_stream(
    model: Any, drafts: Drafts, mask: np.ndarray, max_new_tokens: int, eos: np.ndarray, cache: KVCache
) -> Iterator[np.ndarray]:
    """The tokens (1,) of greedy decoding after the text of `drafts`, whose mask (1, T) has its zeros on the left.

    At each token the cache holds what it holds without look-up: all tokens but that one.
    """
    virtual, left = model.body.virtual_tokens, max_new_tokens
    while left:
        unread = drafts.tokens[max(cache.length - virtual, 0) :]
        beyond = max(cache.length, virtual) + len(unread)
        draft = drafts.next(min(left - 1, cache.capacity - beyond))
        new = np.ones((1, len(drafts.tokens) + len(draft) - mask.shape[1]), dtype=mask.dtype)
        seen = np.concatenate([mask, new], axis=1)
        with no_grad():  # not around the yield: the flag is the caller's there
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
