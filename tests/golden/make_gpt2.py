"""python tests/golden/make_gpt2.py: what transformers computes with a tiny GPT-2, as gpt2_NAME.safetensors.

One file for each configuration in `CONFIGS`. Its metadata holds the configuration, its tensors the weights as
transformers has them ("weight.…", stored as float16, which they fit exactly) and, all computed in float32:
- input_ids, labels, logits, loss and the gradient of every parameter ("grad.…");
- the logits of a batch with padding on the left (padded_ids, padded_mask, padded_logits);
- greedy continuations of input_ids (greedy) and of the padded batch (padded_greedy).

For each method in `ADAPTERS`, gpt2_peft/METHOD holds an adapter of the first model after three AdamW steps, as PEFT
saved it, and gpt2_peft/expected.safetensors the logits on input_ids with it.
"""

import json
from pathlib import Path

import numpy as np
import peft
import torch
from safetensors.numpy import save_file
from transformers import GPT2Config, GPT2LMHeadModel

HERE = Path(__file__).parent
SMALL = {"vocab_size": 40, "n_positions": 24, "n_embd": 12}
CONFIGS = {
    "tied": {**SMALL, "n_layer": 2, "n_head": 3},
    "untied": {
        **{**SMALL, "n_layer": 1, "n_head": 2, "n_inner": 20},
        **{"layer_norm_epsilon": 1e-2, "tie_word_embeddings": False},
    },
}
PAD, NEW_TOKENS = 1, 8
ADAPTERS = {
    "lora": peft.LoraConfig(r=2, lora_alpha=3, task_type="CAUSAL_LM", fan_in_fan_out=True),
    "dora": peft.LoraConfig(r=2, use_dora=True, target_modules="all-linear", fan_in_fan_out=True),
    "ia3": peft.IA3Config(task_type="CAUSAL_LM", fan_in_fan_out=True),
    "saved": peft.LoraConfig(r=2, target_modules=["c_attn"], modules_to_save=["attn.c_proj", "mlp"]),
}


def build(config: dict, seed: int) -> GPT2LMHeadModel:
    """A model whose weights fit in float16 and are large enough for logits that differ."""
    rng = np.random.default_rng(seed)
    model = GPT2LMHeadModel(GPT2Config(**config, eos_token_id=None, bos_token_id=None)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            value = rng.standard_normal(p.shape) * 0.3 + (".ln_" in name and "weight" in name)
            p.copy_(torch.from_numpy(value.astype("float16")).float())
    return model


def describe(model: GPT2LMHeadModel, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = rng.integers(2, 40, (2, 7))
    labels = np.where(rng.random(ids.shape) < 0.2, -100, ids)
    out = model(torch.from_numpy(ids), labels=torch.from_numpy(labels))
    out.loss.backward()
    arrays = {"input_ids": ids, "labels": labels, "logits": out.logits, "loss": out.loss}
    arrays |= {f"weight.{name}": p.detach().numpy().astype("float16") for name, p in model.named_parameters()}
    arrays |= {f"grad.{name}": p.grad.clone() for name, p in model.named_parameters()}
    padded, mask = ids.copy(), np.ones_like(ids)
    padded[1], mask[1] = [PAD] * 3 + ids[1, :4].tolist(), [0] * 3 + [1] * 4
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": PAD}
    with torch.no_grad():
        positions = np.maximum(mask.cumsum(axis=1) - 1, 0)  # what generate() does; a plain call leaves it to the caller
        masked = {"attention_mask": torch.from_numpy(mask)}
        padded_logits = model(torch.from_numpy(padded), position_ids=torch.from_numpy(positions), **masked).logits
        greedy = model.generate(torch.from_numpy(ids), attention_mask=torch.ones(ids.shape), **settings)
        padded_greedy = model.generate(torch.from_numpy(padded), **masked, **settings)
    arrays |= {"padded_ids": padded, "padded_mask": mask, "padded_logits": padded_logits}
    return arrays | {"greedy": greedy, "padded_greedy": padded_greedy}


def adapt(model: GPT2LMHeadModel, config: peft.PeftConfig, ids: np.ndarray) -> peft.PeftModel:
    """The model, adapted and trained for three steps."""
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model, config)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.02)
    batch = torch.from_numpy(ids)
    for _ in range(3):
        optimizer.zero_grad()
        adapted(batch, labels=batch).loss.backward()
        optimizer.step()
    return adapted.eval()


def main() -> None:
    for seed, (name, config) in enumerate(CONFIGS.items()):
        arrays = describe(build(config, seed), seed)
        arrays = {key: a.detach().numpy() if isinstance(a, torch.Tensor) else a for key, a in arrays.items()}
        arrays = {key: np.array(a, order="C") for key, a in arrays.items()}
        save_file(arrays, HERE / f"gpt2_{name}.safetensors", metadata={"config": json.dumps(config)})

    from make_peft import save  # beside this script

    ids, expected = np.random.default_rng(3).integers(2, 40, (3, 9)), {}
    for name, config in ADAPTERS.items():
        adapted = adapt(build(CONFIGS["tied"], 0), config, ids)
        save(adapted, HERE / "gpt2_peft" / name)
        with torch.no_grad():
            expected[name] = adapted(torch.from_numpy(ids)).logits.numpy()
    save_file({"input_ids": ids, **expected}, HERE / "gpt2_peft" / "expected.safetensors")


if __name__ == "__main__":
    main()
