"""`minilora pretrain`: a tokenizer and a language model from nothing."""

from argparse import Namespace

from minilora.commands.common import (
    DATA,
    Parser,
    add_batch_size,
    add_length,
    add_seq_len,
    add_training,
    number,
    whole,
)
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
    flags = parser.add_argument_group("flags")
    flags.add_argument("--data", required=True, help=DATA)
    flags.add_argument("--out", required=True, help="run folder: metrics, checkpoints and the result")
    peak = "learning rate at its peak (default: %(default)s)"
    flags.add_argument("--lr", type=number(above=0), default=3e-3, help=peak)
    add_length(flags, str(STEPS))
    add_batch_size(flags, 16)
    add_seq_len(flags, 128)
    model = parser.add_argument_group("model")
    for flag, default in (("--vocab-size", 2048), ("--hidden-size", 192), ("--intermediate-size", 512)):
        model.add_argument(flag, type=whole(1), default=default, metavar="N", help="(default: %(default)s)")
    model.add_argument("--num-layers", type=whole(1), default=4, metavar="N", help="(default: %(default)s)")
    words = "of the queries (default: %(default)s)"
    model.add_argument("--num-heads", type=whole(1), default=6, metavar="N", help=words)
    words = "of keys and values (default: half of them, or all if odd)"
    model.add_argument("--num-kv-heads", type=whole(1), metavar="N", help=words)
    add_training(parser)


def run(arguments: Namespace) -> None:
    from minilora.commands.training import Training, check_folder, check_memory, train_settings
    from minilora.data import corpora
    from minilora.peft import Options
    from minilora.train import defaults, load, text

    check_folder(arguments)
    sizes = _sizes(arguments)
    check_memory(arguments, _llama_config(sizes), "full", new_model=True)
    corpus = corpora.load(arguments.data)
    tokenizer = text.tokenizer_for(corpus, sizes.pop("vocab_size"))
    data = text.read_text(corpus, tokenizer)
    model = load.new_model(tokenizer, arguments.seed, **sizes)
    flags, per_step = train_settings(arguments), arguments.batch_size * arguments.accumulate
    if arguments.epochs:
        flags["steps"] = defaults.steps_for(data, per_step, arguments.seq_len, arguments.epochs)
    flags["steps"] = flags["steps"] or STEPS
    config = defaults.train_config(arguments.batch_size, weight_decay=0.1, betas=(0.9, 0.95), **flags)

    settings = {name: getattr(arguments, name) for name in FIELDS}
    Training(arguments, model, tokenizer, data, "full", Options(), settings, config).run()


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
