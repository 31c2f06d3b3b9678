"""Where methods are measured: a base, a domain to adapt it to and a labelled task, the same for everything compared.

The base is a pretrained model's folder or GGUF file. What it was pretrained on is read as well (a held-out part),
because what an adaptation costs there is what it forgets.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minilora.data import corpora
from minilora.data.batches import classification_windows
from minilora.data.tasks import Example, load_task
from minilora.data.tokenizer import TokenStream, encode_documents
from minilora.models.llama import LlamaForCausalLM, LlamaForSequenceClassification
from minilora.train import load, methods, metrics
from minilora.train.loop import History, TrainConfig, train
from minilora.train.methods import Options
from minilora.train.metrics import accuracy
from minilora.train.text import training_batches

BASE_DATA, DOMAIN = "python-docs", "numpy-docs"
SCRATCH = "scratch"  # training every weight, of a model of the base's shape that has learned nothing


class Lab:
    """A base in `base_folder` and what to measure on it. Every draw has a seed: the same calls give the same numbers.

    seq_len, batch_size: of training on text, in tokens and rows. test_characters, validation_characters: of each
    held-out text. test_examples: of the labelled task, at most, as many of each class. own: {method: function of
    (model, options, seed)}, code that adapts a model in place, used instead of the library's for that method.
    """

    def __init__(
        self,
        base_folder: Path,
        seq_len: int = 128,
        batch_size: int = 8,
        test_characters: int = 20_000,
        validation_characters: int = 6_000,
        test_examples: int | None = None,
        own: Mapping[str, Callable] | None = None,
    ):
        self.base_folder, self.seq_len, self.batch_size, self.own = base_folder, seq_len, batch_size, own or {}
        self.tokenizer = load.tokenizer_of(base_folder)
        self.base_parts, self.domain_parts = (corpora.split(corpora.load(name)) for name in (BASE_DATA, DOMAIN))
        self.domain_validation = self._stream(self.domain_parts.validation, validation_characters)
        self.domain_test = self._stream(self.domain_parts.test, test_characters)
        self.base_test = self._stream(self.base_parts.test, test_characters)
        self.task = load_task()
        self.test_examples = self.task.test
        if test_examples is not None:
            left = [test_examples // len(self.task.classes)] * len(self.task.classes)
            self.test_examples = []
            for example in self.task.test:
                left[example.label] -= 1
                self.test_examples += [example] if left[example.label] >= 0 else []

    def _stream(self, documents: Sequence[corpora.Document], characters: int, seed: int = 0) -> TokenStream:
        return encode_documents(self.tokenizer, corpora.take(documents, characters, seed))

    def domain_text(self, characters: int, seed: int) -> TokenStream:
        """Return random documents of the domain's training part, of so many characters together."""
        return self._stream(self.domain_parts.train, characters, seed)

    def base_text(self, characters: int, seed: int) -> TokenStream:
        """Return random documents of what the base was pretrained on."""
        return self._stream(self.base_parts.train, characters, seed)

    def base(self) -> LlamaForCausalLM:
        """Return the base, read anew."""
        return load.load_model(str(self.base_folder))[0]

    def fresh(self, method: str, seed: int, options: Options | None = None, tokens=()):
        """Make a model to train by `method` (of `methods.METHODS`, or "scratch"). tokens: where virtual ones start."""
        return self._adapted(self._start(method, seed), method, options, tokens, seed)

    def _start(self, method: str, seed: int) -> LlamaForCausalLM:
        return LlamaForCausalLM(self.base().config, seed=seed) if method == SCRATCH else self.base()

    def _adapted(self, model, method: str, options: Options | None, tokens, seed: int):
        """Return the model, made trainable by `method`."""
        if method in self.own:
            self.own[method](model, options or Options(), seed)
        return model if method == SCRATCH or method in self.own else methods.adapt(model, method, options, tokens, seed)

    # Text

    def bits(self, model, stream: TokenStream) -> float:
        """Return bits per character of the stream under the model."""
        return metrics.evaluator(model, stream, self.seq_len, 2 * self.batch_size)()

    def adapt(
        self, method: str, stream: TokenStream, config: TrainConfig, options: Options | None = None
    ) -> tuple[Any, History]:
        """Train a fresh model on the stream; returns it in its best state by validation text, and its history.

        Everything random is drawn from config.seed.
        """
        model = self.fresh(method, config.seed, options, stream.ids)
        return model, self.train_on(model, self.batches(stream, self.batch_size, config.seed), config)

    def batches(self, stream: TokenStream, rows: int, seed: int):
        """Return batches of so many windows of the stream."""
        return training_batches(stream, rows, min(self.seq_len, len(stream.ids)), seed)

    def train_on(self, model, batches, config: TrainConfig) -> History:
        """Train the model; the best state by the domain's validation text stays."""
        evaluate = lambda: self.bits(model, self.domain_validation)  # noqa: E731
        return train(model, batches, config, evaluate=evaluate, show_progress=False)

    # The labelled task

    def classifier(self, method: str, seed: int, options: Options | None = None, tokens=()):
        """Return a classifier with a fresh head on the body of the base, to train by `method`."""
        body, classes = self._start(method, seed), len(self.task.classes)
        model = LlamaForSequenceClassification.from_language_model(body, classes, seed=seed)
        return self._adapted(model, method, options, tokens, seed)

    def accuracy(self, model, examples: Sequence[Example] | None = None) -> float:
        """Return the share of examples (by default the test's) whose most likely class is right."""
        examples = self.test_examples if examples is None else examples
        ids = self.tokenizer.encode_many([example.text for example in examples])
        labels = [example.label for example in examples]
        return accuracy(model, classification_windows(ids, labels, self.seq_len, 64, 0))
