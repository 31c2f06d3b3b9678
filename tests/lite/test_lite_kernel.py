"""pytest tests/lite/test_lite_kernel.py: the site in a browser. The kernel starts, and minilora's wheel installs in it.

Needs Chromium, and npm for Pyodide's core. NumPy's build for Pyodide is on Pyodide's own server, so that here
an import gets as far as NumPy, and no further. LITE_PICTURES=FOLDER keeps pictures of the pages.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from minilora import __version__
from minilora.classroom.publish import lite
from tests.helpers import chrome
from tests.lite import pyodide_here

PROBLEM = pyodide_here.problem() if chrome.found() else f"no browser here: none of {', '.join(chrome.NAMES)}"
pytestmark = [pytest.mark.host, pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))]

CODE = """
import piplite, importlib.metadata, importlib.resources
await piplite.install("minilora", deps=False)
print("version", importlib.metadata.version("minilora"))
print("base", (importlib.resources.files("minilora") / "assets/base/model.safetensors").stat().st_size)
try:
    from minilora import Tensor
except ModuleNotFoundError as error:
    print("lacks", error.name)
print("sum", 1 + 1)
"""


@pytest.fixture(scope="module")
def address(site, tmp_path_factory):
    """Where a copy of the site is served whose kernel takes Pyodide from beside it."""
    here = tmp_path_factory.mktemp("served") / "site"
    shutil.copytree(site, here)
    (here / "pyodide").mkdir()
    try:
        pyodide_here.fetch(here / "pyodide")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no Pyodide here: {error.stderr.decode(errors='replace')[-300:]}")
    config = json.loads((here / "jupyter-lite.json").read_text())
    config["jupyter-config-data"]["litePluginSettings"][lite.KERNEL]["pyodideUrl"] = "./pyodide/pyodide.mjs"
    (here / "jupyter-lite.json").write_text(json.dumps(config))
    with chrome.served(here) as url:
        yield url


def picture(page: chrome.Page, name: str) -> None:
    if folder := os.environ.get("LITE_PICTURES"):
        page.picture(Path(folder) / f"{name}.png")


def test_the_kernel_starts_and_installs_the_wheel(address, site):
    with chrome.Page() as page:
        query = urlencode({"kernel": "python", "code": CODE, "execute": "1"})
        page.call("Page.navigate", url=f"{address}/repl/index.html?{query}")
        text = page.wait("sum 2", seconds=300)
        picture(page, "console")
    base = (lite.ROOT / "minilora/assets/base/model.safetensors").stat().st_size
    assert [f"version {__version__}", f"base {base}", "lacks numpy", "sum 2"] == [
        line.strip() for line in text.splitlines() if line.startswith(("version", "base", "lacks", "sum"))
    ]


def test_a_notebook_opens_with_its_note_and_its_first_words(address, site):
    path = sorted((site / "files/notebooks").iterdir())[-1]
    title = json.loads(path.read_text())["cells"][2]["source"][0].strip("# \n")
    with chrome.Page() as page:
        page.call("Page.navigate", url=f"{address}/notebooks/index.html?path=notebooks/{path.name}")
        page.wait("This copy runs in your browser", "%pip install", title, seconds=120)
        picture(page, "notebook")
