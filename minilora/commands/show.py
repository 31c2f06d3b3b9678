"""`minilora show`: show how a training run went, or goes so far, as a table and a picture."""

from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser, add_flag, print_result
from minilora.errors import MiniloraError, escape


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora show runs/numpy"
    parser.add_argument("folder", metavar="RUN", help="--out folder of pretrain or finetune, finished or still running")
    add_flag(parser, "--out", "where to save the picture, a .png file (default: RUN/run.png)", metavar="FILE")
    add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    from minilora.data.rows import is_rows
    from minilora.formats.atomic import show_path
    from minilora.show import style, training
    from minilora.train.run import read_metrics
    from minilora.train.text import Chats, Text

    folder = Path(arguments.folder)
    out = Path(arguments.out or folder / "run.png")
    if out.suffix != ".png":
        raise MiniloraError(f"--out must end in .png, not {show_path(out)}")
    record, series = read_metrics(folder)
    if record["config"].get("evaluated_on") == "test":  # too few rows for a validation part
        series["test"] = series.pop("evaluation", {})
    data, planned, result = record["config"].get("data"), record["config"].get("steps"), record.get("result")
    step, summary = max(map(max, filter(None, series.values())), default=0), training.summary(series)
    unit = "" if data is None else Chats.unit if is_rows(data) else Text.unit
    picture = failure = None
    try:
        figure = training.run_figure(series, escape(style.printable(folder.resolve().name), 50), unit)
        picture = style.save(figure, out) if figure else None
    except (MiniloraError, OSError) as error:  # Matplotlib needs a cache folder that it can write; the table does not
        failure = error
    state = "done" if result else "no result yet: still running, or interrupted"
    of = f" of {planned:,}" if type(planned) is int else ""
    lines = [f"{show_path(folder)}: step {step:,}{of}, {state}", "", *training.run_lines(summary)]
    for name in ("evaluation", "test"):
        if values := summary.get(name):
            start = series[name].get(0)
            words = "" if start is None else f"{start:.4g} at the start, "
            best = f"best {values['min']:.4g} at step {values['min_step']:,}"
            words += best if name == "evaluation" else f"{values['last']:.4g} at step {max(series[name]):,}"
            lines += ["", f"{training.LABELS[name]}{unit and f' ({unit})'}: {words}"]
    if not failure:
        lines.append(f"saved {show_path(picture)}" if picture else "no picture: no step has been logged yet")
    facts = {"run": arguments.folder, "step": step, "steps": planned, "result": result}
    facts |= {"series": summary, "picture": picture and str(picture)}
    print_result(arguments, facts, "\n".join(lines))
    if failure:
        raise MiniloraError(f"there is no picture: {escape(str(failure), 400)}") from failure
