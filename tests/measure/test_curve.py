"""pytest tests/measure/test_curve.py: the curve's cells on a tiny chat model, its table and sentence, and bad input."""

import json
import sys
from dataclasses import replace

import pytest

from minilora.cli import main
from minilora.data.chat import response_of
from minilora.measure import curve, curve_report, word_counts
from minilora.measure.curve import CurveSettings, read_task
from minilora.measure.records import Records
from minilora.measure.statistics import t_quantile
from minilora.train import defaults
from minilora.train.metrics import TaskScore
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host

WORDS = {"positive": "a joy", "negative": "dull"}


def rows(count: int, labels=("positive", "negative"), start: int = 0) -> list[dict]:
    made = [(f"Rate: {WORDS.get(x, x)}, number {i}", x) for i in range(start, start + count) for x in labels]
    return [{"prompt": prompt, "response": label} for prompt, label in made]


def write(path, rows: list[dict]):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a tiny chat model, 40 examples of two labels and 24 held-out ones."""
    folder = tmp_path_factory.mktemp("curve")
    tiny_chat.save(folder / "model", [row["prompt"] + row["response"] for row in rows(30)])
    write(folder / "train.jsonl", rows(20))
    write(folder / "test.jsonl", rows(12, start=100))
    return folder


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(defaults, "LEAST_STEPS", 2)


def settings(folder, **other) -> CurveSettings:
    files = [str(folder / name) for name in ("model", "train.jsonl", "test.jsonl")]
    return replace(CurveSettings(*files, (0, 2), (4, 16), seeds=(0, 1), test_examples=20, timed=2), **other)


def refused(capsys, *flags) -> str:
    assert main(["curve", *map(str, flags)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err[:-1].isprintable()
    return err


def test_orders_are_nested_and_balanced(folder):
    task = read_task(str(folder / "train.jsonl"), str(folder / "test.jsonl"))
    order = task.order(0)
    assert order == task.order(0) != task.order(1)
    assert len(order) == 40 and all(order.count(one) == 1 for one in order)
    for n in (2, 8, 32):
        assert sum(response_of(one) == "positive" for one in order[:n]) == n / 2
    assert sorted(map(str, task.shots(8, 0))) == sorted(map(str, order[:8]))
    uneven = replace(task, train=[one for one in order if response_of(one) == "positive"] + task.train[:6])
    assert {response_of(one) for one in uneven.order(0)[:6]} == {"positive", "negative"}


def test_what_stands_in_both_is_not_learned_from(tmp_path):
    train, test = write(tmp_path / "a.jsonl", rows(10)), write(tmp_path / "b.jsonl", rows(10, start=7))
    task = read_task(str(train), str(test))
    assert len(task.train) == 14 and len(task.test) == 20
    assert task.notes == ["left out 6 of the 20 examples of --data: their questions are also in --test"]


# The cells


def test_a_curve_and_going_on_with_it(folder, tmp_path, capsys, monkeypatch):
    s = settings(folder)
    records = curve.run(tmp_path / "a", s)
    kinds = [key[0] for key in records.rows]
    assert {kind: kinds.count(kind) for kind in kinds} == {"prompt": 3, "words": 6, "cost": 3, "trained": 4}
    assert records.rows["words", 16, 0] == {"key": ["words", 16, 0], "accuracy": 1, "accuracy_wrong": []}
    for row in (*records.of("prompt"), *records.of("trained")):
        for name in ("accuracy", "calibrated"):
            assert len(row[f"{name}_wrong"]) == round(20 * (1 - row[name])) and row[name] < 1
    trained = records.rows["trained", "lora", 16, 1]
    assert 0 <= trained["accuracy"] <= 1 and trained["seconds"] > 0 and trained["lr"] > 0
    assert trained["steps"] == 16 * defaults.EPOCHS // 8
    costs = [records.rows[key] for key in (("cost", "prompt", 0), ("cost", "prompt", 2), ("cost", "lora"))]
    assert costs[0]["tokens"] == costs[2]["tokens"] < costs[1]["tokens"] and costs[1]["milliseconds"] > 0
    for method in ("full", "qlora"):  # no training leaves anything in the next model
        again = curve.run(tmp_path / method, settings(folder, methods=(method, "lora"), shots=(0,), sizes=(16,)))
        assert again.rows["trained", "lora", 16, 1]["calibrated"] == trained["calibrated"]

    lines = (tmp_path / "a" / "records.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "a" / "records.jsonl").write_text("".join(lines[:-1]))
    measured = []
    monkeypatch.setattr(curve.Curve, "measure", lambda self, *key: measured.append(key) or {"accuracy": 1.0})
    curve.run(tmp_path / "a", s, resume=True)
    assert measured == [("trained", "lora", 16, 1)]
    write(folder / "other.jsonl", rows(11))
    capsys.readouterr()
    flags = ["--model", s.model, "--test", s.test, "--out", tmp_path / "a", "--resume", "--seeds", 2]
    flags += ["--shots", "0,2", "--sizes", "4,16"]
    message = refused(capsys, "--data", folder / "other.jsonl", *flags)
    assert "other settings" in message and "train_sha256" in message
    monkeypatch.setattr(word_counts, "baseline", lambda: word_counts.NAIVE_BAYES)
    assert "other settings (timed, words)" in refused(capsys, "--data", s.data, *flags)


def test_free_answers_are_measured_by_f1(folder, tmp_path, capsys):
    free = [{"prompt": f"Say {i}", "response": f"a long answer {i}"} for i in range(80)]
    data = write(tmp_path / "free.jsonl", free)
    flags = ["--data", data, "--model", folder / "model", "--shots", "0", "--sizes", "4", "--seeds", "1"]
    assert main(["curve", *map(str, flags), "--out", str(tmp_path / "c")]) == 0
    out = capsys.readouterr().out
    assert "F1" in out and "TF-IDF" not in out and "calibrated" not in out
    assert max(map(len, out.splitlines())) <= 80 and (tmp_path / "c" / "curve.png").is_file()


def test_an_interrupted_curve_says_how_to_go_on(folder, tmp_path, capsys, monkeypatch):
    def interrupted(self, kind, *key):
        if kind == "cost":
            raise KeyboardInterrupt
        return {"accuracy": 1.0, "notes": []}

    monkeypatch.setattr(curve.Curve, "measure", interrupted)
    flags = ["--data", folder / "train.jsonl", "--test", folder / "test.jsonl", "--model", folder / "model"]
    flags += ["--shots", "0", "--sizes", "4,64,512", "--seeds", "1", "--out", tmp_path / "c"]
    assert main(["curve", *map(str, flags)]) == 130
    err = capsys.readouterr().err
    assert "3 of 7 cells are measured; --resume continues" in err
    assert "--sizes 64, 512: using all 40 training examples, as there are no more" in err
    records = Records.read(tmp_path / "c" / "records.jsonl", curve.KIND)
    assert records.header["settings"]["sizes"] == [4, 40] and list(records.rows)[-1] == ("words", 40, 0)


def test_a_resumed_curve_has_the_settings_of_its_folder(folder, tmp_path, capsys, monkeypatch):
    data = [{"Mail": row["prompt"], "Team": row["response"]} for row in rows(40)]
    flags = ["--data", write(tmp_path / "mails.jsonl", data), "--model", folder / "model", "--out", tmp_path / "c"]
    flags += ["--text-column", "Mail", "--label-column", "Team", "--instruction", "Which?", "--sizes", "4,8"]
    flags += ["--shots", "0,1,2", "--quick"]
    monkeypatch.setattr(curve.Curve, "measure", lambda self, *key: {"accuracy": 1.0, "milliseconds": 1.0, "notes": []})
    monkeypatch.setattr(curve_report, "show", lambda *_: None)
    assert main(["curve", *map(str, flags)]) == 0
    path = tmp_path / "c" / "records.jsonl"
    whole = path.read_bytes()
    for typed in ([], flags[:2], ["--quick"], flags[4:]):
        path.write_bytes(whole[:-9])
        assert main(["curve", "--resume", "--out", str(tmp_path / "c"), *map(str, typed)]) == 0
        assert path.read_bytes() == whole
        assert capsys.readouterr().err.count("is incomplete; its cell is measured again") == 1
    assert "other settings (shots)" in refused(capsys, "--resume", "--out", tmp_path / "c", "--shots", "0,1")
    message = refused(capsys, "--resume", "--out", tmp_path / "none")
    assert "--resume has nothing to continue: there is no curve in" in message


BOTH = pytest.mark.parametrize("baseline", [word_counts.TF_IDF, word_counts.NAIVE_BAYES])


@BOTH
@pytest.mark.parametrize("decided_by", ["a word", "the order"])
def test_words_are_enough_where_they_decide_and_not_where_their_order_does(
    folder, tmp_path, monkeypatch, decided_by, baseline
):
    """A model that reads word order (here, one that is always right) is ahead if "not" can stand in two places."""
    parts = ("plot", "cast", "music", "light", "sound", "end")
    pairs = [(one, other, i) for one in parts for other in parts if one != other for i in range(2)]
    templates = {
        "yes": "The {} was good but the {} was not good, {}",
        "no": "The {} was not good but the {} was good, {}",
    }
    if decided_by == "a word":
        templates |= {"no": "The {} was dull but the {} was not good, {}"}
    made = [{"prompt": templates[label].format(*pair), "response": label} for pair in pairs for label in templates]
    data, out = write(tmp_path / "data.jsonl", made), tmp_path / "out"

    def right(self, model, questions, shots=()):
        answers = list(map(response_of, questions))
        return TaskScore("labels", len(answers), 40.0, 0.1, answers, ["no", "yes"], accuracy=1.0)

    monkeypatch.setattr(curve.Curve, "score", right)
    monkeypatch.setattr(word_counts, "baseline", lambda: baseline)
    few = {"data": str(data), "test": None, "shots": (0,), "sizes": (16,), "seeds": (0,), "timed": 1}
    result = curve_report.CurveResult(curve.run(out, settings(folder, **few)))
    assert result.parts("words") == [16, 96]  # on all examples, too, as they take no time
    by = result.best_words().spread
    if decided_by == "a word":
        assert by.mean == 100
        assert result.sentence().startswith("Count words: ")
        assert result.sentence().endswith(f"100.0 % by {baseline}. No language model is needed for this task.")
    else:
        assert by.mean < 70 and result.outcome() == "prompt"


@BOTH
def test_an_instruction_before_each_text_does_not_count(monkeypatch, baseline):
    monkeypatch.setattr(word_counts, "baseline", lambda: baseline)
    texts, labels = ["Where is it?", "It is broken!", "Where do I pay?", "It broke!"], ["ask", "tell", "ask", "tell"]
    questions = ["Where are you?", "Is it mine?", "All broken!", "Unheard of"]
    plain = word_counts.predict(texts, labels, questions)
    assert plain[0] == "ask" and plain[2] == "tell"
    long = "Does it ask or does it tell? It is to say which!\n\n{}".format
    assert word_counts.predict(list(map(long, texts)), labels, list(map(long, questions))) == plain


def test_naive_bayes_by_hand():
    # vocabulary bad, film, good: p has (1, 2, 3) of 6, n has (2, 2, 1) of 5, each with Laplace's one
    questions = ["Good!", "a BAD one", "unknown words", "bad good good bad"]  # the last: (2/5 · 1/5)² and (1/6 · 3/6)²
    assert word_counts.naive_bayes(["good good film", "bad film"], ["p", "n"], questions) == ["p", "n", "n", "p"]
    assert word_counts.naive_bayes(["x", "x", "y"], ["b", "b", "a"], ["z"]) == ["b"]  # the prior alone


def test_without_scikit_learn_naive_bayes_says_what_it_is(tmp_path, monkeypatch):
    assert word_counts.baseline() == word_counts.TF_IDF
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert word_counts.baseline() == word_counts.NAIVE_BAYES
    result = curve_report.CurveResult(made_up(tmp_path / "a"))
    assert "by naive Bayes" in result.sentence() and "install" not in result.grid().caption  # a file of before
    result.settings["words"] = word_counts.NAIVE_BAYES
    assert "Naive Bayes: install minilora[baseline] for TF-IDF" in result.grid().caption


# What the records say


@pytest.mark.parametrize(
    "words, model, tested, outcome",
    [
        (2, 1, 60, "count words"),
        (8, 6, 60, "count words"),
        (10, 4, 40, "count words"),
        (16, 4, 40, "fine-tune"),
        (9, 1, 60, "fine-tune"),
    ],
)
def test_a_lead_of_a_question_or_two_is_none(tmp_path, words, model, tested, outcome):
    """With one seed, only word counts get `words` questions wrong, and only the trained model gets `model` wrong."""
    records = made_up(tmp_path / "a")
    records.header["settings"] |= {"words": "TF-IDF", "test_examples": tested}
    records.rows.clear()
    wrong = {("prompt", 0, 0): range(20), ("words", 32, 0): range(words)}
    wrong |= {("trained", "lora", 32, 0): range(tested - model, tested)}
    for key, places in wrong.items():
        row = {"accuracy": 1 - len(places) / tested, "accuracy_wrong": list(places)}
        records.rows[key] = {"key": list(key)} | row
    result = curve_report.CurveResult(records)
    assert result.outcome() == outcome
    if outcome == "count words":
        difference = f"No language model is shown to be ahead: +{100 * (words - model) / tested:.1f} (−"
        assert difference in result.sentence()
        assert result.sentence().endswith("would have been seen) points. Only one seed was tried; others may differ.")


def test_training_is_advised_where_the_best_prompt_is_no_better_than_words(tmp_path):
    result = curve_report.CurveResult(made_up(tmp_path / "a", trained=0.7, bayes=0.66))
    for seed in (0, 1):
        result.records.rows["prompt", 8, seed] |= {"accuracy": 0.6 + 0.14 * seed}
    assert result.sentence().startswith("Fine-tune: 70.0 ± 0.0 % right by LoRA on 512 examples, 67.0 ± 9.9 % by the")
    assert "The prompt is not shown to be ahead of naive Bayes: +1.0 (−" in result.sentence()


def test_seeds_that_differ_decide_as_much_as_questions(tmp_path):
    """Training gets 30 of 200 more right: shown if the seeds agree, but not if one of three gains all of them."""
    records = made_up(tmp_path / "a")
    records.header["settings"]["labels"] = None  # one comparison
    records.rows.clear()
    for gains in ((30, 28, 32), (90, 0, 0)):
        for seed, gain in enumerate(gains):
            for kind, wrong in ((("prompt", 2, seed), 100), (("trained", "lora", 8, seed), 100 - gain)):
                cell = {"accuracy": 1 - wrong / 200, "f1": 1 - wrong / 200, "f1_wrong": list(range(wrong))}
                records.rows[kind] = {"key": list(kind)} | cell
        result = curve_report.CurveResult(records)
        lead = result.lead(result.best("trained"), result.best("prompt"))
        assert lead.mean == pytest.approx(15) and lead.count == 3
        assert result.outcome() == ("fine-tune" if gains[0] == 30 else "prompt")


def test_a_prompt_without_examples_stands_beside_every_seed(tmp_path):
    """Three ways make three comparisons, so each interval is wider than the only one for free answers."""
    records = made_up(tmp_path / "a")
    records.rows.clear()
    records.rows["prompt", 0, 0] = {"key": ["prompt", 0, 0], "accuracy": 0.5, "f1": 0.5}
    for seed, accuracy in enumerate((0.6, 0.62, 0.64)):
        cell = {"accuracy": accuracy, "f1": accuracy}
        records.rows["trained", "lora", 8, seed] = {"key": ["trained", "lora", 8, seed]} | cell
    widths = {}
    for labels in (("n", "p"), None):
        records.header["settings"]["labels"] = labels
        result = curve_report.CurveResult(records)
        trained, prompt = result.best("trained"), result.best("prompt")
        leads = result.lead(trained, prompt), result.lead(prompt, trained)
        assert [lead.count for lead in leads] == [3, 3] and leads[0].mean == pytest.approx(12) == -leads[1].mean
        widths[labels] = leads[0].high - leads[0].low
    assert widths["n", "p"] / widths[None] == pytest.approx(t_quantile(1 - 0.05 / 6, 2) / t_quantile(0.975, 2))


def made_up(path, trained: float = 0.9, bayes: float = 0.7, labels=("n", "p")) -> Records:
    facts = {"model": "smollm2", "data": "reviews", "test_examples": 200, "labels": labels}
    facts |= {"shots": [0, 8], "sizes": [32, 512], "seeds": [0, 1], "methods": ["lora"]}
    records = Records.open(path, curve.KIND, facts)
    for k, accuracy, calibrated, ms in ((0, 0.5, 0.6, 20.0), (8, 0.65, 0.62, 120.0)):
        for seed in (0, 1) if k else (0,):
            records.add(("prompt", k, seed), accuracy=accuracy + seed / 500, calibrated=calibrated, tokens=40 + k)
        records.add(("cost", "prompt", k), milliseconds=ms, tokens=40 + k)
    records.add(("cost", "lora"), milliseconds=20.0, tokens=40)
    for n, less in ((32, 0.3), (512, 0.0)):
        for seed in (0, 1):
            records.add(("bayes", n, seed), accuracy=bayes - less)
            row = {"seconds": 60.0, "notes": ["2 of 32 conversations are cut"], "calibrated": 0.9}
            records.add(("trained", "lora", n, seed), accuracy=trained - less, **row)
    return records


def test_one_seed_advises_by_its_numbers_and_says_that_it_is_one(tmp_path):
    records = made_up(tmp_path / "one")
    records.rows = {key: row for key, row in records.rows.items() if key[-1] != 1}
    result = curve_report.CurveResult(records)
    assert result.outcome() == "fine-tune" and "with the one seed tried" in result.sentence()
    assert curve_report.CurveResult(made_up(tmp_path / "two")).sentence().startswith("Fine-tune")


def test_the_table_and_the_advice(tmp_path):
    result = curve_report.CurveResult(made_up(tmp_path / "a"))
    assert result.best("prompt").key == ("prompt", 8) and result.best("prompt").spread.mean == pytest.approx(65.1)
    cells = {row[0]: row[1:] for row in result.grid().rows}
    assert cells["prompt, 8 examples"] == ("65.1 ± 0.1", "62.0 ± 0.0", "48", "120", "–", "–")
    assert cells["LoRA, 512 examples"] == ("90.0 ± 0.0", "90.0 ± 0.0", "40", "20", "60 s", "600")  # 60 s over 100 ms
    assert result.sentence().startswith("Fine-tune: 90.0 ± 0.0 % right by LoRA on 512 examples, 65.1 ± 0.1 % by the")
    assert result.sentence().endswith("ahead from 512 examples on.")
    result.records.rows["cost", "prompt", 8] |= {"tokens": 40}  # as many as the adapted model reads: nothing is saved
    assert result.crossover("lora", 512) is None
    for less, word in (({"trained": 0.6, "bayes": 0.5}, "Prompt: "), ({"bayes": 0.95}, "Count words: ")):
        assert curve_report.CurveResult(made_up(tmp_path / word, **less)).sentence().startswith(word)


@pytest.mark.parametrize(
    "accuracies, words",
    [
        ((0.5, 0.7, 0.8), "from 32 examples on."),
        ((0.7, 0.8, 0.9), "from 8 examples on, the fewest tried."),
        ((0.7, 0.5, 0.9), "from 512 examples on."),
        ((0.5, 0.9, 0.6), "with 32 examples."),
    ],
)
def test_training_is_ahead_from_where_it_stays_ahead(tmp_path, accuracies, words):
    records = made_up(tmp_path / "a")
    for n, accuracy in zip((8, 32, 512), accuracies, strict=True):
        for seed in (0, 1):
            records.add(("trained", "lora", n, seed), accuracy=accuracy, seconds=1.0, notes=[])
    assert curve_report.CurveResult(records).sentence().endswith(f"Training is ahead {words}")


# Bad input


def test_bad_input(folder, tmp_path, capsys):
    good = {"--model": folder / "model", "--data": folder / "train.jsonl", "--test": folder / "test.jsonl"}
    neutral = write(tmp_path / "neutral.jsonl", [*rows(20), *rows(2, labels=("neutral",), start=50)])
    one = write(tmp_path / "one.jsonl", rows(20, labels=("positive",)))
    many = write(tmp_path / "many.jsonl", rows(30, labels=tuple("abcde")))
    for changed, message in (
        ({"--test": neutral, "--data": write(tmp_path / "x.jsonl", rows(30, start=60))},
         "the label 'neutral', which 2 held-out examples have, does not occur in training"),
        ({"--data": one, "--test": write(tmp_path / "other.jsonl", rows(20, ("positive",), 500))},
         "every response is 'positive': there is only one label"),
        ({"--test": write(tmp_path / "few.jsonl", rows(3, start=200))}, "--test has 6 examples; at least 10 are"),
        ({"--shots": "0,30"}, "--shots 30 does not fit: a prompt of"),
        ({"--shots": "0,50"}, "--shots asks for 50 examples, but --data has only 40 to train on"),
        ({"--data": many, "--test": write(tmp_path / "m.jsonl", rows(9, tuple("abcde"), 500)), "--sizes": "4"},
         "--sizes 4 is too small: each of the 5 labels needs an example"),
        ({"--methods": "lora,lorra"}, "did you mean 'lora'"),
        ({"--data": "numpy-docs"}, "numpy-docs is not a file of examples; these end in .csv, .tsv, "),
        ({"--model": "base"}, "chat format"),
    ):  # fmt: skip
        flags = [part for flag in (good | changed).items() for part in flag]
        assert message in refused(capsys, *flags, "--out", tmp_path / "out"), changed
    assert not (tmp_path / "out").exists()
