"""A training step in minilora and in PyTorch: the same architecture, batch and optimizer, taking turns in one run.

    pip install -e ".[parity]" && python -m benchmarks.step

Each library runs in a process of its own and does a few steps when it is told to, so neither disturbs the other.
Printed are tokens a second (medians over the rounds), the median of the rounds' ratios, the share of minilora's step
that its matrix products take when run alone, and the peak memory of each process.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from time import perf_counter

SIZES = {
    "hidden 256, 4 layers": {"vocab": 2048, "hidden": 256, "intermediate": 688, "layers": 4, "heads": 8},
    "hidden 64, 2 layers": {"vocab": 2048, "hidden": 64, "intermediate": 172, "layers": 2, "heads": 2},
}
BATCH, LENGTH, RANK = 16, 128, 8


def minilora_step(size: dict, method: str):
    """A function that does one step and returns the loss."""
    import numpy as np

    from minilora.models.llama import LlamaConfig, LlamaForCausalLM
    from minilora.optim import AdamW, clip_grad_norm_
    from minilora.peft import LoraConfig, get_peft_model
    from minilora.train.parallel import Workers

    config = LlamaConfig(
        vocab_size=size["vocab"],
        hidden_size=size["hidden"],
        intermediate_size=size["intermediate"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    if method == "lora":
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=1e-3)
    ids = np.random.default_rng(0).integers(0, size["vocab"], (BATCH, LENGTH))
    workers = Workers().__enter__()  # for as long as the process lives

    def step() -> float:
        loss = workers.gradients(model, [{"input_ids": ids, "labels": ids}])
        clip_grad_norm_(parameters, 1.0)
        optimizer.step(workers.map)
        optimizer.zero_grad()
        return float(loss)

    return step


def torch_step(size: dict, method: str):
    import torch

    from .torch_llama import TorchLlama

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = TorchLlama(**size, length=LENGTH)
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    ids = torch.randint(0, size["vocab"], (BATCH, LENGTH))

    def step() -> float:
        loss = model(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def products_alone(size: dict, method: str):
    """A function that does just the matrix products of a step, over the same threads."""
    import numpy as np

    from minilora import blas
    from minilora.train.parallel import Workers

    workers = Workers().__enter__()
    rows = BATCH * LENGTH // blas.cores()
    hidden, intermediate, rng = size["hidden"], size["intermediate"], np.random.default_rng(0)
    array = lambda *shape: rng.standard_normal(shape, dtype=np.float32)  # noqa: E731
    layer = [(hidden, hidden)] * 4 + [(intermediate, hidden)] * 2 + [(hidden, intermediate)]
    weights = {shape: array(*shape) for shape in {*layer, (size["vocab"], hidden)}}
    inputs = {n: array(rows, n) for n in {hidden, intermediate, size["vocab"]}}
    heads = (BATCH // blas.cores(), size["heads"], LENGTH)
    q, scores = array(*heads, hidden // size["heads"]), array(*heads, LENGTH)

    def part(_):
        for out, inner in layer * size["layers"] + [(size["vocab"], hidden)]:
            w = weights[out, inner]
            _ = inputs[inner] @ w.T  # forward
            _ = inputs[out] @ w  # gradient of the input
            if method == "full":
                _ = inputs[out].T @ inputs[inner]  # gradient of the weight
        for _ in range(size["layers"]):
            for _ in range(2):
                _ = q @ q.swapaxes(-1, -2)
            for _ in range(4):
                _ = scores @ q

    return lambda: workers.map(part, range(workers.count)) and 0.0


STEPS = {"minilora": minilora_step, "torch": torch_step, "products": products_alone}


def serve(library: str, size: dict, method: str) -> None:
    """Do as many steps as each line of standard input says; answer with seconds a step, loss and peak memory."""
    step = STEPS[library](size, method)
    for line in sys.stdin:
        started = perf_counter()
        for _ in range(int(line)):
            loss = step()
        seconds = (perf_counter() - started) / int(line)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "loss": loss, "peak": peak}), flush=True)


class Runner:
    """A library in a process of its own."""

    def __init__(self, library: str, size: str, method: str):
        command = [sys.executable, "-m", "benchmarks.step", "--serve", library, "--size", size, "--method", method]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def steps(self, count: int) -> dict:
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(size: str, method: str, rounds: int) -> dict:
    runners = {name: Runner(name, size, method) for name in STEPS}
    counts = {}
    for name, runner in runners.items():
        runner.steps(2)  # warm up
        counts[name] = max(1, round(1.0 / runner.steps(2)["seconds"]))  # about a second a turn
    turns = [{name: runner.steps(counts[name]) for name, runner in runners.items()} for _ in range(rounds)]
    for runner in runners.values():
        runner.close()
    seconds = {name: [turn[name]["seconds"] for turn in turns] for name in runners}
    pairs = list(zip(seconds["torch"], seconds["minilora"], seconds["products"], strict=True))
    return {
        "minilora": BATCH * LENGTH / statistics.median(seconds["minilora"]),
        "torch": BATCH * LENGTH / statistics.median(seconds["torch"]),
        "ratio": statistics.median(theirs / ours for theirs, ours, _ in pairs),
        "products": statistics.median(alone / ours for _, ours, alone in pairs),
        "peaks": {name: turns[-1][name]["peak"] for name in ("minilora", "torch")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--size", choices=SIZES)
    parser.add_argument("--method", choices=("full", "lora"))
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve, SIZES[arguments.size], arguments.method)

    from minilora import blas

    kernels = ", ".join(f"{b['internal_api']} {b['version']} {b.get('architecture', '')}" for b in blas.describe())
    print(f"{BATCH} x {LENGTH} tokens a step, {blas.cores()} cores, {kernels}; medians of {arguments.rounds} rounds")
    print(f"{'model':<21}{'method':<7}{'minilora':>10}{'PyTorch':>10}{'ratio':>7}{'products':>10}{'peak MiB':>13}")
    for size in [arguments.size] if arguments.size else SIZES:
        for method in [arguments.method] if arguments.method else ("full", "lora"):
            r = compare(size, method, arguments.rounds)
            peaks = f"{r['peaks']['minilora']:.0f} / {r['peaks']['torch']:.0f}"
            print(
                f"{size:<21}{method:<7}{r['minilora']:>8.0f}/s{r['torch']:>8.0f}/s{r['ratio']:>7.2f}"
                f"{r['products']:>10.0%}{peaks:>13}",
                flush=True,
            )


if __name__ == "__main__":
    main()
