"""Text from a model as it is made, and a conversation that is remembered.

session = ChatSession(model, tokenizer)
for piece in session.ask("What is the capital of France?"):
    print(piece, end="", flush=True)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minilora.data import chat
from minilora.data.tokenizer import Tokenizer, TokenStream
from minilora.errors import MiniloraError
from minilora.models.cache import KVCache
from minilora.train.answers import end_token_ids

ANSWER_TOKENS = 512  # of an answer, where nothing else is asked for
CONTEXT = 8192  # tokens of a conversation that are kept at most: 377 MB of keys and values of SmolLM2
_CUT = "\ufffd"  # what stands for the beginning of a character, until its other bytes come


def answer_room(model: Any, prompt_length: int) -> int:
    """Number of tokens that an answer may have by default: ANSWER_TOKENS, or what the positions leave; at least 1."""
    left = model.config.max_position_embeddings - model.body.virtual_tokens - prompt_length
    return max(1, min(ANSWER_TOKENS, left))


def write_sample(model: Any, tokenizer: Tokenizer, part: TokenStream | chat.ChatTokens, most: int = 24) -> dict:
    """Let the model write, at its likeliest, where `part` of the data begins: {"prompt": …, "continuation": …}.

    Of conversations, after the first question; of a text, after 16 tokens. most: tokens written.
    """
    if isinstance(part, chat.ChatTokens):
        ids, mask = part.rows[0]
        ids, ends = ids[: int(mask.argmax())], end_token_ids(tokenizer, model.config)
    else:
        ids, ends = part.ids[:16], []
    ids = ids[-model.config.max_position_embeddings // 2 :]
    written = Continuation(
        model, tokenizer, ids, min(most, answer_room(model, len(ids))), ends, False,
        temperature=0,
    )  # fmt: skip
    return {"prompt": tokenizer.decode(ids), "continuation": "".join(written)}


class Continuation:
    """Text that `model` writes after the tokens `ids` (N,). Iterating gives it in pieces of whole characters.

    tokens: those so far, without the one that ends it. text: all of them as text. is_cut: whether it was not ended.
    trims: whether spaces at either end are left out, as of an answer. settings: of `generate_stream`, whose errors are
    raised here.
    """

    def __init__(
        self, model: Any, tokenizer: Tokenizer, ids: np.ndarray, max_new_tokens: int, ends: list[int], trims: bool,
        **settings: Any,
    ):  # fmt: skip
        self._columns = model.generate_stream(ids[None], max_new_tokens, eos_token_id=ends, **settings)
        self._tokenizer, self._ends, self._trims = tokenizer, ends, trims
        self.tokens: list[int] = []
        self.is_cut = True

    @property
    def text(self) -> str:
        text = self._tokenizer.decode(self.tokens)
        return text.strip() if self._trims else text

    def __iter__(self) -> Iterator[str]:
        given = 0
        for (token,) in self._columns:
            if token in self._ends:
                self.is_cut = False
                break
            self.tokens.append(int(token))
            whole = self._tokenizer.decode(self.tokens).rstrip(_CUT)
            whole = whole.strip() if self._trims else whole
            if len(whole) > given:
                yield whole[given:]
                given = len(whole)
        if rest := self.text[given:]:
            yield rest


class ChatSession:
    """A conversation with a chat model, which reads each turn once: its keys and values are kept.

    system: the system message; None: the model's own. context: tokens that are kept at most, and no more than the
    model's positions. settings: of `generate_stream`. Raises MiniloraError for a model without a known chat format.
    """

    def __init__(
        self, model: Any, tokenizer: Tokenizer, system: str | None = None, max_new_tokens: int = ANSWER_TOKENS,
        context: int = CONTEXT, seed: int = 0, **settings: Any,
    ):  # fmt: skip
        self._model, self._tokenizer, self._settings, self._seed = model, tokenizer, settings, seed
        self._format, self._ends = chat.find_format(tokenizer), end_token_ids(tokenizer, model.config)
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._virtual = model.body.virtual_tokens
        self.context = min(context, model.config.max_position_embeddings)
        self.max_new_tokens = max_new_tokens
        self.reset()

    def reset(self) -> None:
        """Forget all but the system message."""
        self._turns: chat.Conversation = []
        self._answer: Continuation | None = None  # to the last of the turns
        self._ids = np.empty(0, np.int64)  # what was read before the answer
        self._cache = KVCache(self.context)
        self.forgotten = 0

    def ask(self, question: str) -> Continuation:
        """The answer to a question, to iterate over; it is remembered as far as that came.

        Where question and answer do not fit into the context, the oldest turns are forgotten until half of it is free;
        `forgotten` says how many. MiniloraError for a question that is empty or does not fit at all.
        """
        if not question.strip():
            raise MiniloraError("the question is empty; give at least one character")
        self._remember_answer()
        turns = [*self._turns, {"role": "user", "content": question}]
        needed = min(self.max_new_tokens, self.context // 4)
        while True:
            ids = self._format.encode(self._tokenizer, self._system + turns, add_generation_prompt=True)[0]
            room = self.context - self._virtual - len(ids)
            if room >= needed or len(turns) == 1:
                break
            turns, needed = turns[2:], self.context // 2  # lest each turn reads all others again
        if room < 1:
            raise MiniloraError(
                f"the question comes to {len(ids):,} tokens, and a conversation holds {self.context:,}; shorten it"
            )
        self.forgotten = (len(self._turns) + 1 - len(turns)) // 2
        self._keep_common(ids)
        self._turns, self._ids = turns, ids
        self._answer = Continuation(
            self._model, self._tokenizer, ids, min(room, self.max_new_tokens), self._ends, trims=True,
            past_key_values=self._cache, seed=self._seed + len(turns), **self._settings,
        )  # fmt: skip
        return self._answer

    def _remember_answer(self) -> None:
        if self._answer is None:
            return
        if text := self._answer.text:
            self._turns.append({"role": "assistant", "content": text})
        else:
            self._turns.pop()
        self._ids = np.append(self._ids, self._answer.tokens).astype(np.int64)
        self._answer = None

    def _keep_common(self, ids: np.ndarray) -> None:
        """Cut the cache back to the tokens that `ids` begins with, all but the last, which is to be read."""
        held = self._ids[: max(self._cache.length - self._virtual, 0)]
        shared = min(len(held), len(ids) - 1)
        same = np.append(held[:shared] == ids[:shared], False).argmin()
        self._cache.length = min(self._cache.length, self._virtual + int(same))
