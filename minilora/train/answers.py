"""A chat model's answers: to many conversations at once, free or the likeliest of some labels, in pieces as they come,
and in one that is kept.

session = ChatSession(model, tokenizer)
for piece in session.ask("What is the capital of France?"):
    print(piece, end="", flush=True)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minilora import backend, threads
from minilora.data import chat
from minilora.data.batches import pad_rows, padded_left
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError
from minilora.models.cache import KVCache
from minilora.tensor import no_grad
from minilora.train.text import check_positions

ANSWER_TOKENS = 512  # of an answer, where nothing else is asked for
CONTEXT = 8192  # tokens of a conversation that are kept at most: 377 MB of keys and values of SmolLM2


def end_token_ids(tokenizer: Tokenizer, config) -> list[int]:
    """The tokens that end an answer: the chat format's, and those that the model's configuration lists."""
    listed = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    ends = {tokenizer.special_ids[chat.find_format(tokenizer).end], tokenizer.eos_token_id, *listed}
    return sorted(ends - {None})


def answers(
    model,
    tokenizer: Tokenizer,
    conversations: Sequence[chat.Conversation],
    max_new_tokens: int,
    batch_size: int = 20,
    advance: Callable[[int], None] = lambda n: None,
) -> list[str]:
    """Return a chat model's likeliest answer to each conversation, whose last message is the user's.

    An answer that is not ended after `max_new_tokens` is cut there. advance: is told of answers as they come.
    """
    chat_format, ends = chat.find_format(tokenizer), end_token_ids(tokenizer, model.config)
    prompts = [chat_format.encode(tokenizer, messages, add_generation_prompt=True)[0] for messages in conversations]

    def continued(rows: list[np.ndarray]) -> np.ndarray:
        part = padded_left(rows)
        how = {"attention_mask": part["attention_mask"], "eos_token_id": ends, "pad_token_id": ends[0]}
        out = model.generate(part["input_ids"], max_new_tokens, temperature=0, **how)
        return out[:, part["input_ids"].shape[1] :]

    def text_of(row: np.ndarray) -> str:
        """Up to what ends the answer, which some tokenizers would show."""
        ended = np.flatnonzero(np.isin(row, ends))
        return tokenizer.decode(row[: ended[0]] if ended.size else row).strip()

    return [text_of(row) for row in in_batches(continued, prompts, list(map(len, prompts)), batch_size, advance)]


def in_batches(
    function: Callable, rows: Sequence, lengths: Sequence[int], batch_size: int, advance: Callable[[int], None]
) -> list:
    """Return the result of `function` for each row, in order. It is called with rows of about one length, for little
    padding: `batch_size` at a time, shared out over the cores.
    """
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    results: dict[int, Any] = {}
    while order:
        most = 2 * lengths[order[0]] + 32  # one long row would have all others padded to its length
        chosen = [i for i in order[:batch_size] if lengths[i] <= most]
        order = order[len(chosen) :]
        runs = threads.split_rows(range(len(chosen)), min(threads.count(), len(chosen)))
        parts = [[rows[i] for i in chosen[run.start : run.stop]] for run in runs]
        found = [result for part in threads.side_by_side(function, parts) for result in part]
        results |= zip(chosen, found, strict=True)
        advance(len(chosen))
    return [results[i] for i in range(len(rows))]


def common_prefix(rows: Sequence[np.ndarray]) -> int:
    """Count the tokens that all rows begin with."""
    shortest = min(map(len, rows))
    same = np.all([row[:shortest] == rows[0][:shortest] for row in rows], axis=0)
    return shortest if same.all() else int(same.argmin())


def check_prompts(model: Any, tokenizer: Tokenizer, asked: Sequence[chat.Conversation], more: int) -> list[int]:
    """The tokens of each prompt. MiniloraError where one and `more` tokens after it pass the model's positions."""
    chat_format = chat.find_format(tokenizer)
    lengths = [len(ids) for ids, _ in chat_format.encode_many(tokenizer, asked, add_generation_prompt=True)]
    _check_length(model, max(lengths), more)
    return lengths


