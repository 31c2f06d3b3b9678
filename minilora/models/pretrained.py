"""What the model families share: what a configuration's fields may hold, what a model returns, loading and saving."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minilora import backend, nn
from minilora import functional as F
from minilora.checkpointing import checkpoint
from minilora.errors import FormatError, MiniloraError
from minilora.formats import huggingface
from minilora.formats.atomic import show_path
from minilora.formats.gguf import read_gguf
from minilora.formats.stored import StoredTensor
from minilora.models.generate import generate
from minilora.models.llama_gguf import llama_of
from minilora.tensor import Tensor, is_recording, no_grad


@dataclass
class Output:
    """What a model returns. `logits` are those of a classifier (B, num_labels) or of a language model (B, T, V).

    A language model that was given labels makes its logits only when they are asked for: its loss does not need them
    whole.
    """

    loss: Tensor | None
    make_logits: object = field(repr=False)

    @property
    def logits(self) -> Tensor:
        if not isinstance(self.make_logits, Tensor):
            self.make_logits = self.make_logits()
        return self.make_logits


class Body(nn.Module):
    """Token ids to hidden states: a model without its head."""

    # An adapter in the body's place may put virtual tokens before the real ones.
    virtual_tokens = 0  # how many: they take positions, in a cache too
    virtual_outputs = 0  # how many hidden states there are for them, before those of the tokens
    gradient_checkpointing = False  # switched by `gradient_checkpointing_enable`
    selective_recomputation = False  # switched on for weights in 4 bits, where memory is what counts

    def run_block(self, block: nn.Module, x: Tensor, *arguments, cache=None) -> Tensor:
        """`block(x, *arguments, cache)`: with gradient checkpointing, and in training, computed again in backward. A
        cache that would take the keys and values twice rules it out.
        """
        within = F.selective_recomputation if self.selective_recomputation else nullcontext
        if self.gradient_checkpointing and self.training and getattr(cache, "keeps_nothing", cache is None):
            return checkpoint(block, x, *arguments, cache, within=within)
        with within():
            return block(x, *arguments, cache)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of the tokens' embeddings."""
        raise NotImplementedError

    @staticmethod
    def mask_and_positions(attention_mask, batch: int, past: int, length: int):
        """What attention and positions are to make of an attention_mask (B, S), 0 for padding, or None: the mask of the
        keys (B, 1, 1, S) or None, and the positions of the last T tokens, (B, T), or (T,) where nothing is padded.

        Positions count the real tokens of a row. past, length: S = past + T.
        """
        mask, positions = None, np.arange(past, past + length)
        if attention_mask is not None:
            real = host_ids(attention_mask) != 0
            if real.shape != (batch, past + length):
                raise ValueError(f"attention_mask {real.shape} does not fit {(batch, past + length)} tokens")
            if not real.all():
                positions = np.maximum(real.cumsum(axis=1) - 1, 0)[:, past:]
                mask = backend.asarray(real[:, None, None, :])
        return mask, positions


class Pretrained(nn.Module):
    """Loading and saving, shared by the models with a head."""

    config_class: type  # the configuration, with `from_dict`, `to_dict` and `fewest_weights`
    transposed_linears: tuple[str, ...] = ()  # last names of Linears whose weight is (in, out) in files

    @classmethod
    def from_pretrained(cls, path, each: Callable[[str, nn.Module], nn.Module] | None = None):
        """The model in a Hugging Face folder (config.json and safetensors, sharded or not) or a GGUF file, in float32
        and eval mode.

        each: is given every module (its path, itself) once its own weights are there, and says what takes its place:
        a layer can be quantized before the next one is read. Raises FormatError where files are missing or damaged, or
        weights do not fit the configuration.
        """
        config, tensors = open_pretrained(path)
        try:
            config = cls.config_class.from_dict(config)
            found = sum(tensor.size for tensor in tensors.values())
            if config.fewest_weights() > 16 * found + 2**20:  # a false claim, before anything is allocated for it
                raise FormatError(f"config.json claims {config.fewest_weights():,} weights, the files hold {found:,}")
            model = cls(config, seed=None)
            model._load(tensors, each)
        except MiniloraError as error:
            raise FormatError(f"{show_path(path)}: {error}") from error
        return model.eval()

    def _load(self, tensors: dict[str, StoredTensor], each=None) -> None:
        # Old checkpoints carry the rotary frequencies as a buffer.
        self.load_stored({name: a for name, a in tensors.items() if not name.endswith("rotary_emb.inv_freq")}, each)

    @classmethod
    def is_transposed(cls, name: str) -> bool:
        """Whether files hold the parameter `name` the other way round, as (in, out)."""
        return name.endswith(tuple(f".{linear}.weight" for linear in cls.transposed_linears))

    def save_pretrained(self, folder, tokenizer_json: str | None = None, dtype: str = "float32") -> None:
        """Write config.json and model.safetensors (and tokenizer.json, where given) so that transformers opens them.

        dtype: "float32" or "float16". A tied head is stored once, as the embedding.
        """
        config = self.config.to_dict(type(self).__name__) | {"dtype": dtype}
        tensors = {name: backend.to_numpy(t.data).astype(dtype) for name, t in self.named_parameters()}
        tensors = {name: a.T if self.is_transposed(name) else a for name, a in tensors.items()}
        files = (
            {}
            if tokenizer_json is None
            else {
                "tokenizer.json": tokenizer_json.encode(),
                "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}).encode(),
            }
        )
        huggingface.write_folder(Path(folder), config, tensors, files)


