"""Make the package's base in about half an hour on two cores: python -m experiments.base

Its weights are stored in float16 and take less than 6 MB.
"""

import shutil
import tempfile
from pathlib import Path

from minilora.demo.base import PACKAGE_BASE
from minilora.train import load

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = PACKAGE_BASE.make(Path(scratch) / "run", dtype="float16")
        shutil.copytree(made, load.base_folder(), dirs_exist_ok=True)
    print((load.base_folder() / "manifest.json").read_text())