def _check_length(model: Any, prompt: int, answer: int) -> None:
    what = f"a prompt of {prompt:,} tokens and an answer of {answer:,}"
    check_positions(model, prompt + answer, what, "give fewer shots, or shorter messages and responses")


# The likelihood of labels: what all prompts begin with (a system message, examples) is read once into a cache of keys
# and values; each prompt's own rest is read once for all labels.


class Row(NamedTuple):
    """A prompt and what may come after it."""

    prompt: np.ndarray  # token ids (P,)
    answers: list[np.ndarray]  # those that come after it, to the end of the answer, by label


def answered(messages: chat.Conversation, answer: str) -> chat.Conversation:
    return [*messages, {"role": "assistant", "content": answer}]


def label_scores(
    model: Any,
    tokenizer: Tokenizer,
    asked: Sequence[chat.Conversation],
    labels: Sequence[str],
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda n: None,
) -> tuple[np.ndarray, list[int]]:
    """The log-likelihood of each label, with the token that ends the answer, after each prompt, float64 (N, L), and the
    prompts' tokens. Prompts of about one length make a batch.
    """
    told = [answered(messages, label) for messages in asked for label in labels]
    encoded = chat.find_format(tokenizer).encode_many(tokenizer, told)
    rows = [_row(encoded[first : first + len(labels)]) for first in range(0, len(encoded), len(labels))]
    return row_scores(model, rows, batch_size, advance), [len(row.prompt) for row in rows]


def label_probabilities(scores: np.ndarray) -> np.ndarray:
    """Turn the log-likelihoods of labels, (N, L), into probabilities that add up to 1 in each row: the softmax, which
    leaves out whatever else the model might say.
    """
    likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))
    return likelihoods / likelihoods.sum(axis=1, keepdims=True)


def row_scores(
    model: Any, rows: Sequence[Row], batch_size: int = 16, advance: Callable[[int], None] = lambda n: None
) -> np.ndarray:
    """The log-likelihood of each answer after the prompt of its row, float64 (N, answers of a row)."""
    lengths = [len(row.prompt) for row in rows]
    _check_length(model, max(lengths), max(len(ids) for row in rows for ids in row.answers))
    shared = min(common_prefix([row.prompt for row in rows]), min(lengths) - 1)  # a token stays to predict from
    shared = shared if len(rows) > 1 else 0  # what one prompt begins with is not read apart
    base = getattr(model, "base_model", model)
    prefix = KVCache(base.body.virtual_tokens + shared)
    if shared:
        with no_grad():
            base.body(rows[0].prompt[None, :shared], past_key_values=prefix)
    scores = np.array(in_batches(partial(_batch_scores, base, prefix, shared), rows, lengths, batch_size, advance))
    if np.isnan(scores).any():
        raise MiniloraError("the likelihoods are no numbers: the weights or an adapter's strength are of no use")
    return scores


def _row(encoded: Sequence[tuple[np.ndarray, np.ndarray]]) -> Row:
    """encoded: ids and mask of the prompt with each label. The prompt ends where an answer begins, or earlier, where a
    label's first token has text of the prompt in it.
    """
    whole, starts = [], []
    for ids, mask in encoded:
        end = int(np.flatnonzero(mask)[-1]) + 1
        starts.append(int(np.flatnonzero(~mask[:end])[-1]) + 1)
        whole.append(ids[:end])
    start = min(*starts, common_prefix(whole))
    return Row(whole[0][:start], [ids[start:] for ids in whole])


