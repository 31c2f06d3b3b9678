"""`minilora evaluate`: bits per character of a text under a model; of conversations also how often it answers right."""

from __future__ import annotations

from argparse import Namespace
from math import isfinite
from typing import TYPE_CHECKING, Any

from minilora.commands.common import (
    DATA_OR_CHAT,
    Parser,
    add_batch,
    add_json,
    add_model,
    add_seed,
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
        "Of conversations whose responses are few and recur (at most 20 different ones, 3 times each on average), the "
        "accuracy is measured: the answer is the likeliest response. Of others, the greedy answer is compared by "
        "exact match and by the F1 of its words. An adapter is measured in the sequence length of its training.\n\n"
        "examples:\n"
        "  minilora evaluate --adapter runs/numpy --data numpy-docs\n"
        "  minilora evaluate --model smollm2 --data r8 --shots 4 --shots-from r8"
    )
    add_model(parser)
    parser.add_argument("--data", required=True, help=DATA_OR_CHAT)
    parser.add_argument(
        "--split",
        type=choice(("train", "validation", "test", "all")),
        help="which part of it (default: test; all of a .jsonl file that the model was not trained on)",
    )
    parser.add_argument("--examples", type=whole(1), help="measure at most so many conversations (default: all)")
    parser.add_argument("--shots", type=whole(0), default=0, help="conversations in front of each question")
    parser.add_argument("--shots-from", help="the .jsonl file that they are drawn from")
    add_batch(parser, batch_size=16, seq_len=None)
    add_seed(parser)
    add_json(parser)


def run(arguments: Namespace) -> None:
    from minilora.train import catalog, recipes

    if bool(arguments.shots) != (arguments.shots_from is not None):
        raise MiniloraError("--shots and --shots-from belong together: how many, and the file that they come from")
    arguments.data = catalog.resolve(arguments.data, "test")
    folders = [folder for folder, _ in arguments.adapter or ()]
    folders += [recipes.path_of_model(arguments.model)] if arguments.model else []
    trainings = [found for folder in folders if (found := recipes.training_of(folder))]
    (_conversations if recipes.is_chat_data(arguments.data) else _text)(arguments, trainings)


def _text(arguments: Namespace, trainings: list[dict]) -> None:
    from minilora.data import corpora
    from minilora.train import recipes

    if arguments.shots or arguments.examples:
        raise MiniloraError(f"--{'shots' if arguments.shots else 'examples'} is for a .jsonl file of conversations")
    corpus, split = corpora.load(arguments.data), arguments.split or "test"
    model, tokenizer = recipes.load_model(arguments.model, arguments.adapter, strength=arguments.strength)
    print_notes([*corpus.notes, *getattr(model, "notes", [])])
    documents = corpus.documents if split == "all" else getattr(corpora.split(corpus), split)
    none = recipes.encode_documents(tokenizer, [])
    stream = recipes.encode_documents(tokenizer, documents)
    facts = _bits(arguments, model, recipes.Text(corpus.name, corpus.sha256, none, none, stream), trainings, split)
    unit, part = recipes.Text.unit, "" if split == "all" else f"the {split} part of "
    print_result(
        arguments,
        facts,
        f"{facts['bits_per_character']:.4f} {unit} on {part}{corpus.name} "
        f"({stream.characters:,} characters, {len(stream.ids):,} tokens)",
    )


def _bits(arguments: Namespace, model: Any, data: Any, trainings: list[dict], split: str) -> dict[str, Any]:
    """Bits per character of the test part of `data`, in the length that the model was trained with, and what it has."""
    from minilora.plan.activations import Step
    from minilora.plan.fits import check_fits
    from minilora.train import defaults, recipes

    stream, trained_with = data.test, next(iter(trainings), {}).get("seq_len")
    known = trained_with if isinstance(trained_with, int) else None
    seq_len = arguments.seq_len or known or defaults.seq_len_for(model, data)
    recipes.check_length(model, data, seq_len)
    length = recipes.longest(data, seq_len)
    check_fits(model.config, None, Step(min(arguments.batch_size, recipes.num_examples(stream, length)), length))
    bits = recipes.evaluator(model, stream, seq_len, arguments.batch_size, "bits")()
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
    from minilora.train import catalog, recipes

    source, seed = arguments.data, arguments.seed
    pool = chat.read_jsonl(catalog.resolve(arguments.shots_from)) if arguments.shots else []
    chosen = select(source, arguments.split, trainings, arguments.examples, seed, pool)
    shots = draw_shots(pool, arguments.shots, seed, chosen.conversations)
    model, tokenizer = recipes.load_model(arguments.model, arguments.adapter, strength=arguments.strength)
    print_notes([*getattr(model, "notes", []), *chosen.notes])
    tokens = chat.encode_conversations(tokenizer, chat.find_format(tokenizer), chosen.conversations)
    none = chat.ChatTokens([], [])
    facts = _bits(arguments, model, recipes.Chats(source, chosen.sha256, none, none, tokens), trainings, chosen.split)
    count = len(chosen.conversations)
    facts |= {"conversations": count, "of": chosen.of, "trained_on": chosen.trained_on, "shots": len(shots)}
    part = "" if chosen.split == "all" else f"the {chosen.split} part of "
    of = f"{count:,} of {chosen.of:,}" if count < chosen.of else f"{count:,}"
    lines = [
        f"{facts['bits_per_character']:.4f} {recipes.Chats.unit} on {part}{source} "
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
