"""The report of the demo: one HTML file that opens from disk, with its pictures inside, no scripts and no network."""

import os
import tempfile
from collections.abc import Set
from pathlib import Path

from minilora.demo import claims
from minilora.demo.figures import FIGURES, PICTURES
from minilora.errors import MiniloraError
from minilora.formats.atomic import make_folder, show_path, write_atomic
from minilora.measure.records import Records
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


def write_report(records: Records, folder: Path | str) -> Path:
    """Write the figures and report.html into `folder`; returns the path of the page."""
    pictures = {path.stem: path.read_bytes() for path in save_all(FIGURES, records, folder)}
    return write_page(page(records, pictures), folder)


def write_page(content: str, folder: Path | str) -> Path:
    """Write report.html; returns its path."""
    write_atomic(Path(folder) / PAGE, content.encode())
    return Path(folder) / PAGE


def page(records: Records, pictures: dict[str, bytes]) -> str:
    """The whole page; pictures: the PNG of each figure by its name."""
    figures: dict[str, str] = {}
    for picture in PICTURES:
        if png := pictures.get(picture.draw.__name__):
            shown = html.figure(picture.draw.__name__, png, picture.caption)
            figures[picture.step] = "\n".join(filter(None, (figures.get(picture.step), shown)))
    parts = [
        _top(records),
        _text_step(records),
        _pretraining_step(records, figures.get("pretraining", "")),
        _adaptation_step(records, figures),
        _outcome_step(records),
        _settings(records),
    ]
    return html.page("what transfer bought", *parts)


def claims_list(said: list[str]) -> str:
    items = "\n".join(f"<li>{text(held_together(sentence))}</li>" for sentence in said)
    return f"<ul>\n{items}\n</ul>"


# The steps of the story


def _top(records: Records) -> str:
    settings = records.header["settings"]
    return html.top(
        "What transfer bought",
        {"command": settings["command"], "date": records.header["date"], "quick": settings["quick"]}
        | {"seconds": next(records.of("run"), {}).get("seconds", 0)},
        " This was the quick run: a smaller model and fewer seeds.",
        "A language model first learns from much general text, then from a little text of one domain. This page "
        "shows both steps, what the second costs in each of several ways, and what it gains and loses against a model "
        "that starts from nothing.",
    )


def _text_step(records: Records) -> str:
    uses = {"base": "what the base is pretrained on", "domain": "what adaptation sees of the domain"}
    texts = records.rows["texts",]
    panels = [
        panel(f"{texts[role]['name']}: {use}, {texts[role]['characters']:,} characters", texts[role]["sample"])
        for role, use in uses.items()
    ]
    return step("1. Text", "<p>Both come from real documentation. One piece of each:</p>", beside(panels))


def _pretraining_step(records: Records, figures: str) -> str:
    facts = records.rows.get(("pretraining",))
    if not facts:
        return ""
    first, last = facts["curve"][0][1], facts["curve"][-1][1]
    cached = ", taken from the cache of an earlier run" if facts["cached"] else ""
    base = facts["base"]
    parts = [
        f"<p>A transformer with {facts['parameters']:,} parameters learns to guess the next token, from nothing: "
        f"{facts['steps']:,} steps in {facts['seconds']:,.0f} seconds{cached}. On held-out text it went from "
        f"{first:.2f} to {last:.2f} bits per character.</p>",
        "<p>Bits per character say how well text is guessed, whatever the tokens are: one bit less means that each "
        "character was, on average, given twice the probability.</p>",
        figures,
    ]
    if base:
        parts.append(
            f"<p>What follows goes on from {text(base['name'])}: the same recipe at {base['steps']:,} steps, "
            f"{base['bits']:.2f} bits per character.</p>"
        )
    return step("2. Pretrain: learn the language from much text", *parts)


def _adaptation_step(records: Records, figures: dict[str, str]) -> str:
    parts = []
    if any(records.of("text")):
        parts.append(
            "<p><em>Full</em> fine-tuning changes every weight of the base. <em>LoRA</em> leaves them as they are and "
            "trains two thin matrices beside each. <em>From scratch</em> is the same model without the base's weights, "
            "with the same text and the same limit on steps. Each keeps the weights that did best on the domain's "
            "validation text.</p>"
        )
        if own := records.header["settings"]["own"]:
            parts.append(
                f"<p><strong>In this run {text(own['what'])} of <code>{text(own['file'])}</code></strong>, which "
                f"passed the checks of lesson {text(own['lesson'])}. All else is minilora's.</p>"
            )
        parts.append(table(claims.adaptation_grid(records)))
    parts.append(figures.get("adaptation", ""))
    if any(records.of("task")):
        classes = ", ".join(records.rows["classes",]["names"])
        parts += [
            "<h3>The same base as a classifier</h3>",
            f"<p>Which part of the library does a summary sentence document? The classes: {text(classes)}. "
            "<em>Feature extraction</em> leaves the whole base frozen and trains only the new head.</p>",
            table(claims.classification_grid(records)),
            figures.get("classification", ""),
        ]
    return step("3. Fine-tune: learn the domain from little text", *parts) if any(parts) else ""


def _outcome_step(records: Records) -> str:
    parts = []
    if said := claims.claims(records):
        parts.append(f"<p>What the numbers of this run say:</p>\n{claims_list(said)}")
    if texts := claims.continuations(records):
        parts += [
            "<h3>The same prompt, before and after</h3>",
            f"<pre>{text(claims.PROMPT)}</pre>\n<p>goes on like this:</p>",
            beside([panel(NAMES[method], continued) for method, continued in texts.items()]),
        ]
    parts.append(
        "<h3>What to do next</h3>\n<p>The same on a text of your own, with the base that comes with the package:</p>\n"
        "<pre>minilora finetune --data my-text.txt --method lora --out runs/mine\n"
        'minilora generate --adapter runs/mine --prompt "Return the"\n'
        "minilora evaluate --adapter runs/mine --data my-text.txt\n"
        "minilora merge --adapter runs/mine --out runs/mine-merged</pre>"
    )
    return step("4. What transfer bought", *parts)


def _settings(records: Records) -> str:
    settings = records.header["settings"]
    facts = {"command": settings["command"], "date": records.header["date"]} | records.header["machine"]
    for role in ("base", "domain"):
        corpus = records.rows["texts",][role]
        facts[f"{role} text"] = f"{corpus['name']}, SHA-256 {corpus['sha256']}"
    if own := settings["own"]:
        facts["own code"] = f"{own['file']}, SHA-256 {own['sha256']}"
    facts["seeds of adaptation"] = ", ".join(map(str, settings["seeds"]))
    note = f'<p class="soft">Every number on this page is in {RECORDS} beside it.</p>'
    return step("Settings", html.facts_table(facts), note)
