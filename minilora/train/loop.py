"""The training loop: the same for pretraining, full fine-tuning and every method of adaptation.

It trains whatever requires a gradient, and leaves batches and their loss to the model (`model(**batch).loss`). A run
that is interrupted and resumed ends with exactly the same bits as an unbroken one, given the same number of threads.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, isfinite
from time import perf_counter
from typing import Any, NoReturn

import numpy as np

from minilora import backend, nn, threads
from minilora.errors import MiniloraError, Stopped, first_few
from minilora.formats.atomic import show_path
from minilora.optim import SGD, AdamW, Optimizer, clip_grad_norm_
from minilora.peft import lora_plus_groups
from minilora.tensor import Tensor
from minilora.train.config import TrainConfig, lr_factor
from minilora.train.launch import on_signals
from minilora.train.progress import progress_bar
from minilora.train.run import Checkpoint, RunFolder, remove_checkpoints
from minilora.train.world import SIGNALS, World, batch_gradients


@dataclass
class History:
    """The records of a training run: one per step, and the evaluations."""

    steps: list[dict] = field(default_factory=list)  # step, loss, lr, norm
    evaluations: list[dict] = field(default_factory=list)  # step, value, and accuracy if it was measured
    best_step: int = 0  # the step whose weights are kept
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def kept(self) -> dict | None:
        """The evaluation of the weights that are kept; None before the first."""
        return next((evaluation for evaluation in self.evaluations if evaluation["step"] == self.best_step), None)

    @property
    def best(self) -> float:
        """The value of the weights that are kept; infinite before the first evaluation."""
        return inf if self.kept is None else self.kept["value"]

    @property
    def learned(self) -> bool:
        """True if the weights that are kept beat those at the start: more right answers, or a smaller value."""
        return self.kept is not None and (
            _score(self.kept) > _score(self.evaluations[0]) or self.kept["value"] < self.evaluations[0]["value"]
        )

    @property
    def since_gain(self) -> int:
        """The number of evaluations since the last one that was better than all before it."""
        scores = [_score(evaluation) for evaluation in self.evaluations]
        return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def _score(evaluation: dict) -> float:
    """Return the accuracy, or the negative value if no accuracy was measured, so that greater is better."""
    return evaluation.get("accuracy", -evaluation["value"])


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that require a gradient, by path."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def check_own(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Raise MiniloraError if a checkpoint is from another model or method."""
    current = {f"model.{name}": p.shape for name, p in trainable(model).items()}
    saved = {name: a.shape for name, a in checkpoint.arrays.items() if name.startswith("model.")}
    if differing := [name for name in current | saved if current.get(name) != saved.get(name)]:
        raise MiniloraError(f"the checkpoint is from another model or method: it differs in {first_few(differing)}")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Return two groups of trainable parameters: matrices with weight decay, vectors (also (1, n), (n, 1)) without."""
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
    accuracy: Callable[[], float] | None = None,
    keep: str = "best",
    run: RunFolder | None = None,
    world: World | None = None,
    description: str = "training",
    show_progress: bool = True,
) -> History:
    """Train what requires a gradient, in place. If there is an evaluation, the best weights are kept at the end.

    batches: has `next_batch()`, `state()` and `load_state()`. evaluate: returns a number; smaller is better. accuracy:
    returns the share of right answers, which then chooses the best weights. In a tie the later ones win, because bits
    rise with confidence while the answers get no worse. keep: "last" keeps the last weights whatever the evaluations
    say. run: the folder for metrics and checkpoints; if it was opened on a checkpoint, training continues from there.
    world: the ranks that train together; all call this with the same arguments, but only rank 0 passes `run`.

    Raises MiniloraError if nothing is trainable, or if the loss, gradient, weights or evaluation are not finite; this
    is checked before the step, and nothing of it is saved. Raises Stopped after SIGINT or SIGTERM, once the current
    step is finished and saved; in the first step, at once.
    """
    with backend.errstate():  # overflow is detected in the results instead
        world = world or World()
        world.asked = []
        loop = _Loop(model, batches, config, evaluate, accuracy, keep, run, world)

        def stop(signum: int, frame: object) -> None:
            # Remember the signal as well, because Python drops exceptions raised while an object is being deleted.
            world.asked.append(signum)
            if not loop.history.steps:  # nothing is lost yet
                raise Stopped(signum, "stopped before the first step was done")

        started = perf_counter()
        model.train()
        try:
            with (
                on_signals(SIGNALS, stop),
                progress_bar(description, config.steps, show_progress) as advance,
            ):
                advance(loop.step, "")
                while loop.step < config.steps and not (0 < config.patience <= loop.history.since_gain):
                    loop.train_one()
                    advance(1, f"loss {loop.history.steps[-1]['loss']:.3f}")
                    if world.stop:
                        loop.save()
                        world.broadcast(None)  # wait for rank 0's checkpoint
                        raise Stopped(world.stop, f"stopped at step {loop.step}; --resume continues the run")
                    if config.save_every and loop.step % config.save_every == 0 and loop.step < config.steps:
                        loop.save()
            loop.save()
            for name, array in loop.best.items():
                loop.parameters[name].data = array
        finally:
            model.eval()
            loop.history.seconds = perf_counter() - started
    return loop.history


@dataclass
class _Loop:
    """The state of a run between two steps, with methods to save and restore it."""

    model: nn.Module
    batches: Any
    config: TrainConfig
    evaluate: Callable[[], float] | None
    accuracy: Callable[[], float] | None
    keep: str
    run: RunFolder | None
    world: World

    def __post_init__(self) -> None:
        model, config, run = self.model, self.config, self.run
        self.parameters = trainable(model)
        if not self.parameters:
            raise MiniloraError("nothing to train: every parameter is frozen")
        if config.lora_plus == 1:
            groups = parameter_groups(model, config.weight_decay)
        else:
            groups = lora_plus_groups(model, config.peak_lr, config.lora_plus, config.weight_decay)
        if config.optimizer == "sgd":
            self.optimizer: Optimizer = SGD(groups, lr=config.peak_lr, momentum=config.betas[0])
        else:
            self.optimizer = AdamW(groups, lr=config.peak_lr, betas=config.betas)
        self.peak_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.history = History()
        self.step, self.lr = 0, config.peak_lr
        self.best: dict[str, Any] = {}  # a copy of the parameters at the best evaluation
        checkpoint = self.world.broadcast(run.checkpoint if run is not None else None)
        if checkpoint is not None:
            self.restore(checkpoint)
        else:
            self.log({})

    def train_one(self) -> None:
        config = self.config
        factor = lr_factor(config.schedule, self.step, config.steps, config.warmup, config.lr_floor)
        for group, peak in zip(self.optimizer.param_groups, self.peak_lrs, strict=True):
            group["lr"] = peak * factor
        self.lr = config.peak_lr * factor
        parts = [self.batches.next_batch() for _ in range(config.accumulate)]
        loss = float(batch_gradients(self.model, parts, (config.seed, self.step), self.world))
        norm = float(clip_grad_norm_(self.parameters.values(), config.max_norm))
        for name, value in (("loss", loss), ("gradient's norm", norm)):
            if not isfinite(value):
                self.fail(f"the {name} became {value} at step {self.step + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        record = {"step": self.step, "loss": loss, "lr": self.lr, "norm": norm}
        self.history.steps.append(record)
        self.log(record)

    def log(self, record: dict) -> None:
        """Evaluate, if it is due, and log the step."""
        step, steps, every = self.step, self.config.steps, self.config.eval_every
        if self.evaluate is not None and (step in (0, steps) or (every and step % every == 0)):
            record = {"step": step} | record | self.record_evaluation(self.evaluate)
        if self.run is not None and record:
            self.run.log(record)

    def fail(self, problem: str) -> NoReturn:
        """Raise MiniloraError that says what is not finite and which checkpoint to continue from.

        A checkpoint of the current weights is removed first, because training from it would fail here again.
        """
        good = None if self.run is None else remove_checkpoints(self.run.checkpoints, self.step)
        where = "no good checkpoint was saved" if good is None else f"the last good checkpoint is {show_path(good)}"
        raise MiniloraError(f"{problem} with learning rate {self.lr:.3g}; try a smaller one ({where})")

    def record_evaluation(self, evaluate: Callable[[], float]) -> dict:
        """Evaluate, and keep a copy of the weights if they are the best so far. Returns the numbers for the log."""
        value = float(evaluate())
        if not isfinite(value):
            if not self.step:
                raise MiniloraError(f"the evaluation is {value} before the first step: the model's weights are broken")
            self.fail(f"the evaluation became {value} after step {self.step}")
        right = {} if self.accuracy is None else {"accuracy": float(self.accuracy())}
        evaluation, best = {"step": self.step, "value": value} | right, self.history.kept
        self.history.evaluations.append(evaluation)
        gain = inf if best is None else _score(evaluation) - _score(best)
        if self.keep == "last":
            self.history.best_step = self.step
        elif gain > 0 or (gain == 0 and right):
            self.history.best_step = self.step
            self.best = {name: p.data.copy() for name, p in self.parameters.items()}
        return {"evaluation": value} | right

    def save(self) -> None:
        if self.run is None:
            return
        optimizer = self.optimizer.state_dict()
        parts = {
            "model": {name: p.data for name, p in self.parameters.items()},
            "best": self.best,
            "optimizer": {name: value for name, value in optimizer.items() if hasattr(value, "shape")},
        }
        arrays = {f"{part}.{name}": backend.to_numpy(a) for part, named in parts.items() for name, a in named.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                self.fail(f"{name} became infinite or NaN at step {self.step}")
        state = {
            "workers": threads.count(),
            "ranks": self.world.size,
            "batches": self.batches.state(),
            "optimizer": {name: value for name, value in optimizer.items() if not hasattr(value, "shape")},
            "best_step": self.history.best_step,
            "evaluations": self.history.evaluations,
        }
        self.run.save(self.step, arrays, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        parts: dict[str, dict[str, Any]] = {part: {} for part in ("model", "best", "optimizer")}
        for path, array in checkpoint.arrays.items():
            part, _, name = path.partition(".")
            parts.setdefault(part, {})[name] = array
        check_own(self.model, checkpoint)
        for name, now in (("workers", threads.count()), ("ranks", self.world.size)):
            if (then := state.get(name, 1)) != now:
                self.history.notes.append(f"resumed with {now} {name} instead of {then}: last digits differ")
        for name, p in self.parameters.items():
            p.data = parts["model"][name]
        self.best = {name: backend.asarray(array).copy() for name, array in parts["best"].items()}
        self.optimizer.load_state_dict(parts["optimizer"] | state["optimizer"])
        self.batches.load_state(state["batches"])
        self.step = checkpoint.step
        self.history.best_step, self.history.evaluations = state["best_step"], state["evaluations"]
