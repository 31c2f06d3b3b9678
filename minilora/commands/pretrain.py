"""`minilora pretrain`: train a tokenizer and a language model from scratch."""

from argparse import Namespace

from minilora.commands.common import DATA, DEFAULT, Parser, add_flag, add_training, number, take_settings, whole
from minilora.errors import flag_of

STEPS = 500
SIZES = {  # sizes of the model: flag -> (field of LlamaConfig, default, help)
    "vocab_size": ("vocab_size", 2048, f"tokens in the vocabulary {DEFAULT}"),
    "hidden_size": ("hidden_size", 192, f"width of the model {DEFAULT}"),
    "intermediate_size": ("intermediate_size", 512, f"width inside the MLP {DEFAULT}"),
    "num_layers": ("num_hidden_layers", 4, f"transformer blocks {DEFAULT}"),
    "num_heads": ("num_attention_heads", 6, f"query heads {DEFAULT}"),
    "num_kv_heads": ("num_key_value_heads", None, "key and value heads (default: half of the query heads; all if odd)"),
}


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora pretrain --data python-docs --out runs/base --steps 500"
    basics, model, training = (parser.add_argument_group(title) for title in ("basics", "model", "training"))
    add_flag(basics, "--data", DATA, required=True)
    add_flag(basics, "--out", "folder for metrics, checkpoints and the result", required=True)
    length = basics.add_mutually_exclusive_group()
    add_flag(length, "--steps", f"training steps (default: {STEPS})")
    add_flag(length, "--epochs")
    for name, (_, default, words) in SIZES.items():
        add_flag(model, flag_of(name), words, whole(1), default)
    add_flag(training, "--lr", f"peak learning rate {DEFAULT}", number(above=0), 3e-3)
    add_flag(training, "--batch-size", default=16)
    add_flag(training, "--seq-len", default=128)
    add_training(parser, training)
    parser.set_defaults(quiz="off", replay=None, dry_run=False)  # flags of finetune that `train` reads
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
    steps_of_epochs = arguments.epochs and defaults.steps_for(data, per_step, arguments.seq_len, arguments.epochs)
    flags["steps"] = arguments.steps or steps_of_epochs or STEPS
    config = defaults.train_config(arguments.batch_size, weight_decay=0.1, betas=(0.9, 0.95), **flags)
    train(arguments, model, tokenizer, data, config, {name: getattr(arguments, name) for name in SIZES})
