"""The common part of `pretrain` and `finetune`: settle what is open, train in the run folder, test, save and report."""

from argparse import Namespace
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial
from math import ceil
from typing import Any

from minilora.commands.common import print_result
from minilora.commands.dry_run import dry_run
from minilora.data.batches import MixedBatches
from minilora.data.chat import response_of
from minilora.data.jargon import load_quiz
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, NotLearned, print_notes
from minilora.measure.lr_search import find_lr, search_config
from minilora.measure.task_report import share_with_interval
from minilora.peft import Options, PeftModel
from minilora.plan.activations import Step
from minilora.plan.fits import check_fits
from minilora.train import defaults, forgetting, launch
from minilora.train.config import TrainConfig
from minilora.train.load import count_parameters
from minilora.train.loop import History, check_own
from minilora.train.metrics import evaluator, measure_task
from minilora.train.run import RunFolder
from minilora.train.save import save_adapter, save_model, training_record
from minilora.train.text import Chats, Text, check_length, longest, num_examples, sample, training_batches
from minilora.train.world import World, this_world

BESIDE, LONGEST = 20, 64  # free answers to what was trained that are measured beside --test, and tokens of one


def check_folder(arguments: Namespace) -> None:
    """Before anything slow: join the other ranks, and see whether the run folder is free."""
    this_world()
    if launch.rank() == 0 and not arguments.dry_run:
        RunFolder(arguments.out, arguments.resume, arguments.overwrite).check()


