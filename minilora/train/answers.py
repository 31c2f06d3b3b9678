"""Conversations from a file to learn from or to be measured on, and a question put to a chat model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from minilora.data import chat
from minilora.data.batches import padded_left
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError
from minilora.formats.atomic import show_path
from minilora.train.parallel import Workers, split_batch


@dataclass(frozen=True)
class Chats:
    """Conversations as tokens, split by question; the counterpart of `recipes.Text`."""

    name: str
    sha256: str
    train: chat.ChatTokens
    validation: chat.ChatTokens
    test: chat.ChatTokens

    unit: ClassVar[str] = "bits/response character"


def is_chat_data(source: str | os.PathLike) -> bool:
    return str(source).endswith(".jsonl")


def read_chats(source: str | os.PathLike, tokenizer: Tokenizer) -> Chats:
    """The conversations in a JSONL file, split, in the chat format of the model that the tokenizer came with."""
    if tokenizer.chat_template is None:
        raise MiniloraError(
            f"the model has no chat format to write the conversations of {show_path(source)} in: it is a base model; "
            "choose a chat model, or give a text"
        )
    chat_format = chat.find_format(tokenizer)
    conversations = chat.read_jsonl(source)
    parts = chat.split(conversations, str(source))
    tokens = [chat.encode_conversations(tokenizer, chat_format, part) for part in parts]
    return Chats(str(source), chat.sha256(conversations), *tokens)


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
    workers: Workers,
    batch_size: int = 20,
    advance: Callable[[int], None] = lambda n: None,
) -> list[str]:
    """What a chat model answers, at its likeliest, to each conversation, whose last message is the user's.

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
        parts = split_batch(padded_left([prompts[i] for i in chosen]), workers.count)
        rows = [row for part in workers.map(continued, parts) for row in part]
        given |= {i: text_of(row) for i, row in zip(chosen, rows, strict=True)}
        advance(len(chosen))
    return [given[i] for i in range(len(prompts))]
