"""The data of a training: a corpus or conversations read, split and tokenized, and the batches made of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any, ClassVar

from minilora.data import chat, corpora
from minilora.data.batches import ChatBatches, LanguageModelBatches
from minilora.data.chat import ChatTokens
from minilora.data.examples import BY_NAME, Columns, Examples, read_examples
from minilora.data.rows import is_rows
from minilora.data.tokenizer import Tokenizer, TokenStream, encode_documents, train_tokenizer
from minilora.errors import MiniloraError, escape, first_few

SHOWN = 600  # characters of an example
PADDING = 0  # any token will do: the attention mask hides it, and it has no label


@dataclass(frozen=True)
class Text:
    """A corpus as streams of tokens, split by document."""

    name: str
    sha256: str
    train: TokenStream
    validation: TokenStream
    test: TokenStream
    notes: tuple[str, ...] = ()  # for the reader, of what the files hold
    summary: ClassVar[tuple[str, ...]] = ()

    unit: ClassVar[str] = "bits/character"


@dataclass(frozen=True)
class Chats:
    """Conversations as tokens, split by question; the counterpart of `Text`."""

    name: str
    sha256: str
    train: ChatTokens
    validation: ChatTokens
    test: ChatTokens

    notes: tuple[str, ...] = ()  # for the reader, of what the files hold
    summary: tuple[str, ...] = ()  # lines to readers: how the rows were understood
    labels: list[str] | None = None  # of all parts together (`chat.labels_of`); None if the responses are free
    tokenizer: Tokenizer | None = None  # needed to ask for labels during training
    chooses: bool = True  # False if `validation` only watches the run: it is the test part, see `split_chats`

    unit: ClassVar[str] = "bits/response character"

    @property
    def has_labels(self) -> bool:
        """True if the model can be asked which of several labels is right."""
        return self.tokenizer is not None and len(self.labels or ()) > 1


def read_data(
    source: str,
    tokenizer: Tokenizer,
    validation: str | None = None,
    test: str | None = None,
    columns: Columns = BY_NAME,
) -> Text | Chats:
    """Read what `--data` names, split and tokenized: a file of examples (`data.examples`), in the chat format of the
    model that the tokenizer came with; otherwise a corpus.

    validation, test: files of examples for these parts, for which the first is not split then.
    """
    if not is_rows(source):
        if validation or test or columns != BY_NAME:
            flags = "--validation, --test, columns and an instruction are for a file of examples (.csv, .jsonl)"
            raise MiniloraError(f"{flags}, and {escape(source)} is a text")
        return read_text(corpora.load(source), tokenizer)
    parts, digest, read = split_chats(source, validation, test, columns)  # what is wrong with a file comes first
    chat_format = chat.find_format(tokenizer)
    if not (chooses := validation is not None or len(parts.validation) >= chat.LEAST_CHOICE):
        parts = parts._replace(validation=[])  # it is in the training part
    notes = (*read.notes, *_what_training_lacks(parts, read.labels))
    tokens = {n: chat.encode_conversations(tokenizer, chat_format, part) for n, part in parts._asdict().items()}
    if not chooses:
        tokens["validation"] = tokens["test"]
    known: dict[str, Any] = tokens | {"notes": notes, "labels": read.labels, "tokenizer": tokenizer, "chooses": chooses}
    return Chats(str(source), digest, **known, summary=(*read.summary, *as_read(tokenizer, known["train"])))


def read_text(corpus: corpora.Corpus, tokenizer: Tokenizer) -> Text:
    """The corpus, split and tokenized."""
    parts = corpora.split(corpus)._asdict()
    streams = {name: encode_documents(tokenizer, documents) for name, documents in parts.items()}
    return Text(corpus.name, corpus.sha256, notes=tuple(corpus.notes), **streams)


def split_chats(
    source: str | os.PathLike,
    validation: str | os.PathLike | None = None,
    test: str | os.PathLike | None = None,
    columns: Columns = BY_NAME,
) -> tuple[chat.Splits, str, Examples]:
    """Return the parts that `read_data` makes of the files, the SHA-256 of all that they hold, and that together, with
    the summary of the first.

    A validation part of fewer than `chat.LEAST_CHOICE` conversations could choose nothing, so it is trained on,
    too, unless it is a file of its own.
    """
    whole = read_examples(source, columns)
    own = {name: read_examples(path, columns) for name, path in (("validation", validation), ("test", test)) if path}
    files = [whole, *own.values()]
    read = [messages for one in files for messages in one.conversations]
    if len(own) == 2:
        parts, digest = chat.Splits(whole.conversations, [], []), chat.sha256(read)
    else:
        parts, digest = chat.split(whole.conversations, str(source), whole.is_labelled), chat.split_sha256(read)
    train = parts.train + [messages for name in own for messages in getattr(parts, name)]
    if validation is None and len(parts.validation) < chat.LEAST_CHOICE:
        train = train + parts.validation
    parts = parts._replace(train=train, **{name: one.conversations for name, one in own.items()})
    notes = [note for one in files for note in one.notes]
    labels = chat.labels_of(read, whole.is_labelled)
    return parts, digest, replace(whole, conversations=read, labels=labels, notes=notes)


def as_read(tokenizer: Tokenizer, examples: ChatTokens) -> list[str]:
    """Show the first of the examples as the model reads it, with special tokens; of a long one both ends."""
    text = tokenizer.decode(examples.rows[0][0], skip_special_tokens=False)
    if len(text) > SHOWN:
        text = f"{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}"
    lines = [part for line in text.splitlines() for part in wrap(escape(line, SHOWN), 76) or [""]]
    return ["the first of them as the model reads it:", *(f"  {line}" for line in lines)]


def _what_training_lacks(parts: chat.Splits, labels: list[str] | None) -> list[str]:
    """Return notes on what the training part cannot teach, what others share with it, and labels that none tests."""
    responses = set(map(chat.response_of, parts.train))
    questions = {name: list(map(chat.question_of, part)) for name, part in parts._asdict().items()}
    notes = []
    if len(responses) == 1 < len(parts.train):
        notes.append(f"every response to learn is {escape(repr(*responses), 60)}: there is nothing to tell apart")
    for name, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        known = set(questions[other])
        if shared := sum(question in known for question in questions[name]):
            words = "training" if other == "train" else other
            notes.append(
                f"{shared:,} of {len(questions[name]):,} {name} conversations begin as one of the {words} part does"
            )
    for name in ("validation", "test"):
        there = set(map(chat.response_of, getattr(parts, name)))
        if strange := [repr(label) for label in labels or () if label in there - responses]:
            notes.append(f"{escape(first_few(strange))} never occurs in the training part, but in {name}")
    tested = set(map(chat.response_of, parts.test))
    if untested := [repr(label) for label in labels or () if label not in tested]:
        notes.append(
            f"the test part has no example of {first_few(untested)}: too rare for a part of {len(parts.test):,}"
        )
    return notes


def tokenizer_for(corpus: corpora.Corpus, vocab_size: int) -> Tokenizer:
    """A tokenizer learned from the training documents of the corpus."""
    documents = corpora.split(corpus).train
    return train_tokenizer((document.text for document in documents), vocab_size)


def sample(stream: TokenStream | ChatTokens, examples: int, seq_len: int) -> TokenStream | ChatTokens:
    """Draw about so many conversations, or sequences of `seq_len` tokens of a text, once and for all."""
    return stream.sample(examples) if isinstance(stream, ChatTokens) else stream.sample(examples * seq_len)


def num_examples(stream: TokenStream | ChatTokens, seq_len: int) -> int:
    """Count the conversations, or sequences of `seq_len` tokens."""
    return len(stream.rows) if isinstance(stream, ChatTokens) else -(-len(stream.ids) // seq_len)


def training_batches(
    stream: TokenStream | ChatTokens, batch_size: int, seq_len: int, seed: int
) -> LanguageModelBatches | ChatBatches:
    if isinstance(stream, ChatTokens):
        return ChatBatches(stream, batch_size, seq_len, seed, PADDING)
    return LanguageModelBatches(stream.ids, batch_size, seq_len, seed)


def longest(data: Text | Chats, seq_len: int) -> int:
    """The length of the longest sequence of a batch: `seq_len`, or less where conversations are not so long."""
    if isinstance(data, Chats):
        parts = (data.train, data.validation, data.test)
        return min(seq_len, max(len(ids) for part in parts for ids, _ in part.rows))
    return seq_len


def check_length(model, data: Text | Chats, seq_len: int) -> None:
    """MiniloraError where sequences of `seq_len` tokens of the data would pass the model's positions."""
    seq_len = longest(data, seq_len)
    check_positions(model, seq_len, f"{seq_len:,} tokens per sequence", "give a smaller --seq-len")


def check_positions(model, tokens: int, what: str, advice: str) -> None:
    """MiniloraError, which says what passes the model's positions, for so many tokens and the virtual ones before."""
    limit, virtual = model.config.max_position_embeddings, model.body.virtual_tokens
    if virtual + tokens > limit:
        words = f"{virtual} virtual tokens and " if virtual else ""
        raise MiniloraError(f"{words}{what} pass the model's {limit:,} positions: {advice}")
