"""`python -m experiments check`: find records that today's code would not reproduce."""

from argparse import Namespace

from experiments import check
from minilora.commands.common import Parser
from minilora.errors import MiniloraError, unknown
from minilora.formats.atomic import read_json, write_json


def add(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments check study-rank.jsonl"
    parser.add_argument("files", nargs="*", help="names of record files (default: all)")
    parser.add_argument("--update", action="store_true", help="replace the fingerprints by those of today's code")


def run(arguments: Namespace) -> int:
    """Check each file, print the result, and update stale.json; return 1 if that changed it."""
    files = {path.name: path for folder in check.FOLDERS for path in sorted((check.ROOT / folder).glob("*.jsonl"))}
    fingerprints, marked = read_json(check.ROOT / check.FINGERPRINTS), read_json(check.ROOT / check.STALE)
    if unknown_names := [name for name in arguments.files if name not in files]:
        raise MiniloraError(unknown("record file", unknown_names[0], files))
    stale = dict(marked)
    for name in arguments.files or files:
        try:
            trainings = check.check(files[name], fingerprints, arguments.update)
            agrees = f"agrees ({trainings} training{'s' * (trainings > 1)})"
            print(f"{name}: {agrees if trainings else 'has no training to repeat'}", flush=True)
            stale.pop(name, None)
        except check.Stale as reason:
            print(f"{name}: stale: {reason}", flush=True)
            stale[name] = str(reason)
        except MiniloraError as error:  # the model or the data are not on this machine
            print(f"{name}: not checked: {error}", flush=True)
        if arguments.update:
            write_json(check.ROOT / check.FINGERPRINTS, fingerprints)
    write_json(check.ROOT / check.STALE, dict(sorted(stale.items())))
    return int(stale != marked)
