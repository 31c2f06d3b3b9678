"""The pages that answer: from a lesson's play.py, play.js and data one self-contained file, play.html.

    python -m lessons.pages               writes every lessons/NN_name/play.html
    python -m lessons.pages --check       names those that are not what is committed
    python -m lessons.pages --measure 08  first measures the data of a lesson's page anew

play.py says TITLE and BODY, the page's HTML, which tells the story where no script runs. What play.js draws comes from
play.py's data(), called each time, if it is in the records already or is mere arithmetic; if it takes runs of
minilora, from measure(), whose result play.json keeps. `play.js` beside this file is what the pages share.
"""

import argparse
import base64
import html
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np

from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic

ROOT = Path(__file__).parents[1]
SHARED = Path(__file__).with_name("play.js")
SCRIPT, PAGE = "play.py", "play.html"
LARGEST = 200_000  # bytes of a page
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

.row { display: flex; flex-wrap: wrap; gap: .8rem 1.2rem; align-items: center; margin: .8rem 0; }
.row label { display: flex; gap: .6rem; align-items: center; flex: 1 1 16rem; }
input[type=range] { flex: 1 1 8rem; min-width: 0; accent-color: #d9722e; }
button, select, input[type=number] { font: inherit; padding: .3rem .9rem; border-radius: .4rem;
  border: 1px solid var(--soft); background: var(--panel); color: var(--ink); }
:focus-visible { outline: 3px solid #d9722e; outline-offset: 2px; }
input[type=number] { padding: .3rem .5rem; min-width: 4.5rem; }
canvas, svg.picture { display: block; width: 100%; height: auto; background: var(--panel); border-radius: .4rem; }
canvas { image-rendering: pixelated; }
svg.picture { max-width: 40rem; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .over { paint-order: stroke; stroke: var(--panel); stroke-width: 4px; }
svg .axis { stroke: var(--soft); fill: none; }
output, .answer { font-variant-numeric: tabular-nums; }
.beside figure { margin: 0; }
.hidden { display: none; }
@media print {
  body { background: none; }
  .hidden { display: revert; }
  .row > :not(output), figcaption .after { display: none; }
  figure { break-inside: avoid; }
}
"""


def scripts() -> list[Path]:
    return sorted(ROOT.glob(f"lessons/*/{SCRIPT}"))


def written(script: Path) -> bytes:
    """Build the page. Raises MiniloraError if it is larger than it may be, or has no data yet."""
    names = runpy.run_path(str(script))
    kept = script.with_suffix(".json")
    if "data" in names:
        data = as_json(names["data"]())
    elif kept.is_file():
        data = kept.read_text("utf-8").strip()
    else:
        raise MiniloraError(
            f"{escape(script.parent.name)} has no play.json: --measure {script.parent.name[:2]} makes it"
        )
    code = [
        f"const DATA = {data};",
        *(p.read_text("utf-8") for p in (SHARED, script.with_suffix(".js"))),
    ]
    page = framed(names["TITLE"], names["BODY"], "\n".join(code))
    if len(page.encode()) > LARGEST:
        raise MiniloraError(f"{escape(script.parent.name)}: the page has {len(page.encode()):,} bytes of {LARGEST:,}")
    return page.encode()


def framed(title: str, body: str, script: str) -> str:
    """Write the whole page, which opens from disk, without the network."""
    script = script.replace("</", "<\\/")  # which would end it
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<title>minilora: {html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n{body}\n</main>\n<script>\n{script}\n</script>\n</body>\n</html>\n"
    )


def as_json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"))


def packed(array: np.ndarray) -> dict[str, Any]:
    """Pack numbers in 16 bits each, off by scale / 2 at most, as `numbers` of play.js reads them."""
    scale = float(np.abs(array).max() / 32767) or 1.0
    codes = np.round(array / scale).astype("<i2")
    return {"shape": list(array.shape), "scale": scale, "codes": base64.b64encode(codes.tobytes()).decode()}


def unpacked(numbers: dict[str, Any]) -> np.ndarray:
    """Return the array (float64) that `packed` took."""
    codes = np.frombuffer(base64.b64decode(numbers["codes"]), "<i2")
    return (codes * numbers["scale"]).reshape(numbers["shape"])


def every_script() -> list[Path]:
    return [*scripts(), *sorted(ROOT.glob("lessons/*/live.py"))]


def page_of(script: Path) -> bytes:
    """Build the page of a play.py, or of a live.py, which does so by itself."""
    return runpy.run_path(str(script))["page"]() if script.name == "live.py" else written(script)


def stale() -> list[Path]:
    """Return the pages that are not what is committed."""
    pages = {script.with_suffix(".html"): page_of(script) for script in every_script()}
    return [path for path, page in pages.items() if not path.is_file() or path.read_bytes() != page]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--measure", nargs="*", default=[], metavar="NN", help="lessons whose data are measured anew")
    arguments = parser.parse_args()
    if arguments.check:
        for path in (wrong := stale()):
            print(f"{path.relative_to(ROOT)} is not what its sources make")
        return 1 if wrong else 0
    for script in every_script():
        if script.parent.name[:2] in arguments.measure:
            names = runpy.run_path(str(script))
            if "measure" not in names:
                parser.error(f"--measure {script.parent.name[:2]}: this page's data are made anew each time")
            write_atomic(script.with_suffix(".json"), f"{as_json(names['measure']())}\n".encode())
        write_atomic(page := script.with_suffix(".html"), page_of(script))
        print(page.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
