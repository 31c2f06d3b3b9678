"""The data of a training run: reading, splitting and tokenizing a corpus or conversations, and making batches."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import ClassVar

from minilora.data import chat, corpora
from minilora.data.batches import ChatBatches, LanguageModelBatches
from minilora.data.chat import ChatTokens
from minilora.data.examples import BY_NAME, Columns, Examples, read_examples
from minilora.data.rows import is_rows
from minilora.data.tokenizer import Tokenizer, TokenStream, encode_documents, train_tokenizer
from minilora.errors import MiniloraError, escape, first_few, plural

SHOWN = 600  # most characters of the example that is shown to the user


@dataclass(frozen=True)
class Text:
    """A corpus as streams of tokens, split by document."""

    name: str
    sha256: str
    train: TokenStream
    validation: TokenStream
    test: TokenStream
    notes: tuple[str, ...] = ()  # for the user, about the content of the files
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

    notes: tuple[str, ...] = ()  # for the user, about the content of the files
    summary: tuple[str, ...] = ()  # lines for the user: how the rows were interpreted
    labels: list[str] | None = None  # labels of all parts together (`chat.labels_of`); None if the responses are free
    tokenizer: Tokenizer | None = None  # needed to score labels during training
    chooses: bool = True  # False if there were too few rows for validation: it is then the test part, and only monitors

    unit: ClassVar[str] = "bits/response character"

    @property
    def has_labels(self) -> bool:
        """True if there are several labels, so that the model can be asked which is right."""
        return self.tokenizer is not None and len(self.labels or ()) > 1


def read_data(
    source: str,
    tokenizer: Tokenizer,
    validation: str | None = None,
    test: str | None = None,
    columns: Columns = BY_NAME,
) -> Text | Chats:
    """Read, split and tokenize the data that `--data` names: a file of examples (`data.examples`), or else a corpus.

    Conversations are encoded in the chat format of the tokenizer's model. validation, test: separate files of examples
    for these parts, which are then not taken from `source`.
    """
    if not is_rows(source):
        if validation or test or columns != BY_NAME:
            flags = "--validation, --test, columns and an instruction are for a file of examples (.csv, .jsonl)"
            raise MiniloraError(f"{flags}, and {escape(source)} is a text")
        return read_text(corpora.load(source), tokenizer)
    parts, digest, examples = split_chats(source, validation, test, columns)  # first, to report bad files first
    chat_format, labels = chat.find_format(tokenizer), examples.labels
    notes = (*examples.notes, *_what_parts_lack(parts, labels, {"validation": validation, "test": test}))
    tokens = {name: chat.encode_conversations(tokenizer, chat_format, part) for name, part in parts._asdict().items()}
    if not (chooses := bool(parts.validation)):
        tokens["validation"] = tokens["test"]
    summary = (*examples.summary, *as_read(tokenizer, tokens["train"]))
    return Chats(
        str(source), digest, **tokens, notes=notes, summary=summary, labels=labels, tokenizer=tokenizer, chooses=chooses
    )


def read_text(corpus: corpora.Corpus, tokenizer: Tokenizer) -> Text:
    """Split and tokenize the corpus."""
    parts = corpora.split(corpus)._asdict()
    streams = {name: encode_documents(tokenizer, documents) for name, documents in parts.items()}
    return Text(corpus.name, corpus.sha256, notes=tuple(corpus.notes), **streams)


def split_chats(
    source: str | os.PathLike,
    validation: str | os.PathLike | None = None,
    test: str | os.PathLike | None = None,
    columns: Columns = BY_NAME,
) -> tuple[chat.Splits, str, Examples]:
    """Return the parts that `read_data` uses, the SHA-256 of all conversations, and the examples of all files together.

    The examples have the summary of the first file. Without a file for validation, that part may get fewer than
    `chat.LEAST_CHOICE` conversations, too few to choose the best step: it is then left empty, and they are trained on.
    """
    whole = read_examples(source, columns)
    separate = {
        name: read_examples(path, columns) for name, path in (("validation", validation), ("test", test)) if path
    }
    files = [whole, *separate.values()]
    conversations = [messages for file in files for messages in file.conversations]
    if len(separate) == 2:
        parts, digest = chat.Splits(whole.conversations, [], []), chat.sha256(conversations)
    else:
        parts = chat.split(whole.conversations, str(source), whole.is_labelled)
        digest = chat.split_sha256(conversations)
    train = parts.train + [messages for name in separate for messages in getattr(parts, name)]
    if validation is None and len(parts.validation) < chat.LEAST_CHOICE:
        train, parts = train + parts.validation, parts._replace(validation=[])
    parts = parts._replace(train=train, **{name: file.conversations for name, file in separate.items()})
    notes = [note for file in files for note in file.notes]
    labels = chat.labels_of(conversations, whole.is_labelled)
    return parts, digest, replace(whole, conversations=conversations, labels=labels, notes=notes)


def as_read(tokenizer: Tokenizer, examples: ChatTokens) -> list[str]:
    """Show the first example as the model reads it, with special tokens; only both ends of a long one."""
    text = tokenizer.decode(examples.rows[0][0], skip_special_tokens=False)
    if len(text) > SHOWN:
        text = f"{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}"
    lines = [part for line in text.splitlines() for part in wrap(escape(line, SHOWN), 76) or [""]]
    return ["the first example as the model reads it:", *(f"  {line}" for line in lines)]


def _what_parts_lack(parts: chat.Splits, labels: list[str] | None, files: dict[str, str | None]) -> list[str]:
    """Return notes on labels that are not trained or not tested, and on questions that several parts share.

    files: {part: its own file, or None if the part was split off}.
    """
    responses = set(map(chat.response_of, parts.train))
    questions = {name: list(map(chat.question_of, part)) for name, part in parts._asdict().items()}
    notes = []
    if len(responses) == 1 < len(parts.train):
        notes.append(f"every response to learn is {escape(repr(*responses), 60)}: there is nothing to tell apart")
    for name, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        other_questions = set(questions[other])
        if shared := sum(question in other_questions for question in questions[name]):
            words = "training" if other == "train" else other
            notes.append(
                f"{shared:,} of {len(questions[name]):,} {name} conversations "
                f"have the question of one in the {words} part"
            )
    for name in ("validation", "test"):
        occurring = set(map(chat.response_of, getattr(parts, name)))
        if untrained := [repr(label) for label in labels or () if label in occurring - responses]:
            notes.append(f"{escape(first_few(untrained))} occurs in {name}, but never in the training part")
        missing = [label for label in labels or () if label in responses - occurring]
        words = f"the {name} part has no example of {first_few(map(repr, missing))}"
        if missing and files[name]:
            notes.append(f"{words}, which training has")
        elif missing and name == "test":
            rows, different = len(questions[name]), len(set(questions[name]))
            lacking = [chat.question_of(messages) for messages in parts.train if chat.response_of(messages) in missing]
            why = f"too rare for a part of {rows:,}"
            if len(set(lacking)) < len(lacking):
                why = "rows with the same question stay in one part, and "
                why += f"its {rows:,} rows have only {plural(different, 'question')}"
            notes.append(f"{words}: {why}")
    return notes


def tokenizer_for(corpus: corpora.Corpus, vocab_size: int) -> Tokenizer:
    """Learn a tokenizer from the training documents of the corpus."""
    documents = corpora.split(corpus).train
    return train_tokenizer((document.text for document in documents), vocab_size)


def sample(stream: TokenStream | ChatTokens, examples: int, seq_len: int) -> TokenStream | ChatTokens:
    """Draw about `examples` conversations, or sequences of `seq_len` tokens of a text, always the same ones."""
    return stream.sample(examples) if isinstance(stream, ChatTokens) else stream.sample(examples * seq_len)


def num_examples(stream: TokenStream | ChatTokens, seq_len: int) -> int:
    """Count the conversations, or sequences of `seq_len` tokens."""
    return len(stream.rows) if isinstance(stream, ChatTokens) else -(-len(stream.ids) // seq_len)


def training_batches(
    stream: TokenStream | ChatTokens, batch_size: int, seq_len: int, seed: int
) -> LanguageModelBatches | ChatBatches:
    if isinstance(stream, ChatTokens):
        return ChatBatches(stream, batch_size, seq_len, seed)
    return LanguageModelBatches(stream.ids, batch_size, seq_len, seed)


def longest(data: Text | Chats, seq_len: int) -> int:
    """Return the length of the longest sequence in a batch: `seq_len`, or less if all conversations are shorter."""
    if isinstance(data, Chats):
        parts = (data.train, data.validation, data.test)
        return min(seq_len, max(len(ids) for part in parts for ids, _ in part.rows))
    return seq_len


def check_length(model, data: Text | Chats, seq_len: int) -> None:
    """Raise MiniloraError if sequences of `seq_len` tokens of the data are longer than the model's positions."""
    seq_len = longest(data, seq_len)
    check_positions(model, seq_len, f"{seq_len:,} tokens per sequence", "give a smaller --seq-len")


def check_positions(model, tokens: int, what: str, advice: str) -> None:
    """Raise MiniloraError, with `what` and `advice`, if virtual tokens and `tokens` others exceed the positions."""
    limit, virtual = model.config.max_position_embeddings, model.body.virtual_tokens
    if virtual + tokens > limit:
        words = f"{virtual} virtual tokens and " if virtual else ""
        raise MiniloraError(f"{words}{what} exceed the model's {limit:,} positions: {advice}")
