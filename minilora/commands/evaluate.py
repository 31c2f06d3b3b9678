"""`minilora evaluate`: bits a character of a text under a model."""

from argparse import Namespace

from minilora.commands.common import DATA_OR_CHAT, Parser, add_json, add_model, print_notes, print_result


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora evaluate --model base --adapter runs/numpy --data numpy-docs"
    add_model(parser)
    parser.add_argument("--data", required=True, help=DATA_OR_CHAT)
    parser.add_argument(
        "--split",
        default="test",
        choices=("train", "validation", "test"),
        help="which documents of the text (default: %(default)s)",
    )
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    add_json(parser)


def run(arguments: Namespace) -> None:
    from minilora.train import recipes
    from minilora.train.parallel import Workers

    model, tokenizer = recipes.load_model(arguments.model, arguments.adapter)
    print_notes(getattr(model, "notes", []))
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
    print_result(
        arguments,
        facts,
        f"{bits:.4f} {text.unit} on the {arguments.split} part of {text.name} "
        f"({stream.characters:,} characters, {len(stream.ids):,} tokens)",
    )
