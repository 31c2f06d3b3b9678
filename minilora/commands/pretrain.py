"""`minilora pretrain`: a tokenizer and a language model from nothing."""

from argparse import Namespace

from minilora.commands.common import DATA, DEFAULT, Parser, add_flag, add_training, number, take_settings, whole
from minilora.errors import flag_of

STEPS = 500
SIZES = {  # of the model: a flag's name, LlamaConfig's, the default, the help
    "vocab_size": ("vocab_size", 2048, DEFAULT),
    "hidden_size": ("hidden_size", 192, DEFAULT),
    "intermediate_size": ("intermediate_size", 512, DEFAULT),
    "num_layers": ("num_hidden_layers", 4, DEFAULT),
    "num_heads": ("num_attention_heads", 6, f"of the queries {DEFAULT}"),
    "num_kv_heads": ("num_key_value_heads", None, "of keys and values (default: half of them, or all if odd)"),
}


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora pretrain --data python-docs --out runs/base --steps 500"
    flags = parser.add_argument_group("flags")
    add_flag(flags, "--data", DATA, required=True)
    add_flag(flags, "--out", "run folder: metrics, checkpoints and the result", required=True)
    add_flag(flags, "--lr", f"learning rate at its peak {DEFAULT}", number(above=0), 3e-3)
    length = flags.add_mutually_exclusive_group()
    add_flag(length, "--steps", f"(default: {STEPS})")
    add_flag(length, "--epochs")
    add_flag(flags, "--batch-size", default=16)
    add_flag(flags, "--seq-len", default=128)
    model = parser.add_argument_group("model")
    for name, (_, default, words) in SIZES.items():
        add_flag(model, flag_of(name), words, whole(1), default)
    add_training(parser)
    parser.set_defaults(quiz="off", replay=None, dry_run=False)  # of finetune
    take_settings(parser)


def run(arguments: Namespace) -> None:
    from minilora.commands.training import check_folder, train, train_settings
    from minilora.data import corpora
    from minilora.models.llama import LlamaConfig
    from minilora.plan.activations import Step
    from minilora.plan.fits import check_fits
    from minilora.train import defaults, launch, load, text

    check_folder(arguments)
    sizes = {field: getattr(arguments, name) for name, (field, *_) in SIZES.items()}
    if arguments.num_kv_heads is None:
        sizes["num_key_value_heads"] = arguments.num_heads // (1 if arguments.num_heads % 2 else 2)
    sizes |= {"max_position_embeddings": max(512, 2 * arguments.seq_len), "tie_word_embeddings": True}
    shape = LlamaConfig(**sizes)
    step = Step(-(-arguments.batch_size // launch.ranks()), arguments.seq_len)
    check_fits(shape, "full", step, checkpointing=arguments.checkpointing, new_model=True)
    corpus = corpora.load(arguments.data)
    tokenizer = text.tokenizer_for(corpus, sizes.pop("vocab_size"))
    data = text.read_text(corpus, tokenizer)
    model = load.new_model(tokenizer, arguments.seed, **sizes)
    flags, per_step = train_settings(arguments), arguments.batch_size * arguments.accumulate
    by_epochs = arguments.epochs and defaults.steps_for(data, per_step, arguments.seq_len, arguments.epochs)
    flags["steps"] = arguments.steps or by_epochs or STEPS
    config = defaults.train_config(arguments.batch_size, weight_decay=0.1, betas=(0.9, 0.95), **flags)
    train(arguments, model, tokenizer, data, config, {name: getattr(arguments, name) for name in SIZES})
