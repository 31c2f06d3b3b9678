"""A labelled task from real text: which part of the standard library does this summary sentence document?

A model pretrained on python-docs has read about all of these parts, but without labels. The task measures whether that
helps it to tell them apart after seeing 16 or 128 labelled sentences per class.

An example is the first sentence of a docstring ("Return a list of the addresses in the header."), and its class is the
topic of its module (`TOPICS`). The construction keeps the measurement honest:

- Test sentences come from the test and validation parts of `corpora.split`, so a model pretrained on the train part has
  read neither these docstrings nor others of the same Python class. A sentence that still occurs word for word in the
  train part is left out. The task's own train and validation sentences come from separate groups of the train part.
- A sentence that occurs under two topics ("Return the next item.") is left out, and no sentence appears twice.
- The name of the topic does not give it away: five of six test sentences name neither their topic nor a module of it.
- Within a part, all classes have the same number of sentences, the largest possible; a hash decides which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from minilora.data.corpora import HELD_OUT, Document, every_document, load, place, split
from minilora.errors import MiniloraError
from minilora.measure.lab import Lab
from minilora.models.llama import LlamaForSequenceClassification
from minilora.train.forgetting import first_sentence
from minilora.train.methods import Options

from .labelled import Example, Task, accuracy, classification_windows

FEWEST_WORDS = 4  # "Return the value." could describe anything
LONGEST = 250  # characters
VALIDATION = 0.15  # share of all groups; the test takes twice HELD_OUT

# Top-level modules by topic. Some exist only in some versions of Python. Modules without a clear topic are left out,
# and so is encodings, whose 100 modules all have the same sentence with another name.
TOPICS = {
    "concurrency": "asynchat asyncio asyncore concurrent contextvars multiprocessing queue sched selectors signal "
    "subprocess threading _threading_local",
    "debugging": "bdb cProfile doctest pdb profile pstats timeit trace traceback tracemalloc unittest warnings",
    "files": "bz2 _compression compression dbm filecmp fileinput fnmatch genericpath glob gzip linecache lzma ntpath "
    "os pathlib posixpath _pyio shelve shutil stat tarfile tempfile zipfile",
    "importing": "compileall imp importlib modulefinder pkgutil platform py_compile runpy site sysconfig venv zipapp "
    "zipimport",
    "mail": "email imaplib mailbox mailcap mimetypes nntplib poplib quopri smtpd smtplib",
    "numbers": "bisect calendar colorsys datetime decimal fractions hashlib heapq hmac numbers _pydatetime _pydecimal "
    "_pylong random secrets statistics _strptime uuid zoneinfo",
    "text": "base64 codecs configparser csv difflib gettext json locale pickle pickletools plistlib pprint re shlex "
    "sre_parse string struct textwrap tomllib xml",
    "web": "cgi cgitb ftplib html http ipaddress _markupbase netrc socket socketserver ssl telnetlib urllib webbrowser "
    "wsgiref xmlrpc",
}


@lru_cache
def load_task() -> Task:
    """Build the task from the running Python's standard library; its sentences differ a little between versions."""
    pretraining = split(load("python-docs")).train
    return build_task("python-topics", every_document("python-docs"), TOPICS, pretraining)


def build_task(
    name: str, documents: Iterable[Document], topics: Mapping[str, str], pretraining: Iterable[Document] = ()
) -> Task:
    """Build the task as the module's docstring describes it.

    `topics` maps a class to its top-level modules, separated by spaces; no test sentence may occur in `pretraining`.
    Raises MiniloraError if a part would be empty.
    """
    classes = tuple(sorted(topics))
    label_of = {module: label for label, topic in enumerate(classes) for module in topics[topic].split()}
    already_read = "\n".join(" ".join(document.text.split()) for document in pretraining)

    copies_of: dict[str, list[tuple[float, Example]]] = {}  # sentence in lower case -> its occurrences
    for document in documents:
        label = label_of.get(document.name.split(".")[0])
        sentence = first_sentence(document.text)
        is_prose = FEWEST_WORDS <= len(sentence.split()) and len(sentence) <= LONGEST and ">>>" not in sentence
        if label is not None and is_prose:
            at = place(document.group or document.name)
            copies_of.setdefault(sentence.lower(), []).append((at, Example(sentence, label)))

    parts: list[list[list[Example]]] = [[[] for _ in classes] for _ in range(3)]  # each by class
    train, validation, test = parts
    for copies in copies_of.values():
        if len({example.label for _, example in copies}) > 1:
            continue
        at, example = max(copies)  # a sentence in both train and test goes to train
        if at >= 2 * HELD_OUT + VALIDATION:
            train[example.label].append(example)
        elif at >= 2 * HELD_OUT:
            validation[example.label].append(example)
        elif example.text not in already_read:
            test[example.label].append(example)
    return Task(name, classes, *(_balanced(name, part) for part in parts))


def _balanced(name: str, by_class: list[list[Example]]) -> list[Example]:
    """Keep the same number of examples per class and mix the classes. The hash of a sentence decides both."""
    count = min(map(len, by_class))
    if count == 0:
        raise MiniloraError(f"a class of {name} has no sentences here")
    chosen = (sorted(examples, key=lambda example: place(example.text))[:count] for examples in by_class)
    return sorted((example for examples in chosen for example in examples), key=lambda example: place(example.text))


class TopicLab(Lab):
    """A lab that also has the task, and makes classifiers for it.

    test_examples: the most examples to test on, equally many of each class; None: all. settings: those of a Lab.
    """

    def __init__(self, *arguments: Any, test_examples: int | None = None, **settings: Any):
        super().__init__(*arguments, **settings)
        self.task = load_task()
        self.test_examples = self.task.test
        if test_examples is not None:
            left = [test_examples // len(self.task.classes)] * len(self.task.classes)
            self.test_examples = []
            for example in self.task.test:
                left[example.label] -= 1
                self.test_examples += [example] if left[example.label] >= 0 else []

    def classifier(self, method: str, seed: int, options: Options | None = None, tokens=()):
        """Return a classifier with a fresh head on the body of the base, to train by `method`."""
        body, classes = self._start(method, seed), len(self.task.classes)
        model = LlamaForSequenceClassification.from_language_model(body, classes, seed=seed)
        return self._adapted(model, method, options, tokens, seed)

    def accuracy(self, model, examples: Sequence[Example] | None = None) -> float:
        """Return the share of examples (default: the test examples) that are classified right."""
        examples = self.test_examples if examples is None else examples
        ids = self.tokenizer.encode_many([example.text for example in examples])
        labels = [example.label for example in examples]
        return accuracy(model, classification_windows(ids, labels, self.seq_len, 64, 0))
