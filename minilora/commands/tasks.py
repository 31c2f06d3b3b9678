"""`minilora tasks`: labelled tasks that others published, to measure on: which there are, and fetching one."""

from argparse import Namespace

from minilora.commands.common import Parser, add_json, print_result
from minilora.errors import escape
from minilora.formats.atomic import show_path
from minilora.train import tasks


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora tasks get reviews"
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | get")
    for name, does, example in (
        ("list", "which tasks have a name here, and which of them are on this machine", "list"),
        ("get", "fetch a task, once; its name then is a --data of curve, finetune and evaluate", "get reviews"),
    ):
        about = f"{does[0].upper()}{does[1:]}."
        action = actions.add_parser(name, help=does, description=about, epilog=f"example: minilora tasks {example}")
        if name == "get":
            action.add_argument("name", help="of the task, see minilora tasks list")
            action.add_argument("--file", help="the package's archive, where it is here already: no download")
        else:
            add_json(action)


def run(arguments: Namespace) -> None:
    if arguments.action == "list":
        facts = known_tasks()
        lines = [line for task in facts["tasks"] for line in _lines(task)]
        print_result(arguments, facts, "\n".join(lines))
        return
    task = tasks.entry(arguments.name)
    print(f"{arguments.name}: licence {task.licence}{f'; {task.terms}' if task.terms else ''}", flush=True)
    tasks.get(arguments.name, arguments.file)
    for part in task.sha256:
        print(f"{part}: {show_path(tasks.path_of(arguments.name, part), 10_000)}", flush=True)


def known_tasks() -> dict:
    """What `minilora tasks list` shows."""
    known = []
    for name, task in tasks.TASKS.items():
        is_here = tasks.in_cache(name)
        paths = {part: str(tasks.path_of(name, part)) for part in task.sha256} if is_here else None
        facts = {"name": name, "description": task.description, "licence": task.licence, "terms": task.terms or None}
        known.append(facts | {"is_here": is_here, "paths": paths})
    return {"tasks": known}


def _lines(task: dict) -> list[str]:
    paths, terms = task["paths"], [task["terms"]] if task["terms"] else []
    here = f"here: {show_path(paths['train'], 10_000)}" if paths else f"not here yet: minilora tasks get {task['name']}"
    said = [task["description"], f"licence: {task['licence']}", *terms, here]
    return [f"{'' if index else task['name']:<9}{escape(line, 10_000)}" for index, line in enumerate(said)]
