"""pytest tests/experiments/test_strengths.py: answers by the strength of an adapter, and the record of them."""

from experiments import strengths
from lessons import diagrams
from minilora.formats.atomic import read_json
from minilora.peft import LoraConfig, get_peft_model
from minilora.train import load
from tests.helpers import tiny_chat


def test_strength_0_is_the_base_and_1_the_adapter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(strengths, "TOKENS", 4)
    tiny_chat.save(tmp_path / "chat", ["A colleague said a cabin", "user assistant"])
    config = LoraConfig(r=2, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(load.load_model("chat")[0], config).save_pretrained("run/adapter")
    record = strengths.measure("run", "chat", (0.0, 1.0))
    none, whole = record["rows"]
    assert none["strength"] == 0 and whole["strength"] == 1 and none["answer"] != whole["answer"]
    config = LoraConfig(r=2, target_modules="all-linear")  # starts at zero
    get_peft_model(load.load_model("chat")[0], config).save_pretrained("untrained/adapter")
    assert strengths.measure("untrained", "chat", (1.0,))["rows"][0]["answer"] == none["answer"]


def test_the_record_has_what_the_texts_say_of_it():
    record = read_json(strengths.RECORD)
    answers = {row["strength"]: row["answer"] for row in record["rows"]}
    assert tuple(answers) == strengths.STRENGTHS and record["questions"] == 80
    assert all(answers[one] in record["question"] for one in (0, 0.25)), "it repeats the question"
    assert "hairstyle" in answers[0.5]
    assert all(answers[one] == record["expected"] for one in (0.75, 1, 1.5))
    picture = (diagrams.ROOT / "lessons/08_lora/pictures/strength.svg").read_text("utf-8")
    assert all(f">{100 * row['f1']:.0f} %<" in picture for row in record["rows"])
