"""A training step in minilora, in transformers with PEFT (and bitsandbytes), and in lean PyTorch, eager and compiled.

Architecture, batch, optimizer and plain loop are the same. `benchmarks.speed`, `.curves` and `.gpu` start this file
once for each library, in a process of its own that does steps on request. This file also has a step's matrix products
alone, and other ways to spread a step over the cores.
"""

import json
import os
from functools import partial

from benchmarks.harness import Runner, call

SIZES = {
    "hidden 256, 4 layers": {"vocab": 2048, "hidden": 256, "intermediate": 688, "layers": 4, "heads": 8, "length": 128},
    "hidden 64, 2 layers": {"vocab": 2048, "hidden": 64, "intermediate": 172, "layers": 2, "heads": 2, "length": 128},
}
SHORT = {"hidden 64, 8 x 64": SIZES["hidden 64, 2 layers"] | {"batch": 8, "length": 64}}  # for a CPU
LARGE = {  # for a GPU
    "hidden 1024, 8 layers": {"vocab": 8192, "hidden": 1024, "intermediate": 2752, "layers": 8, "heads": 16}
    | {"length": 512},
}
SMOLLM2 = {"vocab": 49152, "hidden": 576, "intermediate": 1536, "layers": 30, "heads": 9, "kv_heads": 3}
PRETRAINED = {"pretrained": "smollm2", "targets": ["q_proj", "v_proj"]}  # PEFT's default for a Llama
REAL = {
    f"SmolLM2-135M, {batch} x {length}": SMOLLM2 | PRETRAINED | {"batch": batch, "length": length}
    for batch, length in ((1, 128), (4, 128), (1, 512))
}
IN_DEPTH = (*SIZES, "SmolLM2-135M, 4 x 128")  # sizes for which more than the speed is measured
METHODS = ("full", "lora", "qlora")
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BATCH, RANK = 16, 8  # BATCH unless a size has its own "batch"
BACKENDS = {"cpu": "numpy", "cuda": "cupy"}


def file_of_model(size: dict):
    """Return the file of a pretrained model."""
    from minilora.train import catalog

    return catalog.find(size["pretrained"])


def token_ids(size: dict):
    import numpy as np

    return np.random.default_rng(0).integers(0, size["vocab"], (size.get("batch", BATCH), size["length"]))


# minilora


def llama_settings(size: dict) -> dict:
    """Return the arguments of LlamaConfig, which are the same in minilora and transformers."""
    return {
        "vocab_size": size["vocab"],
        "hidden_size": size["hidden"],
        "intermediate_size": size["intermediate"],
        "num_hidden_layers": size["layers"],
        "num_attention_heads": size["heads"],
        "num_key_value_heads": size.get("kv_heads"),
        "tie_word_embeddings": True,
    }


def minilora_model(size: dict, method: str):
    """Return a model of `size`, fresh or pretrained, adapted by the method."""
    from minilora.models.llama import LlamaConfig, LlamaForCausalLM
    from minilora.peft import LoraConfig, get_peft_model
    from minilora.quant import load_4bit, quantize_model

    if "pretrained" in size and method == "qlora":
        model = load_4bit(LlamaForCausalLM, file_of_model(size))
    elif "pretrained" in size:
        model = LlamaForCausalLM.from_pretrained(file_of_model(size))
    else:
        model = LlamaForCausalLM(LlamaConfig(**llama_settings(size)))
        if method == "qlora":
            quantize_model(model)
    if method == "full":
        return model
    targets = size.get("targets", "all-linear")
    return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets))


def minilora_loop(model, ids):
    """Return a function that does one step of the plain loop and returns the loss, without waiting for a GPU."""
    from minilora.optim import AdamW, clip_grad_norm_

    parameters = [p for p in model.train().parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=1e-3)

    def step():
        loss = model(ids, labels=ids).loss
        loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.data

    return step


def minilora_step(size: dict, method: str, device: str | None = "cpu", count: int | None = None):
    """Return `minilora_loop` for a model of `size`.

    device: None leaves the backend as it is. count: 1 limits a CPU to one thread; None leaves the choice to minilora.
    """
    from minilora import backend, blas, threads

    if device is not None:
        backend.use(BACKENDS[device])
    step = minilora_loop(minilora_model(size, method), token_ids(size))

    def step_on_one():
        with threads.using(1), blas.one_thread():
            return step()

    return step_on_one if count == 1 else step


def all_threads_step(size: dict, method: str, device: str):
    """Return `minilora_step` spread over all cores, however small the batch is."""
    from minilora import threads

    threads.WORTH_A_PART = 1
    return minilora_step(size, method)


# The peers


def torch_step(size: dict, method: str, device: str = "cpu", compiled: bool = False):
    import torch

    from benchmarks.torch_llama import TorchLlama

    names = ("vocab", "hidden", "intermediate", "layers", "heads", "length", "kv_heads")
    model = TorchLlama(**{name: size[name] for name in names if name in size})
    return torch_loop(model, model.layers, torch.compile(model) if compiled else model, size, method, device)


