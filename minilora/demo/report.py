"""The report of the demo: one HTML file that opens from disk, with its pictures inside, no scripts and no network."""

import os
import tempfile
from collections.abc import Set
from pathlib import Path

from minilora.demo import plots, tables
from minilora.errors import MiniloraError
from minilora.formats.atomic import make_folder, show_path, write_atomic, write_json
from minilora.show import grids, html
from minilora.show.html import beside, held_together, panel, step, table, text

PAGE = "report.html"
RESULTS = "results.json"

# What to look at in each figure, by the name of its file.
CAPTIONS = {
    "pretraining": "Above, what training minimizes; below, the same model on text that it never sees. The letters "
    "mark the steps at which it wrote the lines underneath. Look at what each stretch of the curve brings: letters, "
    "words, then sentences.",
    "adaptation": "Thin lines are seeds, thick lines their mean over the steps that all of them reached; each mark is "
    "a step whose weights were kept. Look at where the lines start: that distance is what pretraining brought. A line "
    "that turns up again has begun to learn its few characters by heart.",
    "quality_against_parameters": "Each mark is a method, its bar half the range over seeds; the dashed line is the "
    "base before any training. Look at the difference in height between methods that train far fewer parameters and "
    "those that train all.",
    "learned_against_forgotten": "The base is at the cross. To the right is what was learned of the domain, upwards "
    "what was lost of the text that the base came from. Look for a method far to the right and near the line at 0.",
    "data_curve": "The same methods with more and more of the domain's text. Look at whether, and where, training from "
    "scratch meets the others: with less text than that, the base is worth having.",
    "accuracy_against_labels": "Each mark is the mean over seeds, its bar half their range; marks at one number of "
    "labels are set a little apart. Look at how the distance to training from scratch changes with more labels.",
}


def check_folder(folder: Path | str, unfinished: Set[str] = frozenset()) -> None:
    """See before anything slow that the report can go to `folder`, creating it where it is missing.

    unfinished: names that a run which was interrupted leaves there. MiniloraError where it cannot be created or
    written, or holds other things and no report of before.
    """
    folder = Path(folder)
    make_folder(folder)
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MiniloraError(f"cannot write into the folder {show_path(folder)}: {error.strerror}") from error
    if set(names) - unfinished and not {PAGE, RESULTS} & set(names):
        raise MiniloraError(f"the folder {show_path(folder)} holds other things and no report: choose another --out")


def write_report(results: dict, folder: Path | str) -> Path:
    """Write results.json, the figures and report.html into `folder`; returns the path of the page."""
    folder = Path(folder)
    make_folder(folder)
    write_json(folder / RESULTS, results)
    pictures = {path.stem: path.read_bytes() for path in plots.save_figures(results, folder)}
    write_atomic(folder / PAGE, page(results, pictures).encode())
    return folder / PAGE


def page(results: dict, pictures: dict[str, bytes]) -> str:
    """The whole page; pictures: the PNG of each figure by its name."""
    figures = {name: html.figure(name, png, CAPTIONS[name]) for name, png in pictures.items()}
    parts = [
        _top(results),
        _text_step(results),
        _pretraining_step(results, figures),
        _adaptation_step(results, figures),
        _outcome_step(results),
        _settings(results),
    ]
    return html.page("what transfer bought", *parts)


# The steps of the story


def _top(results: dict) -> str:
    return html.top(
        "What transfer bought",
        results,
        " This was the quick run: a smaller model and fewer seeds.",
        "A language model first learns from much general text, then from a little text of one domain. This page "
        "shows both steps, what the second costs in each of several ways, and what it gains and loses against a model "
        "that starts from nothing.",
    )


def _text_step(results: dict) -> str:
    texts = results.get("texts") or {}
    uses = {"base": "what the base is pretrained on", "domain": "what adaptation sees of the domain"}
    panels = [
        panel(f"{texts[role]['name']}: {use}, {texts[role]['characters']:,} characters", texts[role]["sample"])
        for role, use in uses.items()
        if role in texts
    ]
    if not panels:
        return ""
    return step("1. Text", "<p>Both come from real documentation. One piece of each:</p>", beside(panels))


