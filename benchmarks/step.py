"""A training step in minilora, in transformers with PEFT (and bitsandbytes), and in lean PyTorch: the same
architecture, batch, optimizer and plain loop, taking turns in one run.

    pip install -e ".[parity]" && python -m benchmarks.step

Each library runs in a process of its own and does a few steps when it is told to, so neither disturbs the other.
Printed are milliseconds a step (medians over the rounds), and medians of the rounds' ratios: of transformers' and
PyTorch's time to minilora's; of the best way's to the plain loop's, which decides by itself between all threads and
one; of one thread's to the plain loop's. Then the share of minilora's step that its matrix products take when run
alone, and the peak memory of minilora and transformers.
"""

import argparse
import json
import os
import statistics
from contextlib import ExitStack

from benchmarks.harness import Runner, median_ratio, seconds_of, serve, take_turns

SIZES = {
    "hidden 256, 4 layers": {"vocab": 2048, "hidden": 256, "intermediate": 688, "layers": 4, "heads": 8, "length": 128},
    "hidden 64, 2 layers": {"vocab": 2048, "hidden": 64, "intermediate": 172, "layers": 2, "heads": 2, "length": 128},
}
SHORT = {"hidden 64, 8 x 64": SIZES["hidden 64, 2 layers"] | {"batch": 8, "length": 64}}  # for a CPU
LARGE = {  # for a GPU
    "hidden 1024, 8 layers": {
        "vocab": 8192,
        "hidden": 1024,
        "intermediate": 2752,
        "layers": 8,
        "heads": 16,
        "length": 512,
    },
}
METHODS = ("full", "lora", "qlora")
BATCH, RANK = 16, 8  # a size may have a "batch" of its own
BACKENDS = {"cpu": "numpy", "cuda": "cupy"}


def minilora_model(size: dict, method: str, targets: str | list[str] = "all-linear"):
    """A fresh model of that size, adapted by the method; targets: what LoRA adapts."""
    from minilora.models.llama import LlamaConfig, LlamaForCausalLM
    from minilora.peft import LoraConfig, get_peft_model

    config = LlamaConfig(
        vocab_size=size["vocab"],
        hidden_size=size["hidden"],
        intermediate_size=size["intermediate"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size.get("kv_heads"),
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    if method == "qlora":
        from minilora.quant import quantize_model

        quantize_model(model)
    if method == "full":
        return model
    return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets))


def minilora_step(size: dict, method: str, device: str | None = "cpu", count: int | None = None):
    """A function that does one step of the plain loop and returns the loss, which a GPU may still be working on.

    device: None leaves the backend as it is. count: of a CPU's threads; None leaves it to the library.
    """
    import numpy as np

    from minilora import backend, blas, threads
    from minilora.optim import AdamW, clip_grad_norm_

    if device is not None:
        backend.use(BACKENDS[device])
    model = minilora_model(size, method)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=1e-3)
    ids = np.random.default_rng(0).integers(0, size["vocab"], (size.get("batch", BATCH), size["length"]))

    def step():
        loss = model(ids, labels=ids).loss
        loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.data

    def step_on_one():
        with threads.using(1), blas.one_thread():
            return step()

    return step_on_one if count == 1 else step


def all_threads_step(size: dict, method: str, device: str):
    """`minilora_step` over all cores, however small the batch."""
    from minilora import threads

    threads.WORTH_A_PART = 1
    return minilora_step(size, method)


def one_thread_step(size: dict, method: str, device: str):
    return minilora_step(size, method, count=1)


def torch_step(size: dict, method: str, device: str = "cpu"):
    from benchmarks.torch_llama import TorchLlama

    model = TorchLlama(**{name: value for name, value in size.items() if name != "batch"})
    return torch_loop(model, model.layers, lambda ids: model(ids), size, method, device)


def transformers_step(size: dict, method: str, device: str = "cpu"):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size["vocab"],
        hidden_size=size["hidden"],
        intermediate_size=size["intermediate"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).train()
    return torch_loop(
        model, model.model.layers, lambda ids: model(input_ids=ids, labels=ids).loss, size, method, device
    )


