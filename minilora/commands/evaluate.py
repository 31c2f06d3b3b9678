"""`minilora evaluate`: bits per character of a text under a model; of conversations also how often it answers right."""

from __future__ import annotations

from argparse import Namespace
from math import isfinite
from typing import TYPE_CHECKING, Any

from minilora.commands.common import (
    CHATS,
    DATA,
    Parser,
    adapters,
    add_batch_size,
    add_json,
    add_model,
    add_seed,
    add_seq_len,
    choice,
    print_result,
    whole,
)
from minilora.errors import MiniloraError, escape, print_notes

if TYPE_CHECKING:
    from minilora.measure.held_out import Selection
    from minilora.train.scoring import TaskScore

SHORTEST, LONGEST = 16, 128  # tokens of a free answer: as many as the longest expected one has, within these


def add(parser: Parser) -> None:
    parser.epilog = (
        "Of conversations with few, recurring responses (at most 20, 3 times each on\naverage), the answer is the "
        "likeliest response, and the accuracy is measured;\nof others the greedy answer, by exact match and the F1 of "
        "its words.\n\n"
        "examples:\n"
        "  minilora evaluate --adapter runs/numpy --data numpy-docs\n"
        "  minilora evaluate --model smollm2 --data r8 --shots 4 --shots-from r8"
    )
    flags = parser.add_argument_group("flags")
    add_model(flags)
    flags.add_argument("--data", required=True, help=f"{DATA}; {CHATS}")
    words = "part to measure (default: test; all of a .jsonl file that the model was not trained on)"
    flags.add_argument("--split", type=choice(("train", "validation", "test", "all")), help=words)
    words = "measure at most so many conversations (default: all)"
    flags.add_argument("--examples", type=whole(1), metavar="N", help=words)
    words = "conversations in front of each question"
    flags.add_argument("--shots", type=whole(0), default=0, metavar="N", help=words)
    flags.add_argument("--shots-from", metavar="FILE", help="the .jsonl file that they are drawn from")
    add_batch_size(flags, 16)
    add_seq_len(flags, None)
    add_seed(flags)
    add_json(flags)


def run(arguments: Namespace) -> None:
    from minilora.train import catalog
    from minilora.train.load import path_of_model
    from minilora.train.save import training_of
    from minilora.train.text import is_chat_data

    if bool(arguments.shots) != (arguments.shots_from is not None):
        raise MiniloraError("--shots and --shots-from belong together: how many, and the file that they come from")
    arguments.data = catalog.resolve(arguments.data, "test")
    folders: list = list(arguments.adapter or ())
    folders += [path_of_model(arguments.model)] if arguments.model else []
    trainings = [training for folder in folders if (training := training_of(folder))]
    (_conversations if is_chat_data(arguments.data) else _text)(arguments, trainings)


def _text(arguments: Namespace, trainings: list[dict]) -> None:
    from minilora.data import corpora
    from minilora.data.tokenizer import encode_documents
    from minilora.train.load import load_model
    from minilora.train.text import Text

    if arguments.shots or arguments.examples:
        raise MiniloraError(f"--{'shots' if arguments.shots else 'examples'} is for a .jsonl file of conversations")
    corpus, split = corpora.load(arguments.data), arguments.split or "test"
    model, tokenizer = load_model(arguments.model, adapters(arguments), strength=arguments.strength)
    print_notes([*corpus.notes, *getattr(model, "notes", [])])
    documents = corpus.documents if split == "all" else getattr(corpora.split(corpus), split)
    none, stream = encode_documents(tokenizer, []), encode_documents(tokenizer, documents)
    facts = _bits(arguments, model, Text(corpus.name, corpus.sha256, none, none, stream), trainings, split)
    part = "" if split == "all" else f"the {split} part of "
    print_result(
        arguments,
        facts,
        f"{facts['bits_per_character']:.4f} {Text.unit} on {part}{corpus.name} "
        f"({stream.characters:,} characters, {len(stream.ids):,} tokens)",
    )


