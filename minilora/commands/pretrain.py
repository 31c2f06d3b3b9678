"""`minilora pretrain`: a tokenizer and a language model from nothing."""

from argparse import Namespace
from functools import partial

from minilora.commands.common import DATA, Parser, add_training, number, whole
from minilora.errors import MiniloraError, flag_of

STEPS = 500
FIELDS = {  # of LlamaConfig, by what their flags are called
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
}


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora pretrain --data python-docs --out runs/base --steps 500"
    parser.add_argument("--data", required=True, help=DATA)
    for flag, default in (("--vocab-size", 2048), ("--hidden-size", 192), ("--intermediate-size", 512)):
        parser.add_argument(flag, type=whole(1), default=default, help="(default: %(default)s)")
    parser.add_argument("--num-layers", type=whole(1), default=4, help="(default: %(default)s)")
    parser.add_argument("--num-heads", type=whole(1), default=6, help="of the queries (default: %(default)s)")
    parser.add_argument(
        "--num-kv-heads", type=whole(1), help="of keys and values (default: half of --num-heads, or all if it is odd)"
    )
    add_training(parser, batch_size=16, steps=STEPS)
    peak = "learning rate at its peak (default: %(default)s)"
    parser.add_argument("--lr", type=number(above=0), default=3e-3, help=peak)


def run(arguments: Namespace) -> None:
    from minilora.commands.training import check_folder, check_memory, given, train_in_folder
    from minilora.data import corpora
    from minilora.train import defaults, recipes

    check_folder(arguments)
    sizes = _sizes(arguments)
    check_memory(arguments, _llama_config(sizes), "full", new_model=True)
    corpus = corpora.load(arguments.data)
    tokenizer = recipes.tokenizer_for(corpus, sizes.pop("vocab_size"))
    text = recipes.read_text(corpus, tokenizer)
    model = recipes.new_model(tokenizer, arguments.seed, **sizes)
    flags, per_step = given(arguments), arguments.batch_size * arguments.accumulate
    if arguments.epochs:
        flags["steps"] = defaults.steps_for(text, per_step, arguments.seq_len, arguments.epochs)
    flags["steps"] = flags["steps"] or STEPS
    config = defaults.train_config(arguments.batch_size, weight_decay=0.1, betas=(0.9, 0.95), **flags)

    settings = {name: getattr(arguments, name) for name in FIELDS}
    save = partial(recipes.save_model, model, tokenizer)
    train_in_folder(arguments, model, tokenizer, text, settings, config, lambda folder, _: save(folder / "model"))


def _sizes(arguments: Namespace) -> dict[str, int | bool]:
    """The fields of LlamaConfig that the flags ask for."""
    sizes = {field: getattr(arguments, name) for name, field in FIELDS.items()}
    if arguments.num_kv_heads is None:
        heads = arguments.num_heads
        sizes["num_key_value_heads"] = heads if heads % 2 else heads // 2
    return sizes | {"max_position_embeddings": max(512, 2 * arguments.seq_len), "tie_word_embeddings": True}


def _llama_config(sizes: dict):
    """Raises MiniloraError that names the flags, where LlamaConfig's names its fields."""
    from minilora.models.llama import LlamaConfig

    try:
        return LlamaConfig(**sizes)
    except MiniloraError as error:
        message = str(error)
        for name, field in FIELDS.items():
            message = message.replace(field, flag_of(name))
        raise MiniloraError(message) from None
