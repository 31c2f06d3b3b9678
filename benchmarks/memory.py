"""Memory and time of a training step with and without gradient checkpointing.

    python -m benchmarks.memory          the package's base, and SmolLM2-135M if it is in the cache

A step is forward and backward pass, clipping and AdamW, for full fine-tuning, LoRA (on q and v, and on all linears) and
QLoRA (on all linears), with rank 8. The columns, each plain and checkpointed, are

    peak        MB: the most bytes alive in a step, counted by tracemalloc with one worker
    kept        MB: the most bytes alive in the forward pass besides the weights, and as a share of plain full
                fine-tuning's
    process     MB: the peak resident set of a new process that loads the model and does three steps on all cores
    ms          time of a step on all cores: medians of rounds in which the two take turns, and of their ratios
"""

import argparse
import statistics
import sys
from time import perf_counter

from benchmarks.harness import fresh, median_ratio
from benchmarks.step import minilora_loop

MODELS = ("base", "smollm2")
METHODS = {
    "full": ("full", {}),
    "LoRA, q and v": ("lora", {"targets": ["q_proj", "v_proj"]}),
    "LoRA": ("lora", {}),
    "QLoRA": ("qlora", {}),
}
MODES = {"plain": False, "checkpointed": True}
ROUNDS = 5


def make_step(model_name: str, method: str, batch: int, length: int, checkpointing: bool):
    """Return the model, its token ids, and a function that does one step."""
    import numpy as np

    from minilora.train import load, methods

    name, options = METHODS[method]
    options = methods.Options(**options)
    model, _ = load.load_model(model_name, quantization=options.quantization if name == "qlora" else None)
    model = methods.adapt(model, name, options).gradient_checkpointing_enable(checkpointing)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (batch, length))
    return model, ids, minilora_loop(model, ids)


# Measurements, each in a process of its own


def counted(*where) -> dict:
    """Return {mode: bytes}: "peak", the most bytes alive in a step, and "kept", the most in a forward pass besides the
    weights.
    """
    from minilora import threads
    from minilora.measure.memory import peak_bytes
    from notebooks.figures.memory import live_bytes

    peaks = {}
    with threads.using(1):
        for mode, flag in MODES.items():
            model, ids, step = make_step(*where, flag)
            peak = peak_bytes(lambda step=step: (step(), step()), live_bytes(model)["weights"])
            forward_peak = peak_bytes(lambda model=model, ids=ids: model(ids, labels=ids).loss)
            peaks[mode] = {"peak": peak, "kept": forward_peak}
            del model, step
    return peaks


def resident(*where) -> dict:
    """Return the peak resident set of this process after three steps. The last item of `where` is the mode."""
    from minilora.measure.records import peak_rss

    step = make_step(*where[:-1], MODES[where[-1]])[-1]  # loads the model before a step makes malloc keep freed memory
    for _ in range(3):
        step()
    return {"resident": peak_rss()}


def seconds(*where) -> dict:
    """Return {mode: seconds per step in each round}."""
    times = {mode: [] for mode in MODES}
    model, _, step = make_step(*where, False)
    step()
    started = perf_counter()
    step()
    count = max(1, round(0.5 / (perf_counter() - started)))
    for _ in range(ROUNDS):
        for mode, flag in MODES.items():
            model.gradient_checkpointing_enable(flag)
            started = perf_counter()
            for _ in range(count):
                step()
            times[mode].append((perf_counter() - started) / count)
    return times


def measure(*where, full: float | None) -> float:
    """Measure a method and print its rows. full: the bytes kept by plain full fine-tuning, if known.

    Returns `full`, or the bytes that this method keeps if it is None.
    """
    bytes_, times = (fresh(f"benchmarks.memory.{part}", *where) for part in ("counted", "seconds"))
    full = full or bytes_["plain"]["kept"]
    for mode in MODES:
        rss = fresh("benchmarks.memory.resident", *where, mode)["resident"]
        peak, in_forward, ms = bytes_[mode]["peak"] / 1e6, bytes_[mode]["kept"], 1000 * statistics.median(times[mode])
        slower = f"{median_ratio(times[mode], times['plain']):>7.2f}" if mode == "checkpointed" else ""
        name = f"{where[1] if mode == 'plain' else '':<14}{mode:<12}"
        forward = f"{in_forward / 1e6:>9,.1f}{in_forward / full:>7.0%}"
        print(f"{name}{peak:>9,.1f}{forward}{rss / 1e6:>9,.0f}{ms:>9,.0f}{slower}", flush=True)
    return full


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--batch", type=int, default=4, help="sequences per step (default: %(default)s)")
    parser.add_argument("--length", type=int, default=128, help="tokens per sequence (default: %(default)s)")
    arguments = parser.parse_args()

    from minilora import blas
    from minilora.errors import MiniloraError
    from minilora.train.load import path_of_model

    for model_name in [arguments.model] if arguments.model else MODELS:
        try:
            path_of_model(model_name)
        except MiniloraError as error:
            print(f"{model_name} is left out: {error}", file=sys.stderr)
            continue
        print(f"{model_name}, {arguments.batch} x {arguments.length} tokens, {blas.cores()} cores")
        print(f"{'':<26}{'peak':>9}{'kept':>9}{'share':>7}{'process':>9}{'ms':>9}{'ratio':>7}")
        full = None
        for method in METHODS:
            full = measure(model_name, method, arguments.batch, arguments.length, full=full)


if __name__ == "__main__":
    main()
