"""The pieces put together: a base from nothing, a base adapted to a text. The command line and the demo both cook
from here.
"""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..data import corpora
from ..data.batches import LanguageModelBatches, evaluation_windows
from ..data.tokenizer import Tokenizer, TokenStream, encode_documents, train_tokenizer
from ..errors import FormatError, MiniloraError, show
from ..models.llama import LlamaConfig, LlamaForCausalLM
from ..models.registry import load_language_model
from ..peft import PeftModel, adapter_quantization
from ..quant import quantize_model
from .evaluate import bits_per_character
from .parallel import Workers

BASE = "base"  # the name of the pretrained model that comes with the package


@dataclass(frozen=True)
class Text:
    """A corpus as streams of tokens, split by document."""

    name: str
    sha256: str
    train: TokenStream
    validation: TokenStream
    test: TokenStream


def read_text(corpus: corpora.Corpus, tokenizer: Tokenizer) -> Text:
    """The corpus, split and tokenized."""
    parts = [encode_documents(tokenizer, documents) for documents in corpora.split(corpus)]
    return Text(corpus.name, corpus.sha256, *parts)


def tokenizer_for(corpus: corpora.Corpus, vocab_size: int) -> Tokenizer:
    """A tokenizer learned from the training documents of the corpus."""
    documents = corpora.split(corpus).train
    return train_tokenizer((document.text for document in documents), vocab_size)


def new_model(tokenizer: Tokenizer, seed: int, **sizes) -> LlamaForCausalLM:
    """An untrained model for the tokenizer; `sizes` are fields of LlamaConfig."""
    end = tokenizer.eos_token_id
    tokens = {"vocab_size": tokenizer.vocab_size, "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    return LlamaForCausalLM(LlamaConfig(**tokens, **sizes), seed=seed)


def evaluator(model, stream: TokenStream, seq_len: int, batch_size: int, workers: Workers):
    """A function that gives the bits a character of `stream` under the model as it then is."""
    return lambda: bits_per_character(
        model, evaluation_windows(stream.ids, seq_len, batch_size), stream.characters, workers
    )


def training_batches(stream: TokenStream, batch_size: int, seq_len: int, seed: int) -> LanguageModelBatches:
    return LanguageModelBatches(stream.ids, batch_size, seq_len, seed)


def base_folder() -> Path:
    """The folder of the pretrained model that comes with the package."""
    return Path(str(resources.files("minilora"))) / "assets" / "base"


def load_model(source: str, adapter: str | None = None):
    """The language model in a folder (or "base", the one that comes with the package) and its tokenizer.

    With `adapter`, the adapter in that folder on top of it; the base is quantized first, where the adapter was trained
    on it in 4 bits. A run folder stands for the `model` or `adapter` folder in it. Raises MiniloraError where there is
    none, FormatError for files that are damaged.
    """
    folder = base_folder() if source == BASE else Path(source)
    if adapter is not None and (Path(adapter) / "adapter" / "adapter_config.json").is_file():
        adapter = Path(adapter) / "adapter"
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    if not (folder / "config.json").is_file():
        raise MiniloraError(
            f"{show(source)} is no model: give 'base', or a folder with config.json and model.safetensors"
        )
    if not (folder / "tokenizer.json").is_file():
        raise FormatError(f"{show(source)} has no tokenizer.json, without which text cannot be read")
    model = load_language_model(folder)
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    if tokenizer.vocab_size > model.config.vocab_size:
        raise FormatError(
            f"{show(source)}: the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}"
        )
    if adapter is not None:
        if quantization := adapter_quantization(adapter):
            quantize_model(model, **quantization)
        model = PeftModel.from_pretrained(model, adapter)
    return model, tokenizer


def count_parameters(model) -> tuple[int, int]:
    """(trainable, all) parameters; a weight in 4 bits counts as one."""
    sizes = [(p.size, p.requires_grad) for p in model.parameters()]
    stored = sum(module.stored_size for _, module in model.named_modules())
    return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes) + stored
