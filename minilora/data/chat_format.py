"""How a model's makers wrote conversations down as tokens.

A chat model's template is a Jinja program by whoever made the file, so it is never run here. A few formats are known
instead: marks in the template's text say which of them it is, and what differs within a family (a default system
message, a space here or there) is read from its string literals.

The text of a message is encoded as text: "<|im_end|>" in it does not end the message. Where a family's marks are plain
text themselves (Llama 2's [INST]), a message can imitate them, but not the token that ends one.

Only what the assistant says is learned, with the token that ends it, or the model would never learn to stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, escape

Conversation = list[dict[str, str]]  # messages with "role" (system, user or assistant) and "content"
ROLES = ("system", "user", "assistant")


class Piece(NamedTuple):
    """A part of a conversation: text, or a special token by name or id. A name that the tokenizer has no special token
    for is text, too."""

    content: str | int
    is_special: bool = False
    is_response: bool = False


def _joined(part: Piece | list[Piece]) -> str | None:
    """Return the text of pieces that are encoded as one; None for a special token."""
    return None if isinstance(part, Piece) else "".join(str(piece.content) for piece in part)


def _special(token: str | int, is_response: bool = False) -> Piece:
    return Piece(token, True, is_response)


@dataclass(frozen=True)
class ChatFormat:
    """One way to write conversations down: each message stands between a header with its role and a special token."""

    label: ClassVar[str]  # the family's name, to readers
    end: ClassVar[str | None] = None  # the special token that ends a message; None: the one that ends a text
    after_end: ClassVar[str] = "\n"
    bos: bool = False  # whether a conversation begins with the beginning-of-text token
    trims: bool = False  # whether messages lose the spaces around them

    def header(self, role: str) -> tuple[Piece, ...]:
        """Return the pieces before a message of this role."""
        raise NotImplementedError

    def with_system(self, messages: Conversation) -> Conversation:
        """Return the messages with what the format itself puts into the system message."""
        return messages

    def pieces(self, messages: Conversation, tokenizer: Tokenizer, add_generation_prompt: bool) -> Iterator[Piece]:
        for message in self.with_system(messages):
            answers = message["role"] == "assistant"
            yield from (*self.header(message["role"]), Piece(message["content"], is_response=answers))
            yield from (_special(self.end or tokenizer.eos_token_id, answers), Piece(self.after_end))
        if add_generation_prompt:
            yield from self.header("assistant")

    def end_token_id(self, tokenizer: Tokenizer) -> int:
        """Return the token that ends an answer."""
        return tokenizer.special_id(self.end) if self.end else tokenizer.eos_token_id

    def encode(
        self, tokenizer: Tokenizer, messages: Conversation, add_generation_prompt: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids of a conversation, int64 (N,), and a mask, (N,), True for the assistant's answers with
        the tokens that end them. add_generation_prompt: end with what comes before an answer.

        MiniloraError for messages in an order that the format has no words for.
        """
        return self.encode_many(tokenizer, [messages], add_generation_prompt)[0]

    def encode_many(
        self, tokenizer: Tokenizer, conversations: Sequence[Conversation], add_generation_prompt: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Encode several conversations at once, on all cores."""
        all_parts = [self._parts(messages, tokenizer, add_generation_prompt) for messages in conversations]
        # By text, most of which are the same headers again and again, and whether it comes first.
        encoded: dict[tuple[str | None, bool], tuple[np.ndarray, np.ndarray]] = {}
        for is_first in (True, False):
            chosen = (part for parts in all_parts for part in (parts[:1] if is_first else parts[1:]))
            texts = list({text for part in chosen if (text := _joined(part)) is not None})
            for text, tokens in zip(texts, tokenizer.encode_placed(texts, is_first), strict=True):
                encoded[text, is_first] = tokens
        rows = []
        for parts in all_parts:
            row = []
            for index, part in enumerate(parts):
                if isinstance(part, Piece):
                    row.append((np.array([part.content], np.int64), np.array([part.is_response])))
                else:
                    ids, starts = encoded[_joined(part), index == 0]
                    ends = np.cumsum([len(str(piece.content)) for piece in part[:-1]])
                    owner = np.searchsorted(ends, starts, side="right")  # the piece that a token begins in
                    row.append((ids, np.array([piece.is_response for piece in part])[owner]))
            ids, mask = (np.concatenate(arrays) for arrays in zip(*row, strict=True))
            rows.append((ids, mask))
        return rows

    def _parts(
        self, messages: Conversation, tokenizer: Tokenizer, add_generation_prompt: bool
    ) -> list[Piece | list[Piece]]:
        """Special tokens by id, and the pieces of text between them, which are encoded as one: a token may lie across
        two pieces.
        """
        check_messages(messages)
        if self.trims:
            messages = [{**message, "content": message["content"].strip()} for message in messages]
        parts: list[Piece | list[Piece]] = []
        if self.bos and tokenizer.bos_token_id is not None:
            parts.append(_special(tokenizer.bos_token_id))
        for piece in self.pieces(messages, tokenizer, add_generation_prompt):
            token = piece.content
            if isinstance(token, int):
                parts.append(piece)
            elif piece.is_special and tokenizer.has_special(token):
                parts.append(_special(tokenizer.special_id(token), piece.is_response))
            elif token and parts and isinstance(parts[-1], list):
                parts[-1].append(piece)
            elif token:
                parts.append([piece])
        return parts


@dataclass(frozen=True)
class ChatML(ChatFormat):
    """<|im_start|>role, a line end, the text, <|im_end|>, a line end: SmolLM2, Qwen 2 and 2.5."""

    label = "ChatML"
    end = "<|im_end|>"
    default_system: str | None = None

    def header(self, role: str) -> tuple[Piece, ...]:
        return _special("<|im_start|>"), Piece(f"{role}\n")

    def with_system(self, messages: Conversation) -> Conversation:
        if self.default_system is None or messages[0]["role"] == "system":
            return messages
        return [{"role": "system", "content": self.default_system}, *messages]


@dataclass(frozen=True)
class Llama3(ChatFormat):
    """<|start_header_id|>role<|end_header_id|>, two line ends, the text, <|eot_id|>."""

    label = "Llama 3"
    end = "<|eot_id|>"
    after_end = ""
    dates: str | None = None  # what goes before the system message since 3.1, which always has one

    def header(self, role: str) -> tuple[Piece, ...]:
        return _special("<|start_header_id|>"), Piece(role), _special("<|end_header_id|>"), Piece("\n\n")

    def with_system(self, messages: Conversation) -> Conversation:
        if self.dates is None:
            return messages
        has_system = messages[0]["role"] == "system"
        system = messages[0]["content"] if has_system else ""
        return [{"role": "system", "content": self.dates + system}, *messages[has_system:]]


@dataclass(frozen=True)
class Instruct(ChatFormat):
    """[INST] question [/INST]answer</s>: Mistral until version 0.2."""

    label = "Mistral"
    after_eos: str = ""

    def pieces(self, messages: Conversation, tokenizer: Tokenizer, add_generation_prompt: bool) -> Iterator[Piece]:
        if messages[0]["role"] == "system":
            raise MiniloraError("this model's chat format has no system message; put its words into the first question")
        for message in messages:
            if message["role"] == "user":
                yield from (_special("[INST]"), Piece(f" {message['content']} "), _special("[/INST]"))
            else:
                yield from (Piece(message["content"], is_response=True), _special(tokenizer.eos_token_id, True))
                yield Piece(self.after_eos)


class Llama2(ChatFormat):
    """<s>[INST] question [/INST] answer </s>, with the system message marked, in the first question."""

    label = "Llama 2"

    def pieces(self, messages: Conversation, tokenizer: Tokenizer, add_generation_prompt: bool) -> Iterator[Piece]:
        system = ""
        if messages[0]["role"] == "system":
            system, messages = f"<<SYS>>\n{messages[0]['content']}\n<</SYS>>\n\n", messages[1:]
        for index, message in enumerate(messages):
            if message["role"] == "user":
                if index and tokenizer.bos_token_id is not None:
                    yield _special(tokenizer.bos_token_id)
                content = message["content"] if index else system + message["content"]
                yield from (_special("[INST]"), Piece(f" {content.strip()} "), _special("[/INST]"))
            else:
                yield Piece(f" {message['content'].strip()} ", is_response=True)
                yield _special(tokenizer.eos_token_id, is_response=True)


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
    chat_format = _recognise(template, tokenizer)
    if chat_format is None:
        raise MiniloraError(
            "the model's chat template is none of those known here (ChatML, Llama 2 and 3, Mistral 0.2); templates "
            "from files are not run"
        )
    tokenizer.keep_out_of_text([*MARKS, tokenizer.eos_token])
    return chat_format


MARKS = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("[INST]", "[/INST]", "<s>", "</s>"),
)
_LINE_END = r"(?:\\n|\n)"
_CONTENT = r"message(?:\[.content.\]|\.content)"


def _recognise(template: str, tokenizer: Tokenizer) -> ChatFormat | None:
    def has(*marks: str) -> bool:
        return all(mark in template for mark in marks)

    bos, trims = has("bos_token"), re.search(rf"{_CONTENT}\s*(?:\|\s*trim|\.strip\(\))", template) is not None
    if has("<think>"):  # answers with thoughts, which are left out of some turns
        return None
    if has("<|im_start|>", "<|im_end|>"):
        specials = all(map(tokenizer.has_special, ("<|im_start|>", "<|im_end|>")))
        return _chatml(template, bos, trims) if specials else None
    if has("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"):
        if not all(map(tokenizer.has_special, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"))):
            return None
        dates = None
        if has("Cutting Knowledge Date: December 2023"):  # the day is the one that the template falls back to
            dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
        return Llama3(bos, trims, dates)
    if has("<<SYS>>", "[INST]", "[/INST]", "eos_token"):
        return Llama2(bos)
    question = rf"(['\"])\[INST\] \1\s*\+\s*{_CONTENT}\s*\+\s*(['\"]) \[/INST\]\2"
    if re.search(question, template) and re.search(rf"\{{\{{-?\s*{_CONTENT}\s*\+\s*eos_token", template):
        return Instruct(bos, after_eos=" " if has("eos_token + ' '") else "")
    return None


def _chatml(template: str, bos: bool, trims: bool) -> ChatML | None:
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
    return ChatML(bos, trims, system or None)


def check_messages(messages: Conversation) -> None:
    """Raise MiniloraError unless the messages are a system message or none, then questions and answers in turn."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or any(role != ROLES[1 + index % 2] for index, role in enumerate(turns)):
        raise MiniloraError(
            f"messages in the order {escape(', '.join(map(str, roles)) or 'none')}; a system message may come first, "
            "then user and assistant take turns"
        )
