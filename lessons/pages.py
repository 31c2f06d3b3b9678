"""Interactive pages: make a self-contained play.html from a lesson's play.py, play.js and data (08: live.html, too).

    python -m lessons.pages               writes every lessons/NN_name/play.html, and live.html
    python -m lessons.pages --check       names those that are not what is committed
    python -m lessons.pages --measure 08  first measures the data of a lesson's pages anew
    python -m lessons.pages --pictures    takes the pictures for sharing, play.png, with Chromium

play.py has TITLE, NAME, which other pages call it in their links, ABOUT, which says where its link is shared what it
shows, BACKGROUND, which tells there, below the question, what it is about, body(data), the page's HTML, whose question
is in the picture for sharing, before the guess (or HEADLINE, which is shorter), and summary(data), which tells its
story where no script runs. SHOWN describes the picture for sharing, for a page whose drawing has no description. The
data come from play.py's data(), called each time, if they are in the records already or are mere arithmetic; if they
take runs of minilora, from measure(), whose result play.json keeps. So no number is typed by hand. `play.js` beside
this file is what the pages share.
"""

import argparse
import base64
import html
import json
import re
import runpy
import sys
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lessons.cards import FIRST, TALL, WIDE, photograph
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic
from minilora.palette import MEMORY
from minilora.show.style import LOOKS

ROOT = Path(__file__).parents[1]
SHARED = Path(__file__).with_name("play.js")
ICON = ROOT / "docs/static/icon.svg"
SCRIPTS = ("play.py", "live.py")
SHOWN_WHOLE = 150  # characters of a description where a link is shared
LARGEST = 200_000  # bytes of a page that does not set its own limit
NAMED = ("full", "norms", "prefix", "lora", "scratch")  # methods and baselines that pages draw
COLORS = {name: LOOKS[name]["color"] for name in NAMED} | {f"memory-{kind}": color for kind, color in MEMORY.items()}


def variables(white: float = 0) -> str:
    """Return CSS variables with the colours of methods and memory, mixed with this share of white."""
    mixed = {
        name: [round(int(color[i : i + 2], 16) * (1 - white) + 255 * white) for i in (1, 3, 5)]
        for name, color in COLORS.items()
    }
    return ":root {{ {} }}".format(" ".join("--{}: #{:02x}{:02x}{:02x};".format(name, *mixed[name]) for name in mixed))


