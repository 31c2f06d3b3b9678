"""Models and tokenizers by transformers' and PEFT's names for the ways to load them.

`others` are arguments that change nothing here, such as device_map="auto"; MiniloraError for those that would.
"""

from minilora.elsewhere import check_arguments
from minilora.train.load import load_model, path_of_model, tokenizer_of


class AutoModelForCausalLM:
    """A language model by what `load_model` takes: a name, a folder, a .gguf file."""

    @staticmethod
    def from_pretrained(name, **others):
        """Load the model, in float32 and eval mode. Raises MiniloraError if it is not here."""
        check_arguments("from_pretrained", others, ("dtype", "device_map"))
        model, _ = load_model(str(name))
        model.name_or_path = str(name)
        return model


class AutoTokenizer:
    """The tokenizer of such a model."""

    @staticmethod
    def from_pretrained(name, padding_side="right", **others):
        """Load the tokenizer. Raises MiniloraError if it is not here."""
        check_arguments("from_pretrained", others, ("padding_side",))
        tokenizer = tokenizer_of(path_of_model(str(name)))
        tokenizer.padding_side = padding_side
        return tokenizer


class AutoPeftModelForCausalLM:
    """An adapter on the base that it names."""

    @staticmethod
    def from_pretrained(folder, **others):
        """Load the base and the adapter in `folder`, for use. Raises MiniloraError if the base is not here."""
        check_arguments("from_pretrained", others, ("dtype", "device_map"))
        return load_model(None, folder)[0]
