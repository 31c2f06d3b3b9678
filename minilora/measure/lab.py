"""Laboratory in which methods are compared: one base, and one domain to adapt it to.

The base is a pretrained model's folder or GGUF file. Held-out text of its pretraining data is measured as well, because
the loss that an adaptation causes there is what the model forgot.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minilora.data import corpora
from minilora.data.tokenizer import TokenStream, encode_documents
from minilora.models.llama import LlamaForCausalLM
from minilora.train import load, methods, metrics
from minilora.train.loop import History, TrainConfig, train
from minilora.train.methods import Options
from minilora.train.text import training_batches

BASE_DATA, DOMAIN = "python-docs", "numpy-docs"
SCRATCH = "scratch"  # full training of a model of the base's shape, from random weights


class Lab:
    """The base in `base_folder` and the data to measure it on. Every draw is seeded, so equal calls give equal numbers.

    seq_len, batch_size: for training on text, in tokens and rows. test_characters, validation_characters: length of
    each held-out text. own: {method: function of (model, options, seed)} that adapts a model in place, instead of the
    library's code for that method.
    """

    def __init__(
        self,
        base_folder: Path,
        seq_len: int = 128,
        batch_size: int = 8,
        test_characters: int = 20_000,
        validation_characters: int = 6_000,
        own: Mapping[str, Callable] | None = None,
    ):
        self.base_folder, self.seq_len, self.batch_size, self.own = base_folder, seq_len, batch_size, own or {}
        self.tokenizer = load.tokenizer_of(base_folder)
        self.base_parts, self.domain_parts = (corpora.split(corpora.load(name)) for name in (BASE_DATA, DOMAIN))
        self.domain_validation = self._stream(self.domain_parts.validation, validation_characters)
        self.domain_test = self._stream(self.domain_parts.test, test_characters)
        self.base_test = self._stream(self.base_parts.test, test_characters)

    def _stream(self, documents: Sequence[corpora.Document], characters: int, seed: int = 0) -> TokenStream:
        return encode_documents(self.tokenizer, corpora.take(documents, characters, seed))

    def domain_text(self, characters: int, seed: int) -> TokenStream:
        """Draw documents from the domain's training part, `characters` long in total."""
        return self._stream(self.domain_parts.train, characters, seed)

    def base_text(self, characters: int, seed: int) -> TokenStream:
        """Draw documents from the base's own training text, `characters` long in total."""
        return self._stream(self.base_parts.train, characters, seed)

    def base(self) -> LlamaForCausalLM:
        """Load a new copy of the base."""
        return load.load_model(str(self.base_folder))[0]

    def fresh(self, method: str, seed: int, options: Options | None = None, tokens=()):
        """Return a model to train by `method`, a key of METHODS or "scratch".

        tokens: ids of a text, from whose embeddings virtual tokens start.
        """
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
        """Return the bits per character of the stream under the model."""
        return metrics.evaluator(model, stream, self.seq_len, 2 * self.batch_size)()

    def adapt(
        self, method: str, stream: TokenStream, config: TrainConfig, options: Options | None = None
    ) -> tuple[Any, History]:
        """Train a fresh model on the stream, and return it with its best weights by validation loss, and its history.

        Everything random is drawn from config.seed.
        """
        model = self.fresh(method, config.seed, options, stream.ids)
        return model, self.train_on(model, self.batches(stream, self.batch_size, config.seed), config)

    def batches(self, stream: TokenStream, rows: int, seed: int):
        """Return batches of `rows` windows of the stream."""
        return training_batches(stream, rows, min(self.seq_len, len(stream.ids)), seed)

    def train_on(self, model, batches, config: TrainConfig) -> History:
        """Train the model, and leave it with its best weights by loss on the domain's validation text."""
        evaluate = lambda: self.bits(model, self.domain_validation)  # noqa: E731
        return train(model, batches, config, evaluate=evaluate, show_progress=False)
