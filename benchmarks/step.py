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
from contextlib import ExitStack, suppress
from functools import partial
from tempfile import TemporaryFile
from time import perf_counter

SIZES = {
    "hidden 256, 4 layers": {"vocab": 2048, "hidden": 256, "intermediate": 688, "layers": 4, "heads": 8, "length": 128},
    "hidden 64, 2 layers": {"vocab": 2048, "hidden": 64, "intermediate": 172, "layers": 2, "heads": 2, "length": 128},
}
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
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    if method == "qlora":
        from minilora.quant import quantize_model

        quantize_model(model)
    if method == "full":
        return model
    return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets))


def minilora_step(size: dict, method: str, device: str | None = "cpu", threads: int | None = None):
    """A function that does one step and returns the loss, which a GPU may still be working on.

    device: None leaves the backend as it is. threads: of a CPU; None takes all cores.
    """
    import numpy as np

    from minilora import backend
    from minilora.optim import AdamW, clip_grad_norm_
    from minilora.train.parallel import Workers

    if device is not None:
        backend.use(BACKENDS[device])
    model = minilora_model(size, method)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=1e-3)
    ids = np.random.default_rng(0).integers(0, size["vocab"], (size.get("batch", BATCH), size["length"]))
    workers = Workers(threads).__enter__()  # for as long as the process lives

    def step():
        loss = workers.gradients(model, [{"input_ids": ids, "labels": ids}])
        clip_grad_norm_(parameters, 1.0, workers.map)
        optimizer.step(workers.map)
        optimizer.zero_grad()
        return loss

    return step


def torch_step(size: dict, method: str, device: str = "cpu"):
    import torch

    from benchmarks.torch_llama import TorchLlama

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = TorchLlama(**{name: value for name, value in size.items() if name != "batch"})
    if method == "qlora":
        from bitsandbytes.nn import Linear4bit

        model.is_loaded_in_4bit = True  # PEFT asks
        for block in model.layers:
            for name, linear in list(block.named_children()):
                if isinstance(linear, torch.nn.Linear):
                    settings = {"bias": False, "compress_statistics": False, "quant_type": "nf4"}
                    new = Linear4bit(linear.in_features, linear.out_features, compute_dtype=torch.float32, **settings)
                    new.load_state_dict(linear.state_dict())
                    setattr(block, name, new)  # `to` quantizes it
    model.to(device)
    if method != "full":
        from peft import LoraConfig, get_peft_model

        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    ids = torch.randint(0, size["vocab"], (size.get("batch", BATCH), size["length"]))

    def step():
        loss = model(ids.to(device))
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

    from minilora import blas
    from minilora.train.parallel import Workers

    workers = Workers().__enter__()
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

    return lambda: workers.map(part, range(workers.count)) and 0.0


STEPS = {"minilora": minilora_step, "torch": torch_step, "products": products_alone}


class HostEvent:
    """A moment by the host's clock, in the form that CUDA's events have."""

    def record(self) -> None:
        self.seconds = perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: "HostEvent") -> float:
        return 1000 * (end.seconds - self.seconds)


def events(library: str, device: str):
    """What makes an event on the device, and a function of two that gives the milliseconds from one to the other."""
    if device == "cpu":
        return HostEvent, HostEvent.elapsed_time
    if library == "torch":
        from torch.cuda import Event

        return partial(Event, enable_timing=True), Event.elapsed_time
    from cupy.cuda import Event, get_elapsed_time

    return Event, get_elapsed_time


def serve(step, library: str, device: str) -> None:
    """Do as many steps as each line of standard input says; answer with seconds a step, loss and peak memory."""
    make_event, elapsed = events(library, device)
    for line in sys.stdin:
        start, end = make_event(), make_event()
        start.record()
        for _ in range(int(line)):
            loss = step()
        end.record()
        end.synchronize()
        seconds = elapsed(start, end) / 1000 / int(line)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "loss": float(loss), "peak": peak}), flush=True)


class RunnerError(RuntimeError):
    """The process of the runner `name` ended before its work did. `said` is all that it said on standard error."""

    def __init__(self, name: str, status: int, said: str):
        super().__init__(f"{name}: {said.strip().splitlines()[-1] if said.strip() else f'ended with status {status}'}")
        self.name, self.said = name, said


def environment(folder=None) -> dict[str, str]:
    """Of a process that imports minilora and the benchmarks from `folder`, where one is given."""
    return {**os.environ} if folder is None else {**os.environ, "PYTHONPATH": str(folder)}