STYLE = (
    f"""
{variables()}
@media (prefers-color-scheme: dark) {{ {variables(white=0.3)} }}
"""
    + """
:root { color-scheme: light dark; --page: #fdfdfb; --ink: #23272b; --soft: #5d656d; --line: #d9dcdf; --panel: #f3f4f2; }
@media (prefers-color-scheme: dark) {
  :root { --page: #17191c; --ink: #e2e4e6; --soft: #a3abb3; --line: #3a3f45; --panel: #212428; }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: .15em; }
body > nav, main { max-width: 68rem; margin: 0 auto; padding: .5rem 1.2rem 0; }
main { padding-bottom: 3rem; }
nav { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1.5rem; font-size: .9rem;
  color: var(--soft); }
nav span { display: flex; gap: 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .4rem 0 .5rem; }
p { margin: .6rem 0; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
figure { margin: 0; }
figcaption { max-width: 42rem; margin-top: .3rem; }
li { margin: .3rem 0; }
summary { cursor: pointer; }
.again { margin: -.3rem 0 .3rem 1.1rem; font-size: .9rem; }

/* On a wide screen the picture and its controls stay beside the words; on a narrow one they follow the question. */
.stage { background: var(--page); padding: .4rem 0; }
@media (min-height: 40rem) { .stage { position: sticky; top: 0; } }
@media (max-width: 60rem) {
  .beside .stage { max-width: 36rem; }
  .open:not(.linked) .lead { display: none; }
  th, td { padding: .3rem .25rem; }
  h1 { font-size: 1.4rem; }
  nav, nav span { gap: 0 .8rem; font-size: .85rem; }
  body > nav:first-child a[href="../../README.md"] { display: none; } /* there is room for it below */
  .answer { font-size: .95rem; }
  .again { margin: -.5rem 0 0 1.1rem; font-size: .85rem; line-height: 1.35; }
}
@media (min-width: 60rem) {
  .beside { display: grid; grid-template: auto auto 1fr / minmax(0, 1fr) 36rem; gap: 0 2.5rem; }
  .beside h1 { grid-column: 1 / 3; }
  .beside .stage { grid-area: 2 / 2 / 4; align-self: start; }
  .across .say { display: grid; grid-template-columns: 3fr 2fr; gap: 0 2.5rem; align-items: start; }
  .more { max-width: 46rem; }
  body:not(.open) .say :is(.lead, #guess) { font-size: 1.25rem; }
}

.row { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; align-items: center; margin: .4rem 0; }
.row label { display: flex; gap: .6rem; align-items: center; flex: 0 1 auto; }
.row .long { flex: 1 1 14rem; }
.row .long b { flex: none; white-space: nowrap; text-align: right; font-variant-numeric: tabular-nums; }
#guess label { display: contents; }
#guess span { flex: 1 0 100%; }
#guess { background: var(--panel); border-radius: .4rem; padding: .5rem .8rem; }
input { accent-color: var(--ink); }
input[type=range] { flex: 1 1 6rem; min-width: 0; margin: 0; }
button, select, input[type=number] { font: inherit; padding: .2rem .8rem; border-radius: .4rem;
  border: 1px solid var(--soft); background: var(--panel); color: var(--ink); }
:focus-visible { outline: 3px solid var(--ink); outline-offset: 2px; }
input[type=number] { padding: .2rem .4rem; width: 5.8rem; background: var(--page); }
.answer { border-left: .3rem solid var(--ink); padding-left: .8rem; }
.answer:empty { display: none; }
a[href$=".md"]::after { content: " (text)"; font-size: .85em; color: var(--soft); } /* from disk; on the site, a page */
.said { display: block; min-height: 4.5em; font-variant-numeric: tabular-nums; }
svg.picture { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .big { font-size: 24px; font-weight: 700; }
svg .over { paint-order: stroke; stroke: var(--page); stroke-width: 4px; }
svg .axis { stroke: var(--soft); fill: none; }
canvas { display: block; width: 100%; height: auto; image-rendering: pixelated; }

/* Bars in a row of their own: a name, a share of the line at 100 %, and the number. */
.gauge { display: grid; grid-template-columns: 6.5rem 1fr 4rem; gap: .6rem; align-items: center; line-height: 1.6; }
.gauge > span:nth-child(2) { position: relative; height: .9rem; margin-right: 12%; border-right: 2px solid var(--soft);
  background: var(--panel); }
.gauge i { position: absolute; inset: 0 auto 0 0; max-width: 113%; }
.gauge b { text-align: right; font-variant-numeric: tabular-nums; }
.hidden { display: none !important; }
@media (scripting: none) { .stage, #guess, .after { display: none; } }
@media print {
  body { background: none; }
  .hidden { display: revert !important; }
  .open .lead { display: block; }
  .stage { position: static; background: none; }
  #guess, .again, .row, .row > *, main button, nav, figcaption .after { display: none !important; }
  figure, .stage, table { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
)


def scripts() -> list[Path]:
    """Return the scripts of all pages, in the order in which the pages follow one another."""
    return [one for lesson in sorted(ROOT.glob("lessons/*/")) for name in SCRIPTS if (one := lesson / name).is_file()]


@cache
def names_of(script: Path) -> dict[str, Any]:
    """Run a page's script and return its names."""
    return runpy.run_path(str(script))


def written(script: Path) -> bytes:
    """Build the page. Raises MiniloraError if it is larger than it may be, or has no data yet."""
    names = names_of(script)
    cached = script.with_suffix(".json")
    if "data" in names:
        data = names["data"]()
    elif cached.is_file():
        data = json.loads(cached.read_text("utf-8"))
    else:
        raise MiniloraError(
            f"{escape(script.parent.name)} has no {cached.name}: make it with --measure {script.parent.name[:2]}"
        )
    return built(script, names, data)


def built(script: Path, names: dict[str, Any], data: dict[str, Any]) -> bytes:
    """Build the page of a script, whose names these are, from its data. Raises MiniloraError if it is too large."""
    code = [
        f"const DATA = {as_json(data)};",
        *(p.read_text("utf-8") for p in (SHARED, script.with_suffix(".js"))),
    ]
    summary = names["summary"](data)
    background = names.get("BACKGROUND", "")
    body = names["body"](data).replace(
        "<!-- summary -->",
        f"<noscript><p>Scripts are off, so nothing moves here. {html.escape(summary)}</p></noscript>",
    )
    body = body.replace('<div class="say">', f'<div class="say" data-background="{html.escape(background)}">', 1)
    label = re.search(r'role="img"\s+aria-label="([^"]*)"', body)
    title = names["TITLE"] if names["TITLE"].endswith("?") else f"{names['TITLE']}."
    headline = names.get("HEADLINE") or question(body)
    drawn = names.get("SHOWN") or " ".join(label[1].split() if label else [])
    shown = " ".join(dict.fromkeys(filter(None, [title, headline, background and f"{background}.", drawn])))
    head = sharing(names["TITLE"], names["ABOUT"], script.with_suffix(".png").name, shown)
    links = navigation(script, is_short=True), navigation(script)
    page = framed(names["TITLE"], body, "\n".join(code), head, links, names.get("LAYOUT", "beside"))
    content, most = page.encode(), names.get("LARGEST", LARGEST)
    if len(content) > most:
        raise MiniloraError(f"{escape(script.parent.name)}: the page has {len(content):,} bytes, more than {most:,}")
    return content


def navigation(script: Path, is_short: bool = False) -> str:
    """Return links home, to the page's lesson, to the page before and to the next one; is_short: by number and NAME.

    The last page leads to the reader's own data. docs/conf.py leads all of them to the site's pages.
    """
    lesson = re.search("^# ([^:,\n]+)", (script.parent / "README.md").read_text("utf-8"), re.M)
    assert lesson, "a reading begins with its title"
    others = scripts()
    i = others.index(script)
    links = []
    for way, sign, there in (("prev", "\u2190 {}", others[:i][-1:]), ("next", "{} \u2192", others[i + 1 : i + 2])):
        for other in there:
            number, title = other.parent.name[:2], names_of(other)["TITLE"]
            text = sign.format(f"{number} {names_of(other)['NAME'] if is_short else title}")
            page = f"../{other.parent.name}/{other.with_suffix('.html').name}"
            links.append(f'<a rel="{way}" href="{page}" title="{html.escape(title)}">{text}</a>')
    if script == others[-1]:
        text = "own data" if is_short else "Your own data"
        links.append(f'<a rel="next" href="../../docs/own-data.md" title="Your own data">{text} →</a>')
    name = f"Lesson {lesson[1].split()[0] if is_short else html.escape(lesson[1])}"
    home = f'<a href="../../README.md">minilora</a> <a href="README.md">{name}</a>'
    return f"<nav><span>{home}</span> <span>{' '.join(links)}</span></nav>\n"


def question(body: str) -> str:
    """Return what a page asks before it answers, as its picture has it, or nothing if it does not ask."""
    form = re.search(rf'<form id="guess".*?<span>(?:{FIRST})?(.*?)</span>', body, re.S)
    words = re.sub("<small>.*?</small>|<[^>]*>", "", form[1], flags=re.S) if form else ""
    return " ".join(html.unescape(words[:1].upper() + words[1:]).split())


def shortened(text: str) -> str:
    """Return the first sentences of a text that are shown whole where a link to it is shared."""
    first, *others = re.split(r"(?<=[.?!:]) ", text)
    for sentence in others:
        if len(first) + 1 + len(sentence) > SHOWN_WHOLE:
            break
        first += f" {sentence}"
    return textwrap.shorten(first, SHOWN_WHOLE, placeholder=" …")


def sharing(title: str, about: str, picture: str, shown: str) -> str:
    """Return what is shown of the page where its link is shared: title, description and picture, which shows `shown`.

    The picture's address is relative until the site's own is known, which docs/conf.py puts before it.
    """
    description = f"{about} · a course in NumPy"
    properties = {
        "og:title": title,
        "og:description": description,
        "og:type": "article",
        "og:image": picture,
        "og:site_name": "minilora",
        "og:image:alt": shown,
        "og:image:width": str(WIDE),
        "og:image:height": str(TALL),
        "twitter:card": "summary_large_image",
    }
    icon = f"data:image/svg+xml;base64,{base64.b64encode(ICON.read_bytes()).decode()}"
    head = f'<meta name="description" content="{html.escape(description)}">\n<link rel="icon" href="{icon}">\n'
    return head + "".join(
        f'<meta {"name" if name.startswith("twitter") else "property"}="{name}" content="{html.escape(text)}">\n'
        for name, text in properties.items()
    )


def framed(
    title: str, body: str, script: str, head: str = "", links: Sequence[str] = ("", ""), layout: str = ""
) -> str:
    """Write the whole page, which opens from disk, without the network.

    head: further elements of its head; links: the way to other pages, above and below; layout: "beside", the picture
    beside the words, or "across", the picture as wide as the page.
    """
    script = script.replace("</", "<\\/")  # which would end it
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        '<base target="_top">\n'  # the front page shows a page in a frame
        f"<title>{html.escape(title)} | minilora</title>\n{head}<style>{STYLE}</style>\n</head>\n<body>\n{links[0]}"
        f'<main class="{layout}">\n<h1>{title}</h1>\n{body}\n</main>\n{links[1]}'
        f"<script>\n{script}\n</script>\n</body>\n</html>\n"
    )


