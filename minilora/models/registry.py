"""The model class for a checkpoint, by the `model_type` in its config.json."""

import os
from pathlib import Path

from minilora.errors import FormatError, escape
from minilora.formats import huggingface
from minilora.formats.atomic import read_json, show_path
from minilora.formats.gguf import is_gguf
from minilora.models.gpt2 import GPT2LMHeadModel
from minilora.models.language_model import LanguageModel
from minilora.models.llama import LlamaForCausalLM
from minilora.models.llama_config import MODEL_TYPES

LANGUAGE_MODELS: dict[str, type[LanguageModel]] = {
    **dict.fromkeys(MODEL_TYPES, LlamaForCausalLM),
    "gpt2": GPT2LMHeadModel,
}


def family_of(path: str | os.PathLike[str], where: str = "") -> type[LanguageModel]:
    """Return the class for the language model in a Hugging Face folder or a GGUF file.

    Raises FormatError if config.json is missing, or names a family outside LANGUAGE_MODELS. where: the model's name in
    errors, by default its path.
    """
    if is_gguf(path):
        return LlamaForCausalLM
    kind = read_json(Path(path) / huggingface.CONFIG).get("model_type", "llama")
    if not isinstance(kind, str) or kind not in LANGUAGE_MODELS:
        known = ", ".join(LANGUAGE_MODELS)
        raise FormatError(f"{where or show_path(path)} holds a {escape(repr(kind))} model; minilora reads {known}")
    return LANGUAGE_MODELS[kind]
