"""`minilora demo`: the whole story with a small model of our own, or teaching a chat model a company's jargon."""

from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser, add_flag


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora demo --quick --out runs/demo"
    parser.add_argument("--out", default="runs/demo", help="folder for the report (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="use a smaller model and fewer steps: takes a minute")
    add_flag(parser, "--seed")
    teach = "teach a chat model a company's jargon instead; the model: smollm2, a .gguf file …"
    parser.add_argument("--model", help=teach)


def run(arguments: Namespace) -> None:
    out, settings = Path(arguments.out), {"quick": arguments.quick, "seed": arguments.seed}
    if arguments.model is not None:
        from minilora.demo import teach

        teach.run(out, arguments.model, **settings)
    else:
        from minilora.demo.story import run_demo

        run_demo(out, **settings)
