"""What `pretrain` and `finetune` do alike: train a model in a run folder, save the best of it, and report."""

from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from minilora.commands.common import print_result
from minilora.commands.rerun import read_config
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, NotLearned, print_notes
from minilora.formats.atomic import show_path
from minilora.measure.lr_search import find_lr, search_config
from minilora.measure.task_report import share_with_interval
from minilora.models.gpt2 import GPT2Config
from minilora.models.llama import LlamaConfig
from minilora.peft import Options
from minilora.plan.activations import Step
from minilora.plan.fits import check_fits
from minilora.train import defaults, launch, recipes, session
from minilora.train.loop import TrainConfig, check_own_checkpoint, trainable
from minilora.train.run import RECORD, RunFolder, read_record
from minilora.train.world import this_world

AUTO = "auto"  # --lr: searched for


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

    new_model: whether the model's sizes are flags. seq_len: of the longest sequence, where not --seq-len.
    """
    rows = -(-arguments.batch_size // launch.ranks())
    step = Step(rows, seq_len or arguments.seq_len)
    check_fits(model, method, step, options=options, checkpointing=arguments.checkpointing, new_model=new_model)


def given(arguments: Namespace) -> dict:
    """The flags that are fields of TrainConfig; None where one was not given and has no default."""
    flags = ("optimizer", "schedule", "warmup", "accumulate", "eval_every", "patience", "seed", "save_every")
    lr = None if arguments.lr == AUTO else arguments.lr
    return {name: getattr(arguments, name) for name in ("steps", *flags)} | {"peak_lr": lr}


def train_in_folder(
    arguments: Namespace,
    model,
    tokenizer: Tokenizer,
    text: recipes.Text | recipes.Chats,
    settings: dict,
    config: TrainConfig,
    save: Callable[[Path, dict], Path],
    fits: Callable[[], None] = lambda: None,
) -> None:
    """Train `model` on `text` in the run folder, save the best of it with `save(folder, training)`, and report.

    training: of `recipes.training_record`. fits: raises where the machine cannot hold a step; called when the data are
    known to suit. Raises NotLearned, when all is written, where no evaluation beat the start.
    """
    world = this_world()
    world.check_enough_rows(arguments.batch_size)
    model.gradient_checkpointing_enable(arguments.checkpointing)
    pack = {"pack": True} if getattr(arguments, "pack", False) else {}
    seq_len, batch_size = arguments.seq_len, arguments.batch_size
    batches = recipes.training_batches(text.train, batch_size, seq_len, arguments.seed, **pack)
    recipes.check_length(model, text, seq_len, **pack)
    fits()
    if arguments.lr == AUTO:
        config = replace(config, peak_lr=_searched_lr(arguments, model, text, config, **pack))
    before = _resumed_settings(arguments).get("eval_examples")  # evaluations are compared with those before
    examples = arguments.eval_examples or before or defaults.eval_examples(config, batch_size)
    validation = recipes.sample(text.validation, examples, seq_len)
    settings = settings | pack | {name: getattr(arguments, name) for name in ("data", "batch_size", "seq_len")}
    settings |= {name: getattr(config, name) for name in given(arguments) if name != "peak_lr"}
    settings |= {"lr": config.peak_lr, "eval_examples": examples, "checkpointing": arguments.checkpointing}
    run_folder = RunFolder(
        arguments.out,
        arguments.resume,
        arguments.overwrite,
        settings,
        text.sha256,
        accept=lambda checkpoint: check_own_checkpoint(trainable(model), checkpoint),
    )
    world.check_same_on_all_ranks(lambda: recipes.fingerprints(model, text, settings))
    trains, total = recipes.count_parameters(model)
    if not arguments.json:
        print(f"{text.name}: {len(text.train.ids):,} tokens; {trains:,} of {total:,} parameters train")
        print(_plan_of(config, text, validation, batch_size, seq_len), flush=True)
    notes = [*text.notes, *getattr(batches, "notes", [])]
    if arguments.config and read_config(arguments.config).get("text_sha256") != text.sha256:
        notes.append(f"the text is not the one that the run of --config {show_path(arguments.config)} was trained on")
    print_notes(notes)
    with world.shared_cores(), run_folder if world.is_rank_zero else nullcontext() as run:
        at_once = max(batch_size, defaults.EVALUATION_BATCH)
        sizes = {"batch_size": batch_size, "seq_len": seq_len, "examples": examples}
        model.eval()
        part = text.validation if text.validation.characters else text.train
        write = partial(session.write_sample, model, tokenizer, part)
        samples = [] if run is None else [{"step": 0} | write()]
        history = defaults.fit(
            model, text, config, **sizes, batches=batches, world=world, run=run, description=arguments.command
        )
        tested = recipes.sample(text.test, defaults.test_examples(config, batch_size, examples), seq_len)
        test = recipes.evaluator(model, tested, seq_len, at_once, world=world)()
        scored = isinstance(text, recipes.Chats) and text.has_labels
        score = defaults.score(model, text, tested) if scored else None  # type: ignore[arg-type]
        facts = {
            "validation": history.best,
            "best_step": history.best_step,
            "learned": history.learned,
            "test": test,
            **({} if score is None else {"test_accuracy": score.accuracy}),
            "test_examples": recipes.num_examples(tested, seq_len),
            "seconds": history.seconds,
            "trainable": trains,
            "parameters": total,
        }
        saved = None
        if run is not None:
            saved = save(run.path, recipes.training_record(text, settings, facts))
            run.finish(facts | {"samples": [*samples, {"step": history.best_step} | write()]})
        world.barrier()  # for what rank 0 saves
    print_notes(getattr(run, "notes", []) + history.notes)
    print_result(
        arguments,
        facts | {"saved": str(saved)},
        f"validation {history.best:.3f} {text.unit} at step {history.best_step}, test {test:.3f} on "
        f"{_share_of(tested, text.test, seq_len)} sequences; {history.seconds:.0f} s\n"
        + ("" if score is None else f"test accuracy {share_with_interval(score.accuracy, score.accuracy_interval)}\n")
        + f"saved {saved}",
    )
    if not history.learned:
        raise NotLearned(
            f"no evaluation beat the start: {history.evaluations[0]['value']:.3f} {text.unit}, and "
            f"{history.evaluations[-1]['value']:.3f} at the end; {saved} is no better than what training began with: "
            f"try a smaller --lr than {config.peak_lr:g}"
        )


def _resumed_settings(arguments: Namespace) -> dict:
    """The settings of the run that is resumed; none where a run begins."""
    record = Path(arguments.out, RECORD)
    return read_record(record)["config"] if arguments.resume and record.is_file() else {}


def _searched_lr(arguments: Namespace, model, text, config: TrainConfig, **pack) -> float:
    """The learning rate that a search finds; of a run that is resumed, the one that it found then."""
    if (lr := _resumed_settings(arguments).get("lr")) is not None:
        return float(lr)
    if isinstance(text, recipes.Chats) and not text.chooses:
        raise MiniloraError("--lr auto has too few validation rows to tell rates apart: give a file as --validation")
    tell = print if not arguments.json else lambda line: None
    sizes = {"batch_size": arguments.batch_size, "seq_len": arguments.seq_len} | pack
    tell(f"--lr auto: each rate for {search_config(config).steps} steps")

    def tried(rate: float, loss: float | None) -> None:
        tell(f"  {rate:<8g} {'diverged' if loss is None else f'validation {loss:.3f} {text.unit}'}")

    with (world := this_world()).shared_cores():
        return find_lr(model, text, config, tried, world=world, **sizes)


def _plan_of(config: TrainConfig, text, validation, batch_size: int, seq_len: int) -> str:
    """What is about to be done, in a line."""
    rows = config.steps * config.accumulate * batch_size
    part, keeps = "validation", ""
    if not defaults.chooses(text, validation):
        keeps = ",\nwhich are too few to choose a step by: the end of the run is kept"
    if isinstance(text, recipes.Chats) and not text.chooses:
        part = "test"
        keeps = "\nA validation part would be too small to choose a step by: it is trained on, too, and the end is kept"
    return (
        f"{config.steps:,} steps of {config.accumulate * batch_size:,} sequences of up to {seq_len:,} tokens "
        f"({rows / recipes.num_examples(text.train, seq_len):.2g} epochs), learning rate {config.peak_lr:g}; every "
        f"{config.eval_every:,} steps on {_share_of(validation, text.validation, seq_len)} {part} sequences{keeps}"
    )


def _share_of(sample, stream, seq_len: int) -> str:
    """How many sequences of a part are measured, in words."""
    measured, of = (recipes.num_examples(tokens, seq_len) for tokens in (sample, stream))
    return f"{measured:,} of {of:,}" if measured < of else f"all {of:,}"
