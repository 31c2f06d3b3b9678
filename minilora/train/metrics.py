"""Every metric: of a model on batches (bits per character, accuracy), of answers in words, and how sure a share is.

What asks a model for those answers, and chooses among labels, is `scoring`.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from math import log, sqrt
from typing import Any

from minilora import backend
from minilora.data.batches import chat_windows, evaluation_windows
from minilora.data.chat import ChatTokens
from minilora.data.tokenizer import TokenStream
from minilora.models.batch import Output
from minilora.tensor import no_grad
from minilora.train.progress import progress_bar
from minilora.train.text import PADDING
from minilora.train.world import Batch, World, rows_of, take


def _outputs(model: Any, batches: Iterable[Batch], world: World) -> Iterator[tuple[Batch, Output]]:
    """This rank's rows of each batch, where it has any, and what the model says of them; the loss is a sum."""
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            for batch in batches:
                if mine := world.share(rows_of(batch)):
                    rows = take(batch, mine)
                    yield rows, model(**rows, num_items_in_batch=1)
    finally:
        model.train(was_training)


def bits_per_character(model: Any, batches: Iterable[Batch], characters: int, world: World | None = None) -> float:
    """-log2 of the probability that a language model gives to a text, over the number of its characters.

    Comparable between tokenizers, as loss a token is not. batches: windows that hold each token as a label once
    (`data.batches.evaluation_windows`). world: the ranks that share them.
    """
    world = world or World()
    nats = sum(float(out.loss) for _, out in _outputs(model, batches, world) if out.loss is not None)
    return world.sum(nats) / log(2) / characters


def evaluator(
    model: Any,
    stream: TokenStream | ChatTokens,
    seq_len: int,
    batch_size: int,
    bar: str | None = None,
    world: World | None = None,
) -> Callable[[], float]:
    """Return a function that evaluates bits per character on `stream` with the model's current weights.

    Of conversations, the assistant's answers alone count. bar: the words of a progress bar to show; None shows none.
    world: the ranks that share the work.
    """

    def evaluate() -> float:
        if isinstance(stream, ChatTokens):
            batches = list(chat_windows(stream, seq_len, batch_size, PADDING))
        else:
            batches = list(evaluation_windows(stream.ids, seq_len, batch_size))
        with progress_bar(bar or "", len(batches), show=bar is not None) as advance:
            return bits_per_character(model, _counted(batches, advance), stream.characters, world)

    return evaluate


def _counted(batches: Iterable[Batch], advance: Callable[[], None]) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        advance()


def accuracy(model: Any, batches: Iterable[Batch]) -> float:
    """The share of rows whose most likely class is the label."""
    right = total = 0
    for batch, out in _outputs(model, batches, World()):
        right += int((backend.to_numpy(out.logits.data).argmax(axis=1) == batch["labels"]).sum())
        total += len(batch["labels"])
    return right / total


# Answers in words: the scores of SQuAD (Rajpurkar et al. 2016, section 6.1, and its evaluation script)


def normalise(text: str) -> str:
    """Reduce to lower case, no punctuation, no articles, single spaces: 'The  cat, a "Tom"!' becomes 'cat tom'.

    As in SQuAD's script, a hyphen or an apostrophe leaves no space ("it's" becomes 'its')."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(answer: str, gold: str) -> bool:
    """Compare an answer to the expected one, word for word, after `normalise`."""
    return normalise(answer) == normalise(gold)


def token_f1(answer: str, gold: str) -> float:
    """Return the harmonic mean of precision and recall of the answer's words, each counted as often as it is in both.

    precision = shared / answer and recall = shared / gold, so F1 = 2 shared / (answer + gold); 0 if nothing is shared.
    """
    answer_words, gold_words = Counter(normalise(answer).split()), Counter(normalise(gold).split())
    shared = (answer_words & gold_words).total()
    return 2 * shared / (answer_words.total() + gold_words.total()) if shared else 0.0


def contains(answer: str, accepted: Iterable[str]) -> bool:
    """Look in an answer for one of the accepted ones, as whole words after `normalise`.

    'It is Paris.' contains 'paris', and 'a comparison' does not.
    """
    padded = f" {normalise(answer)} "
    return any(f" {words} " in padded for words in map(normalise, accepted) if words)


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, `right` of `count` (Wilson 1927): within 0 and 1, and good for few."""
    z = 1.96
    share, spread = right / count, z * z / count
    middle = share + spread / 2
    half = z * sqrt(share * (1 - share) / count + spread / count / 4)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
