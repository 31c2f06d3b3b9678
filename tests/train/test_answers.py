"""Conversations on the command line, end to end: `pytest tests/train/test_answers.py`."""

import json

import numpy as np
import pytest

from minilora import threads
from minilora.cli import main
from minilora.data import chat
from minilora.data.rows import is_rows
from minilora.data.tokenizer import folder_tokenizer
from minilora.models.llama import LlamaForCausalLM
from minilora.quant import quantization
from minilora.tensor import no_grad
from minilora.train import load, metrics
from minilora.train.answers import answers, end_token_ids, in_batches
from minilora.train.text import read_data
from tests.helpers import tiny_chat

pytestmark = pytest.mark.host

THINGS = [f"{a} {b}" for a in ("red", "blue", "tall", "odd") for b in ("fish", "boat", "rope", "wave", "crew")]
ROWS = [{"prompt": f"What is a {thing}?", "response": f"A {thing} is it."} for thing in THINGS]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with an untrained chat model and a file of conversations."""
    folder = tmp_path_factory.mktemp("chat")
    (folder / "x.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    tiny_chat.save(folder / "model", [row["prompt"] + row["response"] for row in ROWS])
    return folder


def run(capsys, *arguments) -> tuple[str, str]:
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 0
    return capsys.readouterr()


def refused(capsys, *arguments) -> str:
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


@pytest.mark.parametrize("name", ["x.jsonl", "x.NDJSON", "x.json", "x.csv", "x.Tsv", "x.csv.gz", "x.json.bz2"])
def test_files_of_conversations_are_known_by_their_names(name):
    assert is_rows(name) and not is_rows(f"{name}x")


@pytest.mark.parametrize("method", ["full", "prompt"])
def test_what_is_trained_is_what_is_measured_and_generate_prints_only_the_answer(place, capsys, method):
    few, out = place / "few.jsonl", place / method
    few.write_text("\n".join(json.dumps({"prompt": f"{w}?", "response": "it is."}) for w in ("a", "b", "c", "d", "e")))
    facts = json.loads(run(capsys, "finetune", "--model", place / "model", "--data", few, "--method", method,
        "--steps", 60, "--batch-size", 3, "--seq-len", 64, "--lr", 2e-2, "--out", out, "--json").out)  # fmt: skip
    model = ["--model", out] if method == "full" else ["--adapter", out]
    after = json.loads(run(capsys, "evaluate", *model, "--data", few, "--json").out)
    assert after["bits_per_character"] == pytest.approx(facts["test"], rel=1e-5)
    ask = ["generate", *model, "--chat", "--temperature", 0, "--max-new-tokens", 40]
    if method == "full":
        assert run(capsys, *ask, "--prompt", "a?").out == "it is.\n"  # and then <|im_end|>: not 40 tokens
    assert json.loads(run(capsys, *ask, "--prompt", "b?", "--system", "Be kind.", "--json").out)["prompt"] == "b?"


def test_bits_are_those_of_the_answers_and_their_ends(place):
    model, tokenizer = load.load_model(str(place / "model"))
    chats = read_data(str(place / "x.jsonl"), tokenizer)
    nats = 0.0
    for ids, mask in chats.test.rows:
        with no_grad():
            logits = model(ids[None]).logits.numpy()[0].astype(np.float64)
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        nats -= sum(log_probabilities[t - 1, ids[t]] for t in range(1, len(ids)) if mask[t])
    ends = sum(int((ids[mask] == tokenizer.eos_token_id).sum()) for ids, mask in chats.test.rows)
    assert ends == len(chats.test.rows) > 0
    with threads.using(1):
        bits = metrics.evaluator(model, chats.test, 64, 2)()
    assert bits == pytest.approx(nats / np.log(2) / chats.test.characters, rel=1e-5)


def test_what_ends_an_answer(place):
    tokenizer = folder_tokenizer(place / "model")
    model = LlamaForCausalLM.from_pretrained(place / "model")
    end = tokenizer.special_ids["<|im_end|>"]
    for listed, expected in ((None, [end]), (5, [5, end]), ([5, 7], [5, 7, end])):
        model.config.eos_token_id = listed
        assert end_token_ids(tokenizer, model.config) == expected


def test_bad_input_is_one_line(place, capsys, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "response": ""}\n')
    (tmp_path / "two.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 9)
    model, out, base = (
        ["--model", place / "model"],
        ["--out", tmp_path / "out"],
        "it is a base model; choose a chat model",
    )
    for arguments, words in (
        (["finetune", "--data", place / "x.jsonl", *out], base),
        (["evaluate", "--data", place / "x.jsonl"], base),
        (["generate", "--chat", "--prompt", "x"], f"no chat format, as {base}, such as --model smollm2"),
        (["generate", *model, "--chat", "--prompt", " "], "the question is empty"),
        (["generate", *model, "--system", "x", "--prompt", "y"], "--system needs --chat"),
        (
            ["evaluate", *model, "--adapter", place / "model", "--data", place / "x.jsonl"],
            "not an adapter: give it as --model",
        ),
        (["finetune", *model, "--data", tmp_path / "bad.jsonl", *out], "no row has both a text and an answer"),
        (["finetune", *model, "--data", tmp_path / "two.jsonl", *out], "9 examples with 1 different question, too few"),
        (["finetune", *model, "--data", tmp_path / "no.jsonl", *out], "No such file"),
        (["finetune", *model, "--data", place / "x.jsonl", "--seq-len", 5, *out], "no response fits"),
    ):
        assert words in refused(capsys, *arguments), arguments
    assert not (tmp_path / "out").exists()


def test_cut_conversations_are_noted(place, capsys):
    err = run(capsys, "finetune", "--model", place / "model", "--data", place / "x.jsonl", "--seq-len", 24,
        "--steps", 1, "--out", place / "cut").err  # fmt: skip
    assert "conversations are cut at the beginning to 24 tokens" in err


def test_answers_come_in_the_order_asked_and_are_those_of_one_at_a_time(tmp_path, monkeypatch):
    tiny_chat.save(tmp_path / "model", [row["prompt"] for row in ROWS], initializer_range=0.5)
    model, tokenizer = load.load_model(str(tmp_path / "model"))
    questions = [f"{'what ' * (7 * i % 11)}is a {thing}?" for i, thing in enumerate(THINGS)]
    conversations = [[{"role": "user", "content": text}] for text in questions]
    widths, advances, generate = [], [], type(model).generate

    def seen(self, ids, *arguments, **options):
        widths.append(ids.shape)
        return generate(self, ids, *arguments, **options)

    monkeypatch.setattr(type(model), "generate", seen)
    with threads.using(2):
        batched = answers(model, tokenizer, conversations, 6, batch_size=6, advance=advances.append)
        assert answers(model, tokenizer, [], 6) == []
    assert advances == [6, 6, 6, 2] and len(widths) == 8 and max(rows for rows, _ in widths) == 3
    alone = []
    for messages in conversations:
        ids = chat.find_format(tokenizer).encode(tokenizer, messages, add_generation_prompt=True)[0]
        out = generate(model, ids[None], 6, temperature=0, eos_token_id=end_token_ids(tokenizer, model.config))
        alone.append(tokenizer.decode(out[0, len(ids) :]).strip())
    assert batched == alone and len(set(batched)) > 5


def test_an_answer_ends_before_its_end_whatever_comes_after(tmp_path, monkeypatch):
    tiny_chat.save(tmp_path / "model", ["it is so"] * 9)
    model, tokenizer = load.load_model(str(tmp_path / "model"))
    end = tokenizer.special_ids["<|im_end|>"]

    def generate(self, ids, *_, **options):
        assert options["temperature"] == 0 and options["eos_token_id"] == [end] == [options["pad_token_id"]]
        return np.concatenate([ids, [[*tokenizer.encode(" it is"), end, end]] * len(ids)], axis=1)

    monkeypatch.setattr(type(model), "generate", generate)
    assert answers(model, tokenizer, [[{"role": "user", "content": "x"}]] * 2, 6) == ["it is", "it is"]


def test_a_context_beyond_the_positions_is_refused_before_the_run(place, capsys, tmp_path):
    (tmp_path / "text.txt").write_text("the array returns a value. " * 900)
    words = {
        ("lora",): "257 tokens per sequence exceed the model's 256",
        ("prefix",): "10 virtual tokens and 257 tokens per sequence",
    }
    for method, expected in words.items():
        arguments = ["finetune", "--model", place / "model", "--method", *method, "--out", tmp_path / "out"]
        assert expected in refused(capsys, *arguments, "--data", tmp_path / "text.txt", "--seq-len", 257)
        assert not (tmp_path / "out").exists()
    run(capsys, *arguments, "--data", place / "x.jsonl", "--seq-len", 999, "--steps", 1)  # all of them are short


def test_qlora_holds_no_float_model_and_its_adapter_loads(place, capsys, monkeypatch):
    quantizations, whole = [], load.load_model
    monkeypatch.setattr(
        load, "load_model", lambda *a, **k: quantizations.append(k.get("quantization")) or whole(*a, **k)
    )
    four_bit = ["--quant-type", "fp4", "--blocksize", 32, "--double-quantization"]
    data, out = ["--data", place / "x.jsonl", "--seq-len", 64, "--json"], place / "streamed"
    facts = json.loads(run(capsys, "finetune", "--model", place / "model", *data, "--method", "qlora", *four_bit,
        "--steps", 3, "--out", out).out)  # fmt: skip
    assert quantizations == [options := {"quant_type": "fp4", "blocksize": 32, "compress_statistics": True}]
    after = json.loads(run(capsys, "evaluate", "--model", place / "model", "--adapter", out, *data).out)
    assert after["bits_per_character"] == pytest.approx(facts["test"], rel=1e-5)
    assert quantization(whole(str(place / "model"), str(out))[0]) == options


def test_a_long_row_is_not_what_short_ones_are_padded_to():
    batches = []
    with threads.using(1):
        lengths = [500, 9, 8, 10]
        results = in_batches(lambda rows: batches.append(rows) or rows, "abcd", lengths, 4, lambda count: None)
    assert results == list("abcd") and [sorted(batch) for batch in batches] == [["b", "c", "d"], ["a"]]
