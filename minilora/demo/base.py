"""Base models: pretrain a model on python-docs and keep it with its history.

The manifest records the text that a base was trained on, the settings and the loss reached. `python -m
experiments.base` makes the base that comes with the package.
"""

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from minilora import __version__
from minilora.data import corpora
from minilora.formats.atomic import write_json
from minilora.measure.records import machine
from minilora.train import load, metrics
from minilora.train.catalog import cache_folder, make_cache_folder
from minilora.train.loop import TrainConfig, train
from minilora.train.run import RunFolder
from minilora.train.save import save_model
from minilora.train.text import read_text, tokenizer_for, training_batches

DATA = "python-docs"
PROMPT = "Return the "


@dataclass(frozen=True)
class Base:
    """Recipe of a base: the shape of a model and its training configuration."""

    sizes: dict
    config: TrainConfig
    vocab_size: int = 2048
    seq_len: int = 128
    batch_size: int = 16

    def make(self, folder: Path, seed: int = 0, dtype: str = "float32") -> Path:
        """Pretrain in the run folder `folder`, continuing an interrupted run, and return the model's folder."""
        corpus = corpora.load(DATA)
        tokenizer = tokenizer_for(corpus, self.vocab_size)
        text = read_text(corpus, tokenizer)
        model = load.new_model(tokenizer, seed, **self.sizes)
        evaluate = metrics.evaluator(model, text.validation, self.seq_len, self.batch_size)
        samples = []

        def evaluate_and_sample() -> float:
            ids = tokenizer.encode(PROMPT)
            out = model.generate(ids[None], 24, temperature=0.7, seed=seed)
            samples.append(PROMPT + tokenizer.decode(out[0, len(ids) :]))
            return evaluate()

        batches = training_batches(text.train, self.batch_size, self.seq_len, seed)
        with RunFolder(folder, resume=True, config=asdict(self), text_hash=text.sha256) as run:
            history = train(
                model, batches, self.config, evaluate=evaluate_and_sample, run=run, description="pretraining"
            )
            save_model(model, tokenizer, folder / "model", dtype)
        evaluations = [[e["step"], round(e["value"], 4)] for e in history.evaluations]
        sampled = [step for step, _ in evaluations][-len(samples) :]  # samples from before an interruption are lost
        facts = asdict(self) | {
            "machine": machine(),
            "data": text.name,
            "text_sha256": text.sha256,
            "parameters": load.count_parameters(model)[1],
            "train": asdict(self.config),
            "seed": seed,
            "seconds": round(history.seconds),
            "validation_bits_per_character": history.best,
            "evaluations": evaluations,
            "samples": list(zip(sampled, samples, strict=True)),
        }
        write_json(folder / "model" / "manifest.json", facts)
        return folder / "model"

    def cached(self, seed: int = 0) -> tuple[Path, bool]:
        """Return (the model's folder in the cache, True if it was there already); make it if it is missing."""
        facts = json.dumps([asdict(self), corpora.load(DATA).sha256, seed, __version__], sort_keys=True)
        folder = cache_folder() / f"base-{sha256(facts.encode()).hexdigest()[:16]}"
        is_cached = (folder / "model" / "config.json").is_file()
        if not is_cached:
            make_cache_folder(folder)
            self.make(folder, seed)
        return folder / "model", is_cached


PACKAGE_BASE = Base(
    sizes={
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    },
    config=TrainConfig(
        steps=1600, peak_lr=3e-3, warmup=100, lr_floor=0.05, weight_decay=0.1, betas=(0.9, 0.95), eval_every=100
    ),
)
QUICK_BASE = Base(  # trains in under a minute
    sizes=PACKAGE_BASE.sizes
    | {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2},
    vocab_size=1024,
    config=replace(PACKAGE_BASE.config, steps=400, peak_lr=6e-3, warmup=20, eval_every=40),
)
