"""The flags of the methods of `minilora.peft`, made from their records."""

from argparse import SUPPRESS, Namespace

from minilora.commands.common import Parser, add_flag, checked
from minilora.errors import MiniloraError, flag_of
from minilora.peft import METHODS, Options
from minilora.peft.method import find, known_options


def add_option_flags(parser: Parser) -> None:
    """Add a flag for each option of the methods. The help tells of the method that is typed beside it alone, or of none
    of these flags. So this comes after the other flags.
    """
    name, shown = parser.value_of("--method"), None
    if name is not None and {"-h", "--help"} & {*parser.typed}:
        shown = METHODS[find(name)]
        parser.description = f"{shown.label}: {shown.description}."
        parser.description += "" if shown.options else "\nIt has no flags of its own."
        for action in parser._actions:
            action.help = SUPPRESS
    for name, option in known_options().items():
        kind = bool if option.parse is bool else checked(option.parse, option.kind)
        is_shown = shown is not None and name in shown.options
        words = f"{option.help} (default: {option.default_words})" if is_shown else SUPPRESS
        add_flag(parser, flag_of(name), words, kind)


def read_options(arguments: Namespace, name: str, only_own: bool = False) -> Options:
    """The flags that were given, as options of the method `name`.

    only_own: pass over flags that the method does not read, for which MiniloraError is raised otherwise.
    """
    own = METHODS[name].options
    given = {option: getattr(arguments, option) for option in known_options() if option in own or not only_own}
    given = {option: value for option, value in given.items() if value is not None and value is not False}
    if idle := [flag_of(option) for option in given if option not in own]:
        raise MiniloraError(f"method {name} does not use {', '.join(idle)}; leave it out or choose another --method")
    return Options(**given)
