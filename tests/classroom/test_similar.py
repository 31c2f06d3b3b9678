"""pytest tests/classroom/test_similar.py: which answers of a class are alike."""

import ast
import re

import pytest

from minilora.classroom.lessons.lesson import find_lesson
from minilora.classroom.teaching.collecting import collect
from minilora.classroom.teaching.similar import find_pairs, parts_of
from minilora.cli import main
from tests.helpers.answers import with_answers

pytestmark = pytest.mark.host

LORA = find_lesson("08")
HERS = """
found = []
for path, module in list(model.named_modules()):
    last = path[path.rfind(".") + 1 :]
    if isinstance(module, nn.Linear) and last in set(targets):
        found.append((path, module, last))
left = [name for name in targets if not any(name == last for _, _, last in found)]
if len(left) > 0:
    raise ValueError("nothing matches " + " or ".join(left))
for parameter in model.parameters():
    parameter.requires_grad_(False)
for k in range(len(found)):
    model.replace(found[k][0], LoraLayer(found[k][1], r, alpha, seed + k))
return [entry[0] for entry in found]
"""
COPIED = """
hits = []  # my own idea
for where, layer in list(model.named_modules()):
    tail = where[where.rfind(".") + 1 :]
    if isinstance(layer, nn.Linear) and tail in set(targets):
        hits.append((where, layer, tail))
missing = [t for t in targets if not any(t == tail for _, _, tail in hits)]
if len(missing) > 0:
    raise ValueError("no such layer: " + ", ".join(missing))
for p in model.parameters():
    p.requires_grad_(False)
for i in range(len(hits)):
    model.replace(hits[i][0], LoraLayer(hits[i][1], r, alpha, seed + i))
return [hit[0] for hit in hits]
"""
OTHER = """
names = {}
for path, module in model.named_modules():
    if type(module) is nn.Linear:
        names.setdefault(path.split(".")[-1], {})[path] = module
if not set(targets) <= set(names):
    raise ValueError(f"{targets} and {list(names)}")
model.requires_grad_(False)
order = [path for path, _ in model.named_modules() if any(path in names[t] for t in targets)]
for offset, path in enumerate(order):
    model.replace(path, LoraLayer(names[path.split(".")[-1]][path], r, alpha, seed=seed + offset))
return order
"""


def hand_in(folder, **answers: str):
    for student, text in answers.items():
        (folder / student).mkdir(parents=True)
        (folder / student / "08_lora.py").write_text(text, encoding="utf-8")
    return folder


def injecting(code: str) -> str:
    return with_answers(LORA.source, {"inject": code})


def backwards(text: str) -> str:
    """The definitions of a file in the other order, each with a sentence of its own."""
    head, *cells = text.split("\n# %%\n")
    return re.sub(r'"""(?=\S)', '"""In my words: ', "\n# %%\n".join([head, cells[0], *cells[:0:-1]]))


def test_a_copy_is_found_whatever_was_renamed_moved_or_described_anew(tmp_path):
    folder = hand_in(tmp_path, eve=backwards(injecting(COPIED)), ada=injecting(HERS), cem=injecting(OTHER))
    pairs, left_out = find_pairs(collect(folder, [LORA], None), LORA, 0.4)
    assert [pair.names for pair in pairs] == [("ada", "eve")] and left_out == {}
    hers, copied = pairs[0].panels
    assert "<mark>    left = [" in hers and "<mark>    missing = [" in copied
    assert "count_parameters" not in hers  # no line of it is their own


def test_what_makes_a_difference():
    def forms(text: str) -> set[str]:
        return set(parts_of(ast.parse(text)))

    one = 'def f(x: int, y=1) -> int:\n    """Doc."""\n    total = x * 2 + len(y) - 3\n    return np.sum(total, axis=0)'
    same = "def g(a, b=None):\n    s = a * 5 + len(b) - 'k'\n    return numpy.sum(s, axis=1.5)"
    assert len(forms(one)) == 5 and forms(one) == forms(same)
    for before, after in (
        ("len(y)", "len(x)"),
        ("np.sum", "np.max"),
        ("len", "abs"),
        ("* 2", "/ 2"),
        ("axis", "where"),
    ):
        assert forms(one.replace(before, after)) != forms(one), before


def test_what_everybody_has_is_no_likeness(tmp_path):
    folder = hand_in(tmp_path, ada=LORA.source.text, ben=LORA.source.text, eve=LORA.source.exercise())
    pairs, _ = find_pairs(collect(folder, [LORA], None), LORA, 0.1)
    assert pairs == []
    everybody = {f"s{i}": injecting(HERS) for i in range(12)}
    pairs, _ = find_pairs(collect(hand_in(tmp_path / "class", **everybody), [LORA], None), LORA, 0.01)
    assert pairs == []


def test_the_command_writes_a_page_that_decides_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hand_in(tmp_path / "in", **{"a<b>": injecting(HERS), "eve": injecting(COPIED), "dan": "def ("})
    deep = "x = " + "-" * 5000 + "1"
    hand_in(tmp_path / "in", deep=injecting(f"{deep}\nreturn []"), ben=injecting(OTHER))
    assert main(["similar", "in", "--lessons", "08"]) == 0
    out = capsys.readouterr().out
    assert "08_lora  a<b>, eve" in out and "left out: dan, 08_lora: 08_lora.py, line 1" in out and "deep" in out
    page = (tmp_path / "similar.html").read_text("utf-8")
    assert "This page decides nothing." in page and "a&lt;b&gt;" in page and "<b>" not in page
    assert page.count("<section>") == 1 and "<script" not in page


def test_what_is_no_share_is_refused(tmp_path, capsys):
    assert main(["similar", str(tmp_path), "--least", "80"]) == 2
    assert "--least" in capsys.readouterr().err