def as_json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def packed(array: np.ndarray) -> dict[str, Any]:
    """Pack numbers in 16 bits each, off by scale / 2 at most, as `numbers` of play.js reads them."""
    scale = float(np.abs(array).max() / 32767) or 1.0
    codes = np.round(array / scale).astype("<i2")
    return {"shape": list(array.shape), "scale": scale, "codes": base64.b64encode(codes.tobytes()).decode()}


def unpacked(numbers: dict[str, Any]) -> np.ndarray:
    """Return the array (float64) that `packed` took."""
    codes = np.frombuffer(base64.b64decode(numbers["codes"]), "<i2")
    return (codes * numbers["scale"]).reshape(numbers["shape"])


def stale() -> list[Path]:
    """Return the pages that are not what is committed."""
    pages = {script.with_suffix(".html"): written(script) for script in scripts()}
    return [path for path, page in pages.items() if not path.is_file() or path.read_bytes() != page]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, only list what is out of date")
    parser.add_argument("--pictures", action="store_true", help="take the pictures for sharing, with Chromium")
    parser.add_argument("--measure", nargs="*", default=[], metavar="NN", help="lessons whose data to measure again")
    arguments = parser.parse_args()
    if arguments.check:
        for path in (wrong := stale()):
            print(f"{path.relative_to(ROOT)} is out of date: run python -m lessons.pages")
        return 1 if wrong else 0
    for script in scripts():
        if script.parent.name[:2] in arguments.measure:
            names = runpy.run_path(str(script))
            if "measure" not in names:
                parser.error(f"--measure {script.parent.name[:2]}: this page's data are made anew each time")
            write_atomic(script.with_suffix(".json"), f"{as_json(names['measure']())}\n".encode())
        write_atomic(page := script.with_suffix(".html"), written(script))
        print(page.relative_to(ROOT))
        if arguments.pictures:
            photograph(script, names_of(script).get("HEADLINE", ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
