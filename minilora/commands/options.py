"""Flags for the options of the methods of `minilora.peft`, made from the methods' records."""

from argparse import SUPPRESS, Namespace

from minilora.commands.common import Parser, add_flag, checked
from minilora.errors import MiniloraError, flag_of
from minilora.peft import METHODS, Options
from minilora.peft.method import find, known_options


def add_option_flags(parser: Parser) -> None:
    """Add a flag for each option of the methods. Call this after all other flags are added.

    The help of `--method NAME --help` shows the flags of that method and no others; plain `--help` shows none of them.
    """
    name, shown = parser.value_of("--method"), None
    if name is not None and {"-h", "--help"} & {*parser.typed}:
        shown = METHODS[find(name)]
        parser.description = f"{shown.label} (--method {shown.name}): {shown.description}."
        parser.epilog = f"all other flags: {parser.prog} --help"
        parser.description += "" if shown.options else "\nIt has no flags of its own."
        for action in parser._actions:
            action.help = SUPPRESS
    for name, option in known_options().items():
        metavar = "N" if option.parse is int else "X" if option.parse is float else "NAME"
        kind = bool if option.parse is bool else checked(option.parse, option.kind, metavar)
        is_shown = shown is not None and name in shown.options
        words = f"{option.help} (default: {option.default_words})" if is_shown else SUPPRESS
        add_flag(parser, flag_of(name), words, kind)


def read_options(arguments: Namespace, name: str, only_own: bool = False) -> Options:
    """Return the options of the method `name` that were typed as flags. Raises MiniloraError for another method's flag.

    only_own: ignore the flags of other methods instead.
    """
    own = METHODS[name].options
    typed = {option: getattr(arguments, option) for option in known_options() if option in own or not only_own}
    typed = {option: value for option, value in typed.items() if value is not None and value is not False}
    if unused := [flag_of(option) for option in typed if option not in own]:
        raise MiniloraError(f"method {name} does not use {', '.join(unused)}; leave it out or choose another --method")
    return Options(**typed)
