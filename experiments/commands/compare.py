"""`python -m experiments compare`: every method on the package's base, or on a published model."""

from argparse import Namespace
from pathlib import Path

from rich.console import Console

from experiments import compare_model, compare_model_report, comparison, comparison_report
from minilora.commands.common import Parser, add_resume, whole
from minilora.errors import MiniloraError


def add(parser: Parser) -> None:
    parser.epilog = "example: python -m experiments compare --model smollm2 --data reviews --methods lora,full,prefix"
    parser.add_argument("--out", default="runs/compare", help="folder of the results (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer steps: three minutes")
    parser.add_argument("--methods", help="only these, with commas: lora,full,few-shot")
    parser.add_argument("--seeds", type=whole(1, 100), help="how many (default: 3)")
    parser.add_argument("--model", help="a chat model, as of evaluate; a method takes some 10 minutes on smollm2")
    parser.add_argument(
        "--data",
        help="with --model, what it learns: labelled conversations (a .jsonl file, or a name of minilora models list; "
        "default: reviews), or a corpus",
    )
    add_resume(parser)


def run(arguments: Namespace) -> None:
    out, resume, console = Path(arguments.out), (arguments.resume, arguments.overwrite), Console(width=80)
    if arguments.model is None:
        if arguments.data is not None:
            raise MiniloraError("--data goes with --model, such as --model smollm2")
        settings = comparison.settings_for(arguments.quick, arguments.methods, arguments.seeds)
        result = comparison_report.ComparisonResult(comparison.run(out, settings, *resume))
        tables = [comparison_report.quality_grid(result), comparison_report.cost_grid(result)]
        comparison_report.show(tables, comparison_report.FIGURES, result, out, console)
        return
    if arguments.quick:
        raise MiniloraError("--quick is of the package's base: with --model choose --methods and --seeds")
    data = "reviews" if arguments.data is None else arguments.data
    on_model = compare_model.settings_for(arguments.model, data, arguments.methods, arguments.seeds)
    found = compare_model_report.ModelResult(compare_model.run(out, on_model, *resume))
    comparison_report.show(found.grids(), compare_model_report.FIGURES, found, out, console)
