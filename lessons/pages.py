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
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np

from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic
from minilora.show import html

ROOT = Path(__file__).parents[1]
SHARED = Path(__file__).with_name("play.js")
SCRIPT, PAGE = "play.py", "play.html"
LARGEST = 200_000  # bytes of a page
STYLE = """
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
    page = html.page(names["TITLE"], f"<h1>{names['TITLE']}</h1>", names["BODY"], script="\n".join(code), style=STYLE)
    if len(page.encode()) > LARGEST:
        raise MiniloraError(f"{escape(script.parent.name)}: the page has {len(page.encode()):,} bytes of {LARGEST:,}")
    return page.encode()


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


def stale() -> list[Path]:
    """Return the pages that are not what is committed."""
    pages = {script.with_name(PAGE): written(script) for script in scripts()}
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
    for script in scripts():
        if script.parent.name[:2] in arguments.measure:
            names = runpy.run_path(str(script))
            if "measure" not in names:
                parser.error(f"--measure {script.parent.name[:2]}: this page's data are made anew each time")
            write_atomic(script.with_suffix(".json"), f"{as_json(names['measure']())}\n".encode())
        write_atomic(script.with_name(PAGE), written(script))
        print(script.with_name(PAGE).relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
