"""pytest tests/test_python_page.py: what docs/python.md says of names from other libraries is so."""

import importlib
import re
from pathlib import Path

import pytest

import minilora
from minilora import Tensor, optim, peft
from minilora.elsewhere import INSTEAD
from minilora.errors import MiniloraError
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host
PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text("utf-8")
ROWS = [row.strip("| ").split(" | ") for row in PAGE.splitlines() if row.startswith("| `")]
NAMES = [(name, here) for names, here in ROWS for name in re.findall(r"`([\w.]+)`", names)]
TEXTS = ["When does the office open? At nine.", "user assistant"]


@pytest.fixture
def chat_model(tmp_path):
    return tiny_chat.save(tmp_path / "chat", TEXTS)


def test_the_snippet_runs(chat_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 30
    exec(compile(code.replace('"smollm2"', repr(str(chat_model))), "docs/python.md", "exec"), {})
    assert capsys.readouterr().out.startswith("trainable params: ")
    model = minilora.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "office-lora")
    assert model.get_nb_trainable_parameters()[0] == 0
    assert model.peft_config.base_model_name_or_path == str(chat_model)


def places(name: str, chat_model: Path) -> list:
    """Find a name of the table in the module that it begins with, else in minilora and its peft."""
    first, dot, _ = name.partition(".")
    if not dot or first not in ("model", "tokenizer", "tensor", "torch"):
        return [peft, minilora]
    if first == "model":
        return [peft.get_peft_model(minilora.AutoModelForCausalLM.from_pretrained(chat_model), peft.LoraConfig(r=2))]
    return [
        {"tokenizer": minilora.AutoTokenizer.from_pretrained(chat_model), "tensor": Tensor, "torch": minilora}[first]
    ]


@pytest.mark.parametrize("name, here", NAMES, ids=[name for name, _ in NAMES])
def test_the_table_is_true(name, here, chat_model):
    path = re.sub(r"^(model|tokenizer|tensor|torch)\.", "", name).split(".")
    if here.startswith("same"):
        errors = []
        for value in places(name, chat_model):
            try:
                for part in path:
                    value = getattr(value, part)
                return
            except (AttributeError, ImportError) as error:
                errors.append(error)
        pytest.fail(f"{name}: {errors}")
    module = optim if name.startswith("torch.optim.") else minilora
    with pytest.raises(ImportError) as error:
        getattr(module, path[-1])
    assert str(error.value) == f"{module.__name__} has no {path[-1]}: {here.replace('`', '')}"


def test_an_import_of_what_is_not_here_says_what_to_use():
    for line in ("from minilora import Trainer", "from minilora.peft import AutoPeftModelForCausalLM"):
        with pytest.raises(ImportError, match=": use "):
            exec(line, {})
    assert not hasattr(minilora, "nonsense") and not hasattr(optim, "nonsense") and not hasattr(peft, "nonsense")


def test_what_is_used_instead_is_there():
    for use in INSTEAD:
        for path in re.findall(r"\b((?:train|quant|models|optim|backend)(?:\.\w+)+)", use):
            module, _, name = path.rpartition(".")
            try:
                importlib.import_module(f"minilora.{path}")
            except ModuleNotFoundError:
                assert hasattr(importlib.import_module(f"minilora.{module}"), name), path


def test_arguments_that_ask_for_something_else_are_refused_by_name(chat_model, capsys):
    load = minilora.AutoModelForCausalLM.from_pretrained
    model = load(chat_model, dtype=minilora.bfloat16, device_map="auto", trust_remote_code=True)
    assert "weights are float32 here, not bfloat16" in capsys.readouterr().err
    ids = [[1, 2, 3]]
    for call, words in [
        (lambda: load(chat_model, load_in_8bit=True), "unknown from_pretrained() argument 'load_in_8bit': "),
        (
            lambda: load(chat_model, device_map="cuda:0"),
            "from_pretrained() takes only device_map='auto' here, not 'cuda:0'",
        ),
        (lambda: model.to("cuda"), "arrays are on 'cpu', not cuda"),
        (lambda: model.generate(ids, 2, num_beams=4), "generate() takes only num_beams=1 here, not 4"),
        (
            lambda: model.generate_stream(ids, 2, penalty=1),
            "unknown generate() argument 'penalty': choose from max_new_tokens, ",
        ),
    ]:
        with pytest.raises(MiniloraError, match=re.escape(words)):
            call()
    greedy = model.generate(ids, 6, temperature=0, eos_token_id=[])
    assert (model.generate(ids, 6, do_sample=False, num_beams=1, use_cache=True, eos_token_id=[]) == greedy).all()
    assert (model.generate(ids, 6, do_sample=True, eos_token_id=[]) == model.generate(ids, 6, eos_token_id=[])).all()
