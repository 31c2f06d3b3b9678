"""`minilora demo`: the whole story on the package's own base, or a company's jargon taught to a chat model."""

from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser, add_flag
from minilora.errors import MiniloraError


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora demo --quick --out runs/demo"
    parser.add_argument("--out", default="runs/demo", help="folder of the report (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer steps: a minute")
    add_flag(parser, "--seed")
    parser.add_argument(
        "--with",
        dest="own",
        metavar="FILE",
        help="your own LoRA (lesson 08), .py or .ipynb, in place of the library's; it runs as your own code, without "
        "the limits of check",
    )
    parser.add_argument(
        "--model", help="teach a pretrained chat model a company's jargon instead: smollm2, a .gguf file …"
    )
    add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    out, settings = Path(arguments.out), {name: getattr(arguments, name) for name in ("quick", "seed")}
    settings["as_json"] = arguments.json
    if arguments.model is not None:
        if arguments.own is not None:
            raise MiniloraError("--with goes without --model: it is code for the base that the demo pretrains")
        from minilora.demo import teach

        teach.run(out, arguments.model, **settings)
        return
    from minilora.demo.story import run_demo

    if arguments.own is None:
        run_demo(out, **settings)
        return
    from minilora.classroom.grading.demo_parts import errors_named, load_student_code

    own = load_student_code(arguments.own)
    with errors_named(own):
        run_demo(out, **settings, own=own)