def train_settings(arguments: Namespace) -> dict:
    """The flags that are fields of TrainConfig; None for one that was not typed and has no default."""
    flags = {field.name: getattr(arguments, field.name) for field in fields(TrainConfig) if field.name in arguments}
    return flags | {"peak_lr": None if arguments.lr == "auto" else arguments.lr}


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
    if arguments.patience and isinstance(data, Chats) and not data.chooses:  # the test part would decide
        raise MiniloraError("--patience has too few validation rows to stop by: give a file as --validation")
    model.gradient_checkpointing_enable(arguments.checkpointing)
    batches: Any = training_batches(data.train, batch_size, seq_len, arguments.seed)
    check_length(model, data, seq_len)
    step = Step(-(-batch_size // launch.ranks()), longest(data, seq_len))
    memory = check_fits(model.config, method, step, options=options, checkpointing=arguments.checkpointing)
    if arguments.lr == "auto" and not arguments.dry_run:
        found = arguments.before.get("lr") or searched_lr(arguments, model, data, config, world)
        config = replace(config, peak_lr=float(found))
    # Evaluations of a run that is resumed are compared with those before.
    examples = arguments.before.get("eval_examples") or defaults.eval_examples(config, batch_size)
    settings |= {name: getattr(arguments, name) for name in ("data", "batch_size", "seq_len", "checkpointing")}
    settings |= {name: getattr(config, name) for name in train_settings(arguments)}
    settings |= {"lr": settings.pop("peak_lr"), "eval_examples": examples}
    row_length = min(seq_len, len(data.train.ids) / num_examples(data.train, seq_len))
    rows, replay_lines = config.steps * config.accumulate * batch_size, []
    quiz_size = forgetting.quiz_size(arguments.quiz, tokenizer, rows * row_length)
    if arguments.replay:
        source = partial(forgetting.replayed, model, tokenizer, arguments.model, ceil(rows * arguments.replay), seq_len)
        other, words = world.broadcast(source(config.seed) if world.rank == 0 else None)
        batches = MixedBatches(batches, other, arguments.replay, batch_size)
        replay_lines = [f"replay: {100 * arguments.replay:g} % of the rows are {words}"]
    trains, total = count_parameters(model)
    if not arguments.json:
        tokens = f"{data.name}: {len(data.train.ids):,} tokens; {trains:,} of {total:,} parameters train"
        print(*data.summary, tokens, sep="\n")
        print(plan(arguments, data, config, examples), *replay_lines, sep="\n", flush=True)
    print_notes([*data.notes, *getattr(batches, "notes", [])])

    if arguments.dry_run:
        return dry_run(arguments, model, tokenizer, data, config, batches, *memory)
    tested = sample(data.test, max(examples, min(defaults.TEST_EXAMPLES, rows // 2)), seq_len)
    measured = partial(measure, arguments, model, tokenizer, data, tested)
    world.check_alike({"settings": {**settings, "data": "", "model": ""}, "data": data.sha256}, model)
    own = partial(check_own, model)
    folder = RunFolder(arguments.out, arguments.resume, arguments.overwrite, settings, data.sha256, own)
    with world.shared_cores(), folder if world.rank == 0 else nullcontext() as run:
        model.eval()
        before = world.broadcast(run.before if run is not None else None)
        if before is None:
            with forgetting.as_base(model):
                before = measured(quiz_size, "quiz before")
        if run is not None:
            run.keep(before)
        saved = None
        sizes = {"batch_size": batch_size, "seq_len": seq_len, "examples": examples, "batches": batches}
        history = defaults.fit(model, data, config, world=world, run=run, description=arguments.command, **sizes)
        after = measured(len(before.get("quiz", ())), "quiz after")
        facts, lines = report(arguments, model, data, tested, history, before, after)
        if run is not None:
            if isinstance(model, PeftModel):
                made_by = training_record(data, settings, facts)
                saved = save_adapter(model, tokenizer, run.path / "adapter", made_by)
            else:
                saved = save_model(model, tokenizer, run.path / "model")
            run.finish(facts)
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
    epochs = config.steps * rows * (1 - (arguments.replay or 0)) / num_examples(data.train, seq_len)
    return (
        f"{config.steps:,} steps of {rows:,} sequences of up to {seq_len:,} tokens ({epochs:.2g} epochs), "
        f"learning rate {config.peak_lr:g}; every {config.eval_every:,} steps on "
        f"{share_of(validation, data.validation, seq_len)} {part} sequences{keeps}"
    )


def measure(
    arguments: Namespace, model: Any, tokenizer: Tokenizer, data: Text | Chats, tested: Any, quiz_size: int, bar: str
) -> dict:
    """Measure the model on the test part and on the quiz. Ranks share the first; rank 0 alone is asked the second."""
    world, at_once = this_world(), max(arguments.batch_size, defaults.EVALUATION_BATCH)
    facts: dict = {"test": evaluator(model, tested, arguments.seq_len, at_once, world=world)()}
    if isinstance(data, Chats) and data.has_labels:
        facts["test_accuracy"] = defaults.score(model, data, tested).accuracy
    if quiz_size and world.rank == 0 and arguments.quiz != "off":
        facts["quiz"] = forgetting.answer_quiz(model, tokenizer, load_quiz().questions[:quiz_size], bar)
    return facts


def report(
    arguments: Namespace, model: Any, data: Text | Chats, tested: Any, history: History, before: dict, after: dict
) -> tuple[dict, list[str]]:
    """Tell what the run came to, as facts and as lines. before, after: of `measure`, the base and the kept weights."""
    facts: dict = {"validation": history.best, "best_step": history.best_step, "learned": history.learned} | after
    facts |= {"test_examples": num_examples(tested, arguments.seq_len), "seconds": history.seconds}
    facts |= {f"{name}_before": value for name, value in before.items() if name != "quiz"}
    if quiz := facts.pop("quiz", None):
        facts |= forgetting.quiz_facts(before["quiz"], quiz)
    lines = [
        f"validation {history.best:.3f} {data.unit} at step {history.best_step}, test {after['test']:.3f} on "
        f"{share_of(tested, data.test, arguments.seq_len)} sequences; {history.seconds:.0f} s",
        *forgetting.learned_and_forgot(facts, data.unit),
    ]
    if facts.get("quiz_p", 1.0) < 0.05 and facts["quiz_lost"] > facts["quiz_gained"] and not arguments.replay:
        lines.append("(it may not matter for this task; --replay 0.1 keeps more of what it knew)")
    if isinstance(data, Chats) and arguments.test is not None:
        lines += beside_trained(model, data, tested, facts)
    trains, total = count_parameters(model)
    return facts | {"trainable": trains, "parameters": total}, lines


def beside_trained(model: Any, data: Chats, tested: Any, facts: dict) -> list[str]:
    """Measure how often answers to what was trained are right, and those to --test: labels, or short answers word for
    word. Returns a line, and adds to the facts.
    """
    assert data.tokenizer is not None  # `read_data` gives it
    labels, words = data.labels if data.has_labels else None, []
    count = BESIDE if labels is None else len(tested.rows)
    parts = {"trained": data.train.sample(count).conversations, "test": tested.sample(count).conversations}
    longest = max(len(data.tokenizer.encode(response_of(one))) for part in parts.values() for one in part)
    if labels is None and longest > LONGEST:
        return []
    for name, part in parts.items():
        try:
            score = measure_task(model, data.tokenizer, part, labels=labels, max_new_tokens=longest + 1)
        except MiniloraError as error:  # what was trained is there to be saved
            print_notes([f"answers are not compared: {error}"])
            return []
        right = (score.exact, score.exact_interval) if labels is None else (score.accuracy, score.accuracy_interval)
        facts[f"{name}_right"] = right[0]
        words.append(f"{share_with_interval(*right)} of {score.count}")
    return [f"right on rows that were trained {words[0]}, on --test {words[1]}"]


def share_of(measured: Any, stream: Any, seq_len: int) -> str:
    """Say how many sequences of a part are measured."""
    count, of = num_examples(measured, seq_len), num_examples(stream, seq_len)
    return f"{count:,} of {of:,}" if count < of else f"all {of:,}"
