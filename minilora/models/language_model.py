"""The parts that all model families share: body, head and loss, loading and saving."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np

from minilora import backend, nn, ops
from minilora import functional as F
from minilora.checkpointing import checkpoint
from minilora.errors import FormatError, MiniloraError, first_few, unknown
from minilora.formats import huggingface
from minilora.formats.atomic import show_path
from minilora.formats.gguf import GGUF, is_gguf, read_gguf
from minilora.formats.stored import StoredTensor
from minilora.models.batch import Output, host_ids, over_rows, token_ids
from minilora.models.beginning import read_rows
from minilora.models.generate import generate, generate_stream
from minilora.tensor import Tensor, is_recording, no_grad

IGNORED = -100  # label of a position where nothing is to be predicted


class Body(nn.Module):
    """A model without its head: token ids to hidden states."""

    config: Any  # the family's configuration

    # An adapter that wraps the body may put virtual tokens before the real ones.
    virtual_tokens = 0  # number of positions that they take, in a cache too
    virtual_outputs = 0  # number of hidden states returned for them, before those of the real tokens
    gradient_checkpointing = False  # set by `gradient_checkpointing_enable`
    selective_recomputation = False  # set for weights in 4 bits, because memory matters most there

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embedding table of the tokens."""
        raise NotImplementedError

    def embedded(self, input_ids: Any, inputs_embeds: Tensor | None) -> Tensor:
        """Return the embeddings (B, T, C) of `input_ids` (B, T), or `inputs_embeds` if that is given instead."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("the model takes either input_ids or inputs_embeds")
        return self.get_input_embeddings()(token_ids(input_ids)) if inputs_embeds is None else inputs_embeds

    @staticmethod
    def mask_and_positions(attention_mask: Any, x: Tensor, cache: Any) -> tuple[Any, np.ndarray]:
        """Return attention's mask of the keys, (B, 1, 1, S) or None, and the positions of the T tokens of x (B, T, C):
        (B, T), or (T,) if nothing is padded.

        attention_mask: (B, S), 0 for padding, or None; S counts the tokens in the cache and the T new ones. Positions
        count only real tokens.
        """
        batch, length, _ = x.shape
        past = cache.length if cache is not None else 0
        mask, positions = None, np.arange(past, past + length)
        if attention_mask is not None:
            real = host_ids(attention_mask)
            if not ((real == 0) | (real == 1)).all():  # for example an additive mask, or labels by mistake
                raise ValueError("attention_mask must hold 1 for a token and 0 for padding, and nothing else")
            real = real != 0
            if real.shape != (batch, past + length):
                raise ValueError(f"attention_mask {real.shape} does not fit {(batch, past + length)} tokens")
            if not real.all():
                positions = np.maximum(real.cumsum(axis=1) - 1, 0)[:, past:]
                mask = backend.asarray(real[:, None, None, :])
        return mask, positions

    def run_blocks(self, blocks: list[Any], x: Tensor, *arguments: Any, cache: Any = None) -> Tensor:
        """Apply x = block(x, *arguments, cache) for each block. With gradient checkpointing, in training, blocks are
        recomputed in backward, unless there is a cache that would store keys and values twice.
        """
        within = F.selective_recomputation if self.selective_recomputation else nullcontext
        recomputing = self.gradient_checkpointing and self.training and getattr(cache, "keeps_nothing", cache is None)
        for block in blocks:
            if recomputing:
                x = checkpoint(block, x, *arguments, cache, within=within)
                continue
            with within():
                x = block(x, *arguments, cache)
        if cache is not None:
            cache.length += x.shape[1]
        return x


class Pretrained(nn.Module):
    """Loading and saving, shared by the models with a head."""

    config_class: ClassVar[Any]  # class of the configuration, with `from_dict` and `to_dict`
    config: Any
    # Differences between a family's files and the modules here.
    transposed_linears: ClassVar[tuple[str, ...]] = ()  # last part of the names of Linears whose weight is (in, out)
    buffers: ClassVar[tuple[str, ...]] = ()  # suffixes of names in old files that are not parameters

    @staticmethod
    def translate_gguf(gguf: GGUF, where: str) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
        """Return the content of a config.json, and the tensors by Hugging Face's names. where: the file, for errors."""
        raise FormatError(f"{where}: models of this family are not read from GGUF files")

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str], each: Callable[[str, nn.Module], nn.Module] | None = None
    ) -> Any:
        """Load a model from a Hugging Face folder (config.json and safetensors, sharded or not) or a GGUF file, in
        float32 and eval mode.

        each: called with every (path, module) once the module's own weights are loaded; returns the module to put in
        its place, so that a layer can be quantized before the next one is read. Raises FormatError if files are missing
        or damaged, or weights do not fit the configuration.
        """
        if is_gguf(path):
            content, tensors = cls.translate_gguf(read_gguf(path), show_path(path))
        else:
            content, tensors = huggingface.open_folder(path)
        try:
            config = cls.config_class.from_dict(content)
            held = sum(tensor.size for tensor in tensors.values())
            layer = config.intermediate_size + config.num_attention_heads * config.head_dim
            positions = getattr(config, "n_positions", 0)  # GPT-2 learns an embedding of each
            claimed = config.hidden_size * (config.vocab_size + positions + config.num_hidden_layers * layer)
            if claimed > 16 * held + 2**20:  # a false claim: do not allocate memory for it
                raise FormatError(f"config.json claims {claimed:,} weights or more, the files hold {held:,}")
            model = cls(config, seed=None)  # type: ignore[call-arg]
            tensors = model.named_as_here({name: a for name, a in tensors.items() if not name.endswith(cls.buffers)})
            if integers := [f"{name} ({a.kind})" for name, a in tensors.items() if not a.is_float]:
                raise FormatError(f"weights must be floating-point numbers: {first_few(integers)}")
            model.load_stored(tensors, each)
        except MiniloraError as error:
            raise FormatError(f"{show_path(path)}: {error}") from error
        return model.eval()

    def named_as_here(self, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
        """Return a file's tensors by the paths of this model's parameters, transposed if they are stored (in, out)."""
        return {
            name: a.then(lambda array: np.ascontiguousarray(array.T), a.shape[::-1]) if self.is_transposed(name) else a
            for name, a in tensors.items()
        }

    @classmethod
    def is_transposed(cls, name: str) -> bool:
        """Return True if files store the parameter `name` transposed, as (in, out)."""
        return name.endswith(tuple(f".{linear}.weight" for linear in cls.transposed_linears))

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: Any = "float32") -> None:
        """Write config.json and model.safetensors, in the form that transformers reads.

        dtype: "float32" or "float16", as text or NumPy's. A tied head is stored once, as the embedding. Raises
        MiniloraError for a model with an adapter on it or with layers in 4 bits, and for weights that overflow the
        dtype.
        """
        check_plain(self)
        dtype = str(getattr(dtype, "__name__", dtype))  # np.float16, too
        if dtype not in ("float32", "float16"):
            raise MiniloraError(unknown("dtype", dtype, ("float32", "float16")))
        config = self.config.to_dict(type(self).__name__) | {"dtype": dtype}
        with np.errstate(over="ignore"):
            tensors = {name: backend.to_numpy(t.data).astype(dtype) for name, t in self.named_parameters()}
        if unfit := [name for name, a in tensors.items() if dtype == "float16" and not np.isfinite(a).all()]:
            raise MiniloraError(f"{first_few(unfit)}: values too large for float16, infinite or NaN; save in float32")
        tensors = {name: a.T if self.is_transposed(name) else a for name, a in tensors.items()}
        huggingface.write_folder(folder, config, tensors)


