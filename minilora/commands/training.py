"""The common part of `pretrain` and `finetune`: complete the settings, train in a run folder, test, save and report."""

import shlex
import signal
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from functools import partial
from math import ceil
from typing import Any

from minilora.commands.common import print_result
from minilora.commands.dry_run import dry_run
from minilora.data.batches import MixedBatches
from minilora.data.chat import LEAST_CHOICE, response_of
from minilora.data.jargon import load_quiz
from minilora.data.tokenizer import Tokenizer
from minilora.errors import MiniloraError, NotLearned, Stopped, escape, plural, print_notes
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

TRAINED_ANSWERS = 20  # number of trained rows whose free answers are compared with those of --test
LONGEST = 64  # tokens; free answers that are longer are not compared


def has_validation(data: Text | Chats) -> bool:
    """Return False if the data has too few rows for a validation part, so that evaluations use the test part."""
    return not isinstance(data, Chats) or data.chooses


def check_folder(arguments: Namespace) -> None:
    """Join the other ranks, and check that the run folder is free before anything slow happens."""
    this_world()
    if launch.rank() == 0 and not arguments.dry_run:
        RunFolder(arguments.out, arguments.resume, arguments.overwrite).check()


def train_settings(arguments: Namespace) -> dict:
    """Return the flags that are fields of TrainConfig; None for a flag that was not typed and has no default."""
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
    """Train the model in the run folder and save the result. settings: what to record in run.json.

    method: how the model was adapted, for the estimate of memory. Raises NotLearned, after everything is saved, if no
    evaluation beat the start.
    """
    world, batch_size, seq_len = this_world(), arguments.batch_size, arguments.seq_len
    searches = arguments.lr == "auto" and not arguments.before.get("lr")
    if (arguments.patience or searches) and not has_validation(data):  # the test part must not choose
        parts = [data.train] if arguments.test else [data.train, data.test]
        rows = sum(num_examples(part, seq_len) for part in parts)
        raise MiniloraError(
            f"{'--patience' if arguments.patience else '--lr auto'} needs {LEAST_CHOICE} validation rows, more than a "
            f"tenth of the {rows:,} rows of --data gives: add a file as --validation"
        )
    model.gradient_checkpointing_enable(arguments.checkpointing)
    batches: Any = training_batches(data.train, batch_size, seq_len, arguments.seed)
    check_length(model, data, seq_len)
    step = Step(-(-batch_size // launch.ranks()), longest(data, seq_len))
    memory = check_fits(model.config, method, step, options=options, checkpointing=arguments.checkpointing)
    if arguments.lr == "auto" and not arguments.dry_run:
        best_lr = arguments.before.get("lr") or searched_lr(arguments, model, data, config, world)
        config = replace(config, peak_lr=float(best_lr))
    # A resumed run evaluates on as many examples as before, so that its evaluations can be compared.
    examples = arguments.before.get("eval_examples") or defaults.eval_examples(config, batch_size)
    settings |= {name: getattr(arguments, name) for name in ("data", "batch_size", "seq_len", "checkpointing")}
    settings |= {name: getattr(config, name) for name in train_settings(arguments)}
    settings |= {"lr": settings.pop("peak_lr"), "eval_examples": examples}
    if not has_validation(data):
        settings["evaluated_on"] = "test"
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
    check = partial(check_own, model)
    folder = RunFolder(arguments.out, arguments.resume, arguments.overwrite, settings, data.sha256, check)
    with world.shared_cores(), folder if world.rank == 0 else nullcontext() as run, _resumable(arguments):
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
                training = training_record(data, settings, facts)
                saved = save_adapter(model, tokenizer, run.path / "adapter", training)
            else:
                saved = save_model(model, tokenizer, run.path / "model")
            run.finish(facts)
        world.broadcast(None)  # wait until rank 0 has saved
    print_notes(getattr(run, "notes", []) + history.notes)
    print_result(arguments, facts | {"saved": str(saved)}, "\n".join([*lines, f"saved {saved}"]))
    if not history.learned:
        raise NotLearned(
            f"no evaluation beat the start ({history.evaluations[0]['value']:.3f} {data.unit}, "
            f"{history.evaluations[-1]['value']:.3f} at the end), so {saved} is no better than the model that training "
            f"began with; try a smaller --lr than {config.peak_lr:g}"
        )


@contextmanager
def _resumable(arguments: Namespace) -> Iterator[None]:
    """Add to the message of an interruption within the block how the run continues, if it does not say so yet."""
    try:
        yield
    except (KeyboardInterrupt, Stopped) as error:
        message = str(error) or "interrupted"
        if "--resume" in message:
            raise
        command = f"minilora {arguments.command} --resume --out {escape(shlex.quote(arguments.out), 400)}"
        signum = getattr(error, "signum", signal.SIGINT)
        raise Stopped(signum, f"{message}; {command} continues the run") from None


def searched_lr(arguments: Namespace, model: Any, data: Text | Chats, config: TrainConfig, world: World) -> float:
    """Search for the best learning rate, and print each trial."""
    show = (lambda line: None) if arguments.json else print
    show(f"--lr auto: trying each rate for {search_config(config).steps} steps")

    def show_trial(rate: float, loss: float | None) -> None:
        show(f"  {rate:<8g} {'diverged' if loss is None else f'validation {loss:.3f} {data.unit}'}")

    sizes = {"batch_size": arguments.batch_size, "seq_len": arguments.seq_len}
    with world.shared_cores():
        return find_lr(model, data, config, show_trial, world=world, **sizes)


def plan(arguments: Namespace, data: Text | Chats, config: TrainConfig, examples: int) -> str:
    """Describe the training that is about to start, in two or three lines."""
    seq_len, rows = arguments.seq_len, config.accumulate * arguments.batch_size
    validation = sample(data.validation, examples, seq_len)
    part, keeps = "validation sequences", ""
    if not has_validation(data):
        part, trained = ("sequences of --test", "all of --data") if arguments.test else ("test sequences", "all others")
        keeps = (
            f"\n(too few rows for validation: {trained} train{'s' * bool(arguments.test)}, and the last step is kept)"
        )
    elif not defaults.chooses(data, validation):
        keeps = "\n(too few to choose the best step, so the last step is kept)"
    epochs = config.steps * rows * (1 - (arguments.replay or 0)) / num_examples(data.train, seq_len)
    digits = ",.0f" if epochs >= 10 else ".2g"
    return (
        f"{plural(config.steps, 'step')} of {plural(rows, 'sequence')} of up to {seq_len:,} tokens "
        f"({epochs:{digits}} epochs), learning rate {config.peak_lr:g}\n"
        f"evaluation every {plural(config.eval_every, 'step')} on "
        f"{share_of(validation, data.validation, seq_len)} {part}{keeps}"
    )


def measure(
    arguments: Namespace, model: Any, tokenizer: Tokenizer, data: Text | Chats, tested: Any, quiz_size: int, bar: str
) -> dict:
    """Measure the model on the test part, which the ranks share, and on the quiz, which only rank 0 answers."""
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
    """Report the run's result, as facts and as lines. before, after: `measure` of the base and of the kept weights."""
    facts: dict = {"validation": history.best, "best_step": history.best_step, "learned": history.learned} | after
    facts |= {"test_examples": num_examples(tested, arguments.seq_len), "seconds": history.seconds}
    facts |= {f"{name}_before": value for name, value in before.items() if name != "quiz"}
    if quiz := facts.pop("quiz", None):
        facts |= forgetting.quiz_facts(before["quiz"], quiz)
    summary = f"validation {history.best:.3f} {data.unit} at step {history.best_step}, test {after['test']:.3f}"
    if not has_validation(data):
        summary = f"after {history.best_step} steps, test {after['test']:.3f} {data.unit}"
    lines = [
        f"{summary} on {share_of(tested, data.test, arguments.seq_len)} sequences; {history.seconds:.0f} s",
        *forgetting.learned_and_forgot(facts, data.unit),
    ]
    if facts.get("quiz_p", 1.0) < 0.05 and facts["quiz_lost"] > facts["quiz_gained"] and not arguments.replay:
        lines.append("(this may not matter for your task; training with --replay 0.1 forgets less)")
    if isinstance(data, Chats) and arguments.test is not None:
        lines += beside_trained(model, data, tested, facts)
    trains, total = count_parameters(model)
    return facts | {"trainable": trains, "parameters": total}, lines


def beside_trained(model: Any, data: Chats, tested: Any, facts: dict) -> list[str]:
    """Measure how often the model is right on trained rows and on --test, if answers are labels or short enough.

    Adds the shares to `facts`, and returns a line that compares them, or no line.
    """
    assert data.tokenizer is not None  # `read_data` sets it
    labels, words = data.labels if data.has_labels else None, []
    count = TRAINED_ANSWERS if labels is None else len(tested.rows)
    parts = {"trained": data.train.sample(count).conversations, "test": tested.sample(count).conversations}
    longest = max(len(data.tokenizer.encode(response_of(row))) for part in parts.values() for row in part)
    if labels is None and longest > LONGEST:
        return []
    for name, part in parts.items():
        try:
            score = measure_task(model, data.tokenizer, part, labels=labels, max_new_tokens=longest + 1)
        except MiniloraError as error:  # not worth losing the trained model for
            print_notes([f"answers to trained rows and to --test were not compared: {error}"])
            return []
        right = (score.exact, score.exact_interval) if labels is None else (score.accuracy, score.accuracy_interval)
        facts[f"{name}_right"] = right[0]
        words.append(f"{share_with_interval(*right)} of {score.count}")
    sampled = "a sample of the trained rows" if len(parts["trained"]) < len(data.train.rows) else "trained rows"
    return [f"right answers: {sampled} {words[0]}, --test {words[1]}"]


def share_of(measured: Any, stream: Any, seq_len: int) -> str:
    """Format how many sequences of a part are measured: "12 of 23", or "all 23"."""
    count, total = num_examples(measured, seq_len), num_examples(stream, seq_len)
    return f"all {total:,}" if count == total > 1 else f"{count:,} of {total:,}"
