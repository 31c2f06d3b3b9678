"""A chat model's answers: free ones and label likelihoods for many conversations, and one conversation turn by turn.

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

ANSWER_TOKENS = 512  # default limit of an answer
CONTEXT = 8192  # most tokens of a conversation to keep: 377 MB of keys and values in SmolLM2


def end_token_ids(tokenizer: Tokenizer, config) -> list[int]:
    """Return the ids of the tokens that end an answer: the chat format's, and those in the model's configuration."""
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

    An answer that has not ended after `max_new_tokens` is cut there. advance: called with the number of new answers.
    """
    chat_format, ends = chat.find_format(tokenizer), end_token_ids(tokenizer, model.config)
    prompts = [chat_format.encode(tokenizer, messages, add_generation_prompt=True)[0] for messages in conversations]

    def continued(rows: list[np.ndarray]) -> np.ndarray:
        part = padded_left(rows)
        how = {"attention_mask": part["attention_mask"], "eos_token_id": ends, "pad_token_id": ends[0]}
        out = model.generate(part["input_ids"], max_new_tokens, temperature=0, **how)
        return out[:, part["input_ids"].shape[1] :]

    def text_of(row: np.ndarray) -> str:
        """Decode a row up to the token that ends the answer, which some tokenizers would show."""
        ended = np.flatnonzero(np.isin(row, ends))
        return tokenizer.decode(row[: ended[0]] if ended.size else row).strip()

    return [text_of(row) for row in in_batches(continued, prompts, list(map(len, prompts)), batch_size, advance)]


def in_batches(
    function: Callable, rows: Sequence, lengths: Sequence[int], batch_size: int, advance: Callable[[int], None]
) -> list:
    """Return the result of `function` for each row, in order.

    To keep padding small, the function is called with rows of similar length: up to `batch_size` of them, divided among
    the cores.
    """
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    results: dict[int, Any] = {}
    while order:
        most = 2 * lengths[order[0]] + 32  # a single long row would have all others padded to its length
        chosen = [i for i in order[:batch_size] if lengths[i] <= most]
        order = order[len(chosen) :]
        runs = threads.split_rows(range(len(chosen)), min(threads.count(), len(chosen)))
        parts = [[rows[i] for i in chosen[run.start : run.stop]] for run in runs]
        batch_results = [result for part in threads.side_by_side(function, parts) for result in part]
        results |= zip(chosen, batch_results, strict=True)
        advance(len(chosen))
    return [results[i] for i in range(len(rows))]


def common_prefix(rows: Sequence[np.ndarray]) -> int:
    """Count the tokens that all rows have in common at the beginning."""
    shortest = min(map(len, rows))
    same = np.all([row[:shortest] == rows[0][:shortest] for row in rows], axis=0)
    return shortest if same.all() else int(same.argmin())


def check_prompts(model: Any, tokenizer: Tokenizer, prompts: Sequence[chat.Conversation], more: int) -> list[int]:
    """Return each prompt's number of tokens. Raises MiniloraError if one, plus `more` tokens, exceeds the positions."""
    chat_format = chat.find_format(tokenizer)
    lengths = [len(ids) for ids, _ in chat_format.encode_many(tokenizer, prompts, add_generation_prompt=True)]
    _check_length(model, max(lengths), more)
    return lengths


def _check_length(model: Any, prompt: int, answer: int) -> None:
    what = f"a prompt of {prompt:,} tokens and an answer of {answer:,}"
    check_positions(model, prompt + answer, what, "leave out or shorten the longest rows, or give fewer shots")


# The likelihood of labels. The beginning that all prompts share (a system message, examples) is read once into a cache
# of keys and values, and the rest of each prompt is read once for all labels.


class Row(NamedTuple):
    """A prompt and its possible answers."""

    prompt: np.ndarray  # token ids (P,)
    answers: list[np.ndarray]  # per label, the token ids after the prompt, including the one that ends the answer


def answered(messages: chat.Conversation, answer: str) -> chat.Conversation:
    return [*messages, {"role": "assistant", "content": answer}]


def label_scores(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[chat.Conversation],
    labels: Sequence[str],
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda n: None,
) -> tuple[np.ndarray, list[int]]:
    """Return the log-likelihood of each label after each prompt, float64 (N, L), and each prompt's number of tokens.

    A label's likelihood includes the token that ends the answer. Prompts of similar length form a batch.
    """
    completed = [answered(messages, label) for messages in prompts for label in labels]
    encoded = chat.find_format(tokenizer).encode_many(tokenizer, completed)
    rows = [_row(encoded[first : first + len(labels)]) for first in range(0, len(encoded), len(labels))]
    return row_scores(model, rows, batch_size, advance), [len(row.prompt) for row in rows]


def label_probabilities(scores: np.ndarray) -> np.ndarray:
    """Turn the log-likelihoods of labels, (N, L), into probabilities that add up to 1 in each row.

    This softmax ignores everything else that the model might say.
    """
    likelihoods = np.exp(scores - scores.max(axis=1, keepdims=True))
    return likelihoods / likelihoods.sum(axis=1, keepdims=True)


