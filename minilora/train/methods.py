"""Making a language model or a classifier trainable by a method of `minilora.peft`, and the methods' flags."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable

from minilora.errors import MiniloraError, escape, flag_of
from minilora.models.llama import LlamaForCausalLM, LlamaForSequenceClassification
from minilora.peft import METHODS, Options, get_peft_model
from minilora.peft.method import find, known_options
from minilora.quant import quantization, quantize_model


def adapt(
    model: LlamaForCausalLM | LlamaForSequenceClassification,
    name: str,
    options: Options | None = None,
    tokens: Iterable[int] = (),
    seed: int = 0,
):
    """Make the model trainable by a method, in place; returns what to train. The head of a classifier always trains.

    tokens: ids from the text that is to be learned, from which virtual tokens start. seed: of what starts random. A
    model that is in 4 bits already (`recipes.load_model` with `options.quantization`) stays as it is; MiniloraError
    where that is otherwise than the options say.
    """
    method, options = METHODS[find(name)], options or Options()
    if method.make_trainable is not None:
        method.make_trainable(model)
        return model
    if method.is_quantized:
        _quantize(model, options.quantization)
    config = method.make_config(options, [int(token) for token in tokens])
    config.task_type = "SEQ_CLS" if isinstance(model, LlamaForSequenceClassification) else "CAUSAL_LM"
    return get_peft_model(model, config, seed=seed)


def _quantize(model, asked: dict) -> None:
    found = quantization(model)
    if found is None:
        quantize_model(model, **asked)
    elif differing := [
        f"{name} {escape(found[name])}, not {escape(asked[name])}" for name in asked if found[name] != asked[name]
    ]:
        raise MiniloraError(f"the model is in 4 bits already, with {', '.join(differing)}; load it with these options")


# Flags


def add_option_flags(parser: ArgumentParser) -> None:
    """A flag for each option of the methods; `read_options` reads them."""
    for name, option in known_options().items():
        if option.parse is bool:
            parser.add_argument(flag_of(name), action="store_true", default=None, help=option.help)
        else:
            parser.add_argument(
                flag_of(name), type=option.parse, help=f"{option.help} (default: {option.default_words})"
            )


def read_options(arguments: Namespace, name: str, only_own: bool = False) -> Options:
    """The flags that were given, as options of the method `name`.

    only_own: pass over flags that the method does not read. Raises MiniloraError, which names the flags, for those
    otherwise, and for values that no option may have.
    """
    own = METHODS[name].options
    given = {option: getattr(arguments, option) for option in known_options()}
    given = {option: value for option, value in given.items() if value is not None and (option in own or not only_own)}
    if idle := [flag_of(option) for option in given if option not in own]:
        raise MiniloraError(f"method {name} does not use {', '.join(idle)}; leave it out or choose another --method")
    if problems := [p for option, value in given.items() for p in own[option].problems(flag_of(option), value)]:
        raise MiniloraError("; ".join(problems))
    return Options(**given)


def method_list() -> str:
    """The methods with what each trains, for a command's help."""
    return "\n".join(f"  {name:<20} {method.description}" for name, method in METHODS.items())
