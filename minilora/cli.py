"""The command line: one function a command, each with its flags in `_parser`.

Exit codes: 0 done; 1 `check` found an exercise failed or not started; 2 bad input (one line on standard error); 130
after Ctrl-C and 143 after SIGTERM, with the checkpoint saved. Heavy imports happen inside the commands, so that
`--help` is quick.
"""

import argparse
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from minilora import __version__
from minilora.commands import models as models_command
from minilora.commands import plan as plan_command
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import show_path
from minilora.train import launch


class _Parser(argparse.ArgumentParser):
    """argparse that reports an error in one line, as everything else does."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def format_help(self) -> str:
        if callable(self.epilog):  # made when it is asked for, because it needs imports
            self.epilog = self.epilog()
        return super().format_help()

    def error(self, message: str):
        raise MiniloraError(f"{escape(message, 200)} (see {self.prog} --help)")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    with launch.only_rank_zero_prints():
        code, message, seen_by_all = _run(argv)
    if message:
        launch.report_fatal(" ".join(message.split()), seen_by_all)
    return code


def _run(argv: list[str] | None) -> tuple[int, str, bool]:
    """Exit code, last word, and whether every rank has the same."""
    try:
        arguments = _parser().parse_args(argv)
        launch.check(arguments.command)
        return arguments.run(arguments) or 0, "", True
    except MiniloraError as error:
        return 2, str(error), isinstance(error, launch.SeenByAll)
    except KeyboardInterrupt:
        return 130, "interrupted", False
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0, "", True
    except OSError as error:
        return 2, f"{error.strerror or error}" + (f": {show_path(error.filename)}" if error.filename else ""), False
    except MemoryError:
        return 2, "out of memory; try a smaller --batch-size, --seq-len or model", False
    except Exception as error:
        from minilora.train.loop import Stopped

        if not isinstance(error, Stopped):
            raise
        return 128 + error.signum, f"{error}; go on with --resume", True


def _parser() -> _Parser:
    parser = _Parser(
        prog="minilora",
        description="Transfer learning built from arrays up: pretrain a language model, adapt it, measure it.",
        epilog="example: minilora demo --quick",
    )
    parser.add_argument("--version", action="version", version=f"minilora {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    demo = _command(
        commands,
        "demo",
        _demo,
        "pretrain a base, adapt it every way, show tables and pictures",
        "minilora demo --quick --out runs/demo",
    )
    demo.add_argument("--out", default="runs/demo", help="folder of the report (default: %(default)s)")
    demo.add_argument("--quick", action="store_true", help="a smaller model and fewer steps: a minute")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument(
        "--with",
        dest="own",
        metavar="FILE",
        help="your own LoRA (lesson 08), attention (04) or NF4 (11), .py or .ipynb, in place of the library's; it runs "
        "as your own code, without the limits of check",
    )
    demo.add_argument(
        "--model", help="teach a pretrained chat model a company's jargon instead: smollm2, a .gguf file …"
    )
    demo.add_argument("--jsonl", metavar="FILE", help="with --model: your own questions with answers, see finetune")
    demo.add_argument("--text", metavar="FILE", help="with --model: your own text")
    _add_json(demo)

    pretrain = _command(
        commands,
        "pretrain",
        _pretrain,
        "train a language model from nothing",
        "minilora pretrain --data python-docs --out runs/base --steps 500",
    )
    pretrain.add_argument("--data", required=True, help=DATA_HELP)
    pretrain.add_argument("--vocab-size", type=int, default=2048)
    pretrain.add_argument("--hidden-size", type=int, default=192)
    pretrain.add_argument("--intermediate-size", type=int, default=512)
    pretrain.add_argument("--num-layers", type=int, default=4)
    pretrain.add_argument("--num-heads", type=int, default=6)
    pretrain.add_argument("--num-kv-heads", type=int, default=3)
    _add_training(pretrain, steps=500, lr=3e-3, batch_size=16, seq_len=128)

    finetune = _command(
        commands,
        "finetune",
        _finetune,
        "adapt a model to a text, or to conversations",
        "minilora finetune --model base --data numpy-docs --method lora --out runs/numpy",
    )
    _add_model(finetune, adapter=False)
    finetune.add_argument("--data", required=True, help=f"{DATA_HELP}; {CHAT_HELP}")
    finetune.add_argument(
        "--pack", action="store_true", help="conversations end to end in each sequence, in place of one and padding"
    )
    finetune.add_argument("--method", default="lora", help="see below (default: %(default)s)")
    finetune.add_argument("--rank", type=int, help="of LoRA's updates (default: 8)")
    finetune.add_argument("--alpha", type=float, help="LoRA's scale is alpha / rank (default: twice the rank)")
    finetune.add_argument("--dropout", type=float, help="on LoRA's branch (default: 0)")
    finetune.add_argument(
        "--targets", help="modules that LoRA adapts, with commas: q_proj,v_proj (default: all-linear)"
    )
    finetune.add_argument("--virtual-tokens", type=int, help="of a prefix or a prompt (default: 10)")
    finetune.add_argument("--bottleneck-size", type=int, help="width of an adapter (default: 64)")
    finetune.add_argument("--placement", help="of adapters: pfeiffer, houlsby or parallel (default: pfeiffer)")
    finetune.add_argument("--quant-type", help="of qlora's base: nf4, fp4 or int4 (default: nf4)")
    finetune.add_argument("--blocksize", type=int, help="weights that share a scale in qlora's base (default: 64)")
    finetune.add_argument(
        "--double-quantization", action="store_true", default=None, help="quantize qlora's scales, too"
    )
    _add_training(finetune, steps=200, lr=None, batch_size=8, seq_len=128)
    example = finetune.epilog
    finetune.epilog = lambda: f"methods:\n{_method_list()}\n\n{example}"

    evaluate = _command(
        commands,
        "evaluate",
        _evaluate,
        "measure a model on a text, in bits a character",
        "minilora evaluate --model base --adapter runs/numpy --data numpy-docs",
    )
    _add_model(evaluate)
    evaluate.add_argument("--data", required=True, help=f"{DATA_HELP}; {CHAT_HELP}")
    evaluate.add_argument(
        "--split",
        default="test",
        choices=("train", "validation", "test"),
        help="which documents of the text (default: %(default)s)",
    )
    evaluate.add_argument("--seq-len", type=int, default=128)
    evaluate.add_argument("--batch-size", type=int, default=16)
    _add_json(evaluate)

    generate = _command(
        commands,
        "generate",
        _generate,
        "continue a prompt",
        'minilora generate --model base --prompt "Return the" --max-new-tokens 40',
    )
    _add_model(generate)
    generate.add_argument("--prompt", required=True, help="text to continue; - reads standard input")
    generate.add_argument(
        "--chat", action="store_true", help="put the prompt as a question to a chat model and print its answer"
    )
    generate.add_argument("--system", metavar="TEXT", help="the system message of --chat (default: the model's own)")
    generate.add_argument("--max-new-tokens", type=int, default=60)
    generate.add_argument("--temperature", type=float, default=0.8, help="0 is greedy (default: %(default)s)")
    generate.add_argument("--top-k", type=int)
    generate.add_argument("--top-p", type=float)
    generate.add_argument("--seed", type=int, default=0)
    _add_json(generate)

    merge = _command(
        commands,
        "merge",
        _merge,
        "add an adapter's update into the weights of its base",
        "minilora merge --model base --adapter runs/numpy --out runs/numpy-merged\n"
        "         minilora merge --model smollm2 --adapter runs/x --out merged.gguf",
    )
    _add_model(merge)
    merge.add_argument(
        "--out",
        required=True,
        help="folder of the merged model, or a .gguf file for llama.cpp, in F16 (then --adapter may be left out)",
    )

    compare = _command(
        commands,
        "compare",
        _compare,
        "measure every method on one base, one domain and one task",
        "minilora compare --quick --methods lora,full",
    )
    compare.add_argument("--out", default="runs/compare", help="folder of the results (default: %(default)s)")
    compare.add_argument("--quick", action="store_true", help="a smaller model and fewer steps: three minutes")
    compare.add_argument("--methods", help="only these, with commas: lora,full,few-shot")
    compare.add_argument("--seeds", type=int, help="how many (default: 3)")
    compare.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="processes side by side, for the same results (default: %(default)s); each has a thread for every core, "
        "and takes about 160 MB",
    )
    compare.add_argument("--resume", action="store_true", help="go on with the comparison in --out")
    compare.add_argument("--overwrite", action="store_true", help="replace the comparison in --out")
    _add_json(compare)

    plan = _command(
        commands,
        "plan",
        _plan,
        "how much memory and time an adaptation would take",
        "minilora plan llama-65b --method qlora --rank 64 --double-quantization",
    )
    plan_command.add_arguments(plan)
    example_of_plan = plan.epilog
    plan.epilog = lambda: f"models:\n{plan_command.preset_list()}\n\nmethods:\n{_method_list()}\n\n{example_of_plan}"

    advise = _command(
        commands,
        "advise",
        _advise,
        "fine-tune or prompt? Six questions, answered from what was measured",
        "minilora advise --examples 200 --queries 5000 --jargon yes \\\n"
        "             --strict-format no --changes no --prototype no",
    )
    for name, question in ADVICE_QUESTIONS.items():
        kind = {"type": int, "metavar": "N"} if name in ("examples", "queries") else {"choices": ("yes", "no")}
        advise.add_argument(f"--{name.replace('_', '-')}", help=question, **kind)
    _add_json(advise)

    study = _command(
        commands,
        "study",
        _study,
        "reproduce the shape of a published figure in small, or list what there is",
        "minilora study rank --quick",
    )
    study.add_argument("name", nargs="?", help="of the study; without one, they are listed")
    study.add_argument("--list", action="store_true", help="list the studies with their questions")
    study.add_argument("--out", help="folder of the results (default: runs/study-NAME)")
    study.add_argument("--quick", action="store_true", help="a smaller model, fewer seeds: about a minute")
    study.add_argument("--resume", action="store_true", help="go on with the study in --out")
    study.add_argument("--overwrite", action="store_true", help="replace the study in --out")
    _add_json(study)

    models = _command(
        commands,
        "models",
        _models,
        "pretrained models: which there are, get one, look into one",
        "minilora models list",
    )
    models_command.add_arguments(models)

    doctor = _command(
        commands, "doctor", _doctor, "what this machine offers, and whether minilora works on it", "minilora doctor"
    )
    _add_json(doctor)

    check = _command(
        commands,
        "check",
        _check,
        "check a lesson's exercise, or show the progress",
        "minilora check 08 --hint",
    )
    check.add_argument("lesson", nargs="?", help="number or name of a lesson (default: all)")
    check.add_argument("--file", help="a .py file or a notebook (default: the lesson's exercise.py)")
    check.add_argument(
        "--hint", nargs="?", type=int, const=1, metavar="N", help="show the first N of three hints (default: 1)"
    )
    check.add_argument("--watch", action="store_true", help="check again whenever the file changes")
    _add_json(check)

    course = _command(
        commands,
        "course",
        _course,
        "write the lessons as an nbgrader course, for teachers",
        "minilora course mycourse --lessons 02,08",
    )
    course.add_argument("folder", help="where to; a new or an empty folder")
    course.add_argument("--lessons", help="numbers or names, with commas: 02,08 (default: all)")
    course.add_argument("--hidden", metavar="FOLDER", help="your private checks, one file a lesson: 08_lora.py")
    return parser


ADVICE_QUESTIONS = {
    "examples": "how many examples of what you want have you got?",
    "queries": "how many queries a day will it answer?",
    "jargon": "is the language or the knowledge special to your field?",
    "strict_format": "must each answer have one exact format?",
    "changes": "does what you want change from week to week?",
    "prototype": "are you still finding out what you want?",
}
DATA_HELP = "python-docs, numpy-docs, matplotlib-docs, a text file, a folder, or - for standard input"

CHAT_HELP = "or a .jsonl file of conversations, of which the responses are learned"


def _command(commands, name: str, run, description: str, example: str) -> _Parser:
    parser = commands.add_parser(
        name, help=description, description=description[0].upper() + description[1:] + ".", epilog=f"example: {example}"
    )
    parser.set_defaults(run=run)
    return parser


def _add_json(parser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_model(parser, adapter: bool = True) -> None:
    parser.add_argument(
        "--model", default="base", help="base (comes with the package), a folder or a .gguf file (default: %(default)s)"
    )
    if adapter:
        parser.add_argument("--adapter", help="folder of an adapter to put on the model")


def _add_training(parser, steps: int, lr: float | None, batch_size: int, seq_len: int) -> None:
    parser.add_argument("--out", required=True, help="run folder: metrics, checkpoints and the result")
    parser.add_argument("--steps", type=int, default=steps, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=batch_size, help="sequences a step (default: %(default)s)")
    parser.add_argument("--seq-len", type=int, default=seq_len, help="tokens a sequence (default: %(default)s)")
    parser.add_argument(
        "--lr",
        type=float,
        default=lr,
        help="learning rate (default: %(default)s)" if lr else "learning rate (default: by method)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints (default: %(default)s)")
    parser.add_argument(
        "--checkpointing", action="store_true", help="compute blocks again in backward: less memory, a third more time"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    _add_json(parser)


# Commands


def _say(text: str = "") -> None:
    print(text, flush=True)


def _say_notes(model) -> None:
    """What an adapted model has to say of itself."""
    for note in getattr(model, "notes", []):
        print(f"minilora: note: {note}", file=sys.stderr)


def _result(arguments, facts: dict, text: str) -> None:
    _say(json.dumps(facts) if arguments.json else text)


def _demo(arguments) -> None:
    if arguments.model is not None:
        _jargon_demo(arguments)
        return
    if arguments.jsonl is not None or arguments.text is not None:
        raise MiniloraError("--jsonl and --text go with --model: they are what a pretrained model is taught")
    from minilora.demo.story import run_demo

    run = {"quick": arguments.quick, "seed": arguments.seed, "as_json": arguments.json}
    if arguments.own is None:
        run_demo(Path(arguments.out), **run)
        return
    from minilora.classroom.grading.own import errors_named, load_student_code

    own = load_student_code(arguments.own)
    with errors_named(own):
        run_demo(Path(arguments.out), **run, own=own)


def _jargon_demo(arguments) -> None:
    if arguments.own is not None or None not in (arguments.jsonl, arguments.text):
        raise MiniloraError("with --model give at most one of --jsonl and --text, and no --with")
    from minilora.demo import teach

    run = {"quick": arguments.quick, "seed": arguments.seed, "as_json": arguments.json}
    teach.run(Path(arguments.out), arguments.model, **run, jsonl=arguments.jsonl, text=arguments.text)


def _train(arguments, model, text, settings: dict, config, save) -> None:
    """Train `model` on `text` in the run folder, save the best of it with `save(folder)`, and report."""
    from minilora.train import recipes
    from minilora.train.loop import check_own_checkpoint, train, trainable
    from minilora.train.parallel import Workers
    from minilora.train.run import RunFolder
    from minilora.train.world import this_world

    world = this_world()
    world.check_enough_rows(arguments.batch_size)
    model.gradient_checkpointing_enable(arguments.checkpointing)
    pack = {"pack": True} if getattr(arguments, "pack", False) else {}
    batches = recipes.training_batches(text.train, arguments.batch_size, arguments.seq_len, arguments.seed, **pack)
    recipes.check_length(model, text, arguments.seq_len, **pack)
    settings = (
        settings
        | pack
        | {name: getattr(arguments, name) for name in ("data", "steps", "batch_size", "seq_len", "seed")}
    )
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
        _say(f"{text.name}: {len(text.train.ids):,} tokens; {trains:,} of {total:,} parameters train")
    with Workers(world=world) as workers, run_folder if world.is_first else nullcontext() as run:
        evaluate = recipes.evaluator(model, text.validation, arguments.seq_len, arguments.batch_size, workers)
        history = train(
            model, batches, config, evaluate=evaluate, run=run, workers=workers, description=arguments.command
        )
        test = recipes.evaluator(model, text.test, arguments.seq_len, arguments.batch_size, workers)()
        saved = save(run.path) if world.is_first else None
    for note in getattr(run, "notes", []) + history.notes + getattr(batches, "notes", []):
        print(f"minilora: note: {note}", file=sys.stderr)
    facts = {
        "validation": history.best,
        "best_step": history.best_step,
        "test": test,
        "seconds": history.seconds,
        "trainable": trains,
        "parameters": total,
        "saved": str(saved),
    }
    _result(
        arguments,
        facts,
        f"validation {history.best:.3f} {text.unit} at step {history.best_step}, test {test:.3f}; "
        f"{history.seconds:.0f} s\nsaved {saved}",
    )


def _train_config(arguments, lr: float, **settings):
    from minilora.train.loop import TrainConfig

    return TrainConfig(
        steps=arguments.steps,
        lr=lr,
        warmup=arguments.steps // 20,
        seed=arguments.seed,
        eval_every=max(1, arguments.steps // 10),
        save_every=arguments.save_every,
        **settings,
    )


def _start(arguments) -> None:
    """Before anything slow: join the other ranks, and see whether the run folder is free."""
    from minilora.train.run import RunFolder
    from minilora.train.world import this_world

    this_world()
    if launch.rank() == 0:
        RunFolder(arguments.out, arguments.resume, arguments.overwrite).check()


def _pretrain(arguments) -> None:
    from minilora.data import corpora
    from minilora.train import recipes

    _start(arguments)
    config = _train_config(arguments, arguments.lr, weight_decay=0.1, betas=(0.9, 0.95))
    corpus = corpora.load(arguments.data)
    tokenizer = recipes.tokenizer_for(corpus, arguments.vocab_size)
    text = recipes.read_text(corpus, tokenizer)
    sizes = {
        "hidden_size": arguments.hidden_size,
        "intermediate_size": arguments.intermediate_size,
        "num_hidden_layers": arguments.num_layers,
        "num_attention_heads": arguments.num_heads,
        "num_key_value_heads": arguments.num_kv_heads,
        "max_position_embeddings": max(512, 2 * arguments.seq_len),
        "tie_word_embeddings": True,
    }
    model = recipes.new_model(tokenizer, arguments.seed, **sizes)

    def save(folder: Path) -> Path:
        return recipes.save_model(model, tokenizer, folder / "model")

    _train(arguments, model, text, sizes | {"vocab_size": tokenizer.vocab_size, "lr": arguments.lr}, config, save)


def _finetune(arguments) -> None:
    from minilora.train import methods, recipes

    _start(arguments)
    name = methods.find(arguments.method)
    method, options = methods.METHODS[name], _method_options(arguments, name)
    lr = method.lr if arguments.lr is None else arguments.lr
    config = _train_config(arguments, lr, lora_plus=method.lora_plus)
    quantization = options.quantization if "quant_type" in method.options else None  # never all of it in float
    model, tokenizer = recipes.load_model(arguments.model, quantization=quantization)
    text = recipes.read_data(arguments.data, tokenizer)
    model = methods.adapt(model, name, options, text.train.ids, arguments.seed)
    settings = {"model": arguments.model, "method": name, "lr": lr}
    settings |= {option: getattr(options, option) for option in method.options}

    def save(folder: Path) -> Path:
        if method.config is not None:
            model.save_pretrained(folder / "adapter")
            return folder / "adapter"
        return recipes.save_model(model, tokenizer, folder / "model")

    _train(arguments, model, text, settings, config, save)


def _method_list() -> str:
    from minilora.train.methods import METHODS

    return "\n".join(f"  {name:<20} {method.words}" for name, method in METHODS.items())


def _method_options(arguments, name: str):
    """The flags that were given, as options of the method. Raises MiniloraError for one that it does not read."""
    from dataclasses import fields

    from minilora.train.methods import METHODS, Options

    given = {field.name: getattr(arguments, field.name) for field in fields(Options)}
    given = {option: value for option, value in given.items() if value is not None}
    if idle := [f"--{option.replace('_', '-')}" for option in given if option not in METHODS[name].options]:
        raise MiniloraError(f"method {name} does not use {', '.join(idle)}; leave it out or choose another --method")
    if "targets" in given and given["targets"] != "all-linear":
        given["targets"] = given["targets"].split(",")
    return Options(**given)


def _evaluate(arguments) -> None:
    from minilora.train import recipes
    from minilora.train.parallel import Workers

    model, tokenizer = recipes.load_model(arguments.model, arguments.adapter)
    _say_notes(model)
    text = recipes.read_data(arguments.data, tokenizer)
    stream = getattr(text, arguments.split)
    with Workers() as workers:
        bits = recipes.evaluator(model, stream, arguments.seq_len, arguments.batch_size, workers)()
    facts = {
        "data": text.name,
        "split": arguments.split,
        "bits_per_character": bits,
        "characters": stream.characters,
        "tokens": len(stream.ids),
        "text_sha256": text.sha256,
    }
    _result(
        arguments,
        facts,
        f"{bits:.4f} {text.unit} on the {arguments.split} part of {text.name} "
        f"({stream.characters:,} characters, {len(stream.ids):,} tokens)",
    )


def _generate(arguments) -> None:
    from minilora.train import answers, recipes

    if arguments.system is not None and not arguments.chat:
        raise MiniloraError("--system goes with --chat: only a chat model has a system message")
    model, tokenizer = recipes.load_model(arguments.model, arguments.adapter)
    _say_notes(model)
    prompt = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    if not prompt:
        raise MiniloraError("the prompt is empty; give at least one character")
    ends = None
    if arguments.chat:
        ids = answers.question_ids(tokenizer, prompt, arguments.system)
        ends = answers.end_token_ids(tokenizer, model.config)
    else:
        ids = tokenizer.encode_prompt(prompt)
    out = model.generate(
        ids[None],
        arguments.max_new_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        eos_token_id=ends,
        seed=arguments.seed,
    )
    continuation = tokenizer.decode(out[0, len(ids) :])
    if arguments.chat:
        continuation = continuation.strip()
    _result(
        arguments,
        {"prompt": prompt, "continuation": continuation},
        continuation if arguments.chat else prompt + continuation,
    )


def _merge(arguments) -> None:
    from minilora.train import recipes

    out = Path(arguments.out)
    if out.suffix == ".gguf":
        _merge_to_gguf(arguments, out)
        return
    if arguments.adapter is None:
        raise MiniloraError("merge needs --adapter, the folder of the adapter to merge")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MiniloraError(f"{show_path(out)} exists and is not an empty folder; choose another --out")
    model, tokenizer = recipes.load_model(arguments.model, arguments.adapter)
    recipes.save_model(model.merge_and_unload(), tokenizer, out)
    _say_notes(model)
    _say(f"saved {out}")


def _merge_to_gguf(arguments, out: Path) -> None:
    from minilora.train import recipes

    if os.path.lexists(out):
        raise MiniloraError(f"{show_path(out)} exists; choose another --out")
    if not out.parent.is_dir():
        raise MiniloraError(f"there is no folder {show_path(out.parent)} to write {escape(out.name)} into")
    model, tokenizer = recipes.load_model(arguments.model, arguments.adapter)
    merged = model if arguments.adapter is None else model.merge_and_unload()
    recipes.save_gguf(merged, tokenizer, out, arguments.model)
    _say_notes(model)
    _say(f"saved {out}")


def _study(arguments) -> None:
    from minilora.commands.study import command

    command(arguments)


def _compare(arguments) -> None:
    from minilora.measure import compare

    compare.command(arguments)


def _advise(arguments) -> None:
    from minilora.results import advise

    answers = {name: getattr(arguments, name) for name in ADVICE_QUESTIONS}
    answers = {name: {"yes": True, "no": False}.get(value, value) for name, value in answers.items()}
    advise.command(answers, ADVICE_QUESTIONS, arguments.json)


def _plan(arguments) -> None:
    from minilora.commands.plan import run

    run(arguments, _method_options)


def _models(arguments) -> None:
    from minilora.commands.models import run

    run(arguments)


def _doctor(arguments) -> None:
    from minilora.commands.doctor import examine

    findings = examine()
    if arguments.json:
        _say(json.dumps(findings))
        return
    for name, value in findings.items():
        _say(f"{name:<14} {value}")


def _check(arguments) -> int:
    from minilora.commands.check import check

    return check(arguments.lesson, arguments.file, arguments.hint, arguments.watch, arguments.json)


def _course(arguments) -> None:
    from minilora.classroom.publish.course import command

    command(arguments.folder, arguments.lessons, arguments.hidden)


if __name__ == "__main__":
    sys.exit(main())
