"""What `pretrain` and `finetune` do alike: train a model in a run folder, save the best of it, and report."""

from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from minilora.commands.common import print_notes, print_result
from minilora.errors import NotLearned
from minilora.models.gpt2 import GPT2Config
from minilora.models.llama import LlamaConfig
from minilora.peft import Options
from minilora.plan.activations import Step
from minilora.plan.fits import check_fits
from minilora.train import launch, recipes
from minilora.train.loop import TrainConfig, check_own_checkpoint, train, trainable
from minilora.train.parallel import Workers
from minilora.train.run import RunFolder
from minilora.train.world import this_world


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


def train_config(arguments: Namespace, lr: float, **settings) -> TrainConfig:
    steps = arguments.steps
    flags = {name: getattr(arguments, name) for name in ("optimizer", "schedule", "seed", "save_every")}
    return TrainConfig(steps, peak_lr=lr, warmup=steps // 20, eval_every=max(1, steps // 10), **flags, **settings)


def train_in_folder(
    arguments: Namespace,
    model,
    text: recipes.Text | recipes.Chats,
    settings: dict,
    config: TrainConfig,
    save: Callable[[Path, dict], Path],
    fits: Callable[[], None] = lambda: None,
) -> None:
    """Train `model` on `text` in the run folder, save the best of it with `save(folder, training)`, and report.

    training: of `recipes.training_record`.

    fits: raises where the machine cannot hold a step; called when the data are known to suit. Raises NotLearned, when
    all is written, where no evaluation beat the start.
    """
    world = this_world()
    world.check_enough_rows(arguments.batch_size)
    model.gradient_checkpointing_enable(arguments.checkpointing)
    pack = {"pack": True} if getattr(arguments, "pack", False) else {}
    batches = recipes.training_batches(text.train, arguments.batch_size, arguments.seq_len, arguments.seed, **pack)
    recipes.check_length(model, text, arguments.seq_len, **pack)
    fits()
    names = ("data", "steps", "batch_size", "seq_len", "schedule", "optimizer", "seed")
    settings = settings | pack | {name: getattr(arguments, name) for name in names} | {"lr": config.peak_lr}
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
        print(f"{text.name}: {len(text.train.ids):,} tokens; {trains:,} of {total:,} parameters train", flush=True)
    with Workers(world=world) as workers, run_folder if world.is_rank_zero else nullcontext() as run:
        evaluate = recipes.evaluator(model, text.validation, arguments.seq_len, arguments.batch_size, workers)
        history = train(
            model, batches, config, evaluate=evaluate, run=run, workers=workers, description=arguments.command
        )
        test = recipes.evaluator(model, text.test, arguments.seq_len, arguments.batch_size, workers)()
        learned = history.best_step > 0
        facts = {
            "validation": history.best,
            "best_step": history.best_step,
            "learned": learned,
            "test": test,
            "seconds": history.seconds,
            "trainable": trains,
            "parameters": total,
        }
        saved = None
        if run is not None:
            saved = save(run.path, recipes.training_record(text, settings, facts))
            run.finish(facts)
        world.barrier()  # for what rank 0 saves
    print_notes(getattr(run, "notes", []) + history.notes + getattr(batches, "notes", []))
    print_result(
        arguments,
        facts | {"saved": str(saved)},
        f"validation {history.best:.3f} {text.unit} at step {history.best_step}, test {test:.3f}; "
        f"{history.seconds:.0f} s\nsaved {saved}",
    )
    if not learned:
        raise NotLearned(
            f"no evaluation beat the start: {history.best:.3f} {text.unit}, and {history.evaluations[-1]['value']:.3f} "
            f"at the end; {saved} holds what training began with: try a smaller --lr than {config.peak_lr:g}"
        )
