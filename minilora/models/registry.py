"""Which class reads which checkpoint, by the `model_type` of its config.json."""

from pathlib import Path

from ..errors import FormatError, show
from ..formats import huggingface
from ..formats.atomic import read_json, show_path
from .gpt2 import GPT2LMHeadModel
from .llama import LlamaForCausalLM
from .pretrained import LanguageModel

LANGUAGE_MODELS: dict[str, type[LanguageModel]] = {
    "llama": LlamaForCausalLM,
    "mistral": LlamaForCausalLM,
    "qwen2": LlamaForCausalLM,
    "gpt2": GPT2LMHeadModel,
}


def load_language_model(folder) -> LanguageModel:
    """The language model in a Hugging Face folder, of whichever family it is. Raises FormatError as `from_pretrained`
    does, and for a family that is not in LANGUAGE_MODELS.
    """
    kind = read_json(Path(folder) / huggingface.CONFIG).get("model_type", "llama")
    if not isinstance(kind, str) or kind not in LANGUAGE_MODELS:
        there = ", ".join(LANGUAGE_MODELS)
        raise FormatError(f"{show_path(folder)} holds a {show(repr(kind))} model; minilora reads {there}")
    return LANGUAGE_MODELS[kind].from_pretrained(folder)