class LanguageModel(Pretrained):
    """A body and a head over the vocabulary, `lm_head`: hidden states to logits, the loss, and `generate`."""

    lm_head: nn.Module

    @property
    def body(self) -> nn.Module:
        """Token ids to hidden states, at the path that the family gives it, or an adapter in its place."""
        raise NotImplementedError

    def forward(
        self, input_ids, attention_mask=None, labels=None, past_key_values=None, num_items_in_batch=None
    ) -> Output:
        """input_ids: (B, T). labels: (B, T), -100 where nothing is to be predicted; the label at t is what position t
        - 1 predicts. The loss is the mean over labels that count, or their sum divided by `num_items_in_batch`.

        Virtual tokens of the body come first in the logits and have no labels; the last of them predicts the label at
        0, which nothing predicts otherwise.
        """
        input_ids = token_ids(input_ids)
        hidden = self.body(input_ids, attention_mask, past_key_values)  # (B, T, C)
        if labels is None:
            return Output(None, self.lm_head(hidden))
        labels = host_ids(labels)
        if labels.shape != input_ids.shape:
            raise ValueError(f"labels {labels.shape} do not fit input_ids {input_ids.shape}")
        virtual = hidden.shape[1] - input_ids.shape[1]
        targets = np.pad(labels, ((0, 0), (virtual, 1)), constant_values=-100)[:, 1:]
        recording = is_recording()

        def make_logits():
            if recording:
                return self.lm_head(hidden)
            with no_grad():
                return self.lm_head(hidden)

        if type(self.lm_head) is nn.Linear and self.lm_head.bias is None:
            loss = F.linear_cross_entropy(hidden, self.lm_head.weight, targets, num_items=num_items_in_batch)
            return Output(loss, make_logits)
        logits = self.lm_head(hidden)
        return Output(F.cross_entropy(logits, targets, num_items=num_items_in_batch), logits)

    def count_targets(self, labels) -> int:
        """How many of the labels (B, T) count in the loss."""
        first = 0 if self.body.virtual_outputs else 1
        return int((host_ids(labels)[:, first:] != -100).sum())

    generate = generate


def open_pretrained(path) -> tuple[dict, dict[str, StoredTensor]]:
    """What a model's folder or GGUF file holds: the content of a config.json, and the tensors by Hugging Face's names,
    still in their files. FormatError where it cannot be read.
    """
    if str(path).endswith(".gguf"):
        return llama_of(read_gguf(path), show_path(path))
    return huggingface.open_folder(path)


def host_ids(ids) -> np.ndarray:
    """Token ids, labels or a mask as a NumPy array: they are checked on the host before a device sees them."""
    return backend.to_numpy(ids.data if isinstance(ids, Tensor) else ids)


def token_ids(ids) -> np.ndarray:
    """Token ids (B, T) on the host. Raises ValueError for another number of axes."""
    ids = host_ids(ids)
    if ids.ndim != 2:
        raise ValueError(f"input_ids must have the shape (batch, length), not {ids.shape}")
    return ids


def normal(shape, deviation: float, rng):
    """An array of the backend drawn from normal(0, deviation); where rng is None, one that is not set."""
    if rng is None:
        return backend.xp.empty(shape, dtype="float32")
    return backend.asarray(rng.standard_normal(shape, dtype="float32") * np.float32(deviation))
