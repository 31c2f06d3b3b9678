"""Checks of SmolLM2 in minilora against transformers and PEFT on the same weights, for `benchmarks.smollm2`.

tests/parity/test_smollm2_parity.py runs them with fewer prompts. A distance is the largest difference between logits,
divided by the largest logit.
"""

import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np

from minilora import cli, no_grad
from minilora.data.chat import find_format
from minilora.models.llama import LlamaForCausalLM
from minilora.optim import AdamW
from minilora.peft import LoraConfig, PeftModel, get_peft_model
from minilora.quant import dequantize_model, load_4bit
from minilora.train import catalog, load
from minilora.train.forgetting import question

NAME = "smollm2"
GOAL = 1e-4
QUESTION, ANSWER = "What is the capital of France?", "Paris"
QUESTIONS = [
    QUESTION,
    "Write a short poem about rain.",
    "Explain recursion to a child.",
    "How do I sort a list in Python?",
    "Name three planets and one fact about each.",
]
BEGINNINGS = [
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "The three most important causes of the First World War were",
    "1, 1, 2, 3, 5, 8,",
    "Bonjour, je m'appelle",
]
PROMPTS = [QUESTIONS, BEGINNINGS]  # five prompts in the chat format, and five texts to continue
NEW_TOKENS = 64
LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
STEPS, RATE = 4, 2e-3
TEXT = (
    "A language model gives each token a probability, and training moves them. An adapter is a small part that trains "
    "while the rest stays as it was. Its file is small, so one base serves many tasks: the adapter of one is taken "
    "off and another is put on. What they compute must not depend on the program that reads them.\n"
)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(abs(a - b).max() / abs(b).max())


def is_ours(model) -> bool:
    return type(model).__module__.startswith("minilora.")


def logits(model, ids: np.ndarray) -> np.ndarray:
    """Return the logits of either library's model: ids (B, T) -> (B, T, V)."""
    if is_ours(model):
        with no_grad():
            return model.eval()(ids).logits.numpy()
    import torch

    with torch.no_grad():
        return model.eval()(torch.from_numpy(ids)).logits.numpy()


def ours(in_4_bits: bool = False):
    path = catalog.find(NAME)
    return load_4bit(LlamaForCausalLM, path) if in_4_bits else LlamaForCausalLM.from_pretrained(path)


def theirs(folder: Path, **options):
    """Load transformers' model from a folder, in float32 and without a progress bar."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()


# The same results


def prompt_ids(tokenizer, count: int) -> list[np.ndarray]:
    """Return the token ids (T,) of the first `count` prompts, questions and beginnings in turn."""
    as_question = partial(find_format(tokenizer).encode, tokenizer, add_generation_prompt=True)
    turns = [[as_question(question(q))[0], tokenizer.encode_prompt(b)] for q, b in zip(*PROMPTS, strict=True)]
    return [ids for turn in turns for ids in turn][:count]


def long_text(tokenizer, length: int) -> np.ndarray:
    """Return token ids from Python's reference manual: (1, length)."""
    from pydoc_data.topics import topics

    return tokenizer.encode("".join(topics[name] for name in sorted(topics)[:20]))[None, :length]


def greedy(model, ids: np.ndarray) -> np.ndarray:
    """Return the NEW_TOKENS tokens with which the model continues ids (T,). An end of text does not stop it."""
    if is_ours(model):
        return model.generate(ids[None], NEW_TOKENS, temperature=0, eos_token_id=[])[0, len(ids) :]
    import torch
    from transformers import GenerationConfig

    settings = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
    model.generation_config.eos_token_id = None  # generate() fills what `settings` leaves None from here
    prompt = torch.from_numpy(ids[None])
    mask = torch.ones_like(prompt)
    return model.generate(prompt, attention_mask=mask, generation_config=settings)[0, len(ids) :].numpy()


def compare(model, other, prompts: list[np.ndarray], answers: list[np.ndarray], text: np.ndarray) -> dict:
    """Compare minilora's model, which gave `answers` to the prompts, with transformers'; returns what differs."""
    differing = []
    for index, (ids, answer) in enumerate(zip(prompts, answers, strict=True)):
        continuation = greedy(other, ids)
        if not np.array_equal(continuation, answer):
            common = min(len(continuation), len(answer))
            place = next((i for i in range(common) if continuation[i] != answer[i]), common)
            first, second = np.sort(logits(other, np.concatenate([ids, answer[:place]])[None])[0, -1])[-1:-3:-1]
            differing.append({"prompt": index, "token": place, "gap": float(first - second)})
    read = [np.concatenate(pair)[None] for pair in zip(prompts, answers, strict=True)]
    own, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    same = own.keys() == theirs.keys()
    return {
        "weights_equal": same and all(np.array_equal(p.data, theirs[n].detach().numpy()) for n, p in own.items()),
        "answers": max(distance(logits(model, ids), logits(other, ids)) for ids in read),
        "long": distance(logits(model, text), logits(other, text)),
        "texts": len(prompts),
        "differing": differing,
    }


