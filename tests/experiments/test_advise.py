"""pytest tests/results/test_advise.py: the advice follows from the answers, and cites what the records say."""

import builtins
import json
from dataclasses import replace

import pytest

from experiments import compare_model
from experiments.__main__ import main
from experiments.results import advise
from experiments.results.advise import Measured, Situation
from experiments.results.founding import file_of
from minilora.errors import MiniloraError
from minilora.measure.records import Records
from tests.measure.test_curve import made_up

pytestmark = pytest.mark.host

DOMAIN_EXPERT = Situation(2000, 50_000, jargon=True, strict_format=True, changes=False, prototype=False)
PROTOTYPE = Situation(3, 10, jargon=False, strict_format=False, changes=True, prototype=True)
FLAGS = ["--examples", "200", "--queries", "50", "--jargon", "yes"]
FLAGS += ["--strict-format", "no", "--changes", "no", "--prototype", "no"]


@pytest.fixture
def measured(tmp_path):
    """A comparison in which LoRA is best, IA3 level with it, and a prompt brings 0.01."""
    settings = {"model": "smollm2", "data": "numpy-docs", "text_steps": 30}
    records = Records.open(tmp_path / file_of("numpy-docs"), compare_model.KIND, settings)
    records.add(("base",), total=1000, bits=2.0, english=1.6, quiz=0.9)
    for seed, aside in ((0, 0.0), (1, 0.02)):
        records.add(("prompt", seed), bits=1.99 + aside)
        for row, trainable, bits, quiz in (
            ("full", 1000, 1.72, 0.85),
            ("lora", 100, 1.7, 0.8),
            ("pfeiffer", 50, 1.705, 0.9),
            ("ia3", 10, 1.71, 0.9),
            ("prompt", 5, 1.9, 0.9),
        ):
            facts = {"bits": bits + aside, "english": 1.6, "quiz": quiz, "trainable": trainable, "lr": 1e-3}
            records.add(("trained", row, seed), **facts)
    records.add(("cost", "lora"), step_seconds=2.0)
    return Measured(tmp_path)


def test_the_founding_cases(tmp_path):
    nothing = Measured(tmp_path)
    for situation, choice in ((DOMAIN_EXPERT, "fine-tune"), (PROTOTYPE, "prompt")):
        advice = advise.advise(situation, nothing)
        assert advice.choice == choice and not advice.close and advice.method == "lora"


@pytest.mark.parametrize("side", ["fine-tune", "prompt"])
def test_each_answer_speaks_for_the_side_that_it_should(tmp_path, side):
    """Turning one answer moves the balance towards `side`."""
    middle = Situation(50, 50, jargon=False, strict_format=False, changes=False, prototype=False)
    turned = {
        "fine-tune": {"examples": 500, "queries": 500, "jargon": True, "strict_format": True},
        "prompt": {"examples": 5, "changes": True, "prototype": True},
    }
    sign = 1 if side == "fine-tune" else -1

    def balance(situation):
        reasons = advise.advise(situation, Measured(tmp_path)).reasons
        return sign * sum(r.weight if r.towards == "fine-tune" else -r.weight for r in reasons)

    for name, value in turned[side].items():
        assert balance(replace(middle, **{name: value})) > balance(middle)


def test_a_tie_prompts_first_and_says_that_it_is_close(tmp_path):
    tie = Situation(50, 50, jargon=False, strict_format=True, changes=False, prototype=False)
    tie = replace(tie, examples=200)  # 1 + 1 against 1 + 1
    advice = advise.advise(tie, Measured(tmp_path))
    assert advice.close and advice.choice == "prompt"
    assert advise.in_words(advice).startswith("It is close: prompt first")


