"""Make the base model that comes with the package: `python -m minilora.study.base`, about half an hour on two cores.

The same recipe as `minilora pretrain --data python-docs`, run longer. Weights are stored as float16 (under 6 MB); the
manifest says from what text, with which settings and to which loss.
"""

import platform
import sys
from dataclasses import asdict
from hashlib import sha256

import numpy as np

from .. import __version__
from ..formats.atomic import write_json
from ..train import recipes
from ..train.loop import TrainConfig, train
from ..train.parallel import Workers

VOCAB_SIZE, SEQ_LEN, BATCH_SIZE, SEED = 2048, 128, 16, 0
SIZES = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
CONFIG = TrainConfig(
    steps=2400, lr=3e-3, warmup=100, lr_floor=0.05, weight_decay=0.1, betas=(0.9, 0.95), eval_every=200
)


def make_base() -> None:
    """Pretrain, and write the folder that `recipes.base_folder()` names."""
    tokenizer = recipes.tokenizer_for("python-docs", VOCAB_SIZE)
    text = recipes.read_text("python-docs", tokenizer)
    model = recipes.new_model(tokenizer, SEED, **SIZES)
    with Workers() as workers:
        evaluate = recipes.evaluator(model, text.validation, SEQ_LEN, BATCH_SIZE, workers)

        def report() -> float:
            value = evaluate()
            print(f"validation {value:.4f} bits/character", file=sys.stderr, flush=True)
            return value

        batches = recipes.training_batches(text.train, BATCH_SIZE, SEQ_LEN, SEED)
        history = train(model, batches, CONFIG, evaluate=report, workers=workers, description="base")
        test = recipes.evaluator(model, text.test, SEQ_LEN, BATCH_SIZE, workers)()
    folder = recipes.base_folder()
    model.save_pretrained(folder, tokenizer.to_json(), dtype="float16")
    facts = {
        "made_by": "python -m minilora.study.base",
        "minilora": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "data": text.name,
        "text_sha256": text.sha256,
        "tokens": len(text.train.ids),
        "parameters": recipes.count_parameters(model)[1],
        "train": asdict(CONFIG),
        "batch_size": BATCH_SIZE,
        "seq_len": SEQ_LEN,
        "validation_bits_per_character": history.best,
        "test_bits_per_character": test,
        "seconds": round(history.seconds),
        "losses": [[record["step"], round(record["loss"], 4)] for record in history.steps[::20]],
        "weights_sha256": sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
    }
    write_json(folder / "manifest.json", facts)
    print(f"{folder}: validation {history.best:.4f}, test {test:.4f} bits/character")


if __name__ == "__main__":
    make_base()