def capital() -> str:
    """Return the answer of `minilora generate --chat` to QUESTION."""
    output = StringIO()
    command = ["generate", "--chat", "--model", NAME, "--prompt", QUESTION, "--temperature", "0", "--json"]
    with redirect_stdout(output):
        status = cli.main(command)
    return json.loads(output.getvalue())["continuation"] if status == 0 else f"(failed with status {status})"


def equal(folder: Path, prompts: int = 10, length: int = 1024) -> dict:
    """Compare the libraries; return "transformers" {source of its weights: result of `compare`}, and the "answer" to
    QUESTION.

    The sources are "saved", a folder that minilora saved, and "gguf", the file as transformers reads it by itself.
    folder: where to save a model. length: tokens of the long text.
    """
    path = catalog.find(NAME)
    model, tokenizer = ours(), load.tokenizer_of(path)
    ids = prompt_ids(tokenizer, prompts)
    answers, text = [greedy(model, prompt) for prompt in ids], long_text(tokenizer, length)
    model.save_pretrained(folder)
    sources = {"saved": partial(theirs, folder), "gguf": partial(theirs, path.parent, gguf_file=path.name)}
    rows = {name: compare(model, make(), ids, answers, text) for name, make in sources.items()}
    return {"transformers": rows, "answer": capital()}


# Files that the other library opens


def train(model, optimizer, ids) -> None:
    """Train for a few steps, in either library."""
    for _ in range(STEPS):
        optimizer.zero_grad()
        model.train()(ids, labels=ids).loss.backward()
        optimizer.step()


def out_again(folder: Path, kinds=("LoRA", "QLoRA")) -> Iterator[dict]:
    """Save trained models in one library and load them in the other; yields a row per direction.

    A row says what is carried over, from which library to which, and how far training ("moved") and the conversion
    ("distance") moved the logits. Training takes a few steps, enough to move the logits well beyond GOAL. QLoRA's base
    is in NF4 in minilora; in transformers it is a folder that minilora wrote, with the dequantized weights. folder:
    where to save a few models.
    """
    import peft
    import torch

    ids = load.tokenizer_of(catalog.find(NAME)).encode(TEXT)[None]
    trained = lambda model: [p for p in model.parameters() if p.requires_grad]  # noqa: E731
    for kind in kinds:
        fresh, room = partial(ours, kind == "QLoRA"), folder / kind
        plain = fresh()
        before = logits(plain, ids)
        dequantize_model(plain).save_pretrained(room / "base")

        model = get_peft_model(fresh(), LoraConfig(**LORA), seed=1)
        train(model, AdamW(trained(model), lr=RATE), ids)
        model.save_pretrained(room / "ours")
        our_logits = logits(model, ids)
        their_logits = logits(peft.PeftModel.from_pretrained(theirs(room / "base"), room / "ours"), ids)
        row = {"kind": kind, "what": "adapter", "from": "minilora", "moved": distance(our_logits, before)}
        yield row | {"to": "PEFT", "distance": distance(their_logits, our_logits)}

        model.merge_and_unload().save_pretrained(room / "merged")
        del model
        merged = logits(theirs(room / "merged"), ids)
        yield row | {"what": "merged model", "to": "transformers", "distance": distance(merged, our_logits)}

        torch.manual_seed(0)
        other = peft.get_peft_model(theirs(room / "base"), peft.LoraConfig(**LORA, task_type="CAUSAL_LM"))
        train(other, torch.optim.AdamW(trained(other), lr=RATE), torch.from_numpy(ids))
        other.save_pretrained(room / "theirs")
        their_logits = logits(other, ids)
        del other
        our_logits = logits(PeftModel.from_pretrained(fresh(), room / "theirs"), ids)
        row |= {"from": "PEFT", "to": "minilora", "moved": distance(their_logits, before)}
        yield row | {"distance": distance(our_logits, their_logits)}
