"""Every method beside PEFT on one small Llama: what trains, how far apart they are, and whether files go both ways.

    pip install -e ".[parity]" && python -m benchmarks.exactness

Each row is one method. Trainable: minilora's count and PEFT's. Forward: the largest difference of logits between PEFT's
adapter and minilora's reading of its file, over the largest logit. Loss: the largest difference over six steps of AdamW
from the same start. Back: the same as forward, of minilora's file as PEFT reads it, after the six steps. Start: how far
a fresh adapter is from the base. Merge: how far the merged model is from the adapted one. Methods and parts that PEFT
does not have are shown as "–". PiSSA's start is a singular value decomposition, which PEFT makes in float32: its
forward difference is that.
"""

import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "tie_word_embeddings": True,
}
IDS = np.random.default_rng(9).integers(1, 40, (3, 7))
TASK = {"task_type": "CAUSAL_LM"}
ALL = {"target_modules": "all-linear"}
METHODS = {  # name: PEFT's class and the settings of both; no class where PEFT does not have the method
    "LoRA": ("LoraConfig", {"r": 4, "lora_alpha": 6}),
    "LoRA, all linears, rsLoRA": ("LoraConfig", {"r": 4, "lora_alpha": 6, "use_rslora": True, **ALL}),
    "DoRA": ("LoraConfig", {"r": 2, "use_dora": True, **ALL}),
    "PiSSA": ("LoraConfig", {"r": 2, "init_lora_weights": "pissa", **ALL}),
    "QLoRA (NF4)": ("LoraConfig", {"r": 4, "lora_alpha": 8, **ALL}),
    "IA3": ("IA3Config", {}),
    "prefix tuning": ("PrefixTuningConfig", {"num_virtual_tokens": 3}),
    "prompt tuning": ("PromptTuningConfig", {"num_virtual_tokens": 3}),
    "norms": ("LNTuningConfig", {}),
    "VeRA": ("VeraConfig", {"r": 8, **ALL}),
    "AdaLoRA": ("AdaLoraConfig", {"init_r": 3, "target_r": 2, "tfinal": 2, "total_step": 6, **TASK, **ALL}),
    "adapters, Pfeiffer": (None, {"bottleneck_size": 4}),
    "adapters, Houlsby": (None, {"bottleneck_size": 4, "placement": "houlsby"}),
    "adapters, parallel": (None, {"bottleneck_size": 4, "placement": "parallel"}),
    "BitFit and norms": (None, {"norms": True}),
}
OURS = {"adapters": "BottleneckConfig", "BitFit": "BitFitConfig"}
STEPS, RATE = 6, 0.02


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(abs(a - b).max() / abs(b).max())


class Base:
    """The same small model in both libraries, anew each time.

    in_4_bits: minilora's is in NF4, and the other has the weights that these codes stand for. (bitsandbytes' own layers
    have the same codes and values, bit for bit: tests/parity/test_bitsandbytes_parity.py.)
    """

    def __init__(self, folder: Path, in_4_bits: bool = False):
        from minilora.models.llama import LlamaConfig, LlamaForCausalLM
        from minilora.quant import dequantize_model

        self.folder, self.in_4_bits = folder, in_4_bits
        LlamaForCausalLM(LlamaConfig(**SIZES), seed=0).save_pretrained(folder)
        if in_4_bits:
            dequantize_model(model := self.ours())
            model.save_pretrained(folder / "theirs")

    def ours(self):
        from minilora.models.llama import LlamaForCausalLM
        from minilora.quant import quantize_model

        model = LlamaForCausalLM.from_pretrained(self.folder)
        if self.in_4_bits:
            quantize_model(model)
        return model

    def theirs(self):
        from transformers import LlamaForCausalLM

        return LlamaForCausalLM.from_pretrained(self.folder / "theirs" if self.in_4_bits else self.folder)


def logits(model) -> np.ndarray:
    import torch

    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return model.eval()(torch.from_numpy(IDS)).logits.numpy()
    return model.eval()(IDS).logits.numpy()


def six_steps_of_ours(model) -> list[float]:
    from minilora.optim import AdamW
    from minilora.peft import TrainingHook

    optimizer, losses, hook = AdamW(model.parameters(), lr=RATE), [], model.training_hook(STEPS) or TrainingHook()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss, extra = model.train()(IDS, labels=IDS).loss, hook.extra_loss()
        loss = loss if extra is None else loss + extra
        loss.backward()
        optimizer.step()
        hook.after_step(step + 1)
        losses.append(loss.item())
    return losses


def six_steps_of_theirs(model) -> list[float]:
    import torch

    optimizer, losses = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE), []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model.train()(torch.from_numpy(IDS), labels=torch.from_numpy(IDS)).loss
        loss.backward()
        optimizer.step()
        if hasattr(model.base_model, "update_and_allocate"):  # AdaLoRA's
            model.base_model.update_and_allocate(step + 1)
        losses.append(loss.item())
    return losses


def beside_peft(base: Base, kind: str, settings: dict, folder: Path) -> dict:
    """What PEFT and minilora make of each other's files."""
    import peft
    import torch

    from minilora.peft import PeftModel

    torch.manual_seed(0)
    theirs = peft.get_peft_model(base.theirs(), getattr(peft, kind)(**settings | TASK))
    theirs.save_pretrained(folder / "theirs")
    ours = PeftModel.from_pretrained(base.ours(), folder / "theirs", is_trainable=True)
    row = {"peft": sum(p.numel() for p in theirs.parameters() if p.requires_grad)}
    row["forward"] = distance(logits(ours), logits(theirs))
    row["loss"] = max(abs(a - b) for a, b in zip(six_steps_of_ours(ours), six_steps_of_theirs(theirs), strict=True))
    row["forward"] = max(row["forward"], distance(logits(ours), logits(theirs)))
    ours.save_pretrained(folder / "ours")
    row["back"] = distance(logits(peft.PeftModel.from_pretrained(base.theirs(), folder / "ours")), logits(ours))
    return row


def measure(base: Base, name: str, folder: Path) -> dict:
    """One row of the table."""
    from minilora import peft as our_peft
    from minilora.errors import MiniloraError

    kind, settings = METHODS[name]
    plain = base.ours()
    before = logits(plain)
    own = next((cls for start, cls in OURS.items() if name.startswith(start)), kind)
    model = our_peft.get_peft_model(plain, getattr(our_peft, own)(**settings), seed=1)
    row = {"ours": model.get_nb_trainable_parameters()[0], "start": distance(logits(model)[:, -7:], before)}
    six_steps_of_ours(model)
    after = logits(model)
    with suppress(MiniloraError):  # a method that cannot be merged
        row["merge"] = distance(logits(model.merge_and_unload()), after)
    return row | (beside_peft(base, kind, settings, folder) if kind else {})


def main() -> None:
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.disable_progress_bar()
    columns = ("ours", "peft", "forward", "loss", "back", "start", "merge")
    print(f"{'method':<26}" + "".join(f"{name:>8}" for name in columns))
    with tempfile.TemporaryDirectory() as folder:
        bases = {in_4_bits: Base(Path(folder) / f"base-{in_4_bits}", in_4_bits) for in_4_bits in (False, True)}
        for index, name in enumerate(METHODS):
            row = measure(bases["QLoRA" in name], name, Path(folder) / str(index))
            cells = ["–" if row.get(c) is None else f"{row[c]:.0e}" if row[c] < 1 else f"{row[c]:,}" for c in columns]
            print(f"{name:<26}" + "".join(f"{cell:>8}" for cell in cells))


if __name__ == "__main__":
    main()