def test_reasons_cite_the_records(measured):
    advice = advise.advise(DOMAIN_EXPERT, measured)
    lines = advise.in_words(advice).splitlines()
    said = " ".join(" ".join(lines).split())
    assert "smollm2 gained 0.29 bits/character by LoRA, and by the best prompt of the domain's own text 0.00" in said
    assert "on a quiz of general knowledge, full cost smollm2 5 points, LoRA 10 points." in said
    assert advice.method == "ia3"  # level with LoRA, and smaller; prompt tuning is not level
    assert max(map(len, lines)) <= 80
    prompting = " ".join(advise.in_words(advise.advise(PROTOTYPE, measured)).split())
    assert "LoRA took 60 s on smollm2" in prompting


def test_a_row_of_the_comparison_is_a_method(measured):
    assert measured.methods["bottleneck"].trainable == 50


def test_film_reviews_are_cited_by_name_where_there_is_no_curve_of_one_s_own(tmp_path):
    made_up(tmp_path / "records.jsonl", trained=0.9, bayes=0.5).path.rename(tmp_path / "curve-reviews.jsonl")
    said = " ".join(advise.in_words(advise.advise(DOMAIN_EXPERT, Measured(tmp_path))).split())
    assert "too many for a prompt (smollm2 on reviews: 90.0 ± 0.0 % right by LoRA" in said
    assert "for smollm2 on reviews, the best prompt takes 120 ms" in said


def test_a_curve_of_one_s_own_speaks_for_the_better_side(measured, tmp_path, capsys):
    middle = Situation(50, 500, jargon=False, strict_format=False, changes=False, prototype=False)
    for name, side, trained in (("a", "fine-tune", 0.9), ("b", "prompt", 0.6)):
        made_up(tmp_path / name / "records.jsonl", trained=trained, bayes=0.5)
        advice = advise.advise(middle, Measured(tmp_path, tmp_path / name))
        (mine,) = [r for r in advice.reasons if r.text.startswith("smollm2 on reviews: ")]
        assert mine.towards == side and mine.weight == 2 and "65.5 ± 0.5 % by the prompt with 8 examples" in mine.text
        assert "for smollm2 on reviews, the best prompt takes 120 ms" in advise.in_words(advice).replace("\n     ", " ")
        assert advice.method == "lora"  # the curve's, where the comparison has IA3
    assert main(["advise", *FLAGS, "--curve", str(tmp_path / "none")]) == 2
    assert "cannot read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (FLAGS[:4], "missing: --jargon, --strict-format, --changes, --prototype"),
        (["--examples", "-1", *FLAGS[2:]], "--examples must be from 0 to 1,000,000,000,000, not -1"),
        (["--jargon", "perhaps"], "--jargon"),
    ],
)
def test_bad_answers_are_one_line(capsys, monkeypatch, flags, said):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(["advise", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_for_scripts(capsys):
    assert main(["advise", *FLAGS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["choice"] in ("prompt", "fine-tune") and {r["towards"] for r in found["reasons"]} == {
        "prompt",
        "fine-tune",
    }


def test_on_a_terminal_it_asks_until_it_understands(capsys, monkeypatch):
    answers = iter(["many", "2,000", "50000", "perhaps", "yes", "y", "n", "no"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(builtins, "input", lambda question: next(answers))
    assert main(["advise"]) == 0
    said = capsys.readouterr().out
    assert "A whole number, please." in said and "yes or no, please." in said and "Fine-tune" in said
    monkeypatch.setattr(builtins, "input", lambda question: (_ for _ in ()).throw(EOFError))
    assert main(["advise"]) == 2


def test_impossible_numbers_are_refused(measured):
    with pytest.raises(MiniloraError):
        Situation(1, -1, jargon=False, strict_format=False, changes=False, prototype=False)
    assert measured.best_adapter() in advise.ADAPTERS


def test_half_a_curve_says_how_to_go_on(tmp_path):
    (path := tmp_path / "records.jsonl").write_text("".join(made_up(path).path.read_text().splitlines(True)[:-1]))
    with pytest.raises(MiniloraError, match="is half measured; minilora curve --resume goes on"):
        Measured(tmp_path, tmp_path)
