"""What `pretrain` and `finetune` do alike, in four steps: prepare, train in the run folder, test and save, report."""

from argparse import Namespace
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from minilora.commands.common import print_result
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, NotLearned, print_notes
from minilora.measure.lr_search import find_lr, search_config
from minilora.measure.task_report import share_with_interval
from minilora.models.gpt2 import GPT2Config
from minilora.models.llama import LlamaConfig
from minilora.peft import Options, PeftModel
from minilora.plan.activations import Step
from minilora.plan.fits import check_fits
from minilora.train import defaults, launch
from minilora.train.answers import write_sample
from minilora.train.config import TrainConfig
from minilora.train.load import count_parameters
from minilora.train.loop import History
from minilora.train.metrics import evaluator
from minilora.train.run import RECORD, RunFolder, read_record
from minilora.train.save import save_adapter, save_model, training_record
from minilora.train.text import Chats, Text, check_length, longest, num_examples, sample, training_batches
from minilora.train.world import this_world

AUTO = "auto"  # --lr: searched for
FLAGS = ("optimizer", "schedule", "warmup", "accumulate", "eval_every", "patience", "seed", "save_every")


def check_folder(arguments: Namespace) -> None:
    """Before anything slow: join the other ranks, and see whether the run folder is free."""
    this_world()
    if launch.rank() == 0:
        RunFolder(arguments.out, arguments.resume, arguments.overwrite).check()


