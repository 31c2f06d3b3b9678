"""pytest tests/lite/test_lite_kernel.py: the site in a browser. The kernel starts, and minilora's wheel installs in it.

Needs Chromium, and npm for Pyodide's core. NumPy's build for Pyodide is on Pyodide's own server, so that here
an import gets as far as NumPy, and no further. LITE_PICTURES=FOLDER keeps pictures of the pages.
"""

import json
import os
import shutil
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from minilora import __version__
from minilora.data.tokenizer import Tokenizer
from minilora.train import recipes
from notebooks import lite
from tests.helpers import chrome
from tests.lite import pyodide_here

PROBLEM = pyodide_here.problem() if chrome.found() else f"no browser here: none of {', '.join(chrome.NAMES)}"
pytestmark = [
    pytest.mark.host,
    pytest.mark.download,
    pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM)),
]

CODE = """
import piplite, importlib.metadata, importlib.resources, json
await piplite.install("minilora", deps=False)
print("version", importlib.metadata.version("minilora"))
base = importlib.resources.files("minilora") / "assets/base"
print("base", (base / "model.safetensors").stat().st_size)
from minilora.data import bpe, corpora
tokenizer = bpe.ByteLevelBPE(json.loads((base / "tokenizer.json").read_text("utf-8")))
print("ids", tokenizer.encode("It's the 10th element,  é 日本").ids)
print("documents", len(corpora.load("python-docs").documents))
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
    pyodide_here.fetch(here / "pyodide")
    config = json.loads((here / "jupyter-lite.json").read_text())
    config["jupyter-config-data"]["litePluginSettings"][lite.KERNEL]["pyodideUrl"] = "./pyodide/pyodide.mjs"
    config["jupyter-config-data"]["exposeAppInBrowser"] = True  # as window.jupyterapp
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
    base = recipes.base_folder()
    ids = Tokenizer.from_file(base / "tokenizer.json").encode("It's the 10th element,  é 日本").tolist()
    lines = [line.strip() for line in text.splitlines()]
    said = {kind: rest for kind, _, rest in (line.partition(" ") for line in lines)}
    assert (said["version"], said["base"]) == (__version__, str((base / "model.safetensors").stat().st_size))
    assert (said["ids"], said["lacks"], said["sum"]) == (str(ids), "numpy", "2") and int(said["documents"]) > 4000


def open_notebook(page: chrome.Page, address: str, path: Path, *words: str) -> str:
    """What the page shows, with the notebook open in it and these words there."""
    title = json.loads(path.read_text())["cells"][2]["source"].partition("\n")[0].strip("# ")
    page.call("Page.navigate", url=f"{address}/notebooks/index.html?path=notebooks/{path.name}")
    return page.wait("This copy runs in your browser", "%pip install", title, *words, seconds=120)


def test_a_notebook_opens_with_its_note_its_first_words_and_its_results(address, site):
    path = site / "files/notebooks/08_lora.ipynb"
    cells = json.loads(path.read_text())["cells"]
    result = next(o["text"] for cell in cells for o in cell.get("outputs", []) if "text" in o).splitlines()[0]
    with chrome.Page() as page:
        text = open_notebook(page, address, path, result)  # which is drawn after the words
        picture(page, "notebook")
    assert not [line for line in text.splitlines() if line.startswith(",")]
    assert result in text


WITHOUT_STORAGE = """
for (const name of ["indexedDB", "localStorage", "sessionStorage", "caches"])
    Object.defineProperty(window, name, {get() { throw new DOMException("denied", "SecurityError"); }});
"""


def test_a_notebook_opens_in_a_browser_without_storage(address, site):
    with chrome.Page() as page:
        page.call("Page.addScriptToEvaluateOnNewDocument", source=WITHOUT_STORAGE)
        open_notebook(page, address, site / "files/notebooks/08_lora.ipynb")
        picture(page, "without-storage")


RUN = """
var notebook = jupyterapp.shell.currentWidget.content;
notebook.activeCellIndex = 1;
notebook.activeCell.model.sharedModel.setSource(%s);
jupyterapp.commands.execute("notebook:run-cell");
true
"""
IDLE = "jupyterapp.shell.currentWidget?.sessionContext.session?.kernel?.status == 'idle'"


def until(page: chrome.Page, expression: str, seconds: float = 300) -> None:
    """Wait until a JavaScript expression holds."""
    end = time.monotonic() + seconds
    while not page.value(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.5)


def test_a_restart_ends_an_endless_loop(address, site):
    with chrome.Page() as page:
        open_notebook(page, address, site / "files/notebooks/02_autograd.ipynb")
        until(page, IDLE)
        page.value(RUN % json.dumps("print('round', 1)\nwhile True: pass"))
        page.wait("round 1", seconds=300)
        page.value("jupyterapp.commands.execute('notebook:restart-kernel'), true")
        until(page, "document.querySelector('.jp-Dialog .jp-mod-accept') != null")
        page.value("document.querySelector('.jp-Dialog .jp-mod-accept').click()")
        page.value(RUN % json.dumps("print('after', 1 + 1)"))
        page.wait("after 2", seconds=300)
        picture(page, "restarted")