def _pretraining_step(results: dict, figures: dict[str, str]) -> str:
    facts = results.get("pretraining") or {}
    if not facts.get("curve"):
        return ""
    first, last = facts["curve"][0][1], facts["curve"][-1][1]
    cached = ", taken from the cache of an earlier run" if facts.get("cached") else ""
    base = facts.get("base")
    parts = [
        f"<p>A transformer with {facts['parameters']:,} parameters learns to guess the next token, from nothing: "
        f"{facts['steps']:,} steps in {facts['seconds']:,.0f} seconds{cached}. On held-out text it went from "
        f"{first:.2f} to {last:.2f} bits a character.</p>",
        "<p>Bits a character say how well text is guessed, whatever the tokens are: one bit less means that each "
        "character was, on average, given twice the probability.</p>",
        figures.get("pretraining", ""),
    ]
    if base:
        parts.append(
            f"<p>What follows goes on from {text(base['name'])}: the same recipe at {base['steps']:,} steps, "
            f"{base['bits']:.2f} bits a character.</p>"
        )
    return step("2. Pretrain: learn the language from much text", *parts)


def _adaptation_step(results: dict, figures: dict[str, str]) -> str:
    names = ("adaptation", "quality_against_parameters", "learned_against_forgotten", "data_curve")
    parts = []
    if results.get("adaptation"):
        parts.append(
            "<p><em>Full</em> fine-tuning changes every weight of the base. <em>LoRA</em> leaves them as they are and "
            "trains two thin matrices beside each. <em>From scratch</em> is the same model without the base's weights, "
            "with the same text and the same limit on steps. Each keeps the weights that did best on the domain's "
            "validation text.</p>"
        )
        if own := results.get("own"):
            parts.append(
                f"<p><strong>In this run {text(own['what'])} of <code>{text(own['file'])}</code></strong>, which "
                f"passed the checks of lesson {text(own['lesson'])}. All else is minilora's.</p>"
            )
        parts.append(table(tables.adaptation_grid(results)))
    parts += [figures[name] for name in names if name in figures]
    if (results.get("classification") or {}).get("rows"):
        classes = ", ".join(results["classification"]["classes"])
        parts.append("<h3>The same base as a classifier</h3>")
        parts.append(
            f"<p>Which part of the library does a summary sentence document? The classes: {text(classes)}. "
            "<em>Feature extraction</em> leaves the whole base frozen and trains only the new head.</p>"
        )
        parts.append(table(tables.classification_grid(results)))
        parts.append(figures.get("accuracy_against_labels", ""))
    return step("3. Fine-tune: learn the domain from little text", *parts) if parts else ""


def _outcome_step(results: dict) -> str:
    parts = []
    said = tables.claims(results)
    if said:
        items = "\n".join(f"<li>{text(held_together(claim))}</li>" for claim in said)
        parts.append(f"<p>What the numbers of this run say:</p>\n<ul>\n{items}\n</ul>")
    continuations = results.get("continuations") or {}
    texts = continuations.get("texts") or {}
    if texts:
        panels = [panel(grids.NAMES.get(method, method), continued) for method, continued in texts.items()]
        parts.append("<h3>The same prompt, before and after</h3>")
        parts.append(f"<pre>{text(continuations.get('prompt', ''))}</pre>\n<p>goes on like this:</p>")
        parts.append(beside(panels))
    parts.append(
        "<h3>What to do next</h3>\n<p>The same on a text of your own, with the base that comes with the package:</p>\n"
        "<pre>minilora finetune --data my-text.txt --method lora --out runs/mine\n"
        'minilora generate --adapter runs/mine --prompt "Return the"\n'
        "minilora evaluate --adapter runs/mine --data my-text.txt\n"
        "minilora merge --adapter runs/mine --out runs/mine-merged</pre>"
    )
    return step("4. What transfer bought", *parts)


def _settings(results: dict) -> str:
    facts = {"command": results.get("command", ""), "date": results.get("date", "")}
    facts |= results.get("machine") or {}
    for role, corpus in (results.get("texts") or {}).items():
        facts[f"{role} text"] = f"{corpus['name']}, SHA-256 {corpus['sha256']}"
    if own := results.get("own"):
        facts["own code"] = f"{own['file']}, SHA-256 {own['sha256']}"
    seeds = sorted({row["seed"] for row in results.get("adaptation") or [] if row["method"] != "base"})
    if seeds:
        facts["seeds of adaptation"] = ", ".join(str(seed) for seed in seeds)
    note = f'<p class="soft">Every number on this page is in {RESULTS} beside it.</p>'
    return step("Settings", html.facts_table(facts), note)