def torch_loop(model, layers, loss_of, size: dict, method: str, device: str):
    """A function that does one step of PyTorch's plain loop. layers: whose linears LoRA adapts; loss_of: of token ids,
    through `model`.
    """
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if method == "qlora":
        from bitsandbytes.nn import Linear4bit

        model.is_loaded_in_4bit = True  # PEFT asks
        for block in list(layers.modules()):
            for name, linear in list(block.named_children()):
                if type(linear) is torch.nn.Linear:
                    settings = {"bias": False, "compress_statistics": False, "quant_type": "nf4"}
                    new = Linear4bit(linear.in_features, linear.out_features, compute_dtype=torch.float32, **settings)
                    new.load_state_dict(linear.state_dict())
                    setattr(block, name, new)  # `to` quantizes it
    model.to(device)
    if method != "full":
        from peft import LoraConfig, get_peft_model

        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names))  # in place
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    ids = torch.randint(0, size["vocab"], (size.get("batch", BATCH), size["length"]))

    def step():
        loss = loss_of(ids.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def products_alone(size: dict, method: str, device: str = "cpu"):
    """A function that does just the matrix products of a step, over the same threads of a CPU; of attention those that
    a causal mask leaves, 64 queries at a time.
    """
    import numpy as np

    from minilora import blas, threads

    batch, length = size.get("batch", BATCH), size["length"]
    rows = batch * length // blas.cores()
    hidden, intermediate, rng = size["hidden"], size["intermediate"], np.random.default_rng(0)
    array = lambda *shape: rng.standard_normal(shape, dtype=np.float32)  # noqa: E731
    layer = [(hidden, hidden)] * 4 + [(intermediate, hidden)] * 2 + [(hidden, intermediate)]
    weights = {shape: array(*shape) for shape in {*layer, (size["vocab"], hidden)}}
    inputs = {n: array(rows, n) for n in {hidden, intermediate, size["vocab"]}}
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
            for _ in range(2):  # scores, and their gradient
                _ = queries @ keys.swapaxes(-1, -2)
            for _ in range(2):  # the sum of the values, and the gradient of the queries
                _ = block @ keys
            for _ in range(2):  # gradients of keys and values
                _ = block.swapaxes(-1, -2) @ queries

    return lambda: threads.side_by_side(part, range(threads.count())) and 0.0


STEPS = {"minilora": minilora_step, "torch": torch_step, "products": products_alone}
WAYS = {"transformers": transformers_step, "one thread": one_thread_step, "all threads": all_threads_step}


def step_runner(library: str, size: str, method: str, device: str = "cpu", name: str = "") -> Runner:
    """A process that does steps. size: a name of the table, or a size as JSON. name: by default that of the library."""
    options = ["--serve", library, "--size", size, "--method", method, "--device", device]
    return Runner(name or library, "benchmarks.step", *options)


def find_size(text: str) -> dict:
    """The size of that name, or the one that JSON describes; KeyError or ValueError for anything else."""
    return json.loads(text) if text.startswith("{") else (SIZES | SHORT | LARGE)[text]


def size_argument(text: str) -> str:
    """`text` where it is a size, for argparse."""
    try:
        find_size(text)
    except (KeyError, ValueError):
        known = ", ".join(SIZES | SHORT | LARGE)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {known} and no JSON") from None
    return text


def compare(size: str, method: str, rounds: int) -> dict:
    with ExitStack() as stack:
        runners = [stack.enter_context(step_runner(name, size, method)) for name in STEPS | WAYS]
        answers = take_turns(runners, rounds)
    seconds = seconds_of(answers)
    best = min(("one thread", "all threads"), key=lambda name: statistics.median(seconds[name]))
    ratios = {name: median_ratio(of_name, seconds["minilora"]) for name, of_name in seconds.items()}
    return {
        "ms": 1000 * statistics.median(seconds["minilora"]),
        "best": ratios[best],
        "peaks": {name: answers[name][-1]["peak"] for name in ("minilora", "transformers")},
        **ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    words = f"one of {', '.join(map(repr, SIZES | SHORT | LARGE))}, or a size as JSON"
    parser.add_argument("--size", type=size_argument, help=words)
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--serve", choices=STEPS | WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=BACKENDS, default="cpu", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        library, device = arguments.serve, arguments.device
        return serve((STEPS | WAYS)[library](find_size(arguments.size), arguments.method, device), library, device)

    from minilora import blas

    kernels = ", ".join(f"{b['internal_api']} {b['version']} {b.get('architecture', '')}" for b in blas.describe())
    print(f"{blas.cores()} cores, {kernels}; medians of {arguments.rounds} rounds")
    columns = ("ms", "transformers", "torch", "best", "one thread", "products")
    print(f"{'model':<21}{'method':<7}{''.join(f'{name:>13}' for name in columns)}{'peak MiB':>13}")
    for size in [arguments.size] if arguments.size else SIZES | SHORT:
        for method in [arguments.method] if arguments.method else METHODS:
            r = compare(size, method, arguments.rounds)
            peaks = f"{r['peaks']['minilora']:.0f} / {r['peaks']['transformers']:.0f}"
            row = f"{r['ms']:>13.1f}" + "".join(f"{r[name]:>13.2f}" for name in columns[1:])
            print(f"{size:<21}{method:<7}{row}{peaks:>13}", flush=True)


if __name__ == "__main__":
    main()
