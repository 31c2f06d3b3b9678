"""What a shared link to the site shows: docs/static/share.png, the front page's three pictures under its name.

    python -m lessons.share          draws it, by headless Chromium
    python -m lessons.share --check  says whether it shows what the three pictures now are

Letters are other ones on another machine, so that the file holds the hash of what it was drawn from.
"""

import argparse
import base64
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lessons import diagrams
from minilora.errors import MiniloraError
from minilora.formats.atomic import write_atomic

PICTURE = diagrams.ROOT / "docs" / "static" / "share.png"
WIDTH, HEIGHT = 1200, 630  # what sites that show links ask for
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars --force-prefers-reduced-motion".split()
HEAD = """<!doctype html><meta charset="utf-8"><title>minilora</title><style>
:root { color-scheme: light; }
body { margin: 90px 40px 0; text-align: center; background: #fff; font: 32px "Liberation Sans", Arial, sans-serif; }
h1 { margin: 0 0 18px; font-size: 64px; line-height: 1; }
p { margin: 0 0 36px; }
div { display: flex; gap: 5px; }
img { flex: 1; min-width: 0; }
</style><h1>minilora</h1><p>Transfer learning, built from arrays up</p><div>"""


def page() -> bytes:
    """Return the HTML that is photographed."""
    pictures = map(base64.b64encode, diagrams.drawn(diagrams.ROOT / "docs" / diagrams.SCRIPT).values())
    return (HEAD + "".join(f'<img src="data:image/svg+xml;base64,{one.decode()}">' for one in pictures)).encode()


def drawn() -> bytes:
    """Draw the PNG, with the hash of its page. Raises MiniloraError if there is no Chromium, or it fails."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise MiniloraError(f"the picture needs a browser, and there is none of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as folder:
        (source := Path(folder) / "share.html").write_bytes(page())
        shot = source.with_suffix(".png")
        where = [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}"]
        subprocess.run([browser, *FLAGS, *where, source.as_uri()], capture_output=True, timeout=120)
        if not shot.is_file():
            raise MiniloraError(f"{browser} has drawn nothing")
        note = PngInfo()
        note.add_text("Source", sha256(page()).hexdigest())
        Image.open(shot).convert("RGB").save(file := BytesIO(), "PNG", pnginfo=note, optimize=True)
    return file.getvalue()


def is_stale() -> bool:
    """Return True if the committed picture was drawn from something else."""
    with Image.open(PICTURE) as picture:
        return picture.info.get("Source") != sha256(page()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if not parser.parse_args().check:
        write_atomic(PICTURE, drawn())
    elif is_stale():
        print(f"{PICTURE.relative_to(diagrams.ROOT)} shows other pictures than the front page")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
