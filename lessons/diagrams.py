"""Drawn pictures: from each pictures.py, of a lesson or of the site's front page, into the folder pictures/ beside it.

    python -m lessons.diagrams          draws them all
    python -m lessons.diagrams --check  names those that are not what is committed

A function of pictures.py without an underscore returns a `Diagram`, which becomes NAME.svg. FROM_NOTEBOOK says which
pictures are taken from the committed notebook of the same name: {"file.svg": "title of the figure"}. Lines and bars are
SVG there, maps are PNG.
"""

import argparse
import base64
import json
import re
import runpy
import sys
from pathlib import Path

from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import write_atomic

ROOT = Path(__file__).parents[1]
SCRIPT, FOLDER = "pictures.py", "pictures"
PICTURE = re.compile(r'src="data:image/(?:png|svg\+xml);base64,([^"]+)"')


def scripts() -> list[Path]:
    return sorted([ROOT / "docs" / SCRIPT, *ROOT.glob(f"lessons/*/{SCRIPT}")])


def drawn(script: Path) -> dict[Path, bytes]:
    """Draw the pictures of a lesson, {file: content}. Raises MiniloraError if a notebook has no such figure."""
    names = runpy.run_path(str(script))
    folder = script.parent / FOLDER
    pictures = {
        folder / f"{name}.svg": value().svg().encode()
        for name, value in names.items()
        if getattr(value, "__module__", "") == "<run_path>" and not name.startswith("_")
    }
    figures = _figures(ROOT / "notebooks" / f"{script.parent.name}.ipynb")
    for file, title in names.get("FROM_NOTEBOOK", {}).items():
        if title not in figures:
            titles = "; ".join(figures)
            raise MiniloraError(f"{script.parent.name}: the notebook has no figure {escape(title)!r}; it has: {titles}")
        pictures[folder / file] = figures[title]
    return pictures


def _figures(notebook: Path) -> dict[str, bytes]:
    """Return the figures of a committed notebook, {title: SVG or PNG}, as `pictures.show` left them."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"] if notebook.is_file() else []
    shown = [output["data"] for cell in cells for output in cell.get("outputs", []) if "data" in output]
    return {
        "".join(data["text/plain"]): base64.b64decode(picture[1])
        for data in shown
        if (picture := PICTURE.search("".join(data.get("text/html", ""))))
    }


def stale() -> list[Path]:
    """Return the pictures that are not what their scripts draw, and files beside them that no script draws."""
    files = {path: data for script in scripts() for path, data in drawn(script).items()}
    there = {path for script in scripts() for path in script.parent.glob(f"{FOLDER}/*")}
    return sorted(there - set(files)) + [p for p, data in files.items() if p not in there or p.read_bytes() != data]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, only list what is out of date")
    if parser.parse_args().check:
        for path in (wrong := stale()):
            print(f"{path.relative_to(ROOT)} is out of date: run python -m lessons.diagrams")
        return 1 if wrong else 0
    for script in scripts():
        for path, data in drawn(script).items():
            path.parent.mkdir(exist_ok=True)
            if not path.is_file() or path.read_bytes() != data:
                write_atomic(path, data)
                print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
