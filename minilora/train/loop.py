"""The training loop: the same for pretraining, full fine-tuning and every way to adapt.

What trains is what requires a gradient; what a batch is and how it is scored is the model's business
(`model(**batch).loss`). A run that is interrupted and resumed ends with the same bits as one that was not, at the
same number of workers.
"""

import json
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from time import perf_counter

from minilora import backend
from minilora.errors import MiniloraError, escape
from minilora.optim import SGD, AdamW, clip_grad_norm_
from minilora.peft import lora_plus_groups
from minilora.train.launch import Stopped
from minilora.train.parallel import Workers
from minilora.train.progress import progress_bar
from minilora.train.run import RunFolder
from minilora.train.schedule import warmup_cosine
from minilora.train.world import SIGNALS


@dataclass
class TrainConfig:
    """How a run trains."""

    steps: int
    optimizer: str = "adamw"  # or "sgd", with momentum betas[0]
    lr: float = 1e-3  # at its height
    warmup: int = 0  # steps over which the learning rate rises
    lr_floor: float = 0.1  # where it ends, as a share of lr
    lora_plus: float = 1.0  # LoRA's B learns at this multiple of lr (LoRA+)
    weight_decay: float = 0.01  # of matrices; vectors (norms, biases) have none
    betas: tuple[float, float] = (0.9, 0.999)
    max_norm: float = 1.0  # the gradient is clipped to this norm
    accumulate: int = 1  # batches a step
    eval_every: int = 0  # steps between evaluations; 0: none but the last
    patience: int = 0  # evaluations without improvement before the run stops; 0: it goes to the end
    save_every: int = 0  # steps between checkpoints; 0: only at the end
    seed: int = 0  # of dropout

    def __post_init__(self):
        least = {"steps": 1, "warmup": 0, "accumulate": 1, "eval_every": 0, "patience": 0, "save_every": 0}
        problems = [
            f"{name} must be at least {low}, not {getattr(self, name)}"
            for name, low in least.items()
            if not getattr(self, name) >= low
        ]
        if self.optimizer not in ("adamw", "sgd"):
            problems.append(f"the optimizer must be adamw or sgd, not {escape(repr(self.optimizer))}")
        if not 0 < self.lr < inf or not 0 < self.lora_plus < inf:
            problems.append(f"learning rates must be positive numbers, not {self.lr} (times {self.lora_plus})")
        if not 0 <= self.weight_decay < inf or not self.max_norm > 0:
            problems.append(f"weight_decay and max_norm must not be negative: {self.weight_decay}, {self.max_norm}")
        if problems:
            raise MiniloraError("; ".join(problems))