def _bits(arguments: Namespace, model: Any, data: Any, trainings: list[dict], split: str) -> dict[str, Any]:
    """Bits per character of the test part of `data`, in the length that the model was trained with, and what it has."""
    from minilora.plan.activations import Step
    from minilora.plan.fits import check_fits
    from minilora.train import defaults
    from minilora.train.metrics import evaluator
    from minilora.train.text import check_length, longest, num_examples

    stream, trained_with = data.test, next(iter(trainings), {}).get("seq_len")
    known = trained_with if isinstance(trained_with, int) else None
    seq_len = arguments.seq_len or known or defaults.seq_len_for(model, data)
    check_length(model, data, seq_len)
    length = longest(data, seq_len)
    check_fits(model.config, None, Step(min(arguments.batch_size, num_examples(stream, length)), length))
    bits = evaluator(model, stream, seq_len, arguments.batch_size, "bits")()
    if not isfinite(bits):
        raise MiniloraError(f"the evaluation is {bits}: the model's weights or an adapter's strength are of no use")
    return {
        "data": data.name,
        "split": split,
        "bits_per_character": bits,
        "characters": stream.characters,
        "tokens": len(stream.ids),
        "text_sha256": data.sha256,
    }


def _conversations(arguments: Namespace, trainings: list[dict]) -> None:
    from rich.console import Console

    from minilora.data import chat
    from minilora.measure.held_out import draw_shots, select
    from minilora.measure.task_report import confusion_grid, score_lines
    from minilora.show.grids import drawn
    from minilora.train import catalog
    from minilora.train.load import load_model
    from minilora.train.text import Chats

    source, seed = arguments.data, arguments.seed
    pool = chat.read_jsonl(catalog.resolve(arguments.shots_from)) if arguments.shots else []
    chosen = select(source, arguments.split, trainings, arguments.examples, seed, pool)
    shots = draw_shots(pool, arguments.shots, seed, chosen.conversations)
    model, tokenizer = load_model(arguments.model, adapters(arguments), strength=arguments.strength)
    print_notes([*getattr(model, "notes", []), *chosen.notes])
    tokens = chat.encode_conversations(tokenizer, chat.find_format(tokenizer), chosen.conversations)
    none = chat.ChatTokens([], [])
    facts = _bits(arguments, model, Chats(source, chosen.sha256, none, none, tokens), trainings, chosen.split)
    count = len(chosen.conversations)
    facts |= {"conversations": count, "of": chosen.of, "trained_on": chosen.trained_on, "shots": len(shots)}
    part = "" if chosen.split == "all" else f"the {chosen.split} part of "
    of = f"{count:,} of {chosen.of:,}" if count < chosen.of else f"{count:,}"
    lines = [
        f"{facts['bits_per_character']:.4f} {Chats.unit} on {part}{source} "
        f"({of} conversations, {tokens.characters:,} characters, {len(tokens.ids):,} tokens)"
    ]
    score = _score(arguments, model, tokenizer, chosen, shots)
    if score is not None:
        facts |= {"task": score.facts()}
        lines += score_lines(score)
    print_result(arguments, facts, "\n".join(lines))
    if score is not None and score.confusion and not arguments.json:
        print()
        Console(width=80, highlight=False).print(drawn(confusion_grid(score)))


def _score(arguments: Namespace, model: Any, tokenizer: Any, chosen: Selection, shots: list) -> TaskScore | None:
    """None, with a note, where there is nothing to measure."""
    from minilora.train.progress import progress_bar
    from minilora.train.scoring import measure_task

    labels = chosen.labels
    if labels is not None and len(labels) == 1:
        print_notes([f"every response is {escape(repr(labels[0]), 40)}: whatever is asked, one answer is right"])
        return None
    longest = max(len(tokenizer.encode(messages[-1]["content"])) for messages in chosen.conversations)
    new_tokens = min(max(SHORTEST, longest + 1), LONGEST)
    settings: dict[str, Any] = {"max_new_tokens": new_tokens, "batch_size": arguments.batch_size}
    try:
        with progress_bar("answers", len(chosen.conversations)) as advance:
            return measure_task(
                model, tokenizer, chosen.conversations, labels=labels, shots=shots, advance=advance, **settings
            )
    except MiniloraError as error:
        if shots:
            raise
        print_notes([f"answers are not measured: {error}"])
        return None