def compiled_step(size: dict, method: str, device: str = "cpu"):
    """Return `torch_step` compiled by torch.compile. The first call compiles, after the adapters are put in."""
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # so that the first step includes all of the compilation
    return torch_step(size, method, device, compiled=True)


def transformers_step(size: dict, method: str, device: str = "cpu"):
    model = transformers_model(size)
    loss_of = lambda ids: model(input_ids=ids, labels=ids).loss  # noqa: E731
    return torch_loop(model, model.model.layers, loss_of, size, method, device)


def transformers_model(size: dict):
    """Return a model of `size`, fresh or pretrained, in float32."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    if "pretrained" in size:
        path = file_of_model(size)
        return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return LlamaForCausalLM(LlamaConfig(**llama_settings(size)))


def torch_loop(model, layers, loss_of, size: dict, method: str, device: str):
    """Return a function that does one step of PyTorch's plain loop.

    layers: the part of `model` whose linears are adapted. loss_of: computes the loss from token ids.
    """
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if method == "qlora":
        from bitsandbytes.nn import Linear4bit

        model.is_loaded_in_4bit = True  # PEFT looks at this
        for block in list(layers.modules()):
            for name, linear in list(block.named_children()):
                if type(linear) is torch.nn.Linear:
                    settings = {"bias": False, "compress_statistics": False, "quant_type": "nf4"}
                    new = Linear4bit(linear.in_features, linear.out_features, compute_dtype=torch.float32, **settings)
                    new.load_state_dict(linear.state_dict())
                    setattr(block, name, new.to(device))  # `to` quantizes it
    model.to(device).train()
    if method != "full":
        from peft import LoraConfig, get_peft_model

        names = size.get("targets", ALL_LINEAR)
        get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names))  # in place
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    ids = torch.from_numpy(token_ids(size))

    def step():
        loss = loss_of(ids.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def products_alone(size: dict, method: str, device: str = "cpu"):
    """Return a function that does only the matrix products of a step, on all threads of a CPU.

    In attention it does only the products that a causal mask needs, 64 queries at a time.
    """
    import numpy as np

    from minilora import blas, threads

    batch, length = size.get("batch", BATCH), size["length"]
    rows = batch * length // blas.cores()
    hidden, intermediate, rng = size["hidden"], size["intermediate"], np.random.default_rng(0)
    keys_wide = hidden * size.get("kv_heads", size["heads"]) // size["heads"]
    array = lambda *shape: rng.standard_normal(shape, dtype=np.float32)  # noqa: E731
    layer = [(hidden, hidden), (keys_wide, hidden)] * 2 + [(intermediate, hidden)] * 2 + [(hidden, intermediate)]
    weights = {shape: array(*shape) for shape in {*layer, (size["vocab"], hidden)}}
    inputs = {n: array(rows, n) for n in {hidden, keys_wide, intermediate, size["vocab"]}}
    heads = batch * size["heads"] // blas.cores()
    q, scores = array(heads, length, hidden // size["heads"]), array(heads, min(64, length), length)

    def part(_):
        for out, inner in layer * size["layers"] + [(size["vocab"], hidden)]:
            w = weights[out, inner]
            _ = inputs[inner] @ w.T  # forward
            _ = inputs[out] @ w  # gradient of the input
            if method == "full":
                _ = inputs[out].T @ inputs[inner]  # gradient of the weight
        for start in [*range(0, length, 64)] * size["layers"]:
            queries, keys = q[:, start : start + 64], q[:, : start + 64]
            block = scores[:, : queries.shape[1], : keys.shape[1]]
            for _ in range(2):
                _ = queries @ keys.swapaxes(-1, -2)  # the scores; in backward, their gradient
                _ = block @ keys  # the sum of the values; in backward, the gradient of the queries
                _ = block.swapaxes(-1, -2) @ queries  # gradients of keys and values

    return lambda: threads.side_by_side(part, range(threads.count())) and 0.0


STEPS = {"minilora": minilora_step, "torch": torch_step, "products": products_alone}
PEERS = {"transformers": transformers_step, "torch": torch_step, "torch.compile": compiled_step}
WAYS = {"products": products_alone, "one thread": partial(minilora_step, count=1), "all threads": all_threads_step}


def work(library: str, size: str, method: str, device: str):
    """Return a function that does one step. size: a name of a table above, or a size as JSON."""
    return (STEPS | PEERS | WAYS)[library](find_size(size), method, device)


def arguments_of(library: str, size: str, method: str, device: str = "cpu") -> list[str]:
    """Return the arguments for a Runner that does steps."""
    return [*call("benchmarks.step.work", library, size, method, device), library, device]


def step_runner(library: str, size: str, method: str, device: str = "cpu", name: str = "") -> Runner:
    """Return a Runner that does steps. name: the runner's name (default: the library's)."""
    return Runner(name or library, *arguments_of(library, size, method, device))


def find_size(text: str) -> dict:
    """Return the size called `text`, or the size that `text` describes in JSON. Raises KeyError or ValueError."""
    return json.loads(text) if text.startswith("{") else (SIZES | SHORT | LARGE | REAL)[text]