def _batch_scores(model: Any, prefix: KVCache, shared: int, rows: list[Row]) -> np.ndarray:
    """(B, L). prefix: has read the first `shared` tokens of every prompt."""
    part = padded_left([row.prompt[shared:] for row in rows])  # (B, T)
    most = max(len(ids) for row in rows for ids in row.answers)
    mask = np.concatenate([np.ones((len(rows), shared), dtype=np.int64), part["attention_mask"]], axis=1)
    cache = prefix.expanded(len(rows), part["input_ids"].shape[1] + most)
    scores = np.empty((len(rows), len(rows[0].answers)))
    with no_grad():
        last = model.body(part["input_ids"], mask, cache)[:, -1:]  # (B, 1, C), predicts the answer's first token
        read, first = cache.length, _log_probabilities(model, last)
        for label in range(scores.shape[1]):
            ids, real = pad_rows([row.answers[label] for row in rows], 0)  # (B, M)
            found = [first]
            if ids.shape[1] > 1:
                cache.length = read  # forget the label before
                hidden = model.body(ids[:, :-1], np.concatenate([mask, real[:, :-1]], axis=1), cache)
                found.append(_log_probabilities(model, hidden))
            tokens = np.take_along_axis(np.concatenate(found, axis=1), ids[..., None], axis=2)[..., 0]  # (B, M)
            scores[:, label] = (tokens * real).sum(axis=1)
    return scores


def _log_probabilities(model: Any, hidden: Any) -> np.ndarray:
    """(B, T, C) -> (B, T, V), float64 on the host."""
    logits = backend.to_numpy(model.logits(hidden).data).astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


# One answer, in pieces


class Continuation:
    """Text that `model` writes after the tokens `ids` (N,). Iterating gives it in pieces of whole characters.

    tokens: those so far, without the one that ends it. text: all of them as text. is_cut: whether it was not ended.
    settings: of `generate_stream`, whose errors are raised here.
    """

    def __init__(
        self, model: Any, tokenizer: Tokenizer, ids: np.ndarray, max_new_tokens: int, ends: list[int], **settings: Any
    ):
        self._columns = model.generate_stream(ids[None], max_new_tokens, eos_token_id=ends, **settings)
        self._tokenizer, self._ends = tokenizer, ends
        self.tokens: list[int] = []
        self.is_cut = True

    @property
    def text(self) -> str:
        return self._tokenizer.decode(self.tokens)

    def __iter__(self) -> Iterator[str]:
        given = 0
        for (token,) in self._columns:
            if token in self._ends:
                self.is_cut = False
                break
            self.tokens.append(int(token))
            whole = self._tokenizer.decode(self.tokens).rstrip("\ufffd")  # of a character whose other bytes will come
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

    def ask(self, question: str) -> Continuation:
        """The answer to a question, to iterate over; it is remembered as far as that came.

        MiniloraError for a question that is empty, or that does not fit into the context any more.
        """
        if not question.strip():
            raise MiniloraError("the question is empty; give at least one character")
        if self._answer is not None:
            if text := self._answer.text.strip():
                self._turns.append({"role": "assistant", "content": text})
            else:
                self._turns.pop()
            self._ids = np.append(self._ids, self._answer.tokens).astype(np.int64)
            self._answer = None
        turns = [*self._turns, {"role": "user", "content": question}]
        ids = self._format.encode(self._tokenizer, self._system + turns, add_generation_prompt=True)[0]
        room = self.context - self._virtual - len(ids)
        if room < 1:
            raise MiniloraError(
                f"the conversation comes to {len(ids):,} tokens, and {self.context:,} are kept: reset it, or shorten "
                "the question"
            )
        held = self._ids[: max(self._cache.length - self._virtual, 0)]  # the last is read again, to predict from
        shared = common_prefix([held, ids[:-1]])
        self._cache.length = min(self._cache.length, self._virtual + shared)
        how = {"past_key_values": self._cache, "seed": self._seed + len(self._turns), **self._settings}
        self._turns, self._ids = turns, ids
        most = min(room, self.max_new_tokens)
        self._answer = Continuation(self._model, self._tokenizer, ids, most, self._ends, **how)
        return self._answer
