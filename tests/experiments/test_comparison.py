"""pytest tests/experiments/test_comparison.py: the comparison, made tiny: measured, resumed, shown, refused."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import comparison, comparison_report, costs
from experiments.__main__ import main
from experiments.prompts import classify_by_prompt
from minilora import threads
from minilora.demo.base import Base
from minilora.measure.lr_search import best_rate
from minilora.measure.records import Records
from minilora.train.loop import TrainConfig
from notebooks.figures.few_shot import bits_after, prompt_for
from notebooks.figures.topics import TopicLab

pytestmark = pytest.mark.host

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
BASE = Base(
    sizes=SIZES | {"max_position_embeddings": 256, "tie_word_embeddings": True},
    config=TrainConfig(steps=4, peak_lr=1e-2, eval_every=2),
    vocab_size=1024,
    seq_len=32,
    batch_size=4,
)
TINY = replace(
    comparison.QUICK,
    base=BASE,
    methods=("base", "few-shot", "scratch", "lora", "prefix"),
    seeds=(0, 1),
    characters=2_000,
    adapt=TrainConfig(steps=2, eval_every=1),
    labels=2,
    label_curve=(1,),
    classify=TrainConfig(steps=2),
    contexts=(8,),
    shots=(2,),
    test_characters=1_000,
    test_examples=16,
    speed_rounds=1,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(monkeypatch, tmp_path, cache):
    monkeypatch.setattr(comparison, "QUICK", TINY)
    monkeypatch.setenv("MINILORA_CACHE", str(cache))
    return tmp_path / "out"


@pytest.mark.slow
def test_measured_shown_and_resumed_with_the_same_numbers(tiny, capsys):
    assert main(["compare", "--quick", "--out", str(tiny)]) == 0
    captured = capsys.readouterr()
    assert max(map(len, captured.out.splitlines())) <= 80 and "prefix tuning" in captured.out
    path = tiny / comparison.RECORDS
    cells = Records.read(path, comparison.KIND).rows
    keys = [*cells]
    assert {key[1:] for key in keys if key[0] == "text"} == {("base", 0)} | {
        (method, seed) for method in ("few-shot", "scratch", "lora", "prefix") for seed in (0, 1)
    }
    assert {key[3] for key in keys if key[:2] == ("task", "lora")} == {1, 2}  # the curve too
    assert {key[3] for key in keys if key[:2] == ("task", "prefix")} == {2}
    assert {key[1] for key in keys if key[0] == "memory"} == {"scratch", "lora", "prefix"}
    assert "merged" in cells["speed", "lora"] and "merged" not in cells["speed", "prefix"]
    assert all((tiny / f"{name}.png").is_file() for name in comparison_report.FIGURES)

    lines = path.read_text().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if '"text", "lora", 1' in line)
    path.write_text("".join(lines[:cut]) + lines[cut][:-20])
    assert main(["compare", "--quick", "--out", str(tiny)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["compare", "--quick", "--out", str(tiny), "--resume"]) == 0
    assert "is incomplete; its cell is measured again" in capsys.readouterr().err
    again = Records.read(path, comparison.KIND).rows
    same = ("domain", "base_text", "accuracy", "loss", "lr", "trainable")
    assert again.keys() == cells.keys()
    for key, cell in cells.items():
        assert [again[key].get(name) for name in same] == [cell.get(name) for name in same]


def test_the_search_goes_on_while_the_best_is_outermost_and_not_to_one_that_diverges():
    def search(losses: dict[float, float | None]) -> tuple[float, int]:
        tried = []
        return best_rate(1e-3, 3, lambda rate: tried.append(rate) or losses[rate]), len(tried)

    assert search({1e-3: 1.0, 3e-3: None, 3.3e-4: 2.0}) == (1e-3, 3)
    assert search({1e-3: 3.0, 3e-3: 2.0, 3.3e-4: 4.0, 9e-3: 1.5, 0.027: 9.0}) == (9e-3, 5)
    assert search({1e-3: 3.0, 3e-3: 2.0, 3.3e-4: 4.0, 9e-3: 1.5, 0.027: 1.0}) == (0.027, 5)


@pytest.fixture
def result(tmp_path) -> comparison_report.ComparisonResult:
    records = Records.open(tmp_path / "r.jsonl", comparison.KIND, {"labels": 4, "characters": 10})
    facts = {"total": 1000, "file_bytes": 2000, "seconds": 2.0}
    records.add(("text", "base", 0), domain=2.0, base_text=1.0, trainable=0, **facts)
    for seed, domain in ((0, 1.5), (1, 1.7)):
        records.add(("text", "lora", seed), domain=domain, base_text=1.25, trainable=10, lr=0.003, **facts)
        records.add(("task", "lora", seed, 4), accuracy=0.5, lr=0.003)
        records.add(("task", "lora", seed, 8), accuracy=0.9, lr=0.003)
    return comparison_report.ComparisonResult(records)


def test_tables_show_means_and_spreads(result):
    base, lora = comparison_report.grid(result).rows
    assert lora == ("LoRA", "1.0 %", "1.600 ± 0.141", "+0.250", "50.0 ± 0.0 %", "–", "2.0 s", "–")
    assert base[0] == "base as it is" and base[3] == "–"
    assert comparison_report.in_texts(result, "lora") == {
        "trainable": "10",
        "share": "1.0 %",
        "domain": "1.600 ± 0.141",
        "forgot": "+0.250",
        "accuracy": "50.0 ± 0.0 %",
        "time": "2.0 s",
    }


def points(axes, label):
    line = next(c for c in axes.containers if c.get_label() == label)[0]
    return [tuple(point) for point in line.get_xydata()]


def test_figures_show_the_numbers(result):
    (axes,) = comparison_report.quality_against_parameters(result).axes
    assert points(axes, "LoRA") == [(10, pytest.approx(1.6))]
    (axes,) = comparison_report.learned_against_forgotten(result).axes
    assert points(axes, "LoRA") == [(pytest.approx(0.4), pytest.approx(0.25))]


@pytest.fixture(scope="module")
def lab(cache):
    with pytest.MonkeyPatch.context() as patch, threads.using(1):
        patch.setenv("MINILORA_CACHE", str(cache))
        folder = BASE.cached()[0]
        yield TopicLab(folder, 32, 4, 1_000, 1_000, test_examples=16)


@pytest.mark.slow
def test_a_context_costs_no_bits_and_changes_what_follows(lab):
    model = lab.base()
    bits = lambda context: bits_after(model, context, lab.domain_test, 32, 4)  # noqa: E731
    nothing = np.empty(0, dtype=np.int64)
    assert bits(nothing) == pytest.approx(lab.bits(model, lab.domain_test), abs=1e-6)
    assert bits(lab.domain_test.ids[:8]) != pytest.approx(bits(nothing), abs=1e-6)


@pytest.mark.slow
def test_the_prompts_class_is_the_likeliest_next_token(lab):
    classes, model = lab.task.classes, lab.base()
    texts = [example.text for example in lab.test_examples[:3]]
    shots = lab.task.few(1, 0)[:2]
    predicted, tokens = classify_by_prompt(model, lab.tokenizer, classes, shots, texts, batch_size=2)
    first = [lab.tokenizer.encode(f" {name}")[0] for name in classes]
    alone = [lab.tokenizer.encode(prompt_for(classes, shots, text))[-256:] for text in texts]
    assert list(predicted) == [int(model(ids[None]).logits.numpy()[0, -1, first].argmax()) for ids in alone]
    assert tokens == np.mean([len(ids) for ids in alone])
    assert prompt_for(["a", "b"], [], "x") == "x\nTopic:"


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(lab):
    full, lora = (costs.memory_of(lab.base_folder, method, 32, 4) for method in ("full", "lora"))
    assert full["gradients"] == full["weights"] and full["optimizer"] == 2 * full["weights"]
    assert lora["gradients"] < full["gradients"] and lora["weights"] > full["weights"]
    for memory in (full, lora):
        assert memory["process"] > 10 * memory["peak"] > 10 * sum(memory[kind] for kind in comparison_report.KINDS) / 2
