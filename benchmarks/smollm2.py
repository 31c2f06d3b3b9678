"""SmolLM2-135M in minilora beside transformers and PEFT: equal results, files both ways, speed, and memory.

    pip install -e ".[parity,gguf]" && minilora models get smollm2 && python -m benchmarks.smollm2

Equal and out again: see `benchmarks.smollm2_checks`. Speed: each library in a process of its own, taking turns, all
cores for both; medians over the rounds, and the median of the rounds' ratios. A step is 4 x 128 tokens forward and
backward, clipping and AdamW; LoRA is of rank 8 on q and v, QLoRA the same over NF4 (bitsandbytes' layers on the other
side); greedy is 64 tokens after a prompt of 16; load is from the GGUF file in a fresh process, its tokenizer included
in minilora, and "from the shell" is that with the start of Python and the imports. Memory: fresh processes that load,
do three steps of 512 tokens with adapters of rank 8 on all linears, and say the peak of their resident set ("ckpt":
with gradient checkpointing); what it is made of is counted in another process, where the counting (tracemalloc) takes
memory itself.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import warnings
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from benchmarks.harness import Runner, median_ratio, seconds_of, serve, take_turns
from minilora import threads

NAME = "smollm2"
PARTS = ("equal", "out", "speed", "memory")
NEEDED = ("torch", "transformers", "peft", "bitsandbytes", "gguf")  # the extras parity and gguf
ROWS, LENGTH, RANK, NEW_TOKENS, PROMPT_TOKENS = 4, 128, 8, 64, 16
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GOALS = {"LoRA step": 1.1, "greedy": 1.3, "load": 3.0, "memory": 700e6}  # ratios, seconds, bytes
WORKS = {"LoRA step": "lora", "QLoRA step": "qlora", "greedy": "greedy"}


def file_of_model() -> Path:
    from minilora.train import catalog

    return catalog.find(NAME)


# What is timed


def token_ids(rows: int, length: int):
    import numpy as np

    return np.random.default_rng(0).integers(100, 49_000, (rows, length))


def minilora_model(method: str, targets=("q_proj", "v_proj")):
    from minilora.models.llama import LlamaForCausalLM
    from minilora.peft import LoraConfig, get_peft_model
    from minilora.quant import load_4bit

    if method == "qlora":
        model = load_4bit(LlamaForCausalLM, file_of_model())
    else:
        model = LlamaForCausalLM.from_pretrained(file_of_model())
    if method == "greedy":
        return model
    return get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(targets)))


def minilora_step(model, rows: int, length: int):
    """A function that does one step and returns the loss."""
    from minilora.optim import AdamW, clip_grad_norm_

    parameters = [p for p in model.train().parameters() if p.requires_grad]
    optimizer, ids = AdamW(parameters, lr=1e-3), token_ids(rows, length)

    def step():
        loss = model(ids, labels=ids).loss
        loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.data

    step.optimizer, step.parameters = optimizer, parameters
    return step


def minilora_work(work: str, count: int | None = None):
    model = minilora_model(work)
    if work == "greedy":
        prompt = token_ids(1, PROMPT_TOKENS)
        return lambda: len(model.generate(prompt, NEW_TOKENS, temperature=0, eos_token_id=[]))
    step = minilora_step(model, ROWS, LENGTH)

    def on_threads():
        with threads.using(count):
            return step()

    return on_threads


def torch_model(method: str, targets=("q_proj", "v_proj")):
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    path = file_of_model()
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    if method == "greedy":
        return model.eval()
    if method == "qlora":
        from bitsandbytes.nn import Linear4bit

        model.is_loaded_in_4bit = True  # PEFT asks
        for module in list(model.model.layers.modules()):
            for name, linear in list(module.named_children()):
                if type(linear) is torch.nn.Linear:
                    settings = {"bias": False, "compress_statistics": False, "quant_type": "nf4"}
                    new = Linear4bit(linear.in_features, linear.out_features, compute_dtype=torch.float32, **settings)
                    new.load_state_dict(linear.state_dict())
                    setattr(module, name, new.to("cpu"))  # `to` quantizes it
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(targets), task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def torch_step(model, rows: int, length: int):
    import torch

    parameters = [p for p in model.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    ids = torch.from_numpy(token_ids(rows, length))

    def step():
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def torch_work(work: str):
    model = torch_model(work)
    if work != "greedy":
        return torch_step(model, ROWS, LENGTH)
    import torch
    from transformers import GenerationConfig

    settings = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
    model.generation_config.eos_token_id = None  # what `settings` leaves open is taken from here
    prompt = torch.from_numpy(token_ids(1, PROMPT_TOKENS))
    mask = torch.ones_like(prompt)
    return lambda: len(model.generate(prompt, attention_mask=mask, generation_config=settings))


LIBRARIES = {"minilora": minilora_work, "transformers": torch_work}


def load(library: str, method: str) -> dict:
    """Seconds of loading in this process, once everything is imported. method: "lora" for float32, or "qlora"."""
    if library == "minilora":
        import gguf.quants  # noqa: F401

        from minilora.train import recipes

        started = perf_counter()
        recipes.load_model(NAME, quantization={"quant_type": "nf4"} if method == "qlora" else None)
    else:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        path = file_of_model()
        started = perf_counter()
        AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return {"seconds": perf_counter() - started}


# What takes memory


def peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident() -> int:
    """Bytes of the resident set now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def minilora_memory(method: str, rows: int, count: int, counted: bool, checkpointing: bool) -> dict:
    """Bytes at the stages of three steps; where `counted`, of the kinds of arrays instead."""
    import tracemalloc

    import gguf.quants  # noqa: F401

    import minilora.models.llama
    import minilora.optim
    import minilora.peft
    import minilora.quant

    found = {"rest": resident()}
    model = minilora_model(method, ALL_LINEAR)  # before the first step, from which on the process keeps freed memory
    model.gradient_checkpointing_enable(checkpointing)
    found |= {"loaded": resident(), "peak of loading": peak()}
    with threads.using(count):
        step = minilora_step(model, rows, 512 // rows)
        if not counted:
            for _ in range(3):
                step()
            return found | {"peak": peak()}
        step()  # the optimizer makes its arrays in the first
        tracemalloc.start()
        step()
        found = {"step": tracemalloc.get_traced_memory()[1]}
        tracemalloc.stop()
    layers = [module for _, module in model.named_modules() if isinstance(module, minilora.quant.Linear4bit)]
    frozen = {id(p.data): p.data.nbytes for p in model.parameters() if not p.requires_grad}
    trained = sum(p.data.nbytes for p in step.parameters)
    return found | {
        "codes": sum(layer.nbytes for layer in layers),
        "frozen": sum(frozen.values()),
        "trained": 3 * trained,
    }


def torch_memory(method: str, rows: int) -> dict:
    model = torch_model(method, ALL_LINEAR)
    step = torch_step(model, rows, 512 // rows)
    for _ in range(3):
        step()
    return {"peak": peak()}


MEMORY = {"minilora": minilora_memory, "transformers": torch_memory}


def fresh(*arguments) -> dict:
    """What `--fresh` with these arguments prints in a new process, and how long the process took."""
    started = perf_counter()
    command = [sys.executable, "-m", "benchmarks.smollm2", "--fresh", json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"process": perf_counter() - started}


# The parts: each gives its results and prints them


def show_equal(say) -> dict:
    from benchmarks import smollm2_checks as checks

    with tempfile.TemporaryDirectory() as folder:
        found = checks.equal(Path(folder))
    say(f"Equal: logits (goal {checks.GOAL:.0e} of the largest) and {checks.NEW_TOKENS} greedy tokens")
    say(f"{'transformers has its weights from':<36}{'bits':>6}{'10 answers':>12}{'long text':>11}{'texts':>10}")
    names = {"saved": "the folder that minilora saved", "gguf": "the GGUF file, read by itself"}
    for key, row in found["transformers"].items():
        texts = f"{row['texts_equal']} of {row['texts']}"
        bits = "equal" if row["weights_equal"] else "differ"
        say(f"{names[key]:<36}{bits:>6}{row['answers']:>12.1e}{row['long']:>11.1e}{texts:>10}")
        for other in row["differing"]:
            say(f"  prompt {other['prompt']} differs at token {other['token']}, its two best {other['gap']:.1e} apart")
    say(f"{checks.QUESTION} {found['answer']}")
    return found


def show_out(say) -> list[dict]:
    from benchmarks import smollm2_checks as checks

    say(f"Out again: logits apart (goal {checks.GOAL:.0e}), and how far training had moved them")
    say(f"{'what':<22}{'from':<14}{'opens in':<14}{'apart':>10}{'moved':>10}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in checks.out_again(Path(folder)):
            what = f"{row['kind']}, {row['what']}"
            say(f"{what:<22}{row['from']:<14}{row['to']:<14}{row['distance']:>10.1e}{row['moved']:>10.1e}")
            rows.append(row)
    return rows


def show_speed(say, rounds: int) -> dict:
    found = {}
    for name, work in WORKS.items():
        with ExitStack() as stack:
            arguments = ["benchmarks.smollm2", "--work", work, "--serve"]
            runners = [stack.enter_context(Runner(library, *arguments, library)) for library in LIBRARIES]
            seconds = seconds_of(take_turns(runners, rounds))
        found[name] = {library: statistics.median(of_one) for library, of_one in seconds.items()}
        found[name]["ratio"] = median_ratio(seconds["transformers"], seconds["minilora"])
    kinds = {"load": ("minilora", "lora"), "load in 4 bits": ("minilora", "qlora"), "other": ("transformers", "lora")}
    turns = [{kind: fresh("load", *of_kind) for kind, of_kind in kinds.items()} for _ in range(rounds)]
    for name, key in (("", "seconds"), (", from the shell", "process")):
        of_kind = {kind: [turn[kind][key] for turn in turns] for kind in kinds}
        for kind in ("load", "load in 4 bits"):
            row = {"minilora": statistics.median(of_kind[kind]), "transformers": statistics.median(of_kind["other"])}
            found[kind + name] = row | {"ratio": median_ratio(of_kind["other"], of_kind[kind])}

    from minilora import blas

    say(f"Speed: seconds, medians of {rounds} rounds, {blas.cores()} cores")
    say(f"{'work':<32}{'minilora':>10}{'transformers':>14}{'ratio':>8}{'goal':>12}")
    goals = {name: f"{GOALS[name]} times" for name in ("LoRA step", "greedy")} | {"load": f"{GOALS['load']:.0f} s"}
    for name, row in found.items():
        label = f"{name}, {NEW_TOKENS} tokens" if name == "greedy" else name
        seconds = f"{row['minilora']:>10.2f}{row['transformers']:>14.2f}"
        say(f"{label:<32}{seconds}{row['ratio']:>8.2f}{goals.get(name, ''):>12}")
    return found


def show_memory(say) -> dict:
    settings = {"1 x 512, 1 worker": (1, 1), "4 x 128, 1 worker": (4, 1), "4 x 128, 2 workers": (4, 2)}
    settings = {name: (*sizes, False) for name, sizes in settings.items()} | {
        f"{name}, ckpt": (*sizes, True) for name, sizes in settings.items() if "4 x 128, 1" not in name
    }
    found = {}
    for name, (rows, count, checkpointing) in settings.items():
        plain = fresh("memory", "minilora", "qlora", rows, count, False, checkpointing)
        found[name] = plain | fresh("memory", "minilora", "qlora", rows, count, True, checkpointing)
    for method in ("lora", "qlora"):
        found[f"transformers {method}"] = fresh("memory", "transformers", method, ROWS)

    say(f"Memory: MB of QLoRA, 512 tokens, rank {RANK} on all linears (goal: {GOALS['memory'] / 1e6:.0f})")
    labels = {
        "peak": "peak of the process",
        "peak of loading": "  peak of loading",
        "rest": "  Python and libraries at rest",
        "codes": "  linears in 4 bits",
        "frozen": "  embeddings (the head, too) and norms",
        "trained": "  adapters and their two moments",
        "step": "  gradients and activations, at their most",
        "other": "  not accounted for",
    }
    columns = list(settings)
    for i in range(3):  # what a column's name is made of, below each other
        say(f"{'':<44}" + "".join(f"{[*column.split(', '), ''][i]:>12}" for column in columns))
    for column in columns:
        parts = ("rest", "codes", "frozen", "trained", "step")
        found[column]["other"] = found[column]["peak"] - sum(found[column][part] for part in parts)
    for key, label in labels.items():
        say(f"{label:<44}" + "".join(f"{found[column][key] / 1e6:>12.0f}" for column in columns))
    lora, qlora = (found[f"transformers {method}"]["peak"] / 1e6 for method in ("lora", "qlora"))
    say(f"transformers + PEFT, 4 x 128: LoRA {lora:,.0f}; QLoRA, which loads in float32, {qlora:,.0f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--rounds", type=int, default=7, help="of the speed (default: 7)")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the tables")
    parser.add_argument("--serve", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--work", choices=WORKS.values(), help=argparse.SUPPRESS)
    parser.add_argument("--fresh", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(LIBRARIES[arguments.serve](arguments.work), arguments.serve, "cpu")
        return 0
    if arguments.fresh:
        kind, library, *rest = arguments.fresh
        print(json.dumps(load(library, *rest) if kind == "load" else MEMORY[library](*rest)))
        return 0

    from minilora.errors import MiniloraError

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f'{", ".join(missing)} missing: pip install -e ".[parity,gguf]"', file=sys.stderr)
        return 2
    try:
        file_of_model()
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")  # PEFT's and transformers', of which none is ours to mend
    say = (lambda line: None) if arguments.json else (lambda line: print(line, flush=True))
    run = {
        "equal": lambda: show_equal(say),
        "out": lambda: show_out(say),
        "speed": lambda: show_speed(say, arguments.rounds),
        "memory": lambda: show_memory(say),
    }
    found = {}
    for part in [arguments.only] if arguments.only else PARTS:
        if found:
            say("")
        found[part] = run[part]()
    if arguments.json:
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
