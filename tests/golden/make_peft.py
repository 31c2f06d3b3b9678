"""python tests/golden/make_peft.py: adapters that PEFT made and trained, and what it computes with them, in peft/.

The base of all is llama_grouped_tied.safetensors. For each method in `CONFIGS` a folder holds the adapter before
training (start) and after six AdamW steps (end), as PEFT saved it; expected.safetensors holds the batch (input_ids),
and for each method the loss at each step (METHOD.losses) and the logits at the end (METHOD.logits), all in float32.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import peft
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
TASK = {"task_type": "CAUSAL_LM"}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONFIGS = {
    "lora": peft.LoraConfig(r=4, lora_alpha=6, **TASK),
    "rslora": peft.LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=LINEARS, **TASK),
    "patterns": peft.LoraConfig(r=2, rank_pattern={"v_proj": 4}, alpha_pattern={"q_proj": 5}, **TASK),
    "dora": peft.LoraConfig(r=2, use_dora=True, target_modules=LINEARS, **TASK),
    "pissa": peft.LoraConfig(r=2, init_lora_weights="pissa", target_modules=LINEARS, **TASK),
    "ia3": peft.IA3Config(**TASK),
    "norms": peft.LNTuningConfig(**TASK),
    "prefix": peft.PrefixTuningConfig(num_virtual_tokens=3, **TASK),
    "prefix_projection": peft.PrefixTuningConfig(
        num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=5, **TASK
    ),
    "prompt": peft.PromptTuningConfig(num_virtual_tokens=3, **TASK),
    "vera": peft.VeraConfig(r=5, target_modules=["q_proj", "v_proj", "down_proj"], **TASK),
}
TRAINING = {"lr": 0.02, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
STEPS = 6


def base() -> LlamaForCausalLM:
    path = HERE / "llama_grouped_tied.safetensors"
    with safe_open(path, "numpy") as file:
        config = json.loads(file.metadata()["config"])
    model = LlamaForCausalLM(LlamaConfig(**config, eos_token_id=None, bos_token_id=None)).eval()
    weights = {k.removeprefix("weight."): torch.from_numpy(a).float() for k, a in load_file(path).items()}
    names = dict(model.named_parameters())
    model.load_state_dict({name: weights[name] for name in names}, strict=False)
    return model


def save(model, folder: Path) -> None:
    """Save PEFT's files, without the paths and versions of this machine."""
    with TemporaryDirectory() as place:
        model.save_pretrained(place)
        config = json.loads((Path(place) / "adapter_config.json").read_text())
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(Path(place) / "adapter_model.safetensors", folder)
    config |= {"base_model_name_or_path": None, "peft_version": None}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")


def main() -> None:
    ids = np.random.default_rng(3).integers(2, 40, (3, 9))
    batch = torch.from_numpy(ids)
    arrays = {"input_ids": ids}
    for name, config in CONFIGS.items():
        torch.manual_seed(0)
        model = peft.get_peft_model(base(), config)
        if name != "prefix_projection":  # whose network is not in the file, so that there is no start to share
            save(model, HERE / "peft" / name / "start")
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **TRAINING)
        losses = []
        for _ in range(STEPS):
            loss = model(batch, labels=batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        save(model, HERE / "peft" / name / "end")
        with torch.no_grad():
            arrays[f"{name}.logits"] = model(batch).logits.numpy()
        if name != "prefix_projection":
            arrays[f"{name}.losses"] = np.array(losses)
    save_file(arrays, HERE / "peft" / "expected.safetensors")


if __name__ == "__main__":
    main()
