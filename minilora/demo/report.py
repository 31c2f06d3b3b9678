"""The report of the demo: one HTML file that opens from disk, with its pictures inside, no scripts and no network."""

import os
import tempfile
from collections.abc import Set
from pathlib import Path

from minilora.demo import claims, figures
from minilora.demo.claims import AdaptedResult
from minilora.errors import MiniloraError
from minilora.formats.atomic import make_folder, show_path, write_atomic
from minilora.show import html
from minilora.show.grids import NAMES
from minilora.show.html import beside, step, table, text
from minilora.show.style import save_all

PAGE, RECORDS, RESULTS = "report.html", "results.jsonl", "results.json"  # the last of the other demo, `teach`
KIND = "demo"  # of the records


def check_folder(folder: Path | str, unfinished: Set[str] = frozenset()) -> None:
    """See before anything slow that the report can go to `folder`, creating it where it is missing.

    unfinished: names that a run which was interrupted leaves there. MiniloraError where it cannot be created or
    written, or holds other things and no report of before.
    """
    folder = Path(folder)
    make_folder(folder)
    try:
        names = {name for name in os.listdir(folder) if not name.startswith(".")}
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MiniloraError(f"cannot write into the folder {show_path(folder)}: {error.strerror}") from error
    if names - unfinished and names.isdisjoint({PAGE, RECORDS, RESULTS}):
        raise MiniloraError(f"the folder {show_path(folder)} holds other things and no report: choose another --out")


def write_report(result: AdaptedResult, folder: Path | str) -> Path:
    """Write the figures and report.html into `folder`; returns the path of the page."""
    draws = {draw.__name__: draw for draw in figures.FIGURES}
    pictures = {path.stem: path.read_bytes() for path in save_all(draws, result, folder)}
    write_atomic(Path(folder) / PAGE, page(result, pictures))
    return Path(folder) / PAGE


def page(result: AdaptedResult, pictures: dict[str, bytes]) -> str:
    """Return the whole page. pictures: the PNG of each figure by its name."""
    rows, settings = result.records.rows, result.settings
    run = {"command": settings["command"], "date": result.records.header["date"]}
    shown = {
        draw.__name__: html.figure(draw.__name__, pictures[draw.__name__], caption)
        for draw, caption in figures.FIGURES.items()
        if draw.__name__ in pictures
    }
    quick = " This was the quick run: a smaller model and fewer seeds." if settings["quick"] else ""
    took = f"{rows['run',]['seconds']:,.0f} seconds.{quick}"
    origin = f"<code>{text(run['command'])}</code> · {text(run['date'])} · {took}"
    return html.page(
        "what transfer bought",
        f'<header><h1>What transfer bought</h1>\n<p class="soft">{origin}</p></header>\n'
        "<p>A language model first learns from much general text, then from a little text of one domain.</p>",
        step(
            "1. Pretrain: learn the language from much text",
            shown.get("pretraining", ""),
            beside({f"at step {at:,}": words for at, words in _spaced(rows["pretraining",]["samples"])}),
        ),
        step(
            "2. Fine-tune: learn the domain from little text",
            table(claims.adaptation_grid(result)),
            shown.get("adaptation", ""),
            table(claims.classification_grid(result)),
            shown.get("accuracy_against_labels", ""),
        ),
        step(
            "3. What transfer bought",
            *(f"<p>{text(sentence)}</p>" for sentence in claims.own_code(result)),
            table(claims.verdict_grid(result)),
            f"<pre>{text(claims.PROMPT)}</pre>\n<p>goes on like this:</p>",
            beside({NAMES[method]: words for method, words in continuations(result).items()}),
        ),
        step("Settings", html.facts_table(run | result.records.header["machine"] | _sources(result))),
    )


def continuations(result: AdaptedResult) -> dict[str, str]:
    """Return what the base and the adapted models write after PROMPT."""
    return {row["key"][1]: row["continuation"] for row in result.records.of("text") if "continuation" in row}


def _spaced(samples: list, count: int = 4) -> list:
    """Return so many of the samples, evenly spaced, the first and the last included."""
    places = {round(i * (len(samples) - 1) / (count - 1)) for i in range(count)}
    return [samples[place] for place in sorted(places)]


def _sources(result: AdaptedResult) -> dict[str, str]:
    """Return the texts, the reader's code and the seeds that the numbers come from."""
    texts, settings = result.records.rows["texts",], result.settings
    facts = {f"{role} text": f"{one['name']}, SHA-256 {one['sha256']}" for role, one in texts.items() if role != "key"}
    if own := settings["own"]:
        facts["own code"] = f"{own['file']}, SHA-256 {own['sha256']}"
    return facts | {"seeds of adaptation": ", ".join(map(str, settings["seeds"]))}
