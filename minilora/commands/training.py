"""The common part of `pretrain` and `finetune`: settle what is open, train in the run folder, test, save and report."""

from argparse import Namespace
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial
from typing import Any

from minilora.commands.common import print_result
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, NotLearned, print_notes
from minilora.measure.lr_search import find_lr, search_config
from minilora.measure.task_report import share_with_interval
from minilora.peft import Options, PeftModel
from minilora.plan.activations import Step
from minilora.plan.fits import check_fits
from minilora.train import defaults, launch
from minilora.train.answers import write_sample
from minilora.train.config import TrainConfig
from minilora.train.load import count_parameters
from minilora.train.loop import History, check_own
from minilora.train.metrics import evaluator
from minilora.train.run import RunFolder
from minilora.train.save import save_adapter, save_model, training_record
from minilora.train.text import Chats, Text, check_length, longest, num_examples, sample, training_batches
from minilora.train.world import World, this_world

AUTO = "auto"  # --lr: searched for


def check_folder(arguments: Namespace) -> None:
    """Before anything slow: join the other ranks, and see whether the run folder is free."""
    this_world()
    if launch.rank() == 0:
        RunFolder(arguments.out, arguments.resume, arguments.overwrite).check()


def train_settings(arguments: Namespace) -> dict:
    """The flags that are fields of TrainConfig; None for one that was not typed and has no default."""
    flags = {field.name: getattr(arguments, field.name) for field in fields(TrainConfig) if field.name in arguments}
    return flags | {"peak_lr": None if arguments.lr == AUTO else arguments.lr}


