"""How a model's makers wrote conversations down as tokens.

A chat model's template is a Jinja program by whoever made the file, so it is never run here. Two families of formats
are known instead: marks in the template's text say which of them it is, and what differs within a family (a default
system message, the spaces around a message) is read from its string literals.

The text of a message is encoded as text: "<|im_end|>" in it does not end the message. Only what the assistant says is
learned, with the token that ends it, or the model would never learn to stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, escape

Conversation = list[dict[str, str]]  # messages with "role" (system, user or assistant) and "content"
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class ChatFormat:
    """One way to write conversations down: of each message `start` role `after_role` `gap` text `end` `after_end`.

    start, after_role and end are special tokens; the others are text.
    """

    label: str  # the family's name, to readers
    start: str
    after_role: str | None
    gap: str
    end: str
    after_end: str = ""
    bos: bool = False  # whether a conversation begins with the beginning-of-text token
    trims: bool = False  # whether messages lose the spaces around them
    before_system: str = ""  # what the system message begins with
    default_system: str | None = None  # what it says if a conversation has none; None: there is none then, either

    @property
    def marks(self) -> list[str]:
        """The special tokens of the format."""
        return [mark for mark in (self.start, self.after_role, self.end) if mark]

    def encode(
        self, tokenizer: Tokenizer, messages: Conversation, add_generation_prompt: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids of a conversation, int64 (N,), and a mask, (N,), True for the assistant's answers with
        the tokens that end them. add_generation_prompt: end with what comes before an answer.

        MiniloraError for messages in an order that the format has no words for.
        """
        return self.encode_many(tokenizer, [messages], add_generation_prompt)[0]

    def write(self, tokenizer: Tokenizer, messages: Conversation, add_generation_prompt: bool = False) -> str:
        """Return a conversation as text, in which special tokens stand by their names."""
        parts = [part for part, _ in self._parts(tokenizer, messages, add_generation_prompt)]
        return "".join(p if isinstance(p, str) else tokenizer.decode([p], skip_special_tokens=False) for p in parts)

    def encode_many(
        self, tokenizer: Tokenizer, conversations: Sequence[Conversation], add_generation_prompt: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Encode several conversations at once, on all cores."""
        rows = [list(self._parts(tokenizer, messages, add_generation_prompt)) for messages in conversations]
        contents = {content for row in rows for content, _ in row}  # most come again and again
        texts = [content for content in contents if isinstance(content, str)]
        tokens: dict[int | str, tuple[np.ndarray, np.ndarray]]  # ids, and where in a text each begins
        tokens = {i: (np.array([i]), np.zeros(1, np.int64)) for i in contents if isinstance(i, int)}
        tokens |= dict(zip(texts, tokenizer.encode_placed(texts), strict=True))
        return [
            (
                np.concatenate([tokens[content][0] for content, _ in row]),
                np.concatenate([tokens[content][1] >= answer for content, answer in row]),
            )
            for row in rows
        ]

    def _parts(
        self, tokenizer: Tokenizer, messages: Conversation, add_generation_prompt: bool
    ) -> Iterator[tuple[int | str, float]]:
        """Yield special tokens by id and the texts between them, each with the place from which it is an answer.

        A header's end and the message after it are one text, so that a token may lie across the two.
        """
        check_messages(messages)
        if self.trims:
            messages = [{**message, "content": message["content"].strip()} for message in messages]
        system, turns = self.default_system, messages
        if messages[0]["role"] == "system":
            system, turns = messages[0]["content"], messages[1:]
        if system is not None:
            turns = [{"role": "system", "content": self.before_system + system}, *turns]
        if self.bos and tokenizer.bos_token_id is not None:
            yield tokenizer.bos_token_id, inf
        for message in turns:
            *header, gap = self._header(tokenizer, message["role"])
            answers = message["role"] == "assistant"
            yield from ((part, inf) for part in header)
            yield f"{gap}{message['content']}", len(str(gap)) if answers else inf
            yield tokenizer.special_ids[self.end], 0 if answers else inf
            if self.after_end:
                yield self.after_end, inf
        if add_generation_prompt:
            yield from ((part, inf) for part in self._header(tokenizer, "assistant"))

    def _header(self, tokenizer: Tokenizer, role: str) -> list[int | str]:
        start = tokenizer.special_ids[self.start]
        if self.after_role is None:
            return [start, role + self.gap]
        return [start, role, tokenizer.special_ids[self.after_role], self.gap]


CHATML = ChatFormat("ChatML", "<|im_start|>", None, "\n", "<|im_end|>", "\n")  # SmolLM2, Qwen 2 and 2.5
LLAMA3 = ChatFormat("Llama 3", "<|start_header_id|>", "<|end_header_id|>", "\n\n", "<|eot_id|>")


def find_format(tokenizer: Tokenizer) -> ChatFormat:
    """Find the chat format of the model that the tokenizer came with, by its template and its special tokens.

    MiniloraError for a model that has none, and for a template that is none of those known here.
    """
    template = tokenizer.chat_template
    if template is None:
        raise MiniloraError(
            "the model has no chat format: it is a base model; choose a chat model: --model smollm2 is one (minilora "
            "models get smollm2)"
        )
    chat_format = _recognise(template)
    if chat_format is None or not tokenizer.encodes_parts or not set(chat_format.marks) <= tokenizer.special_ids.keys():
        raise MiniloraError(
            "the model's chat template is none of those known here (ChatML, Llama 3); templates from files are not run"
        )
    return chat_format


_LINE_END = r"(?:\\n|\n)"


def _recognise(template: str) -> ChatFormat | None:
    family = next((f for f in (CHATML, LLAMA3) if all(mark in template for mark in f.marks)), None)
    if family is None or "<think>" in template:  # answers with thoughts, which are left out of some turns
        return None
    trims = re.search(r"message(?:\[.content.\]|\.content)\s*(?:\|\s*trim|\.strip\(\))", template) is not None
    family = replace(family, bos="bos_token" in template, trims=trims)
    if family.label == CHATML.label:
        return _chatml(template, family)
    if "Cutting Knowledge Date: December 2023" in template:  # since 3.1; the day is the one that it falls back to
        dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
        return replace(family, before_system=dates, default_system="")
    return family


def _chatml(template: str, family: ChatFormat) -> ChatFormat | None:
    """ChatML has a line end after a message, and may have a default system message."""
    if not re.search(rf"<\|im_end\|>['\"]?\s*(?:\+\s*['\"])?{_LINE_END}", template):
        return None
    if re.search(r"set\s+\w{0,40}system\w{0,40}\s*=\s*['\"][^'\"]", template):  # a default that may be used anyhow
        return None
    literal = rf"(['\"])<\|im_start\|>system{_LINE_END}((?:\\.|(?!\1)[^\\])+?)<\|im_end\|>"
    default = re.search(literal, template)
    try:  # as Jinja reads what stands between quotes
        system = default and default[2].encode("ascii", "backslashreplace").decode("unicode-escape")
    except UnicodeDecodeError:  # an escape that is none
        return None
    return replace(family, default_system=system or None)


def check_messages(messages: Conversation) -> None:
    """Raise MiniloraError unless the messages are a system message or none, then questions and answers in turn."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or any(role != ROLES[1 + index % 2] for index, role in enumerate(turns)):
        raise MiniloraError(
            f"messages in the order {escape(', '.join(map(str, roles)) or 'none')}; a system message may come first, "
            "then user and assistant take turns"
        )
