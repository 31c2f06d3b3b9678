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
from minilora.show.html import beside, held_together, panel, step, table, text
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
    return write_page(page(result, pictures), folder)


def write_page(content: str, folder: Path | str) -> Path:
    """Write report.html; returns its path."""
    write_atomic(Path(folder) / PAGE, content)
    return Path(folder) / PAGE


def claims_list(sentences: list[str]) -> str:
    items = "\n".join(f"<li>{text(held_together(sentence))}</li>" for sentence in sentences)
    return f"<ul>\n{items}\n</ul>"


def page(result: AdaptedResult, pictures: dict[str, bytes]) -> str:
    """Return the whole page. pictures: the PNG of each figure by its name."""
    rows, settings = result.records.rows, result.settings
    facts, texts = rows["pretraining",], rows["texts",]
    run = {"command": settings["command"], "date": result.records.header["date"]}
    shown = {
        draw.__name__: html.figure(draw.__name__, pictures[draw.__name__], caption)
        for draw, caption in figures.FIGURES.items()
        if draw.__name__ in pictures
    }
    return html.page(
        "what transfer bought",
        html.top(
            "What transfer bought",
            run | {"quick": settings["quick"], "seconds": rows["run",]["seconds"]},
            " This was the quick run: a smaller model and fewer seeds.",
            "A language model first learns from much general text, then from a little text of one domain. This page "
            "shows both steps, what the second costs in each of several ways, and what it gains and loses against a "
            "model that starts from nothing.",
        ),
        step(
            "1. Text",
            "<p>Both come from real documentation. One piece of each:</p>",
            beside([_text_panel(texts[role], use) for role, use in USES.items()]),
        ),
        step(
            "2. Pretrain: learn the language from much text",
            f"<p>A transformer with {facts['parameters']:,} parameters learns to guess the next token, from nothing: "
            f"{facts['steps']:,} steps in {facts['seconds']:,.0f} seconds"
            f"{', taken from the cache of an earlier run' * facts['cached']}. On held-out text it went from "
            f"{facts['curve'][0][1]:.2f} to {facts['curve'][-1][1]:.2f} bits per character.</p>",
            "<p>Bits per character say how well text is guessed, whatever the tokens are: one bit less means that each "
            "character was, on average, given twice the probability.</p>",
            shown.get("pretraining", ""),
            beside([panel(f"at step {at:,}", words) for at, words in _spaced(facts["samples"])]),
            _goes_on_from(facts["base"]),
        ),
        step(
            "3. Fine-tune: learn the domain from little text",
            "<p><em>Full</em> fine-tuning changes every weight of the base. <em>LoRA</em> leaves them as they are and "
            "trains two thin matrices beside each. <em>From scratch</em> is the same model without the base's weights, "
            "with the same text and the same limit on steps. Each keeps the weights that did best on the domain's "
            "validation text.</p>",
            _own_code(settings["own"]),
            table(claims.adaptation_grid(result)),
            shown.get("adaptation", ""),
            "<h3>The same base as a classifier</h3>",
            "<p>Which part of the library does a summary sentence document? The classes: "
            f"{text(', '.join(rows['classes',]['names']))}. <em>Feature extraction</em> leaves the whole base frozen "
            "and trains only the new head.</p>",
            table(claims.classification_grid(result)),
            shown.get("accuracy_against_labels", ""),
        ),
        step(
            "4. What transfer bought",
            "<p>What the numbers of this run say:</p>",
            claims_list(claims.claims(result)),
            "<h3>The same prompt, before and after</h3>",
            f"<pre>{text(claims.PROMPT)}</pre>\n<p>goes on like this:</p>",
            beside([panel(NAMES[method], words) for method, words in continuations(result).items()]),
            "<h3>What to do next</h3>\n<p>The same on a text of your own, with the base that comes with the package:"
            "</p>\n<pre>minilora finetune --data my-text.txt --method lora --out runs/mine\n"
            'minilora generate --adapter runs/mine --prompt "Return the"\n'
            "minilora evaluate --adapter runs/mine --data my-text.txt\n"
            "minilora merge --adapter runs/mine --out runs/mine-merged</pre>",
        ),
        step(
            "Settings",
            html.facts_table(run | result.records.header["machine"] | _sources(result)),
            f'<p class="soft">Every number on this page is in {RECORDS} beside it.</p>',
        ),
    )


USES = {"base": "what the base is pretrained on", "domain": "what adaptation sees of the domain"}


def continuations(result: AdaptedResult) -> dict[str, str]:
    """Return what the base and the adapted models write after PROMPT."""
    return {row["key"][1]: row["continuation"] for row in result.records.of("text") if "continuation" in row}


def _text_panel(one: dict, use: str) -> str:
    return panel(f"{one['name']}: {use}, {one['characters']:,} characters", one["sample"])


def _spaced(samples: list, count: int = 4) -> list:
    """Return so many of the samples, evenly spaced, the first and the last included."""
    places = {round(i * (len(samples) - 1) / (count - 1)) for i in range(count)}
    return [samples[place] for place in sorted(places)]


def _goes_on_from(base: dict | None) -> str:
    if base is None:
        return ""
    return (
        f"<p>What follows goes on from {text(base['name'])}: the same recipe at {base['steps']:,} steps, "
        f"{base['bits']:.2f} bits per character.</p>"
    )


def _own_code(own: dict | None) -> str:
    if own is None:
        return ""
    return (
        f"<p><strong>In this run {text(own['what'])} of <code>{text(own['file'])}</code></strong>, which "
        f"passed the checks of lesson {text(own['lesson'])}. All else is minilora's.</p>"
    )


def _sources(result: AdaptedResult) -> dict[str, str]:
    """Return the texts, the reader's code and the seeds that the numbers come from."""
    texts, settings = result.records.rows["texts",], result.settings
    facts = {f"{role} text": f"{texts[role]['name']}, SHA-256 {texts[role]['sha256']}" for role in USES}
    if own := settings["own"]:
        facts["own code"] = f"{own['file']}, SHA-256 {own['sha256']}"
    return facts | {"seeds of adaptation": ", ".join(map(str, settings["seeds"]))}
