"""Plain English to measure forgetting on: newspaper editorials, article by article, which belong to no task.

    python -m experiments.english      downloads them into the cache, once

The sentences come with vaderSentiment (Hutto and Gilbert 2014, "VADER", section 3.3: 500 editorials of the New York
Times, in sentences). They are used neither for training nor for choosing learning rates.
"""

import json
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from html import unescape
from io import TextIOWrapper
from itertools import groupby
from typing import BinaryIO

from minilora.data.corpora import Document
from minilora.data.published import REVIEWS_ARCHIVE
from minilora.errors import MiniloraError
from minilora.train import catalog

EDITORIALS = "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt"
FOLDER, FILE = "editorials", "editorials.jsonl"


def articles(archive: BinaryIO) -> dict[str, list[dict]]:
    """Return {"editorials": [{"text": an article}, ...]} in the order of the file in the source distribution."""
    with (
        tarfile.open(fileobj=archive, mode="r:gz") as outer,
        tarfile.open(fileobj=outer.extractfile(REVIEWS_ARCHIVE), mode="r:gz") as inner,
    ):
        file = inner.extractfile(EDITORIALS)
        assert file is not None  # the archive's hash was checked, so the file is in it
        lines = [line.split("\t") for line in TextIOWrapper(file, encoding="utf-8").read().split("\n") if line]
    # A line has ARTICLE_SENTENCE, rating and text; two single quotes stand for a double quote.
    by_article: Iterable = groupby(lines, key=lambda line: line[0].split("_")[0])
    join = lambda group: unescape(" ".join(line[2].strip() for line in group)).replace("''", '"')  # noqa: E731
    return {"editorials": [{"text": join(group)} for _, group in by_article]}


ENTRY = replace(
    catalog.TASKS["reviews"], description="editorials of a newspaper", rows=articles, files={FILE: 0}, licence="MIT"
)


def documents() -> list[Document]:
    """Return the articles. Raises MiniloraError with the command that downloads them if they are not in the cache."""
    path = catalog.cache_folder() / FOLDER / FILE
    if not path.is_file():
        raise MiniloraError("the editorials are not on this machine yet; download them: python -m experiments.english")
    lines = path.read_text("utf-8").splitlines()
    return [Document(str(number), json.loads(line)["text"]) for number, line in enumerate(lines)]


if __name__ == "__main__":
    catalog.fetch(ENTRY, catalog.cache_folder() / FOLDER)