def train(
    arguments: Namespace,
    model: Any,
    tokenizer: Tokenizer,
    data: Text | Chats,
    config: TrainConfig,
    settings: dict,
    method: str = "full",
    options: Options | None = None,
) -> None:
    """Train the model, adapted by `method` if it is to be, in the run folder. settings: for run.json.

    Raises NotLearned, when all is written, if no evaluation beat the start.
    """
    world, batch_size, seq_len = this_world(), arguments.batch_size, arguments.seq_len
    model.gradient_checkpointing_enable(arguments.checkpointing)
    batches = training_batches(data.train, batch_size, seq_len, arguments.seed)
    check_length(model, data, seq_len)
    step = Step(-(-batch_size // launch.ranks()), longest(data, seq_len))
    check_fits(model.config, method, step, options=options, checkpointing=arguments.checkpointing)
    if arguments.lr == AUTO:
        found = arguments.before.get("lr") or searched_lr(arguments, model, data, config, world)
        config = replace(config, peak_lr=float(found))
    # Evaluations of a run that is resumed are compared with those before.
    examples = arguments.before.get("eval_examples") or defaults.eval_examples(config, batch_size)
    settings |= {name: getattr(arguments, name) for name in ("data", "batch_size", "seq_len", "checkpointing")}
    settings |= {name: getattr(config, name) for name in train_settings(arguments)}
    settings |= {"lr": settings.pop("peak_lr"), "eval_examples": examples}
    trains, total = count_parameters(model)
    if not arguments.json:
        tokens = f"{data.name}: {len(data.train.ids):,} tokens; {trains:,} of {total:,} parameters train"
        print(*data.summary, tokens, sep="\n")
        print(plan(arguments, data, config, examples), flush=True)
    print_notes([*data.notes, *getattr(batches, "notes", [])])

    def write(step: int) -> dict:
        model.eval()
        return {"step": step} | write_sample(model, tokenizer, part)

    part = data.validation if data.validation.characters else data.train
    world.check_alike({"settings": {**settings, "data": "", "model": ""}, "data": data.sha256}, model)
    own = partial(check_own, model)
    folder = RunFolder(arguments.out, arguments.resume, arguments.overwrite, settings, data.sha256, own)
    with world.shared_cores(), folder if world.rank == 0 else nullcontext() as run:
        samples, saved = [] if run is None else [write(0)], None
        model.eval()
        sizes = {"batch_size": batch_size, "seq_len": seq_len, "examples": examples, "batches": batches}
        history = defaults.fit(model, data, config, world=world, run=run, description=arguments.command, **sizes)
        facts, lines = test(arguments, model, data, config, examples, history)
        if run is not None:
            if isinstance(model, PeftModel):
                made_by = training_record(data, settings, facts)
                saved = save_adapter(model, tokenizer, run.path / "adapter", made_by)
            else:
                saved = save_model(model, tokenizer, run.path / "model")
            run.finish(facts | {"samples": [*samples, write(history.best_step)]})
        world.broadcast(None)  # wait for what rank 0 saves
    print_notes(getattr(run, "notes", []) + history.notes)
    print_result(arguments, facts | {"saved": str(saved)}, "\n".join([*lines, f"saved {saved}"]))
    if not history.learned:
        raise NotLearned(
            f"no evaluation beat the start: {history.evaluations[0]['value']:.3f} {data.unit}, and "
            f"{history.evaluations[-1]['value']:.3f} at the end; {saved} is no better than what training began "
            f"with: try a smaller --lr than {config.peak_lr:g}"
        )


def searched_lr(arguments: Namespace, model: Any, data: Text | Chats, config: TrainConfig, world: World) -> float:
    """The learning rate that a search finds, which is told as it goes on."""
    if isinstance(data, Chats) and not data.chooses:
        raise MiniloraError("--lr auto has too few validation rows to tell rates apart: give a file as --validation")
    tell = (lambda line: None) if arguments.json else print
    tell(f"--lr auto: each rate for {search_config(config).steps} steps")

    def tried(rate: float, loss: float | None) -> None:
        tell(f"  {rate:<8g} {'diverged' if loss is None else f'validation {loss:.3f} {data.unit}'}")

    sizes = {"batch_size": arguments.batch_size, "seq_len": arguments.seq_len}
    with world.shared_cores():
        return find_lr(model, data, config, tried, world=world, **sizes)


def plan(arguments: Namespace, data: Text | Chats, config: TrainConfig, examples: int) -> str:
    """Say what is about to be done, in a line."""
    seq_len, rows = arguments.seq_len, config.accumulate * arguments.batch_size
    validation = sample(data.validation, examples, seq_len)
    part = "test" if isinstance(data, Chats) and not data.chooses else "validation"
    keeps = "" if defaults.chooses(data, validation) else ",\ntoo few to choose a step by: the end of the run is kept"
    epochs = config.steps * rows / num_examples(data.train, seq_len)
    return (
        f"{config.steps:,} steps of {rows:,} sequences of up to {seq_len:,} tokens ({epochs:.2g} epochs), "
        f"learning rate {config.peak_lr:g}; every {config.eval_every:,} steps on "
        f"{share_of(validation, data.validation, seq_len)} {part} sequences{keeps}"
    )


def test(
    arguments: Namespace, model: Any, data: Text | Chats, config: TrainConfig, examples: int, history: History
) -> tuple[dict, list[str]]:
    """Measure the weights that were kept on the test part; returns what the run came to, as facts and as lines."""
    seq_len, at_once = arguments.seq_len, max(arguments.batch_size, defaults.EVALUATION_BATCH)
    tested = sample(data.test, defaults.test_examples(config, arguments.batch_size, examples), seq_len)
    bits = evaluator(model, tested, seq_len, at_once, world=this_world())()
    facts: dict = {"validation": history.best, "best_step": history.best_step, "learned": history.learned, "test": bits}
    lines = [
        f"validation {history.best:.3f} {data.unit} at step {history.best_step}, test {bits:.3f} on "
        f"{share_of(tested, data.test, seq_len)} sequences; {history.seconds:.0f} s"
    ]
    if isinstance(data, Chats) and data.has_labels:
        score = defaults.score(model, data, tested)
        facts["test_accuracy"] = score.accuracy
        lines.append(f"test accuracy {share_with_interval(score.accuracy, score.accuracy_interval)}")
    trains, total = count_parameters(model)
    facts |= {"test_examples": num_examples(tested, seq_len), "seconds": history.seconds}
    return facts | {"trainable": trains, "parameters": total}, lines


def share_of(measured: Any, stream: Any, seq_len: int) -> str:
    """Say how many sequences of a part are measured."""
    count, of = num_examples(measured, seq_len), num_examples(stream, seq_len)
    return f"{count:,} of {of:,}" if count < of else f"all {of:,}"
