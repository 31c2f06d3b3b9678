"""The report of the demo: one HTML file that opens from disk, with its pictures inside, no scripts and no network."""

import base64
import os
import tempfile
from html import escape
from pathlib import Path

from ..errors import MiniloraError
from ..formats.atomic import make_folder, show_path, write_atomic, write_json
from . import grids, plots, tables

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

STYLE = """
:root { color-scheme: light dark; --page: #fdfdfb; --ink: #23272b; --soft: #5d656d; --line: #d9dcdf; --panel: #f3f4f2; }
@media (prefers-color-scheme: dark) {
  :root { --page: #17191c; --ink: #e2e4e6; --soft: #a3abb3; --line: #3a3f45; --panel: #212428; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.6 system-ui, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts th { vertical-align: top; font-weight: 600; }
figure { margin: 1.6rem 0; }
img { display: block; width: 100%; max-width: 42rem; height: auto; background: #fff; border-radius: .4rem; }
figcaption { max-width: 42rem; margin-top: .5rem; }
.beside { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); }
pre { background: var(--panel); border-radius: .4rem; padding: .8rem; margin: 0; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .82rem/1.5 ui-monospace, monospace; }
li { margin: .3rem 0; }
"""


def check_folder(folder: Path | str) -> None:
    """See before anything slow that the report can go to `folder`, creating it where it is missing.

    MiniloraError where it cannot be created or written, or holds other things and no report of before.
    """
    folder = Path(folder)
    make_folder(folder)
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MiniloraError(f"cannot write into the folder {show_path(folder)}: {error.strerror}") from error
    if names and not {PAGE, RESULTS} & set(names):
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
    figures = {name: _figure(name, png) for name, png in pictures.items()}
    parts = [
        _top(results),
        _text_step(results),
        _pretraining_step(results, figures),
        _adaptation_step(results, figures),
        _outcome_step(results),
        _settings(results),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>minilora: what transfer bought</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


# The steps of the story


def _top(results: dict) -> str:
    quick = " This was the quick run: a smaller model and fewer seeds." if results.get("quick") else ""
    return (
        "<header><h1>What transfer bought</h1>\n"
        f'<p class="soft"><code>{_text(results.get("command", ""))}</code> · {_text(results.get("date", ""))} · '
        f"{results.get('seconds', 0):,.0f} seconds.{quick}</p></header>\n"
        "<p>A language model first learns from much general text, then from a little text of one domain. This page "
        "shows both steps, what the second costs in each of several ways, and what it gains and loses against a model "
        "that starts from nothing.</p>"
    )


def _text_step(results: dict) -> str:
    texts = results.get("texts") or {}
    uses = {"base": "what the base is pretrained on", "domain": "what adaptation sees of the domain"}
    panels = [
        _panel(f"{texts[role]['name']}: {use}, {texts[role]['characters']:,} characters", texts[role]["sample"])
        for role, use in uses.items()
        if role in texts
    ]
    if not panels:
        return ""
    return _step("1. Text", "<p>Both come from real documentation. One piece of each:</p>", _beside(panels))


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
            f"<p>What follows goes on from {_text(base['name'])}: the same recipe at {base['steps']:,} steps, "
            f"{base['bits']:.2f} bits a character.</p>"
        )
    return _step("2. Pretrain: learn the language from much text", *parts)


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
                f"<p><strong>In this run {_text(own['what'])} of <code>{_text(own['file'])}</code></strong>, which "
                f"passed the checks of lesson {_text(own['lesson'])}. All else is minilora's.</p>"
            )
        parts.append(_table(tables.adaptation_grid(results)))
    parts += [figures[name] for name in names if name in figures]
    if (results.get("classification") or {}).get("rows"):
        classes = ", ".join(results["classification"]["classes"])
        parts.append("<h3>The same base as a classifier</h3>")
        parts.append(
            f"<p>Which part of the library does a summary sentence document? The classes: {_text(classes)}. "
            "<em>Feature extraction</em> leaves the whole base frozen and trains only the new head.</p>"
        )
        parts.append(_table(tables.classification_grid(results)))
        parts.append(figures.get("accuracy_against_labels", ""))
    return _step("3. Fine-tune: learn the domain from little text", *parts) if parts else ""


def _outcome_step(results: dict) -> str:
    parts = []
    said = tables.claims(results)
    if said:
        items = "\n".join(f"<li>{_text(_held_together(claim))}</li>" for claim in said)
        parts.append(f"<p>What the numbers of this run say:</p>\n<ul>\n{items}\n</ul>")
    continuations = results.get("continuations") or {}
    texts = continuations.get("texts") or {}
    if texts:
        panels = [_panel(grids.NAMES.get(method, method), text) for method, text in texts.items()]
        parts.append("<h3>The same prompt, before and after</h3>")
        parts.append(f"<pre>{_text(continuations.get('prompt', ''))}</pre>\n<p>goes on like this:</p>")
        parts.append(_beside(panels))
    parts.append(
        "<h3>What to do next</h3>\n<p>The same on a text of your own, with the base that comes with the package:</p>\n"
        "<pre>minilora finetune --data my-text.txt --method lora --out runs/mine\n"
        'minilora generate --adapter runs/mine --prompt "Return the"\n'
        "minilora evaluate --adapter runs/mine --data my-text.txt\n"
        "minilora merge --adapter runs/mine --out runs/mine-merged</pre>"
    )
    return _step("4. What transfer bought", *parts)


def _settings(results: dict) -> str:
    facts = {"command": results.get("command", ""), "date": results.get("date", "")}
    facts |= results.get("machine") or {}
    for role, text in (results.get("texts") or {}).items():
        facts[f"{role} text"] = f"{text['name']}, SHA-256 {text['sha256']}"
    if own := results.get("own"):
        facts["own code"] = f"{own['file']}, SHA-256 {own['sha256']}"
    seeds = sorted({row["seed"] for row in results.get("adaptation") or [] if row["method"] != "base"})
    if seeds:
        facts["seeds of adaptation"] = ", ".join(str(seed) for seed in seeds)
    rows = "\n".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in facts.items()
    )
    note = f'<p class="soft">Every number on this page is in {RESULTS} beside it.</p>'
    return _step("Settings", f'<div class="wide"><table class="facts"><tbody>\n{rows}\n</tbody></table></div>', note)


# Parts


def _text(value: object) -> str:
    """Any text, made harmless: markup escaped, and a replacement sign for control and invisible characters."""
    return escape("".join(c if c.isprintable() or c in "\n\t\u00a0" else "\ufffd" for c in str(value)))


def _held_together(sentence: str) -> str:
    """No line breaks between a number, its spread and its percent sign."""
    return sentence.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")


def _step(title: str, *parts: str) -> str:
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{_text(title)}</h2>\n{body}\n</section>"


def _panel(title: str, text: str) -> str:
    return f'<div><p class="soft">{_text(title)}</p><pre>{_text(text)}</pre></div>'


def _beside(panels: list[str]) -> str:
    return f'<div class="beside">\n{"".join(panels)}\n</div>'


def _table(grid: grids.Grid) -> str:
    head = "".join(f'<th scope="col">{_text(" ".join(name.split()))}</th>' for name in grid.header)
    rows = "\n".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in grid.rows)
    return (
        f'<figure><div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n'
        f"<figcaption><strong>{_text(grid.title)}.</strong> {_text(grid.caption)}</figcaption></figure>"
    )


def _figure(name: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{_text(name.replace("_", " "))}">'
        f"<figcaption>{_text(CAPTIONS[name])}</figcaption></figure>"
    )
