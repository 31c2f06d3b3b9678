"""pytest tests/classroom/test_records.py: what a record holds, and when it is read."""

import numpy as np

from minilora.classroom.publish import records
from minilora.peft import LoraConfig, get_peft_model
from minilora.train import recipes

CODE = ["import numpy as np\na = b = 1", "def f(x):\n    return x * scale\n\n\nscale, i, unused = 2, 0, 1\n"]
CODE += ["for i in range(2):\n    a = a + i\nb = [f(i), z]"]


def cell(source: str, tag: bool = False) -> dict:
    return {"cell_type": "code", "source": source, "metadata": {"tags": [records.TAG]} if tag else {}}


def first_line(code: list[str], which: int) -> str:
    cells = [cell(source, i == which) for i, source in enumerate(code)]
    made = records.with_magic({"cells": [{"cell_type": "markdown", "source": "#"}, *cells]}, "01_x", "recorded")
    others = [c["source"] for i, c in enumerate(made["cells"][1:]) if i != which]
    assert others == [source for i, source in enumerate(code) if i != which]
    return made["cells"][1 + which]["source"].partition("\n")[0]


def test_a_record_has_the_variables_that_code_below_and_own_functions_read():
    assert first_line(CODE, 0) == "%%recorded records/01_x_01.npz a"  # b is assigned before it is read
    assert first_line(CODE, 1) == "%%recorded records/01_x_02.npz scale"
    assert first_line(CODE, 2) == "%%recorded records/01_x_03.npz"
    assert first_line(["a = 1", "a = 0", "print(a)"], 0) == "%%recorded records/01_x_01.npz"
    changed = ["a = {}", "x = 1\na[x] = 2\na['c'] = [i for i in a]", "print(a, [x for x in a])"]
    assert first_line(changed, 1) == "%%recorded records/01_x_02.npz a"


def test_weights_of_the_base_take_no_space_and_changes_of_them_are_kept_in_16_bits(tmp_path):
    model, _ = recipes.load_model("base")
    kept = model.get_submodule("model.layers.0.self_attn.v_proj")
    moved = model.get_submodule("model.layers.1.self_attn.v_proj")
    before = moved.weight.numpy()
    change = 1e-3 * np.random.default_rng(0).standard_normal(before.shape, dtype="float32")
    moved.weight.data = before + change
    numbers = np.array([1 / 3, 2.0])
    records.write(tmp_path / "r.npz", {}, {"both": (kept, moved), "numbers": numbers, "value": numbers[0]})
    _, variables = records.read(tmp_path / "r.npz")
    found = variables()
    assert np.array_equal(found["both"][0].weight.numpy(), kept.weight.numpy())
    assert np.linalg.norm(found["both"][1].weight.numpy() - before - change) < 1e-3 * np.linalg.norm(change)
    assert np.array_equal(found["numbers"], numbers) and found["value"] == numbers[0]
    assert (tmp_path / "r.npz").stat().st_size < 2.5 * change.size


def test_an_adapted_model_answers_as_before(tmp_path):
    model = get_peft_model(recipes.load_model("base")[0], LoraConfig(r=2, target_modules="all-linear"), seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = parameter.numpy() + np.float32(0.01)
    records.write(tmp_path / "r.npz", {}, {"model": model})
    found = records.read(tmp_path / "r.npz")[1]()["model"]
    ids = np.arange(5)[None]
    assert np.array_equal(found(ids).logits.numpy(), model(ids).logits.numpy())
    assert recipes.count_parameters(found) == recipes.count_parameters(model)


def test_other_code_and_a_missing_record_are_computed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, computed = "def f():\n    return n\n\n\nn = 1 / 0\n", []
    about = {"code": code.strip(), "seconds": 9.0, "text": "shown\n", "shown": []}
    records.write(tmp_path / "r.npz", about, {"n": 7})
    space = {}
    records.recorded("r.npz n", code, space, computed.append)
    assert computed == [] and space["f"]() == space["n"] == 7
    assert capsys.readouterr().out.startswith("shown\n(9 s")
    records.recorded("r.npz n", code + "n = 2", space, computed.append)
    records.recorded("none.npz n", code, space, computed.append)
    assert computed == [code + "n = 2", code]