def check_memory(
    arguments: Namespace,
    model: LlamaConfig | GPT2Config,
    method: str,
    options: Options | None = None,
    new_model: bool = False,
    seq_len: int | None = None,
) -> None:
    """Raise MiniloraError, before anything is made or written, for a step that this machine cannot hold.

    new_model: whether the model's sizes are flags. seq_len: of the longest sequence, if not --seq-len.
    """
    rows = -(-arguments.batch_size // launch.ranks())
    step = Step(rows, seq_len or arguments.seq_len)
    check_fits(model, method, step, options=options, checkpointing=arguments.checkpointing, new_model=new_model)


def train_settings(arguments: Namespace) -> dict:
    """The flags that are fields of TrainConfig; None for one that was not typed and has no default."""
    lr = None if arguments.lr == AUTO else arguments.lr
    return {name: getattr(arguments, name) for name in ("steps", *FLAGS)} | {"peak_lr": lr}


@dataclass
class Training:
    """A training that a command asks for.

    model: adapted by `method`, if it is to be. settings: what run.json is to tell of the two.
    """

    arguments: Namespace
    model: Any
    tokenizer: Tokenizer
    data: Text | Chats
    method: str
    options: Options
    settings: dict
    config: TrainConfig

    def __post_init__(self) -> None:
        self.world, self.batch_size, self.seq_len = this_world(), self.arguments.batch_size, self.arguments.seq_len

    def run(self) -> None:
        """Raises NotLearned, when all is written, if no evaluation beat the start."""
        self.prepare()
        run_folder = RunFolder(
            self.arguments.out,
            self.arguments.resume,
            self.arguments.overwrite,
            self.settings,
            self.data.sha256,
        )
        with self.world.shared_cores(), run_folder if self.world.rank == 0 else nullcontext() as run:
            before = [] if run is None else [self.sample(0)]
            history = self.train(run)
            facts = self.test(history)
            saved = None
            if run is not None:
                saved = self.save(run.path, facts)
                run.finish(facts | {"samples": [*before, self.sample(history.best_step)]})
            self.world.barrier()  # for what rank 0 saves
        print_notes(getattr(run, "notes", []) + history.notes)
        self.report(history, facts, saved)

    def prepare(self) -> None:
        """Make the batches, settle what is still open, and say what is about to be done."""
        arguments, data = self.arguments, self.data
        self.model.gradient_checkpointing_enable(arguments.checkpointing)
        self.batches = training_batches(data.train, self.batch_size, self.seq_len, arguments.seed)
        check_length(self.model, data, self.seq_len)
        seq_len = longest(data, self.seq_len)
        check_memory(arguments, self.model.config, self.method, self.options, seq_len=seq_len)
        if arguments.lr == AUTO:
            self.config = replace(self.config, peak_lr=self.searched_lr())
        # Evaluations of a run that is resumed are compared with those before.
        self.examples = self.resumed.get("eval_examples") or defaults.eval_examples(self.config, self.batch_size)
        self.settings |= {name: getattr(arguments, name) for name in ("data", "batch_size", "seq_len")}
        self.settings |= {name: getattr(self.config, name) for name in ("steps", *FLAGS)}
        self.settings |= {"lr": self.config.peak_lr, "eval_examples": self.examples}
        self.settings |= {"checkpointing": arguments.checkpointing}
        self.trains, self.total = count_parameters(self.model)
        if not arguments.json:
            tokens = len(data.train.ids)
            print(f"{data.name}: {tokens:,} tokens; {self.trains:,} of {self.total:,} parameters train")
            print(self.plan(), flush=True)
        print_notes([*data.notes, *getattr(self.batches, "notes", [])])

    def train(self, run: RunFolder | None) -> History:
        self.model.eval()
        sizes = {"batch_size": self.batch_size, "seq_len": self.seq_len, "examples": self.examples}
        more = {"batches": self.batches, "world": self.world, "run": run, "description": self.arguments.command}
        return defaults.fit(self.model, self.data, self.config, **sizes, **more)

    def test(self, history: History) -> dict:
        """Measure the weights that were kept on the test part; returns what the run came to."""
        data, at_once = self.data, max(self.batch_size, defaults.EVALUATION_BATCH)
        most = defaults.test_examples(self.config, self.batch_size, self.examples)
        self.tested = sample(data.test, most, self.seq_len)
        bits = evaluator(self.model, self.tested, self.seq_len, at_once, world=self.world)()
        is_task = isinstance(data, Chats) and data.has_labels
        self.score = defaults.score(self.model, data, self.tested) if is_task else None  # type: ignore[arg-type]
        return {
            "validation": history.best,
            "best_step": history.best_step,
            "learned": history.learned,
            "test": bits,
            **({} if self.score is None else {"test_accuracy": self.score.accuracy}),
            "test_examples": num_examples(self.tested, self.seq_len),
            "seconds": history.seconds,
            "trainable": self.trains,
            "parameters": self.total,
        }

    def save(self, folder: Path, facts: dict) -> Path:
        """Write the adapter, or the model if it is not adapted by one; returns the folder."""
        if isinstance(self.model, PeftModel):
            record = training_record(self.data, self.settings, facts)
            return save_adapter(self.model, self.tokenizer, folder / "adapter", record)
        return save_model(self.model, self.tokenizer, folder / "model")

    def report(self, history: History, facts: dict, saved: Path | None) -> None:
        unit, lines = self.data.unit, []
        lines.append(
            f"validation {history.best:.3f} {unit} at step {history.best_step}, test {facts['test']:.3f} on "
            f"{self.share_of(self.tested, self.data.test)} sequences; {history.seconds:.0f} s"
        )
        if (score := self.score) is not None:
            lines.append(f"test accuracy {share_with_interval(score.accuracy, score.accuracy_interval)}")
        print_result(self.arguments, facts | {"saved": str(saved)}, "\n".join([*lines, f"saved {saved}"]))
        if not history.learned:
            raise NotLearned(
                f"no evaluation beat the start: {history.evaluations[0]['value']:.3f} {unit}, and "
                f"{history.evaluations[-1]['value']:.3f} at the end; {saved} is no better than what training began "
                f"with: try a smaller --lr than {self.config.peak_lr:g}"
            )

    # Parts of the steps

    @cached_property
    def resumed(self) -> dict:
        """The settings of the run that is resumed; none if a run begins."""
        record = Path(self.arguments.out, RECORD)
        return read_record(record)["config"] if self.arguments.resume and record.is_file() else {}

    def searched_lr(self) -> float:
        """The learning rate that a search finds; of a run that is resumed, the one that it found then."""
        if (lr := self.resumed.get("lr")) is not None:
            return float(lr)
        if isinstance(self.data, Chats) and not self.data.chooses:
            raise MiniloraError(
                "--lr auto has too few validation rows to tell rates apart: give a file as --validation"
            )
        tell = (lambda line: None) if self.arguments.json else print
        sizes = {"batch_size": self.batch_size, "seq_len": self.seq_len}
        tell(f"--lr auto: each rate for {search_config(self.config).steps} steps")

        def tried(rate: float, loss: float | None) -> None:
            tell(f"  {rate:<8g} {'diverged' if loss is None else f'validation {loss:.3f} {self.data.unit}'}")

        with self.world.shared_cores():
            return find_lr(self.model, self.data, self.config, tried, world=self.world, **sizes)

    def sample(self, step: int) -> dict:
        """Return what the model writes after the beginning of the data."""
        self.model.eval()
        part = self.data.validation if self.data.validation.characters else self.data.train
        return {"step": step} | write_sample(self.model, self.tokenizer, part)

    def plan(self) -> str:
        """Say what is about to be done, in a line."""
        data, config = self.data, self.config
        validation = sample(data.validation, self.examples, self.seq_len)
        part, keeps, rows = "validation", "", config.accumulate * self.batch_size
        if not defaults.chooses(data, validation):
            keeps = ",\nwhich are too few to choose a step by: the end of the run is kept"
        if isinstance(data, Chats) and not data.chooses:
            part = "test"
            keeps = (
                "\nA validation part would be too small to choose a step by: it is trained on, too, and the end is kept"
            )
        epochs = config.steps * rows / num_examples(data.train, self.seq_len)
        return (
            f"{config.steps:,} steps of {rows:,} sequences of up to {self.seq_len:,} tokens ({epochs:.2g} epochs), "
            f"learning rate {config.peak_lr:g}; every {config.eval_every:,} steps on "
            f"{self.share_of(validation, data.validation)} {part} sequences{keeps}"
        )

    def share_of(self, measured, stream) -> str:
        """Say how many sequences of a part are measured."""
        count, of = (num_examples(tokens, self.seq_len) for tokens in (measured, stream))
        return f"{count:,} of {of:,}" if count < of else f"all {of:,}"
