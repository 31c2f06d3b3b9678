"""`minilora evaluate`: measure a model's bits per character on a text, and on examples also its right answers."""

from __future__ import annotations

from argparse import Namespace
from math import isfinite
from typing import Any

from minilora.commands import common
from minilora.commands.common import add_flag, load_model, print_result, whole
from minilora.errors import MiniloraError, flag_of, print_notes

SHORTEST, LONGEST = 16, 512  # a free answer may have as many tokens as the longest expected one, within these limits


def add(parser: common.Parser) -> None:
    parser.epilog = (
        "Answers that are labels (at most 20 different ones, 3 times each on average) are scored by accuracy: the "
        "model picks the most likely label. Other answers are generated greedily and scored by exact match and word "
        "F1; JSON objects also by field.\n\n"
        "examples:\n"
        "  minilora evaluate --adapter runs/numpy --data numpy-docs\n"
        "  minilora evaluate --model smollm2 --data r8 --shots 4 --shots-from r8"
    )
    add_flag(parser, "--data", f"{common.DATA}; {common.CHATS}", required=True)
    common.add_model(parser)
    words = "train, validation, test or all (default: test; all of the examples if the model was not trained on them)"
    add_flag(parser, "--split", words, common.choice(("train", "validation", "test", "all")))
    add_flag(parser, "--examples", "measure at most N examples (default: all)", whole(1))
    add_flag(parser, "--shots", f"put N solved examples before each question {common.DEFAULT}", whole(0), 0)
    add_flag(parser, "--shots-from", "file of examples to draw --shots from", metavar="FILE")
    add_flag(parser, "--show-errors", f"print up to N wrong answers {common.DEFAULT}", whole(0), 0)
    add_flag(parser, "--batch-size", f"sequences at a time {common.DEFAULT}", default=16)
    add_flag(parser, "--seq-len", "tokens per sequence (default: 128; examples: up to 512)")
    common.add_columns(parser)
    common.add_flags(parser, "--seed", "--json")


def run(arguments: Namespace) -> None:
    from minilora.data.rows import is_rows
    from minilora.train import catalog

    if bool(arguments.shots) != (arguments.shots_from is not None):
        raise MiniloraError("give --shots N and --shots-from FILE together: how many examples, and from which file")
    arguments.data = catalog.resolve(arguments.data, "test")
    (_conversations if is_rows(arguments.data) else _text)(arguments, *common.read_trainings(arguments))


def _text(arguments: Namespace, trainings: list[dict], columns: Any) -> None:
    from minilora.data import corpora
    from minilora.data.examples import SETTINGS
    from minilora.data.tokenizer import encode_documents
    from minilora.train.text import Text

    if typed := [flag_of(name) for name in ("shots", "examples", "show_errors", *SETTINGS) if getattr(arguments, name)]:
        raise MiniloraError(f"{typed[0]} is only for a file of examples, and --data is a text")
    corpus, split = corpora.load(arguments.data), arguments.split or "test"
    print_notes(corpus.notes)
    model, tokenizer = load_model(arguments)
    documents = corpus.documents if split == "all" else getattr(corpora.split(corpus), split)
    none, stream = encode_documents(tokenizer, []), encode_documents(tokenizer, documents)
    facts, line = _bits(arguments, model, Text(corpus.name, corpus.sha256, none, none, stream), trainings, split)
    print_result(arguments, facts, line)


def _conversations(arguments: Namespace, trainings: list[dict], columns: Any) -> None:
    from minilora.data import chat
    from minilora.data.examples import read_examples
    from minilora.measure.held_out import draw_shots, select
    from minilora.measure.task_report import confusion_grid, error_lines, score_lines, wrong_answers
    from minilora.show.grids import drawn, render
    from minilora.train import catalog
    from minilora.train.metrics import measure_task
    from minilora.train.progress import progress_bar
    from minilora.train.text import Chats

    pool = read_examples(catalog.resolve(arguments.shots_from), columns).conversations if arguments.shots else []
    selection = select(arguments.data, arguments.split, trainings, arguments.examples, arguments.seed, pool, columns)
    measured = selection.conversations
    shots = draw_shots(pool, arguments.shots, arguments.seed, measured)
    model, tokenizer = load_model(arguments)
    print_notes(selection.notes)
    tokens, none = chat.encode_conversations(tokenizer, chat.find_format(tokenizer), measured), chat.ChatTokens([], [])
    of = f" of {selection.of:,}" if len(measured) < selection.of else ""
    data = Chats(arguments.data, selection.sha256, none, none, tokens)
    count = f"{len(measured):,}{of} conversation{'s' * (len(measured) > 1)}, "
    facts, line = _bits(arguments, model, data, trainings, selection.split, count)
    line = f"{selection.summary[0]}\n{line}"
    facts |= {"conversations": len(measured), "of": selection.of}
    facts |= {"trained_on": selection.trained_on, "shots": len(shots)}
    labels = selection.labels if len(selection.labels or ()) > 1 else None  # one label leaves nothing to choose
    longest = max(len(tokenizer.encode(messages[-1]["content"])) for messages in measured)
    how: dict[str, Any] = {"max_new_tokens": min(max(SHORTEST, longest + 1), LONGEST), "labels": labels}
    try:
        with progress_bar("answers", len(measured)) as advance:
            how |= {"shots": shots, "batch_size": arguments.batch_size, "advance": advance}
            score = measure_task(model, tokenizer, measured, **how)
    except MiniloraError as error:
        if shots:
            raise
        print_result(arguments, facts, line)
        print_notes([f"answers were not measured: {error}"])
        return
    lines, errors = [line, *score_lines(score)], wrong_answers(score, measured, columns.instruction)
    if score.confusion:
        lines += ["", render(drawn(confusion_grid(score))).rstrip()]
    if arguments.show_errors:
        facts |= {"errors": errors[: arguments.show_errors]}
        lines += ["", *error_lines(errors, arguments.show_errors, score.count)]
    print_result(arguments, facts | {"task": score.facts()}, "\n".join(lines))


def _bits(
    arguments: Namespace, model: Any, data: Any, trainings: list[dict], split: str, count: str = ""
) -> tuple[dict[str, Any], str]:
    """Measure bits per character on the test part of `data`; returns them as facts and as a line.

    Sequences are as long as in training, unless --seq-len is given. count: how many conversations, in words.
    """
    from minilora.plan.fits import Step, check_fits
    from minilora.train import defaults
    from minilora.train.metrics import evaluator
    from minilora.train.text import check_length, longest, num_examples

    stream, trained_with = data.test, next(iter(trainings), {}).get("seq_len")
    trained_with = trained_with if isinstance(trained_with, int) else None
    seq_len = arguments.seq_len or trained_with or defaults.seq_len_for(model, data)
    check_length(model, data, seq_len)
    length = longest(data, seq_len)
    check_fits(model.config, None, Step(min(arguments.batch_size, num_examples(stream, length)), length))
    bits = evaluator(model, stream, seq_len, arguments.batch_size, "bits")()
    if not isfinite(bits):
        raise MiniloraError(f"the evaluation is {bits}: the weights are damaged, or --strength is too large")
    facts = {"data": data.name, "split": split, "bits_per_character": bits, "characters": stream.characters}
    part = "" if split == "all" else f"the {split} part of "
    line = f"{bits:.4f} {data.unit} on {part}{data.name} ({count}{stream.characters:,} characters, "
    return facts | {"tokens": len(stream.ids), "text_sha256": data.sha256}, f"{line}{len(stream.ids):,} tokens)"
