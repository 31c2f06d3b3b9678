"""Choosing a step: which of a fine-tuning's evaluations to keep, when the validation part is small.

    python -m benchmarks.choice --data reviews --sizes 32,80,128 --seeds 3 --out runs/choice

Trains SmolLM2 as `minilora finetune` does, and every ten steps scores every label for a pool of validation rows and for
held-out rows. From these scores each policy is replayed: the end of the run, the least bits on k validation rows, and
the greatest accuracy on k of them. k rows are drawn from the pool 200 times, so that what is compared is the policy and
not one draw.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minilora.data import chat
from minilora.data.chat import response_of
from minilora.measure.curve import TaskData, read_task
from minilora.train import defaults, methods, recipes
from minilora.train.answers import Chats
from minilora.train.loop import train
from minilora.train.scoring import label_scores

EVERY = 10  # steps between two evaluations
POOL = 128  # validation rows to draw from
DRAWS = 200


def measure(model_name: str, task: TaskData, size: int, seed: int, tested: int, steps: int | None) -> dict:
    """Scores of every label at every evaluation of one run: {"steps", "validation", "test"} and the right labels."""
    order = task.order(seed)
    learned, pool, test = order[:size], order[size : size + POOL], task.order(0, task.test)[:tested]
    model, tokenizer = recipes.load_model(model_name)
    tokens = chat.encode_conversations(tokenizer, chat.find_format(tokenizer), learned)
    model = methods.adapt(model, "lora", methods.Options(), tokens.ids, seed)
    none = chat.ChatTokens([], [])
    data = Chats("", "", tokens, none, none)
    config = defaults.finetune_config(model, methods.METHODS["lora"], data, seed=seed, steps=steps, eval_every=EVERY)
    seq_len = defaults.seq_len_for(model, data)
    batches = recipes.training_batches(tokens, defaults.BATCH_SIZE, seq_len, seed)
    labels = task.labels or []
    scores: dict[str, list] = {"validation": [], "test": []}

    def evaluate() -> float:
        for part, rows in (("validation", pool), ("test", test)):
            asked = [one[:-1] for one in rows]
            scores[part].append(label_scores(model, tokenizer, asked, labels)[0].tolist() if rows else [])
        return 1.0 / len(scores["test"])  # falls, so that nothing ends the run early

    train(model, batches, config, evaluate=evaluate, show_progress=False)
    right = {
        part: [labels.index(response_of(one)) for one in rows] for part, rows in (("validation", pool), ("test", test))
    }
    return {"size": size, "seed": seed, "labels": labels, "scores": scores, "right": right}


def replay(run: dict, k: int | None, policy: str) -> float:
    """Mean accuracy on the held-out rows, in %, of the evaluation that the policy keeps."""
    test = np.array(run["scores"]["test"])  # (E, N, L)
    accuracy = 100 * (test.argmax(axis=2) == run["right"]["test"]).mean(axis=1)  # (E,)
    if policy == "end":
        return float(accuracy[-1])
    validation, right = np.array(run["scores"]["validation"]), np.array(run["right"]["validation"])
    hits = validation.argmax(axis=2) == right  # (E, P)
    lengths = np.array([len(label) for label in run["labels"]])[right]
    nats = -validation[:, np.arange(len(right)), right]  # (E, P)
    rng, kept = np.random.default_rng(0), []
    for _ in range(DRAWS):
        rows = rng.permutation(len(right))[:k]
        if policy == "bits":
            kept.append(int((nats[:, rows].sum(axis=1) / lengths[rows].sum()).argmin()))
        else:  # accuracy, ties to the later
            mean = hits[:, rows].mean(axis=1)
            kept.append(len(mean) - 1 - int(mean[::-1].argmax()))
    return float(accuracy[kept].mean())


def report(runs: Sequence[dict]) -> None:
    """Print accuracy by policy and size, mean over seeds and the least of them."""
    sizes = sorted({run["size"] for run in runs})
    policies = [("end", None)] + [(how, k) for k in (4, 8, 16, 24, 32, 64) for how in ("bits", "accuracy")]
    print("policy".ljust(24), *(f"{size:>16}" for size in sizes))
    for how, k in policies:
        cells = []
        for size in sizes:
            own = [
                replay(run, k, how)
                for run in runs
                if run["size"] == size and (k is None or len(run["right"]["validation"]) >= k)
            ]
            cells.append(f"{np.mean(own):5.1f} ({min(own):4.1f})" if own else "–")
        print((how if k is None else f"{how} of {k}").ljust(24), *(f"{cell:>16}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--data", default="reviews")
    parser.add_argument("--test")
    parser.add_argument("--sizes", default="32,80,128")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tested", type=int, default=200)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/choice"))
    arguments = parser.parse_args()
    task = read_task(arguments.data, arguments.test)
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in range(arguments.seeds):
        for size in map(int, arguments.sizes.split(",")):
            path = arguments.out / f"{size}-{seed}.json"
            if not path.is_file():
                run = measure(arguments.model, task, size, seed, arguments.tested, arguments.steps)
                path.write_text(json.dumps(run))
            runs.append(json.loads(path.read_text()))
    report(runs)


if __name__ == "__main__":
    main()
