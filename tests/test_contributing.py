"""pytest tests/test_contributing.py: the method that CONTRIBUTING.md adds keeps every promise, as it stands there."""

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from minilora import backend, peft
from minilora.models.llama import LlamaConfig
from minilora.peft import CONFIGS, METHODS, Options
from minilora.plan.shapes import shape_of
from minilora.tensor import Tensor
from tests.helpers.copies import copy_folder
from tests.helpers.peft_invariants import CASES, INVARIANTS, MODELS, SIZES, Case, adapted, distance, train

ROOT = Path(__file__).parent.parent
TRAINED = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
TARGETS = ["q_proj", "v_proj", "down_proj"]


def page() -> list[str]:
    """Return the page's two code blocks: the file and the line."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@contextmanager
def added(folder: Path):
    """Add LoHa to `minilora.peft` within the block as the page does, and yield the module made from the page's file."""
    file, line = page()
    path = folder / "loha.py"
    path.write_text(file, encoding="utf-8")
    spec = spec_from_file_location("minilora.peft.loha", path)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # by hand: patch.dict would drop what is imported meanwhile, C modules among them
    with patch.dict(METHODS), patch.dict(CONFIGS):
        spec.loader.exec_module(module)
        exec(line, dict(vars(peft)))
        yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def loha(tmp_path_factory):
    with added(tmp_path_factory.mktemp("page")) as module:
        yield module


@pytest.fixture
def case(loha) -> Case:
    return Case(lambda **more: loha.LoHaConfig(r=3, target_modules=TARGETS, **more), TRAINED)


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.__name__)
def test_promise(case, invariant, tmp_path):
    for model in MODELS:
        invariant(case, model, 0, tmp_path / model)


def test_promises_hold_over_4_bits(case, tmp_path):
    case = Case(case.make, case.trains, quantization=CASES["qlora"].quantization)
    for invariant in INVARIANTS:
        invariant(case, "deep", 0, tmp_path / invariant.__name__)


def test_the_layer_is_the_formula_and_the_record_counts_it(case, loha):
    model = train(adapted(case, "tied", 0))
    layers = [module for _, module in model.named_modules() if isinstance(module, loha.LoHaLinear)]
    assert len(layers) == 6
    for layer in layers:
        w1a, w1b, w2a, w2b = (getattr(layer, name).numpy() for name in TRAINED)
        x = np.random.default_rng(1).standard_normal((2, 7, layer.base_layer.in_features)).astype("float32")
        expected = x @ (layer.base_layer.weight.numpy() + 8 / 3 * (w1a @ w1b) * (w2a @ w2b)).T
        assert distance(layer(Tensor(backend.asarray(x))).numpy(), expected) <= 2e-6
    shape = shape_of(LlamaConfig(**SIZES, **MODELS["tied"]))
    counts = METHODS["loha"].plan(shape, Options(rank=3, targets=TARGETS)).counts
    assert counts.total(shape.layers) == model.get_nb_trainable_parameters()[0]


@pytest.mark.host
def test_one_file_and_one_line_are_all_that_the_commands_need(tmp_path):
    file, line = page()
    assert line.count("\n") == 1
    for package in ("minilora", "experiments"):
        copy_folder(ROOT / package, tmp_path / package)
    (tmp_path / "minilora" / "peft" / "loha.py").write_text(file, encoding="utf-8")
    init = tmp_path / "minilora" / "peft" / "__init__.py"
    init.write_text(init.read_text("utf-8").replace("# ruff: isort: on", f"{line}# ruff: isort: on"), encoding="utf-8")

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", *command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    minilora = ["-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from minilora.cli import main; main()"]
    assert ", loha\n" in run(*minilora, "finetune", "--help")
    plans = json.loads(run(*minilora, "plan", "base", "--json"))["plans"]
    assert {plan["method"] for plan in plans} == {*METHODS} | {"loha"}
    lists = "from minilora.show.grids import NAMES; "
    lists += "from experiments.comparison import METHODS; print(NAMES['loha'], 'loha' in METHODS)"
    assert run("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {lists}") == "LoHa True\n"
