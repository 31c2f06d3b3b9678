"""`python -m experiments check`: find the records that today's code does not give any more."""

from argparse import Namespace

from experiments import check
from minilora.commands.common import Parser
from minilora.errors import MiniloraError, unknown
from minilora.formats.atomic import read_json, write_json


def add(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments check study-rank.jsonl"
    parser.add_argument("files", nargs="*", help="names of files of records (default: all)")
    parser.add_argument("--update", action="store_true", help="write the fingerprints of today's code")


def run(arguments: Namespace) -> int:
    """Say of each file how it is, and write which are stale; returns 1 if others were marked so before."""
    there = {path.name: path for folder in check.FOLDERS for path in sorted((check.ROOT / folder).glob("*.jsonl"))}
    known, marked = read_json(check.ROOT / check.FINGERPRINTS), read_json(check.ROOT / check.STALE)
    if strange := [name for name in arguments.files if name not in there]:
        raise MiniloraError(unknown("file of records", strange[0], there))
    stale = dict(marked)
    for name in arguments.files or there:
        try:
            trainings = check.check(there[name], known, arguments.update)
            how = f"agrees ({trainings} training{'s' * (trainings > 1)})" if trainings else "has no training to repeat"
            print(f"{name}: {how}", flush=True)
            stale.pop(name, None)
        except check.Stale as reason:
            print(f"{name}: stale: {reason}", flush=True)
            stale[name] = str(reason)
        except MiniloraError as error:  # the model or the data are not on this machine
            print(f"{name}: not checked: {error}", flush=True)
        if arguments.update:
            write_json(check.ROOT / check.FINGERPRINTS, known)
    write_json(check.ROOT / check.STALE, dict(sorted(stale.items())))
    return int(stale != marked)
