"""`python -m experiments compare`: compare methods on the package's base, or on a published model."""

from argparse import Namespace
from pathlib import Path

from rich.console import Console

from experiments import compare_model, compare_model_report, comparison, comparison_report
from minilora.commands.common import Parser, add_resume, whole
from minilora.errors import MiniloraError


def add(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments compare --model smollm2 --data reviews --methods lora,full,prefix"
    parser.add_argument("--out", default="runs/compare", help="output folder (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="use a smaller model and fewer steps (three minutes)")
    parser.add_argument("--methods", help="only these methods, such as lora,full,few-shot")
    parser.add_argument("--seeds", type=whole(1, 100), help="number of seeds (default: 3)")
    parser.add_argument("--model", help="a chat model instead of the base, such as smollm2 (10 minutes a method)")
    parser.add_argument(
        "--data",
        help="with --model: what to learn, labelled conversations (a .jsonl file or a name from minilora models "
        "list) or a corpus (default: reviews)",
    )
    add_resume(parser)


def run(arguments: Namespace) -> None:
    out, resume, console = Path(arguments.out), (arguments.resume, arguments.overwrite), Console(width=80)
    if arguments.model is None:
        if arguments.data is not None:
            raise MiniloraError("--data needs --model, for example --model smollm2")
        settings = comparison.settings_for(arguments.quick, arguments.methods, arguments.seeds)
        result = comparison_report.ComparisonResult(comparison.run(out, settings, *resume))
        comparison_report.show(comparison_report.grid(result), comparison_report.FIGURES, result, out, console)
        return
    if arguments.quick:
        raise MiniloraError("--quick works on the package's base only; with --model, limit --methods and --seeds")
    data = "reviews" if arguments.data is None else arguments.data
    on_model = compare_model.settings_for(arguments.model, data, arguments.methods, arguments.seeds)
    compared = compare_model_report.ModelResult(compare_model.run(out, on_model, *resume))
    table = compare_model_report.side_by_side({Path(data).name: compared})
    comparison_report.show(table, compare_model_report.FIGURES, compared, out, console)