def row_scores(
    model: Any, rows: Sequence[Row], batch_size: int = 16, advance: Callable[[int], None] = lambda n: None
) -> np.ndarray:
    """Return the log-likelihood of each answer after the prompt of its row, float64 (N, answers of a row)."""
    lengths = [len(row.prompt) for row in rows]
    _check_length(model, max(lengths), max(len(ids) for row in rows for ids in row.answers))
    shared = min(common_prefix([row.prompt for row in rows]), min(lengths) - 1)  # keep one token to predict from
    shared = shared if len(rows) > 1 else 0  # a single prompt shares nothing
    base = getattr(model, "base_model", model)
    prefix = KVCache(base.body.virtual_tokens + shared)
    if shared:
        with no_grad():
            base.body(rows[0].prompt[None, :shared], past_key_values=prefix)
    scores = np.array(in_batches(partial(_batch_scores, base, prefix, shared), rows, lengths, batch_size, advance))
    if np.isnan(scores).any():
        raise MiniloraError("the likelihoods are NaN: the weights are broken, or the adapter's strength is too large")
    return scores


def _row(encoded: Sequence[tuple[np.ndarray, np.ndarray]]) -> Row:
    """Build a Row. encoded: ids and mask of the prompt with each label.

    The prompt ends where the answers begin, or earlier if the first token of a label also covers text of the prompt.
    """
    whole, starts = [], []
    for ids, mask in encoded:
        end = int(np.flatnonzero(mask)[-1]) + 1
        starts.append(int(np.flatnonzero(~mask[:end])[-1]) + 1)
        whole.append(ids[:end])
    start = min(*starts, common_prefix(whole))
    return Row(whole[0][:start], [ids[start:] for ids in whole])


def _batch_scores(model: Any, prefix: KVCache, shared: int, rows: list[Row]) -> np.ndarray:
    """Return the scores (B, L). prefix: a cache that has read the `shared` tokens at the beginning of every prompt."""
    part = padded_left([row.prompt[shared:] for row in rows])  # (B, T)
    most = max(len(ids) for row in rows for ids in row.answers)
    mask = np.concatenate([np.ones((len(rows), shared), dtype=np.int64), part["attention_mask"]], axis=1)
    cache = prefix.expanded(len(rows), part["input_ids"].shape[1] + most)
    scores = np.empty((len(rows), len(rows[0].answers)))
    with no_grad():
        last = model.body(part["input_ids"], mask, cache)[:, -1:]  # (B, 1, C), predicts the answer's first token
        read, first = cache.length, _log_probabilities(model, last)
        for label in range(scores.shape[1]):
            ids, real = pad_rows([row.answers[label] for row in rows])  # (B, M)
            predictions = [first]
            if ids.shape[1] > 1:
                cache.length = read  # drop the previous label
                hidden = model.body(ids[:, :-1], np.concatenate([mask, real[:, :-1]], axis=1), cache)
                predictions.append(_log_probabilities(model, hidden))
            tokens = np.take_along_axis(np.concatenate(predictions, axis=1), ids[..., None], axis=2)[..., 0]  # (B, M)
            scores[:, label] = (tokens * real).sum(axis=1)
    return scores


def _log_probabilities(model: Any, hidden: Any) -> np.ndarray:
    """Return log-probabilities: (B, T, C) -> (B, T, V), float64 on the host."""
    logits = backend.to_numpy(model.logits(hidden).data).astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


# One answer, in pieces


class Continuation:
    """The text that `model` writes after the tokens `ids` (N,). Iterating yields it in pieces of whole characters.

    tokens: the tokens so far, without the one that ends the text. text: these tokens, decoded. is_cut: True if the text
    has not ended. settings: passed to `generate_stream`, whose errors are raised here.
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
        yielded = 0  # characters
        for (token,) in self._columns:
            if token in self._ends:
                self.is_cut = False
                break
            self.tokens.append(int(token))
            whole = self._tokenizer.decode(self.tokens).rstrip("\ufffd")  # drop a character whose bytes are incomplete
            if len(whole) > yielded:
                yield whole[yielded:]
                yielded = len(whole)
        if rest := self.text[yielded:]:
            yield rest


class ChatSession:
    """A conversation with a chat model that reads each turn only once, because its keys and values are cached.

    system: the system message; None: the model's default. context: most tokens to keep, limited by the model's
    positions. settings: passed to `generate_stream`. Raises MiniloraError if the model's chat format is not known.
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
        """Forget everything but the system message."""
        self._turns: chat.Conversation = []
        self._answer: Continuation | None = None  # the answer to the last of the turns
        self._ids = np.empty(0, np.int64)  # tokens read before the answer
        self._cache = KVCache(self.context)

    def ask(self, question: str) -> Continuation:
        """Return the answer to a question, to iterate over. What has been yielded becomes part of the conversation.

        Raises MiniloraError if the question is empty, or no longer fits into the context.
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
                f"the conversation has {len(ids):,} tokens, which leaves no room for an answer in the context of "
                f"{self.context:,}: reset it, or shorten the question"
            )
        cached = self._ids[: max(self._cache.length - self._virtual, 0)]
        shared = common_prefix([cached, ids[:-1]])  # the last token is always read again, to predict from
        self._cache.length = min(self._cache.length, self._virtual + shared)
        how = {"past_key_values": self._cache, "seed": self._seed + len(self._turns), **self._settings}
        self._turns, self._ids = turns, ids
        most = min(room, self.max_new_tokens)
        self._answer = Continuation(self._model, self._tokenizer, ids, most, self._ends, **how)
        return self._answer