@dataclass
class History:
    """What happened: one record a step, and the evaluations."""

    steps: list[dict] = field(default_factory=list)  # step, loss, lr, norm
    evaluations: list[dict] = field(default_factory=list)  # step, value
    best: float = inf
    best_step: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def trainable(model) -> dict[str, object]:
    """The parameters that require a gradient, by path."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def check_own_checkpoint(parameters: dict, checkpoint) -> None:
    """Raise MiniloraError for a checkpoint whose parameters are not these (`trainable(model)`), in names or shapes."""
    names = {name.removeprefix("model.") for name in checkpoint.arrays if name.startswith("model.")}
    if names != set(parameters):
        raise MiniloraError(
            "the checkpoint is of another model or method: "
            f"{len(names - set(parameters))} parameters are unknown, "
            f"{len(set(parameters) - names)} are missing"
        )
    wrong = [
        f"{name} is {checkpoint.arrays[f'model.{name}'].shape}, not {p.shape}"
        for name, p in parameters.items()
        if checkpoint.arrays[f"model.{name}"].shape != p.shape
    ]
    if wrong:
        raise MiniloraError(f"the checkpoint is of another model: {'; '.join(wrong[:3])}")


def parameter_groups(model, weight_decay: float) -> list[dict]:
    """The trainable parameters in two groups: matrices with weight decay, vectors (columns and rows too) without."""
    parameters = trainable(model).values()
    is_matrix = lambda p: sum(size > 1 for size in p.shape) > 1  # noqa: E731
    groups = [
        {"params": [p for p in parameters if is_matrix(p)], "weight_decay": weight_decay},
        {"params": [p for p in parameters if not is_matrix(p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def train(
    model,
    batches,
    config: TrainConfig,
    *,
    evaluate: Callable[[], float] | None = None,
    run: RunFolder | None = None,
    workers: Workers | None = None,
    description: str = "training",
    show_progress: bool = True,
) -> History:
    """Train what requires a gradient, in place; with an evaluation, the best weights seen are the ones that stay.

    batches: has `next_batch()`, `state()` and `load_state()`. evaluate: a number, smaller is better. run: where
    metrics and checkpoints go; if it was opened on a checkpoint, training goes on from there. Raises MiniloraError
    where nothing is trainable or the loss is not finite, and Stopped after SIGINT or SIGTERM, when the step was
    finished and saved. Where `workers` are of a world of several ranks, all of them call this alike, and the first
    alone gives `run`.
    """
    if workers is None:
        with Workers() as own:
            return train(
                model,
                batches,
                config,
                evaluate=evaluate,
                run=run,
                workers=own,
                description=description,
                show_progress=show_progress,
            )
    world = workers.world
    loop = _Loop(model, batches, config, evaluate, run, workers)
    started = perf_counter()
    model.train()
    try:
        with collected_signals() as world.asked, progress_bar(description, config.steps, show_progress) as advance:
            advance(loop.step, "")
            while loop.step < config.steps and not loop.is_exhausted():
                loop.train_one()
                advance(1, f"loss {loop.history.steps[-1]['loss']:.3f}")
                if world.stop:
                    loop.save()
                    world.wait()  # for the first rank's checkpoint
                    raise Stopped(world.stop, loop.step)
                if config.save_every and loop.step % config.save_every == 0 and loop.step < config.steps:
                    loop.save()
        loop.finish()
    finally:
        model.eval()
        loop.history.seconds = perf_counter() - started
    return loop.history


class _Loop:
    """The state of a run between two steps, and how it is saved and restored."""

    def __init__(self, model, batches, config: TrainConfig, evaluate, run: RunFolder | None, workers: Workers):
        self.model, self.batches, self.config = model, batches, config
        self.evaluate, self.run, self.workers = evaluate, run, workers
        self.parameters = trainable(model)
        if not self.parameters:
            raise MiniloraError("nothing to train: every parameter is frozen")
        if config.lora_plus == 1:
            groups = parameter_groups(model, config.weight_decay)
        else:
            groups = lora_plus_groups(model, config.lr, config.lora_plus, config.weight_decay)
        if config.optimizer == "sgd":
            self.optimizer = SGD(groups, lr=config.lr, momentum=config.betas[0])
        else:
            self.optimizer = AdamW(groups, lr=config.lr, betas=config.betas)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.history = History()
        self.step = 0
        self.best: dict[str, object] = {}  # a copy of the parameters at the best evaluation
        self.bad_evaluations = 0
        checkpoint = workers.world.from_first(run.checkpoint if run is not None else None)
        if checkpoint is not None:
            self.restore(checkpoint)
        elif evaluate is not None:
            self.record_evaluation()

    def is_exhausted(self) -> bool:
        return bool(self.config.patience) and self.bad_evaluations >= self.config.patience

    def train_one(self) -> None:
        config = self.config
        height = warmup_cosine(self.step, config.steps, config.warmup, config.lr_floor)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * height
        lr = config.lr * height
        parts = [self.batches.next_batch() for _ in range(config.accumulate)]
        loss = float(self.workers.gradients(self.model, parts, seed=(config.seed, self.step)))
        if not isfinite(loss):
            where = (
                f"the last good checkpoint is {self.run.checkpoints}" if self.run is not None else "nothing was saved"
            )
            raise MiniloraError(
                f"the loss became {loss} at step {self.step + 1} with learning rate {lr:.3g}; "
                f"try a smaller one ({where})"
            )
        norm = float(clip_grad_norm_(self.parameters.values(), config.max_norm, self.workers.map))
        self.optimizer.step(self.workers.map)
        self.optimizer.zero_grad()
        self.step += 1
        record = {"step": self.step, "loss": loss, "lr": lr, "norm": norm}
        self.history.steps.append(record)
        if self.evaluate is not None and config.eval_every and self.step % config.eval_every == 0:
            record = record | {"evaluation": self.record_evaluation()}
        if self.run is not None:
            self.run.log(record)

    def record_evaluation(self) -> float:
        value = float(self.evaluate())
        self.history.evaluations.append({"step": self.step, "value": value})
        if value < self.history.best:
            self.history.best, self.history.best_step, self.bad_evaluations = value, self.step, 0
            self.best = {name: p.data.copy() for name, p in self.parameters.items()}
        else:
            self.bad_evaluations += 1
        return value

    def finish(self) -> None:
        """Save the end of the run, then put the best weights seen in place."""
        evaluated = self.history.evaluations and self.history.evaluations[-1]["step"] == self.step
        if self.evaluate is not None and not evaluated:
            self.record_evaluation()
        self.save()
        for name, array in self.best.items():
            self.parameters[name].data = array

    def save(self) -> None:
        if self.run is None:
            return
        arrays = {f"model.{name}": p.data for name, p in self.parameters.items()}
        arrays |= {f"best.{name}": array for name, array in self.best.items()}
        optimizer = self.optimizer.state_dict()
        arrays |= {f"optimizer.{name}": value for name, value in optimizer.items() if hasattr(value, "shape")}
        state = {
            "config": asdict(self.config),
            "workers": self.workers.count,
            "ranks": self.workers.world.size,
            "batches": self.batches.state(),
            "optimizer": {name: value for name, value in optimizer.items() if not hasattr(value, "shape")},
            "best": self.history.best,
            "best_step": self.history.best_step,
            "bad_evaluations": self.bad_evaluations,
            "evaluations": self.history.evaluations,
        }
        self.run.save(self.step, {name: backend.to_numpy(a) for name, a in arrays.items()}, state)

    def restore(self, checkpoint) -> None:
        state, arrays = checkpoint.state, checkpoint.arrays
        check_own_checkpoint(self.parameters, checkpoint)
        before, now = state["config"], json.loads(json.dumps(asdict(self.config)))
        for key in now:
            if before.get(key) != now[key]:
                self.history.notes.append(f"resumed with {key} {now[key]} instead of {before.get(key)}")
        for name, now in (("workers", self.workers.count), ("ranks", self.workers.world.size)):
            if (then := state.get(name, 1)) != now:
                self.history.notes.append(f"resumed with {now} {name} instead of {then}: last digits differ")
        for name, p in self.parameters.items():
            p.data = arrays[f"model.{name}"]
        self.best = {
            name: backend.asarray(arrays[f"best.{name}"]).copy() for name in self.parameters if f"best.{name}" in arrays
        }
        moments = {name.removeprefix("optimizer."): a for name, a in arrays.items() if name.startswith("optimizer.")}
        self.optimizer.load_state_dict(moments | state["optimizer"])
        self.batches.load_state(state["batches"])
        self.step = checkpoint.step
        self.history.best, self.history.best_step = state["best"], state["best_step"]
        self.bad_evaluations, self.history.evaluations = state["bad_evaluations"], state["evaluations"]


@contextmanager
def collected_signals():
    """Within the block, SIGINT and SIGTERM are collected in a list instead of stopping the process at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    handlers = {s: signal.signal(s, lambda signum, frame: caught.append(signum)) for s in SIGNALS}
    try:
        yield caught
    finally:
        for s, handler in handlers.items():
            signal.signal(s, handler)
