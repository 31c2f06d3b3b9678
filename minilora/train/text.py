"""The data of a training: a corpus or conversations read, split and tokenized, and the batches made of them."""

from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

from minilora.data import corpora
from minilora.data.batches import ChatBatches, LanguageModelBatches
from minilora.data.chat import ChatTokens
from minilora.data.tokenizer import Tokenizer, TokenStream, encode_documents, train_tokenizer
from minilora.errors import MiniloraError
from minilora.formats.atomic import show_path
from minilora.train.answers import Chats, is_chat_data, read_chats

LINE = 20  # characters: shorter lines recur by chance
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

    unit: ClassVar[str] = "bits/character"


def read_data(
    source: str, tokenizer: Tokenizer, validation: str | None = None, test: str | None = None
) -> Text | Chats:
    """Read what `--data` names, split and tokenized: conversations in a .jsonl file, otherwise a corpus.

    validation, test: as `source`, and of its kind: for these parts, for which the first is not split then.
    """
    if strange := [path for path in (validation, test) if path and is_chat_data(path) != is_chat_data(source)]:
        raise MiniloraError(f"{show_path(strange[0])} and {show_path(source)}: give .jsonl files only, or texts only")
    if is_chat_data(source):
        return read_chats(source, tokenizer, validation, test)
    own = {name: corpora.load(path) for name, path in (("validation", validation), ("test", test)) if path}
    return read_text(corpora.load(source), tokenizer, **own)


def read_text(corpus: corpora.Corpus, tokenizer: Tokenizer, **own: corpora.Corpus) -> Text:
    """The corpus, split and tokenized. own: corpora for "validation" and "test", for which it is not split then."""
    parts = corpora.Splits(list(corpus.documents), [], []) if len(own) == 2 else corpora.split(corpus)
    train = parts.train + [document for name in own for document in getattr(parts, name)]
    held_out = {name: list(part.documents) for name, part in own.items()}
    parts = corpora.Splits(**parts._asdict() | {"train": train} | held_out)
    digest, notes = corpus.sha256, [note for one in (corpus, *own.values()) for note in one.notes]
    if own:
        digest = sha256("".join([digest, *(part.sha256 for part in own.values())]).encode()).hexdigest()
    known = {line for document in train for line in document.text.splitlines()} if own else set()
    for part in own.values():
        lines = [line for document in part.documents for line in document.text.splitlines() if len(line) >= LINE]
        if shared := sum(line in known for line in lines):
            notes.append(f"{shared:,} of {len(lines):,} lines of {show_path(part.name)} are in the training part, too")
    streams = {name: encode_documents(tokenizer, part) for name, part in parts._asdict().items()}
    return Text(corpus.name, digest, notes=tuple(notes), **streams)


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
    limit, virtual = model.config.max_position_embeddings, model.body.virtual_tokens
    if virtual + seq_len > limit:
        words = f"{virtual} virtual tokens and " if virtual else ""
        raise MiniloraError(
            f"{words}{seq_len:,} tokens per sequence pass the model's {limit:,} positions; give a smaller --seq-len"
        )
