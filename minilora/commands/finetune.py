"""`minilora finetune`: a model adapted to a text or to conversations, by one of the methods."""

from argparse import Namespace
from pathlib import Path

from minilora.commands.common import DATA_OR_CHAT, Parser, add_model, add_training, number
from minilora.train import catalog, methods


def add(parser: Parser) -> None:
    example = "minilora finetune --data numpy-docs --method lora --out runs/numpy"
    parser.epilog = f"methods:\n{methods.method_list()}\n\nexample: {example}"
    add_model(parser, adapter=False)
    parser.add_argument("--data", required=True, help=f"{DATA_OR_CHAT}; of conversations the responses are learned")
    parser.add_argument(
        "--pack", action="store_true", help="conversations end to end in each sequence, in place of one and padding"
    )
    parser.add_argument("--method", default="lora", help="see below (default: %(default)s)")
    for part in ("validation", "test"):
        words = f"a file of the {part} part; --data is not divided for it then"
        parser.add_argument(f"--{part}", help=words)
    methods.add_option_flags(parser)
    add_training(parser, batch_size=8, steps=None, seq_len=None)
    words = "learning rate at its peak (default: by method and model); auto: the best of 3 to 5 on the validation part"
    parser.add_argument("--lr", type=lambda text: text if text == "auto" else number(above=0)(text), help=words)


def run(arguments: Namespace) -> None:
    from minilora.commands.training import check_folder, check_memory, given, train_in_folder
    from minilora.train import defaults, recipes

    check_folder(arguments)
    arguments.data = catalog.resolve(arguments.data)
    name = methods.find(arguments.method)
    method, options = methods.METHODS[name], methods.read_options(arguments, name)
    quantization = options.quantization if method.is_quantized else None  # never all of it in float
    tokenizer = recipes.tokenizer_of(recipes.path_of_model(arguments.model))
    text = recipes.read_data(arguments.data, tokenizer, arguments.validation, arguments.test)
    model, tokenizer = recipes.load_model(arguments.model, quantization=quantization)
    model = methods.adapt(model, name, options, text.train.ids, arguments.seed)
    arguments.seq_len = arguments.seq_len or defaults.seq_len_for(model, text)
    sizes = {name: getattr(arguments, name) for name in ("batch_size", "seq_len", "epochs", "pack")}
    config = defaults.finetune_config(model, method, text, **sizes, **given(arguments))
    settings = {"model": arguments.model, "method": name}
    settings |= {part: path for part in ("validation", "test") if (path := getattr(arguments, part)) is not None}
    settings |= {option: getattr(options, option) for option in method.options}

    def fits() -> None:
        longest = recipes.longest(text, arguments.seq_len, arguments.pack)
        check_memory(arguments, model.config, name, options, seq_len=longest)

    def save(folder: Path, training: dict) -> Path:
        if method.config is not None:
            return recipes.save_adapter(model, tokenizer, folder / "adapter", training)
        return recipes.save_model(model, tokenizer, folder / "model")

    train_in_folder(arguments, model, tokenizer, text, settings, config, save, fits)
