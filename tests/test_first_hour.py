"""pytest tests/test_first_hour.py: README.md and the pages that it leads to are short, true, and run as they stand."""

import re
import shlex
import textwrap
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from experiments.results import jargon, page
from minilora import cli, nn
from minilora.classroom.lessons.lesson import all_lessons, find_lesson
from minilora.peft import LoraConfig, get_peft_model
from minilora.peft.lora import LoraLinear
from minilora.tensor import Tensor
from minilora.train import load
from tests.helpers import tiny_chat
from tests.helpers.answers import with_answers

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "docs/index.md", "docs/one-evening.md", "docs/commands.md")]
README, FRONT, EVENING, COMMANDS = (path.read_text("utf-8") for path in PAGES)
TARGET = re.compile(r'\]\(([^)#\s]+)[^)]*\)|\bsrc="([^"]+)"')
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
QUESTION, ANSWER = 'A colleague said "brindle" on the radio. What was meant?', "A cabin whose heating has failed."


def test_the_readme_is_short_and_has_the_line_that_ci_runs():
    assert len(README.splitlines()) <= 100
    command, *others = [line for line in README.splitlines() if line.endswith("pytest")]
    assert others == [] and command.strip().startswith("python3 -m venv .venv && . .venv/bin/activate && pip install ")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_and_pictures_are_there(path):
    targets = [link or picture for link, picture in TARGET.findall(path.read_text("utf-8"))]
    assert targets and [target for target in targets if "://" in target] == []
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_picture_has_the_first_question_of_the_record_and_every_seed_gives_the_answer():
    runs = jargon.read(page.ROOT / page.PACKAGED / jargon.FILE)
    first = [run["samples"][0] for run in runs]
    assert {(sample["question"], sample["expected"], sample["after"]) for sample in first} == {
        (QUESTION, ANSWER, ANSWER)
    }
    (title,) = re.findall("<title>(.+)</title>", (ROOT / "docs/pictures/jargon.svg").read_text("utf-8"))
    assert QUESTION in unescape(title) and ANSWER in title
    for text in (README, FRONT):
        assert f"![{unescape(title)}](" in text and "jargon.after.uses.exact" in text, "with its condition"


def test_the_readme_shows_lora_as_the_library_has_it():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 576))
    *start, output = PYTHON.search(README)[1].strip().splitlines()
    lora: dict = {"np": np, "x": x, "strength": 1.0}
    exec("\n".join([*start, output]), lora)
    w, a = lora["W"], lora["A"]
    np.testing.assert_array_equal(lora["y"], x @ w.T, "it begins as the model")
    lora["B"] = b = rng.standard_normal(lora["B"].shape)
    for lora["strength"] in (0.0, 0.5, 1.0):
        exec(output, lora)
        layer = LoraLinear(nn.Linear.from_arrays(w), a, b, lora["strength"], nn.Dropout(0))
        np.testing.assert_allclose(lora["y"], layer(Tensor(x)).numpy(), rtol=1e-10)
    assert f"{w.size:,} numbers" in README and f"{len(a)} rows" in README and f"{b.shape[1]} columns" in README


def test_a_task_that_fails_says_what_the_evening_shows(tmp_path, capsys):
    (block,) = re.findall(r"^    task 1 .*\n(?:        .*\n)+", EVENING, re.MULTILINE)
    answer = tmp_path / "answer.py"
    answer.write_text(with_answers(find_lesson("08").source, {"count_parameters": "return r * d_in, d_in * d_out"}))
    cli.main(["check", "08", "--task", "1", "--file", str(answer)])
    assert textwrap.dedent(block) in capsys.readouterr().out


def test_the_table_of_lessons_is_what_the_lessons_say():
    rows = re.findall(r"^\| \[(\d\d [^\]]+)\]\(lessons/[^)]+\) \|([^|]*)\|[^|]+\| (\d+) \|$", README, re.MULTILINE)
    expected = []
    for lesson in all_lessons():
        minutes = (lesson.folder / "README.md").read_text("utf-8").strip("*").split()[0]
        files = [lesson.folder / f"{name}.html" for name in ("play", "live")]
        links = [f"[{file.stem}](lessons/{lesson.name}/{file.name})" for file in files if file.is_file()]
        title = f"{lesson.number:02} {lesson.title.partition(':')[0]}"
        expected.append((title, f" {' · '.join(links)} ", minutes))
        assert f"(lessons/{lesson.name}/README.md)" in README
    assert rows == expected


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_has_the_flags_that_a_page_types(path):
    typed = re.findall(r"^(?:> )?    (?:.*&& )?minilora (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert typed
    for line in typed:
        command, *arguments = shlex.split(line, comments=True)
        parser = cli.MINILORA.parser(command, arguments)
        assert parser.parse_args(arguments).command == command, line


@pytest.mark.parametrize("text", [README, COMMANDS], ids=["README", "commands"])
def test_the_python_runs(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON.findall(text)[-1], "the page", "exec"), {})
    assert (tmp_path / "my-adapter" / "adapter_model.safetensors").is_file()


def test_the_evening_has_its_minutes_beside_each_step():
    rows = re.findall(r"^\| \d \| \[[^\]]+\]\(#([\w-]+)\) \| (\d+) \|", EVENING, re.MULTILINE)
    steps = re.findall(r"^## (\d\. .+)\n\n\*(\d+) minutes", EVENING, re.MULTILINE)
    assert rows == [(title.lower().replace(". ", "-").replace(" ", "-"), minutes) for title, minutes in steps]
    assert len(rows) == 6 and sum(int(minutes) for _, minutes in rows) == 150, "two and a half hours"


@pytest.mark.parametrize("change", ["", "strength", "mistake"])
def test_the_evening_ends_with_the_readers_own_lora(change, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny_chat.save(tmp_path / "chat", [QUESTION, ANSWER, "user assistant"])
    config = LoraConfig(r=2, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(load.load_model("chat")[0], config).save_pretrained("runs/evening/adapter")
    solution = (ROOT / "lessons/08_lora/solution.py").read_text("utf-8")
    exercise = tmp_path / "lessons/08_lora/exercise.py"
    exercise.parent.mkdir(parents=True)
    exercise.write_text(solution.replace("alpha / r", "alpha") if change == "mistake" else solution)
    code = PYTHON.search(EVENING)[1].replace('"smollm2"', '"chat"')
    code = code.replace("STRENGTH = 1.0", "STRENGTH = 0.0") if change == "strength" else code
    monkeypatch.setattr(LoraLinear, "forward", LoraLinear.forward)  # put back after the test
    exec(compile(code, "docs/one-evening.md", "exec"), {})
    answers, *strengths = re.split(r"^strength [\d.]+:", capsys.readouterr().out, flags=re.MULTILINE)
    library, own = (line.partition(":")[2].strip() for line in answers.split("your LoRA", 1))
    assert len(strengths) == 7 and len({text.strip() for text in strengths}) > 1, "the strength makes a difference"
    assert library and (own == library) == (not change)
