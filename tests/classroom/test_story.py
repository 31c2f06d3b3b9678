"""pytest tests/classroom/test_story.py

lessons/00_whole_story/story.py imports nothing of minilora. Its rules are held to central differences; its model, its
LoRA and its training, to the library.
"""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from minilora import optim
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import LoraConfig, get_peft_model
from minilora.tensor import gradients

pytestmark = pytest.mark.host

STORY = Path(__file__).parents[2] / "lessons" / "00_whole_story" / "story.py"
NAMES = {"input_layernorm": "norm1", "post_attention_layernorm": "norm2"}
NAMES |= {f"self_attn.{name}_proj": name for name in "qkvo"}
NAMES |= {f"mlp.{name}_proj": name for name in ("gate", "up", "down")}
ROW = re.compile(r"(.+?) +([\d.]+) +([\d.]+) +([\d,]+) +([\d.]+)")  # of the table: bits, bits, trained, seconds


@pytest.fixture(scope="module")
def story():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBLAS_NUM_THREADS", "1")  # which the story sets: put back afterwards
        spec = importlib.util.spec_from_file_location("story", STORY)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def name_in_story(name: str) -> str:
    """ "base_model.model.layers.1.self_attn.q_proj.lora_A.weight" is "1.q.A"."""
    name = name.removeprefix("base_model.").removesuffix(".weight")
    if "layers." not in name:
        return {"model.embed_tokens": "embed", "model.norm": "norm"}[name]
    layer, name = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name).groups()
    name, _, part = name.removesuffix(".base_layer").partition(".lora_")
    return f"{layer}.{NAMES[name]}" + (f".{part}" if part else "")


def library_model(story):
    config = LlamaConfig(
        vocab_size=story.V,
        hidden_size=story.C,
        intermediate_size=story.F,
        num_hidden_layers=story.LAYERS,
        num_attention_heads=story.H,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def with_weights_of(model, p):
    """Return the library's model with the story's weights, and its parameters by the story's names."""
    parameters = {name_in_story(name): parameter for name, parameter in model.named_parameters()}
    assert parameters.keys() == p.keys()
    for name, parameter in parameters.items():
        assert parameter.shape == p[name].data.shape, name
        parameter.data = p[name].data
    return parameters


def perturbed(p, rng):
    """Return the weights in float64 with no zeros or ones, so that every path counts."""
    for w in p.values():
        w.data = w.data + 0.1 * rng.standard_normal(w.data.shape)
    return p


def taught(story, rng):
    return story.copy(story.newborn(rng), trains=False) | story.glossary(rng)


def windows(story, rng, batch=2, length=16):
    ids = rng.integers(32, 127, (batch, length + 1))
    return ids[:, :-1], ids[:, 1:]


def test_it_is_short_and_needs_numpy_alone():
    text = STORY.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported |= {node.module} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
    assert {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names) == {"numpy"}


@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
def test_logits_loss_and_gradients_are_the_librarys(story, rng, adapted):
    p = perturbed(taught(story, rng) if adapted else story.newborn(rng), rng)
    model = library_model(story)
    if adapted:
        alpha = story.SCALING * story.RANK
        model = get_peft_model(model, LoraConfig(r=story.RANK, lora_alpha=alpha, target_modules="all-linear"))
    parameters = with_weights_of(model, p)
    ids, targets = windows(story, rng)
    labels = np.concatenate([ids[:, :1], targets], axis=1)

    logits = story.model(p, ids)
    np.testing.assert_allclose(logits.data, model(ids).logits.numpy(), rtol=1e-5, atol=1e-5)  # its angles are float32
    loss = story.cross_entropy(logits, targets)
    theirs = model(labels, labels=labels).loss
    np.testing.assert_allclose(loss.data, theirs.item(), rtol=1e-6)

    loss.backward()
    expected = gradients(theirs)
    assert {name for name, w in p.items() if w.grad is not None} == {n for n, x in parameters.items() if x in expected}
    for name, parameter in parameters.items():
        if parameter in expected:
            scale = np.abs(expected[parameter]).max()
            assert scale > 0, name
            np.testing.assert_allclose(p[name].grad, expected[parameter], rtol=1e-4, atol=1e-5 * scale, err_msg=name)


def test_a_fresh_glossary_changes_nothing_and_is_the_librarys_in_size(story, rng):
    expert = story.newborn(rng)
    pupil = story.copy(expert, trains=False) | story.glossary(rng)
    ids, _ = windows(story, rng)
    assert np.array_equal(story.model(pupil, ids).data, story.model(expert, ids).data)
    model = get_peft_model(library_model(story), LoraConfig(r=story.RANK, target_modules="all-linear"))
    theirs = {name_in_story(n): x.shape for n, x in model.named_parameters() if x.requires_grad}
    assert {name: w.data.shape for name, w in pupil.items() if w.trains} == theirs


def test_training_takes_the_steps_of_the_librarys_adamw(story, rng):
    p, text, steps, rate = perturbed(story.newborn(rng), rng), rng.integers(32, 127, 500), 3, 0.1
    parameters = with_weights_of(model := library_model(story), p)
    optimizer = optim.AdamW(parameters.values(), lr=0.0, betas=(0.9, 0.99), weight_decay=0.01)
    draws = np.random.default_rng(1)
    for step in range(1, steps + 1):
        starts = draws.integers(len(text) - 64, size=4)
        batch = np.stack([text[start : start + 65] for start in starts])
        model(batch, labels=batch).loss.backward()
        optimizer.param_groups[0]["lr"] = rate * min(step / 20, 1 - (step - 1) / steps)
        optimizer.step()
        optimizer.zero_grad()
    before = {name: w.data.copy() for name, w in p.items()}
    story.train(p, text, steps, rate, B=4)
    for name, w in p.items():
        error, move = (np.linalg.norm(w.data - other) for other in (parameters[name].numpy(), before[name]))
        assert error < 1e-3 * move, name  # a gradient near zero that rounds otherwise moves one weight otherwise


def test_a_file_is_either_read_or_held_out(story, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "t.py").write_text('"""[test 1]"""')
    for i in range(40):
        text = f'"""[module {i}]"""\ndef f():\n    """[function {i}] \\d é"""\n    "[no]"'
        (tmp_path / f"m{i}.py").write_text(text, "utf-8")
    parts = [re.findall(r"\[(.+?)\]", bytes(part).decode()) for part in story.docstrings(tmp_path, "**/*.py")]
    assert sorted(parts[0] + parts[1]) == sorted(f"{kind} {i}" for kind in ("module", "function") for i in range(40))
    files = [{name.split()[1] for name in part} for part in parts]
    assert not files[0] & files[1]
    assert 2 <= len(files[1]) <= 14


def test_the_whole_story_in_a_few_steps(story, capsys):
    story.main(school=5, course=2, places=2, letters=3)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    expert, full, lora, away, scratch = (m.groups()[1:] for m in map(ROW.fullmatch, lines) if m)
    assert expert[:2] == away[:2] and len({expert[:2], full[:2], lora[:2], scratch[:2]}) == 4
    assert expert[2] == full[2] == scratch[2] != lora[2]
    assert away[2:] == ("0", "0.0")
