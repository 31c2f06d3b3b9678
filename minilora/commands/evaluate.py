"""`minilora evaluate`: bits per character of a text under a model."""

from argparse import Namespace

from minilora.commands.common import DATA_OR_CHAT, Parser, add_batch, add_json, add_model, print_notes, print_result


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora evaluate --model base --adapter runs/numpy --data numpy-docs"
    add_model(parser)
    parser.add_argument("--data", required=True, help=DATA_OR_CHAT)
    documents = "which documents of the text (default: %(default)s)"
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help=documents)
    add_batch(parser, batch_size=16)
    add_json(parser)


def run(arguments: Namespace) -> None:
    from minilora.plan.activations import Step
    from minilora.plan.fits import check_fits
    from minilora.train import recipes, tasks
    from minilora.train.parallel import Workers

    model, tokenizer = recipes.load_model(arguments.model, arguments.adapter)
    print_notes(getattr(model, "notes", []))
    text = recipes.read_data(tasks.resolve(arguments.data, "test"), tokenizer)
    stream = getattr(text, arguments.split)
    recipes.check_length(model, text, arguments.seq_len)
    length = recipes.longest(text, arguments.seq_len)
    rows = len(stream.rows) if isinstance(text, recipes.Chats) else -(-len(stream.ids) // length)
    check_fits(model.config, None, Step(min(arguments.batch_size, rows), length))
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
