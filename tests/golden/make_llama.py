"""python tests/golden/make_llama.py: what transformers computes with tiny Llamas, as llama_NAME.safetensors.

One file for each configuration in `CONFIGS`. Its metadata holds the configuration, its tensors the weights ("weight.…",
stored as float16, which they fit exactly) and, all computed in float32:
- input_ids, labels, logits, loss and the gradient of every parameter ("grad.…");
- the logits of a batch with padding on the left (padded_ids, padded_mask, padded_logits);
- greedy continuations: of input_ids (greedy), of the padded batch (padded_greedy), and one that ends early with
  eos_token_id = `eos` and is filled with `PAD` (greedy_eos);
- a classifier's score.weight, its logits and loss on right-padded sequences (class_ids, class_labels, class_logits,
  class_loss);
- the loss at each of 100 AdamW steps over the four batches in train_ids (train_loss), for the first configuration.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

HERE = Path(__file__).parent
SMALL = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 64}
CONFIGS = {
    "grouped_tied": {
        **{**SMALL, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"tie_word_embeddings": True},
    },
    "biased": {
        **{**SMALL, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6},
        **{"attention_bias": True, "mlp_bias": True},
        **{"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}, "rms_norm_eps": 1e-3},
    },
    "plain": {**SMALL, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2},
}
PAD, NEW_TOKENS = 1, 8
TRAINING = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}


def build(config: dict, seed: int) -> LlamaForCausalLM:
    return with_weights(LlamaForCausalLM(LlamaConfig(**config, eos_token_id=None, bos_token_id=None)), seed)


def with_weights(model, seed: int):
    """Make the model with weights that fit in float16 and are large enough for logits to differ."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            is_norm = "norm" in name or (".ln_" in name and "weight" in name)
            value = rng.standard_normal(p.shape) * 0.3 + is_norm
            p.copy_(torch.from_numpy(value.astype("float16")).float())
    return model.eval()


def left_padded(ids: np.ndarray, lengths) -> tuple[np.ndarray, np.ndarray]:
    """Move the first tokens of each row to the right end, with PAD before them; return them and the mask."""
    padded, mask = np.full_like(ids, PAD), np.zeros_like(ids)
    for row, length in enumerate(lengths):
        padded[row, ids.shape[1] - length :] = ids[row, :length]
        mask[row, ids.shape[1] - length :] = 1
    return padded, mask


def first_before_end(continuations: np.ndarray, prompt: int) -> int:
    """Return a token that ends one row early, and not all rows at once."""
    new = continuations[:, prompt:]
    ends = {int(t): (new == t).any(axis=1).sum() for t in new[:, 1 : new.shape[1] - 2].reshape(-1)}
    return min(ends, key=lambda t: (ends[t] != 1, t))


def describe(model, seed: int) -> dict:
    """Return logits, loss, gradients and continuations of a Llama or a GPT-2."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(2, 40, (2, 7))
    labels = np.where(rng.random(ids.shape) < 0.2, -100, ids)
    out = model(torch.from_numpy(ids), labels=torch.from_numpy(labels))
    out.loss.backward()
    arrays = {"input_ids": ids, "labels": labels, "logits": out.logits, "loss": out.loss}
    arrays |= {f"weight.{name}": p.detach().numpy().astype("float16") for name, p in model.named_parameters()}
    arrays |= {f"grad.{name}": p.grad.clone() for name, p in model.named_parameters()}
    padded, mask = left_padded(ids, (7, 4))
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": PAD}
    with torch.no_grad():
        positions = np.maximum(mask.cumsum(axis=1) - 1, 0)  # what generate() does; a plain call leaves it to the caller
        masked = {"attention_mask": torch.from_numpy(mask)}
        padded_logits = model(torch.from_numpy(padded), position_ids=torch.from_numpy(positions), **masked).logits
        greedy = model.generate(torch.from_numpy(ids), attention_mask=torch.ones(ids.shape), **settings)
        padded_greedy = model.generate(torch.from_numpy(padded), **masked, **settings)
    arrays |= {"padded_ids": padded, "padded_mask": mask, "padded_logits": padded_logits}
    return arrays | {"greedy": greedy, "padded_greedy": padded_greedy}


def ends_early(model, ids: np.ndarray, greedy) -> dict:
    """Generate a continuation that ends before it has all tokens."""
    eos, settings = first_before_end(greedy.numpy(), ids.shape[1]), {"max_new_tokens": NEW_TOKENS, "do_sample": False}
    settings |= {"pad_token_id": PAD, "eos_token_id": eos, "attention_mask": torch.ones(ids.shape)}
    return {"eos": np.array(eos), "greedy_eos": model.generate(torch.from_numpy(ids), **settings)}


def classify(config: dict, model: LlamaForCausalLM, seed: int) -> dict[str, np.ndarray]:
    """Make a classifier of three labels on the same body."""
    rng = np.random.default_rng(seed + 100)
    classifier = LlamaForSequenceClassification(LlamaConfig(**config, num_labels=3, pad_token_id=PAD)).eval()
    classifier.model.load_state_dict(model.model.state_dict())
    score = rng.standard_normal((3, 16)).astype("float16")
    ids, labels = rng.integers(2, 40, (3, 6)), rng.integers(0, 3, 3)
    ids[0, 4:] = ids[2, 1:] = PAD
    with torch.no_grad():
        classifier.score.weight.copy_(torch.from_numpy(score).float())
        out = classifier(torch.from_numpy(ids), labels=torch.from_numpy(labels))
    arrays = {"class_ids": ids, "class_labels": labels, "class_logits": out.logits, "class_loss": out.loss}
    return arrays | {"weight.score.weight": score}


def train(model: LlamaForCausalLM, seed: int) -> dict[str, np.ndarray]:
    """Take 100 AdamW steps over four batches."""
    rng = np.random.default_rng(seed + 200)
    batches = rng.integers(2, 40, (4, 4, 12))
    optimizer = torch.optim.AdamW(model.parameters(), **TRAINING)
    losses = []
    for step in range(100):
        ids = torch.from_numpy(batches[step % len(batches)])
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"train_ids": batches, "train_loss": np.array(losses)}


def write(path: Path, arrays: dict, config: dict) -> None:
    arrays = {key: a.detach().numpy() if isinstance(a, torch.Tensor) else a for key, a in arrays.items()}
    arrays = {key: np.array(a, order="C") for key, a in arrays.items()}
    save_file(arrays, path, metadata={"config": json.dumps(config)})


def main() -> None:
    for seed, (name, config) in enumerate(CONFIGS.items()):
        model = build(config, seed)
        arrays = describe(model, seed)
        arrays |= ends_early(model, arrays["input_ids"], arrays["greedy"]) | classify(config, model, seed)
        if seed == 0:
            arrays |= train(model, seed)
        write(HERE / f"llama_{name}.safetensors", arrays, config)


if __name__ == "__main__":
    main()
