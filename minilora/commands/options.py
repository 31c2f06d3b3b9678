"""The flags of the methods of `minilora.peft`, made from their records."""

from argparse import SUPPRESS, Namespace
from collections.abc import Sequence
from functools import partial

from minilora.commands.common import Parser, value_of
from minilora.errors import MiniloraError, flag_of
from minilora.peft import METHODS, Options
from minilora.peft.method import find, known_options


def add_option_flags(parser: Parser) -> None:
    """Add a flag for each option of the methods. The help shows those of a method that is typed beside it."""
    for name, option in known_options().items():
        kind: dict = {"type": option.parse, "metavar": "X"}
        if option.parse is bool:
            kind = {"action": "store_true", "default": None}
        parser.add_argument(flag_of(name), help=SUPPRESS, **kind)
    parser.before.append(partial(_show_method, parser))


def _show_method(parser: Parser, args: Sequence[str]) -> None:
    """Make the help tell of the method that is typed beside it, and of its flags alone."""
    name = value_of("--method", args)
    if name is None or not {"-h", "--help"} & {*args}:
        return
    method = METHODS[find(name)]
    for action in parser._actions:
        option = method.options.get(action.dest)
        words = f"{option.help} (default: {option.default_words})" if option else SUPPRESS
        action.help = words
    parser.description = f"{method.label}: {method.description}."
    if not method.options:
        parser.description += "\nIt has no flags of its own."


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
