"""Chat formats: how a model expects conversations to be written as tokens.

A chat model's template is a Jinja program by whoever made the file, so it is never run here. Instead, two families of
formats are built in: the special tokens in the template's text tell which family it is, and differences within a family
(a default system message, spaces around a message) are read from its string literals.

The text of a message is encoded as plain text: "<|im_end|>" in it does not end the message. Only the assistant's
messages are learned, together with the token that ends them, or the model would never learn to stop.
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
    """A chat format, which writes each message as `start` role `after_role` `gap` text `end` `after_end`.

    start, after_role and end are special tokens; the others are text.
    """

    label: str  # the family's name, for messages
    start: str
    after_role: str | None
    gap: str
    end: str
    after_end: str = ""
    bos: bool = False  # begin a conversation with the beginning-of-text token
    trims: bool = False  # strip the spaces around messages
    before_system: str = ""  # text in front of every system message
    default_system: str | None = None  # the system message of a conversation that has none; None: leave it out

    @property
    def marks(self) -> list[str]:
        """The special tokens of the format."""
        return [mark for mark in (self.start, self.after_role, self.end) if mark]

    def encode(
        self, tokenizer: Tokenizer, messages: Conversation, add_generation_prompt: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids of a conversation, int64 (N,), and a mask (N,), True for the assistant's answers.

        The mask includes the tokens that end the answers. add_generation_prompt: end with the header of an answer.
        Raises MiniloraError if user and assistant do not take turns.
        """
        return self.encode_many(tokenizer, [messages], add_generation_prompt)[0]

    def write(self, tokenizer: Tokenizer, messages: Conversation, add_generation_prompt: bool = False) -> str:
        """Return a conversation as text, with special tokens written by name."""
        parts = [part for part, _ in self._parts(tokenizer, messages, add_generation_prompt)]
        return "".join(p if isinstance(p, str) else tokenizer.decode([p], skip_special_tokens=False) for p in parts)

    def encode_many(
        self, tokenizer: Tokenizer, conversations: Sequence[Conversation], add_generation_prompt: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Encode several conversations at once, on all cores."""
        rows = [list(self._parts(tokenizer, messages, add_generation_prompt)) for messages in conversations]
        contents = {content for row in rows for content, _ in row}  # a set, since most parts are repeated many times
        texts = [content for content in contents if isinstance(content, str)]
        tokens: dict[int | str, tuple[np.ndarray, np.ndarray]]  # part -> ids, and each token's offset in the text
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
        """Yield special tokens by id and the texts between them, each with the character at which the answer in it
        begins (inf: there is none).

        The end of a header and the message after it form one text, because a token may span both.
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
    """Return the chat format of the tokenizer's model, recognised by its template and special tokens.

    Raises MiniloraError if the model has no template, or one that is not known here.
    """
    template = tokenizer.chat_template
    if template is None:
        raise MiniloraError(
            "the model has no chat format, as it is a base model; choose a chat model, such as --model smollm2 "
            "(minilora models get smollm2)"
        )
    chat_format = _recognise(template)
    if chat_format is None or not tokenizer.encodes_parts or not set(chat_format.marks) <= tokenizer.special_ids.keys():
        raise MiniloraError(
            "the model's chat template is not one that minilora knows (ChatML, Llama 3), and it never runs templates "
            "from files"
        )
    return chat_format


_LINE_END = r"(?:\\n|\n)"


def _recognise(template: str) -> ChatFormat | None:
    family = next((f for f in (CHATML, LLAMA3) if all(mark in template for mark in f.marks)), None)
    if family is None or "<think>" in template:  # such templates leave the reasoning out of some turns
        return None
    trims = re.search(r"message(?:\[.content.\]|\.content)\s*(?:\|\s*trim|\.strip\(\))", template) is not None
    family = replace(family, bos="bos_token" in template, trims=trims)
    if family.label == CHATML.label:
        return _chatml(template, family)
    if "Cutting Knowledge Date: December 2023" in template:  # since Llama 3.1; the date is the template's default
        dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
        return replace(family, before_system=dates, default_system="")
    return family


def _chatml(template: str, family: ChatFormat) -> ChatFormat | None:
    """Return ChatML with the template's default system message, or None if the template is not plain ChatML."""
    if not re.search(rf"<\|im_end\|>['\"]?\s*(?:\+\s*['\"])?{_LINE_END}", template):
        return None
    if re.search(r"set\s+\w{0,40}system\w{0,40}\s*=\s*['\"][^'\"]", template):  # unclear when this default is used
        return None
    literal = rf"(['\"])<\|im_start\|>system{_LINE_END}((?:\\.|(?!\1)[^\\])+?)<\|im_end\|>"
    default = re.search(literal, template)
    try:  # decode a string literal as Jinja does
        system = default and default[2].encode("ascii", "backslashreplace").decode("unicode-escape")
    except UnicodeDecodeError:  # an invalid escape
        return None
    return replace(family, default_system=system or None)


def check_messages(messages: Conversation) -> None:
    """Raise MiniloraError unless, after an optional system message, user and assistant take turns."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or any(role != ROLES[1 + index % 2] for index, role in enumerate(turns)):
        raise MiniloraError(
            f"messages come in the order {escape(', '.join(map(str, roles)) or 'none')}; a system message may come "
            "first, then user and assistant must take turns"
        )
