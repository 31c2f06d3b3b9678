"""`minilora pretrain`: a tokenizer and a language model from nothing."""

from argparse import Namespace
from pathlib import Path

from minilora.commands.common import DATA, Parser, add_training


def add(parser: Parser) -> None:
    parser.epilog = "example: minilora pretrain --data python-docs --out runs/base --steps 500"
    parser.add_argument("--data", required=True, help=DATA)
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--hidden-size", type=int, default=192)
    parser.add_argument("--intermediate-size", type=int, default=512)
    parser.add_argument("--num-layers", type=int, default=4)
    parser.add_argument("--num-heads", type=int, default=6)
    parser.add_argument("--num-kv-heads", type=int, default=3)
    add_training(parser, steps=500, lr=3e-3, batch_size=16)


def run(arguments: Namespace) -> None:
    from minilora.commands.training import check_folder, train_config, train_in_folder
    from minilora.data import corpora
    from minilora.train import recipes

    check_folder(arguments)
    config = train_config(arguments, arguments.lr, weight_decay=0.1, betas=(0.9, 0.95))
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

    settings = sizes | {"vocab_size": tokenizer.vocab_size, "lr": arguments.lr}
    train_in_folder(arguments, model, text, settings, config, save)