def check_plain(model: nn.Module) -> None:
    """Raise MiniloraError for a model that files cannot store: with an adapter on it, or with layers in 4 bits."""
    if nn.adapted_modules(model):
        raise MiniloraError(
            "the model has an adapter on it, which a model file cannot store: call merge_and_unload() first"
        )
    if any(module.num_quantized for _, module in model.named_modules()):
        raise MiniloraError("layers in 4 bits cannot be saved: convert them with quant.dequantize_model first")


class LanguageModel(Pretrained):
    """A body and `lm_head`, which maps hidden states to logits over the vocabulary; with the loss, and `generate`."""

    lm_head: nn.Module
    label_axes = 2  # labels (B, T)
    body_class: ClassVar[type[Body]]
    body_path: ClassVar[str]  # name of its attribute, which differs between families

    def __init__(self, config: Any, seed: int | None = 0):
        rng = None if seed is None else np.random.default_rng(seed)
        self.config = config
        setattr(self, self.body_path, self.body_class(config, rng))  # type: ignore[call-arg]
        table = self.body.get_input_embeddings().weight
        if config.tie_word_embeddings:
            self.lm_head = nn.Linear.from_arrays(table.data)
            self.lm_head.weight = table
        else:
            self.lm_head = nn.Linear.from_arrays(normal(table.shape, config.initializer_range, rng))

    @property
    def body(self) -> Any:
        """The body, token ids to hidden states, or an adapter that wraps it."""
        return getattr(self, self.body_path)

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        labels: Any = None,
        past_key_values: Any = None,
        num_items_in_batch: int | None = None,
    ) -> Output:
        """Return the logits of input_ids (B, T), and with labels the loss.

        labels: (B, T), -100 where nothing is to be predicted; the label at t is predicted at position t - 1. The loss
        is the mean over labels that count, or their sum divided by `num_items_in_batch`.

        Virtual tokens of the body come first in the logits and have no labels. The last of them predicts the label at
        0, which no other position does.
        """
        ids = token_ids(input_ids)
        if labels is None:
            return Output(None, self.logits(self.body(ids, attention_mask, past_key_values)))
        if past_key_values is not None:
            raise ValueError("labels need the whole text: do not pass past_key_values with them")
        return over_rows(self, self._with_loss, ids, attention_mask, labels, num_items_in_batch)

    def logits(self, hidden: Tensor) -> Tensor:
        """Map the body's hidden states (..., C) to logits over the vocabulary (..., V)."""
        return self.lm_head(hidden)

    def loss(self, hidden: Tensor, targets: np.ndarray, num_items: int | None) -> Tensor:
        """Compute the cross-entropy of the logits of `hidden` (B, T, C). If the head is a plain matrix, the logits are
        never all in memory.
        """
        if type(self.lm_head) is nn.Linear and self.lm_head.bias is None:
            return F.linear_cross_entropy(hidden, self.lm_head.weight, targets, num_items=num_items)
        return F.cross_entropy(self.logits(hidden), targets, num_items=num_items)

    def _with_loss(self, ids: np.ndarray, attention_mask: Any, labels: Any, num_items: int | None) -> Output:
        labels = host_ids(labels)
        beginning, hidden = read_rows(self, ids, attention_mask, labels == IGNORED)  # (1, P, C), (B, T - P, C)
        shared = 0 if beginning is None else beginning.shape[1] - self.body.virtual_outputs  # tokens
        own = ids[:, shared:]
        targets = shifted(labels[..., shared:], own.shape, hidden.shape[1] - own.shape[1])
        recording = is_recording()

        def make_logits() -> Tensor:
            with nullcontext() if recording else no_grad():
                if beginning is None:
                    return self.logits(hidden)
                before = beginning.broadcast_to((len(ids), *beginning.shape[1:]))
                return self.logits(ops.concatenate([before, hidden], axis=1))

        return Output(self.loss(hidden, targets, num_items), make_logits)

    def count_targets(self, labels: Any) -> int:
        """Return the number of labels (B, T) that count in the loss."""
        first = 0 if self.body.virtual_outputs else 1
        return int((host_ids(labels)[:, first:] != IGNORED).sum())

    generate = generate
    generate_stream = generate_stream


