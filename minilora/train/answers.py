"""Conversations from a file to learn from or to be measured on, and a question put to a chat model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from minilora import threads
from minilora.data import chat, chat_split
from minilora.data.batches import padded_left
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, escape, first_few
from minilora.train.world import split_batch


@dataclass(frozen=True)
class Chats:
    """Conversations as tokens, split by question; the counterpart of `text.Text`."""

    name: str
    sha256: str
    train: chat.ChatTokens
    validation: chat.ChatTokens
    test: chat.ChatTokens

    notes: tuple[str, ...] = ()  # for the reader, of what the files hold
    labels: list[str] | None = None  # of all parts together (`chat.labels_of`); None if the responses are free
    tokenizer: Tokenizer | None = None  # needed to ask for labels during training
    chooses: bool = True  # False if `validation` only watches the run: it is the test part, see `split_chats`

    unit: ClassVar[str] = "bits/response character"

    @property
    def has_labels(self) -> bool:
        """True if the model can be asked which of several labels is right."""
        return self.tokenizer is not None and len(self.labels or ()) > 1


def is_chat_data(source: str | os.PathLike) -> bool:
    return str(source).lower().endswith((".jsonl", ".ndjson"))


def read_chats(
    source: str | os.PathLike,
    tokenizer: Tokenizer,
    validation: str | os.PathLike | None = None,
    test: str | os.PathLike | None = None,
) -> Chats:
    """The conversations in a JSONL file, split, in the chat format of the model that the tokenizer came with.

    validation, test: files of conversations for these parts; the first file is not split for them.
    """
    notes: list[str] = []
    parts, digest = split_chats(source, validation, test, notes)  # what is wrong with a file comes first
    chat_format = chat.find_format(tokenizer)
    if not (chooses := validation is not None or len(parts.validation) >= chat_split.LEAST_CHOICE):
        parts = parts._replace(validation=[])  # it is in the training part
    notes += _what_training_lacks(parts)
    tokens = {n: chat.encode_conversations(tokenizer, chat_format, part) for n, part in parts._asdict().items()}
    if not chooses:
        tokens["validation"] = tokens["test"]
    labels = chat.labels_of([messages for part in parts for messages in part])
    return Chats(str(source), digest, notes=tuple(notes), labels=labels, tokenizer=tokenizer, chooses=chooses, **tokens)


def split_chats(
    source: str | os.PathLike,
    validation: str | os.PathLike | None = None,
    test: str | os.PathLike | None = None,
    notes: list[str] | None = None,
) -> tuple[chat_split.Splits, str]:
    """Return the parts that `read_chats` makes of the files, and the SHA-256 of all that they hold.

    A validation part of fewer than `chat_split.LEAST_CHOICE` conversations could choose nothing, so it is trained on,
    too, unless it is a file of its own.
    """
    conversations = chat.read_jsonl(source, notes)
    if notes is not None:
        notes += chat_split.doubts(conversations)
    files = {"validation": validation, "test": test}
    own = {name: chat.read_jsonl(path, notes) for name, path in files.items() if path is not None}
    parts = chat_split.Splits(conversations, [], []) if len(own) == 2 else chat_split.split(conversations, str(source))
    train = parts.train + [messages for name in own for messages in getattr(parts, name)]
    if validation is None and len(parts.validation) < chat_split.LEAST_CHOICE:
        train = train + parts.validation
    read = [*conversations, *(messages for part in own.values() for messages in part)]
    digest = chat.sha256(read) if len(own) == 2 else chat_split.split_sha256(read)
    return chat_split.Splits(**parts._asdict() | {"train": train} | own), digest


def _what_training_lacks(parts: chat_split.Splits) -> list[str]:
    """Notes on what the training part cannot teach, and on what the other parts have in common with it."""
    notes = []
    questions, responses = set(map(chat.question_of, parts.train)), set(map(chat.response_of, parts.train))
    steering = set(map(chat.question_of, parts.validation))
    if len(responses) == 1 < len(parts.train):
        notes.append(f"every response to learn is {escape(repr(*responses), 60)}: there is nothing to tell apart")
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        if shared := sum(chat.question_of(messages) in questions for messages in part):
            notes.append(f"{shared:,} of {len(part):,} {name} conversations begin as one of the training part does")
        if strange := [repr(label) for label in chat.labels_of(part) or [] if label not in responses]:
            notes.append(f"{escape(first_few(strange))} never occurs in the training part, but in {name}")
    if shared := sum(chat.question_of(messages) in steering for messages in parts.test):
        notes.append(f"{shared:,} of {len(parts.test):,} test conversations begin as one of the validation part does")
    return notes


def question_ids(tokenizer: Tokenizer, prompt: str, system: str | None = None) -> np.ndarray:
    """The token ids, (N,), after which a chat model answers `prompt`."""
    if not prompt.strip():
        raise MiniloraError("the prompt is empty; give at least one character")
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return chat.find_format(tokenizer).encode(tokenizer, messages, add_generation_prompt=True)[0]


def end_token_ids(tokenizer: Tokenizer, config) -> list[int]:
    """The tokens that end an answer: the chat format's, and those that the model's configuration lists."""
    listed = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    ends = {chat.find_format(tokenizer).end_token_id(tokenizer), tokenizer.eos_token_id, *listed}
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
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # rows of about one length, for little padding
    given: dict[int, str] = {}

    def continued(part: dict[str, np.ndarray]) -> np.ndarray:
        out = model.generate(
            part["input_ids"],
            max_new_tokens,
            attention_mask=part["attention_mask"],
            temperature=0,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
        return out[:, part["input_ids"].shape[1] :]

    def text_of(row: np.ndarray) -> str:
        """Up to what ends the answer, which some tokenizers would show."""
        ended = np.flatnonzero(np.isin(row, ends))
        return tokenizer.decode(row[: ended[0]] if ended.size else row).strip()

    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        parts = split_batch(padded_left([prompts[i] for i in chosen]), threads.count())
        rows = [row for part in threads.side_by_side(continued, parts) for row in part]
        given |= {i: text_of(row) for i, row in zip(chosen, rows, strict=True)}
        advance(len(chosen))
    return [given[i] for i in range(len(prompts))]