class Runner:
    """`python -m` with these arguments: a process that serves until the block ends. folder: of the code that it runs,
    where that is not this one.

    Where it ends before, `steps` raises RunnerError with the last line that it said.
    """

    def __init__(self, name: str, *arguments: str, folder=None):
        self.name, self.errors = name, TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        command = [sys.executable, "-m", *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, **pipes, text=True, cwd=folder, env=environment(folder))

    @classmethod
    def of_step(cls, library: str, size: str, method: str, device: str = "cpu", name: str = "") -> "Runner":
        """size: a name of the table, or a size as JSON. name: by default that of the library."""
        options = ["--serve", library, "--size", size, "--method", method, "--device", device]
        return cls(name or library, "benchmarks.step", *options)

    def steps(self, count: int) -> dict:
        with suppress(BrokenPipeError):
            self.process.stdin.write(f"{count}\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            status = self.process.wait()
            self.errors.seek(0)
            raise RunnerError(self.name, status, self.errors.read())
        return json.loads(answer)

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *error) -> None:
        with suppress(BrokenPipeError):  # it ended with a line unread
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def take_turns(runners: list[Runner], rounds: int, seconds: float = 1.0) -> dict[str, list[dict]]:
    """By name, what each runner answers in each round, with about so many seconds a turn."""
    counts = {}
    for runner in runners:
        runner.steps(2)  # warm up
        counts[runner] = max(1, round(seconds / runner.steps(2)["seconds"]))
    turns = [[runner.steps(counts[runner]) for runner in runners] for _ in range(rounds)]
    return {runner.name: list(answers) for runner, answers in zip(runners, zip(*turns, strict=True), strict=True)}


def seconds_of(answers: dict[str, list[dict]]) -> dict[str, list[float]]:
    """By name, the seconds a step in each round."""
    return {name: [answer["seconds"] for answer in of_name] for name, of_name in answers.items()}


def median_ratio(above: list[float], below: list[float]) -> float:
    """The median of the rounds' ratios: what slows the machine in one round slows both sides of it."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def find_size(text: str) -> dict:
    """The size of that name, or the one that JSON describes; KeyError or ValueError for anything else."""
    return json.loads(text) if text.startswith("{") else (SIZES | LARGE)[text]


def size_argument(text: str) -> str:
    """`text` where it is a size, for argparse."""
    try:
        find_size(text)
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(SIZES | LARGE)} and no JSON") from None
    return text


def compare(size: str, method: str, rounds: int) -> dict:
    with ExitStack() as stack:
        runners = [stack.enter_context(Runner.of_step(name, size, method)) for name in STEPS]
        answers = take_turns(runners, rounds)
    seconds = seconds_of(answers)
    described = find_size(size)
    tokens = described.get("batch", BATCH) * described["length"]
    return {
        "minilora": tokens / statistics.median(seconds["minilora"]),
        "torch": tokens / statistics.median(seconds["torch"]),
        "ratio": median_ratio(seconds["torch"], seconds["minilora"]),
        "products": median_ratio(seconds["products"], seconds["minilora"]),
        "peaks": {name: answers[name][-1]["peak"] for name in ("minilora", "torch")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    words = f"one of {', '.join(map(repr, SIZES | LARGE))}, or a size as JSON"
    parser.add_argument("--size", type=size_argument, help=words)
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--serve", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=BACKENDS, default="cpu", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        library, device = arguments.serve, arguments.device
        return serve(STEPS[library](find_size(arguments.size), arguments.method, device), library, device)

    from minilora import blas

    kernels = ", ".join(f"{b['internal_api']} {b['version']} {b.get('architecture', '')}" for b in blas.describe())
    print(f"batches of {BATCH}, {blas.cores()} cores, {kernels}; medians of {arguments.rounds} rounds")
    print(f"{'model':<21}{'method':<7}{'minilora':>10}{'PyTorch':>10}{'ratio':>7}{'products':>10}{'peak MiB':>13}")
    for size in [arguments.size] if arguments.size else SIZES:
        for method in [arguments.method] if arguments.method else METHODS:
            r = compare(size, method, arguments.rounds)
            peaks = f"{r['peaks']['minilora']:.0f} / {r['peaks']['torch']:.0f}"
            print(
                f"{size:<21}{method:<7}{r['minilora']:>8.0f}/s{r['torch']:>8.0f}/s{r['ratio']:>7.2f}"
                f"{r['products']:>10.0%}{peaks:>13}",
                flush=True,
            )


if __name__ == "__main__":
    main()
