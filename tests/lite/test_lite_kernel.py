"""pytest tests/lite/test_lite_kernel.py: the site in a browser. The kernel starts, and minilora's wheel installs in it.

Needs Chromium, and npm for Pyodide's core. NumPy's build for Pyodide is on Pyodide's own server, so that here
an import gets as far as NumPy, and no further.
"""

import json
import shutil
from urllib.parse import urlencode

import pytest

from minilora import __version__
from minilora.data.tokenizer import Tokenizer
from minilora.train import load
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
    (here / "jupyter-lite.json").write_text(json.dumps(config))
    with chrome.served(here) as url:
        yield url


def test_the_kernel_starts_and_installs_the_wheel(address, site):
    with chrome.Page() as page:
        query = urlencode({"kernel": "python", "code": CODE, "execute": "1"})
        page.call("Page.navigate", url=f"{address}/repl/index.html?{query}")
        text = page.wait("sum 2", seconds=300)
    base = load.base_folder()
    ids = Tokenizer.from_file(base / "tokenizer.json").encode("It's the 10th element,  é 日本").tolist()
    lines = [line.strip() for line in text.splitlines()]
    said = {kind: rest for kind, _, rest in (line.partition(" ") for line in lines)}
    assert (said["version"], said["base"]) == (__version__, str((base / "model.safetensors").stat().st_size))
    assert (said["ids"], said["lacks"], said["sum"]) == (str(ids), "numpy", "2") and int(said["documents"]) > 4000


def test_a_notebook_opens_with_its_note_its_first_words_and_its_results(address, site):
    cells = json.loads((site / "files/notebooks/08_lora.ipynb").read_text())["cells"]
    title = cells[2]["source"].partition("\n")[0].strip("# ")
    result = next(o["text"] for cell in cells for o in cell.get("outputs", []) if "text" in o).splitlines()[0]
    with chrome.Page() as page:
        page.call("Page.navigate", url=f"{address}/notebooks/index.html?path=notebooks/08_lora.ipynb")
        text = page.wait("This copy runs in your browser", "%pip install", title, result, seconds=120)
    assert not [line for line in text.splitlines() if line.startswith(",")]
