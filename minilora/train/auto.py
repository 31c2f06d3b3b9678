"""Loading models and tokenizers by the class names of transformers and PEFT.

`others` are arguments that have no effect here, such as device_map="auto". Raises MiniloraError for arguments that
would have one.
"""

from minilora.elsewhere import check_arguments
from minilora.train.load import load_model, path_of_model, tokenizer_of


class AutoModelForCausalLM:
    """A language model from a source that `load_model` takes: a name, a folder or a .gguf file."""

    @staticmethod
    def from_pretrained(name, **others):
        """Load the model, in float32 and eval mode. Raises MiniloraError if it is not on this machine."""
        check_arguments("from_pretrained", others, ("dtype", "device_map"))
        model, _ = load_model(str(name))
        model.name_or_path = str(name)
        return model


class AutoTokenizer:
    """The tokenizer of a model that `AutoModelForCausalLM` loads."""

    @staticmethod
    def from_pretrained(name, padding_side="right", **others):
        """Load the tokenizer. Raises MiniloraError if it is not on this machine."""
        check_arguments("from_pretrained", others, ("padding_side",))
        tokenizer = tokenizer_of(path_of_model(str(name)))
        tokenizer.padding_side = padding_side
        return tokenizer


class AutoPeftModelForCausalLM:
    """An adapter together with the base that it names."""

    @staticmethod
    def from_pretrained(folder, **others):
        """Load the adapter in `folder` on its base, for inference. Raises MiniloraError if the base is not on this
        machine.
        """
        check_arguments("from_pretrained", others, ("dtype", "device_map"))
        return load_model(None, folder)[0]
