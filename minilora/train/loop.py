"""The training loop: the same for pretraining, full fine-tuning and every way to adapt.

What trains is what requires a gradient; what a batch is and how it is scored is the model's business
(`model(**batch).loss`). A run that is interrupted and resumed ends with the same bits as one that was not, at the
same number of threads.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from time import perf_counter
from typing import Any, NoReturn

from minilora import backend, nn, threads
from minilora.errors import MiniloraError, Stopped, first_few
from minilora.formats.atomic import show_path
from minilora.optim import clip_grad_norm_
from minilora.peft import lora_plus_groups
from minilora.tensor import Tensor
from minilora.train.checkpoint import Checkpoint, not_finite
from minilora.train.config import OPTIMIZERS, TrainConfig
from minilora.train.launch import on_signals
from minilora.train.parallel import batch_gradients
from minilora.train.progress import progress_bar
from minilora.train.run import RunFolder
from minilora.train.schedule import lr_factor
from minilora.train.world import SIGNALS, World


@dataclass
class History:
    """Records of a training: one a step, and the evaluations."""

    steps: list[dict] = field(default_factory=list)  # step, loss, lr, norm
    evaluations: list[dict] = field(default_factory=list)  # step, value, and accuracy if it was measured
    best: float = inf  # the value of the evaluation whose weights stay
    best_step: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def kept(self) -> dict | None:
        """The evaluation whose weights stay; None before the first."""
        return next((one for one in self.evaluations if one["step"] == self.best_step), None)

    @property
    def learned(self) -> bool:
        """True if the weights that stay are better than those of the start: more right answers, or a smaller value."""
        return self.kept is not None and (
            _score(self.kept) > _score(self.evaluations[0]) or self.kept["value"] < self.evaluations[0]["value"]
        )


def _score(evaluation: dict) -> float:
    """Greater is better: the accuracy, or the negative value if no accuracy was measured."""
    return evaluation.get("accuracy", -evaluation["value"])


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that require a gradient, by path."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def check_own_checkpoint(parameters: dict[str, Tensor], checkpoint: Checkpoint) -> None:
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
        raise MiniloraError(f"the checkpoint is of another model: {first_few(wrong, separator='; ')}")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
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
    accuracy: Callable[[], float] | None = None,
    keep: str = "best",
    run: RunFolder | None = None,
    world: World | None = None,
    description: str = "training",
    show_progress: bool = True,
) -> History:
    """Train what requires a gradient, in place; with an evaluation, the best weights seen are the ones that stay.

    batches: has `next_batch()`, `state()` and `load_state()`. evaluate: returns a number, smaller is better. accuracy:
    returns the share of right answers, by which the best weights are then chosen; of equal ones the later, since bits
    rise with confidence while the answers get no worse. keep: "last" keeps the end of the run whatever the evaluations
    say. run: where metrics and checkpoints go; if it was opened on a checkpoint, training goes on from there. world:
    the ranks that train together: all of them call this alike, and rank 0 alone gives `run`.

    Raises MiniloraError if nothing is trainable, or if loss, gradient, weights or evaluation are not finite: before the
    step, and nothing of it is saved. Raises Stopped after SIGINT or SIGTERM, when the step was finished and saved; in
    the first step at once.
    """
    with backend.errstate():  # what overflows is found by its result
        world = world or World()
        loop = _Loop(model, batches, config, evaluate, accuracy, keep, run, world)
        started = perf_counter()
        model.train()
        try:
            with (
                collected_signals(at_once=lambda: not loop.history.steps) as world.asked,
                progress_bar(description, config.steps, show_progress, unit="steps") as advance,
            ):
                advance(loop.step, "")
                while loop.step < config.steps and not loop.is_exhausted():
                    loop.train_one()
                    advance(1, f"loss {loop.history.steps[-1]['loss']:.3f}")
                    if world.stop:
                        loop.save()
                        world.barrier()  # for rank 0's checkpoint
                        raise Stopped(world.stop, f"stopped at step {loop.step}; go on with --resume")
                    if config.save_every and loop.step % config.save_every == 0 and loop.step < config.steps:
                        loop.save()
            loop.finish()
        finally:
            model.eval()
            loop.history.seconds = perf_counter() - started
    return loop.history


@dataclass
class _Loop:
    """The state of a run between two steps, and how it is saved and restored."""

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
        self.optimizer = OPTIMIZERS[config.optimizer](groups, config)
        self.peak_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.history = History()
        self.step, self.lr = 0, config.peak_lr
        self.best: dict[str, Any] = {}  # a copy of the parameters at the best evaluation
        self.bad_evaluations = 0
        checkpoint = self.world.broadcast(run.checkpoint if run is not None else None)
        if checkpoint is not None:
            self.restore(checkpoint)
        elif self.evaluate is not None:
            self.log({"step": 0} | self.record_evaluation())

    def is_exhausted(self) -> bool:
        return bool(self.config.patience) and self.bad_evaluations >= self.config.patience

    def train_one(self) -> None:
        config = self.config
        factor = lr_factor(config.schedule, self.step, config.steps, config.warmup, config.lr_floor)
        for group, peak in zip(self.optimizer.param_groups, self.peak_lrs, strict=True):
            group["lr"] = peak * factor
        self.lr = config.peak_lr * factor
        parts = [self.batches.next_batch() for _ in range(config.accumulate)]
        loss = float(batch_gradients(self.model, parts, (config.seed, self.step), self.world))
        norm = float(clip_grad_norm_(self.parameters.values(), config.max_norm))
        if not isfinite(loss):
            self.refuse(f"the loss became {loss} at step {self.step + 1}")
        if not isfinite(norm):
            self.refuse(f"the gradient's norm became {norm} at step {self.step + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        record = {"step": self.step, "loss": loss, "lr": self.lr, "norm": norm}
        self.history.steps.append(record)
        due = self.step == config.steps or (config.eval_every and self.step % config.eval_every == 0)
        if self.evaluate is not None and due:
            record = record | self.record_evaluation()
        self.log(record)

    def log(self, record: dict) -> None:
        if self.run is not None:
            self.run.log(record)

    def refuse(self, what: str) -> NoReturn:
        """Raise MiniloraError that says what is not finite and which checkpoint to go on from.

        A checkpoint of the weights as they are is removed first: training on from it would end here again.
        """
        good = None if self.run is None else self.run.remove_checkpoints(self.step)
        where = "no good checkpoint was saved" if good is None else f"the last good checkpoint is {show_path(good)}"
        raise MiniloraError(f"{what} with learning rate {self.lr:.3g}; try a smaller one ({where})")

    def record_evaluation(self) -> dict:
        """Evaluate, and note whether these weights are the ones to keep; returns the numbers for the log."""
        assert self.evaluate is not None  # whoever calls has looked
        value = float(self.evaluate())
        if not isfinite(value):
            if not self.step:
                raise MiniloraError(f"the evaluation is {value} before the first step: the model's weights are broken")
            self.refuse(f"the evaluation became {value} after step {self.step}")
        right = {} if self.accuracy is None else {"accuracy": float(self.accuracy())}
        evaluation, kept = {"step": self.step, "value": value} | right, self.history.kept
        self.history.evaluations.append(evaluation)
        gain = inf if kept is None else _score(evaluation) - _score(kept)
        self.bad_evaluations = 0 if gain > 0 else self.bad_evaluations + 1
        if self.keep == "last":
            self.history.best, self.history.best_step = value, self.step
        elif gain > 0 or (gain == 0 and right):
            self.history.best, self.history.best_step = value, self.step
            self.best = {name: p.data.copy() for name, p in self.parameters.items()}
        return {"evaluation": value} | right

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
        saved = {name: backend.to_numpy(array) for name, array in arrays.items()}
        if bad := not_finite(saved):
            self.refuse(f"{bad} became infinite or not a number at step {self.step}")
        state = {
            "config": asdict(self.config),
            "workers": threads.count(),
            "ranks": self.world.size,
            "batches": self.batches.state(),
            "optimizer": {name: value for name, value in optimizer.items() if not hasattr(value, "shape")},
            "best": self.history.best,
            "best_step": self.history.best_step,
            "bad_evaluations": self.bad_evaluations,
            "evaluations": self.history.evaluations,
        }
        self.run.save(self.step, saved, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        state, arrays = checkpoint.state, checkpoint.arrays
        check_own_checkpoint(self.parameters, checkpoint)
        before, after = state["config"], json.loads(json.dumps(asdict(self.config)))
        for key in after:
            if before.get(key, after[key]) != after[key]:
                self.history.notes.append(f"resumed with {key} {after[key]} instead of {before[key]}")
        for name, now in (("workers", threads.count()), ("ranks", self.world.size)):
            if (then := state.get(name, 1)) != now:
                self.history.notes.append(f"resumed with {now} {name} instead of {then}: last digits differ")
        for name, p in self.parameters.items():
            p.data = arrays[f"model.{name}"]
        self.best = {
            name: backend.asarray(arrays[f"best.{name}"]).copy() for name in self.parameters if f"best.{name}" in arrays
        }
        self.optimizer.load_state_dict(_named(arrays, "optimizer.") | state["optimizer"])
        self.batches.load_state(state["batches"])
        self.step = checkpoint.step
        self.history.best, self.history.best_step = state["best"], state["best_step"]
        self.bad_evaluations, self.history.evaluations = state["bad_evaluations"], state["evaluations"]


def _named(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The arrays whose names begin so, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


@contextmanager
def collected_signals(at_once: Callable[[], bool] = lambda: False) -> Iterator[list[int]]:
    """Within the block, SIGINT and SIGTERM are collected in a list instead of stopping the process at once.

    at_once: whether nothing would be lost now; then a signal raises Stopped, too. (Python drops what is raised while an
    object is being deleted. The list still has it.)
    """
    caught: list[int] = []

    def take(signum: int, frame: object) -> None:
        caught.append(signum)
        if at_once():
            raise Stopped(signum, "stopped before the first step was done")

    with on_signals(SIGNALS, take):
        yield caught
