"""Making a language model or a classifier trainable with a method of `minilora.peft`."""

from collections.abc import Iterable

from minilora.models.llama import LlamaForCausalLM, LlamaForSequenceClassification
from minilora.peft import METHODS, Options, get_peft_model
from minilora.peft.method import find
from minilora.quant import quantization, quantize_model


def adapt(
    model: LlamaForCausalLM | LlamaForSequenceClassification,
    name: str,
    options: Options | None = None,
    tokens: Iterable[int] = (),
    seed: int = 0,
):
    """Make the model trainable with a method, in place, and return what to train. A classifier's head always trains.

    tokens: ids of the training text, from which virtual tokens start. seed: for the random start. A model that is in
    4 bits already (`load.load_model` with `options.quantization`) is not quantized again.
    """
    method, options = METHODS[find(name)], options or Options()
    if method.make_trainable is not None:
        method.make_trainable(model)
        return model
    if method.is_quantized and quantization(model) is None:
        quantize_model(model, **options.quantization)
    config = method.make_config(options, [int(token) for token in tokens])
    config.task_type = "SEQ_CLS" if isinstance(model, LlamaForSequenceClassification) else "CAUSAL_LM"
    return get_peft_model(model, config, seed=seed)
