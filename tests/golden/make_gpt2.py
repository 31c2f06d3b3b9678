"""python tests/golden/make_gpt2.py: what transformers computes with a tiny GPT-2, as gpt2_NAME.safetensors.

One file for each configuration in `CONFIGS`. Its metadata holds the configuration, its tensors the weights as
transformers has them ("weight.…", stored as float16, which they fit exactly) and, all computed in float32:
- input_ids, labels, logits, loss and the gradient of every parameter ("grad.…");
- the logits of a batch with padding on the left (padded_ids, padded_mask, padded_logits);
- greedy continuations of input_ids (greedy) and of the padded batch (padded_greedy).

For each method in `ADAPTERS`, gpt2_peft/METHOD holds an adapter of the first model after three AdamW steps, as PEFT
saved it, and gpt2_peft/expected.safetensors the logits on input_ids with it.
"""

import sys
from pathlib import Path

import numpy as np
import peft
import torch
from safetensors.numpy import save_file
from transformers import GPT2Config, GPT2LMHeadModel

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
from tests.golden import make_llama  # noqa: E402

SMALL = {"vocab_size": 40, "n_positions": 24, "n_embd": 12}
CONFIGS = {
    "tied": {**SMALL, "n_layer": 2, "n_head": 3},
    "untied": {
        **{**SMALL, "n_layer": 1, "n_head": 2, "n_inner": 20},
        **{"layer_norm_epsilon": 1e-2, "tie_word_embeddings": False},
    },
}
ADAPTERS = {
    "lora": peft.LoraConfig(r=2, lora_alpha=3, task_type="CAUSAL_LM", fan_in_fan_out=True),
    "dora": peft.LoraConfig(r=2, use_dora=True, target_modules="all-linear", fan_in_fan_out=True),
    "ia3": peft.IA3Config(task_type="CAUSAL_LM", fan_in_fan_out=True),
    "saved": peft.LoraConfig(r=2, target_modules=["c_attn"], modules_to_save=["attn.c_proj", "mlp"]),
}


def build(config: dict, seed: int) -> GPT2LMHeadModel:
    return make_llama.with_weights(GPT2LMHeadModel(GPT2Config(**config, eos_token_id=None, bos_token_id=None)), seed)


def adapt(model: GPT2LMHeadModel, config: peft.PeftConfig, ids: np.ndarray) -> peft.PeftModel:
    """Adapt the model and train it for three steps."""
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
        arrays = make_llama.describe(build(config, seed), seed)
        make_llama.write(HERE / f"gpt2_{name}.safetensors", arrays, config)

    from tests.golden.make_peft import save

    ids, expected = np.random.default_rng(3).integers(2, 40, (3, 9)), {}
    for name, config in ADAPTERS.items():
        adapted = adapt(build(CONFIGS["tied"], 0), config, ids)
        save(adapted, HERE / "gpt2_peft" / name)
        with torch.no_grad():
            expected[name] = adapted(torch.from_numpy(ids)).logits.numpy()
    save_file({"input_ids": ids, **expected}, HERE / "gpt2_peft" / "expected.safetensors")


if __name__ == "__main__":
    main()