def shifted(labels: Any, shape: tuple[int, ...], virtual: int = 0) -> np.ndarray:
    """Shift labels of `shape` (B, T) to the target of each position, (B, virtual + T): the label after it, and IGNORED
    at the last. This is the only copy made of the labels; the loss checks them.
    """
    host = host_ids(labels)
    if host.shape != shape:
        raise ValueError(f"labels {host.shape} do not fit input_ids {shape}")
    kind = np.int64 if host.dtype.kind == "u" else host.dtype  # files of tokens are often unsigned
    targets = np.full((shape[0], virtual + shape[1]), IGNORED, dtype=kind)
    targets[:, max(virtual - 1, 0) : -1] = host if virtual else host[:, 1:]
    return targets


def normal(shape: tuple[int, ...], deviation: float, rng: np.random.Generator | None) -> Any:
    """Draw an array of the backend from normal(0, deviation). If rng is None, leave it uninitialized."""
    if rng is None:
        return backend.xp.empty(shape, dtype="float32")
    return backend.asarray(rng.standard_normal(shape, dtype="float32") * np.float32(deviation))


def new_linear(
    in_features: int, out_features: int, bias: bool, deviation: float, rng: np.random.Generator | None
) -> nn.Linear:
    """Create a Linear with a weight from `normal` and, if it has a bias, one of zeros."""
    weight = normal((out_features, in_features), deviation, rng)
    return nn.Linear.from_arrays(weight, backend.xp.zeros(out_features, dtype="float32") if bias else None)
