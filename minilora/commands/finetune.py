"""`minilora finetune`: adapt a model to a text or to examples, with one of the methods."""

from argparse import Namespace

from minilora.commands import common
from minilora.commands.common import CHATS, DATA, DEFAULT, Parser, add_flag, add_training, number, take_settings
from minilora.commands.options import add_option_flags, read_options
from minilora.peft.method import METHODS, find
from minilora.train import catalog


def add(parser: Parser) -> None:
    example = "example: minilora finetune --data numpy-docs --method lora --out runs/numpy"
    parser.epilog = f"methods: {', '.join(METHODS)}\n{example}"
    basics, data, training = (parser.add_argument_group(title) for title in ("basics", "data", "training"))
    add_flag(basics, "--data", f"{DATA}; {CHATS}", required=True)
    required = "--dry-run" not in parser.typed
    add_flag(basics, "--out", "folder for metrics, checkpoints and the result", required=required)
    add_flag(basics, "--model", f"model name, Hub ORG/NAME, folder, .gguf {DEFAULT}")
    add_flag(basics, "--method", f"see below, and --method NAME --help {DEFAULT}", default="lora")
    length = basics.add_mutually_exclusive_group()
    add_flag(length, "--steps", "training steps (default: 200; examples: 2 epochs)")
    add_flag(length, "--epochs")
    for part in ("validation", "test"):
        add_flag(data, f"--{part}", f"{part} data, instead of a part of --data", metavar="FILE")
    common.add_columns(data)
    common.add_flags(data, "--replay", "--quiz", "--dry-run")
    words = "peak learning rate; auto searches (default: by method)"
    rate = lambda text: text if text == "auto" else number(above=0)(text)  # noqa: E731
    add_flag(training, "--lr", words, rate, metavar="X")
    add_flag(training, "--batch-size")
    add_flag(training, "--seq-len", "tokens per sequence (default: 128; examples: up to 512)")
    add_training(parser, training)
    add_option_flags(parser)
    take_settings(parser)


def run(arguments: Namespace) -> None:
    from minilora.commands.training import check_folder, train, train_settings
    from minilora.data.examples import Columns
    from minilora.train import defaults, load, methods, text

    check_folder(arguments)
    arguments.data = catalog.resolve(arguments.data)
    name = find(arguments.method)
    method, options = METHODS[name], read_options(arguments, name)
    quantization = options.quantization if method.is_quantized else None  # so that no float copy is held
    tokenizer = load.tokenizer_of(load.path_of_model(arguments.model))
    columns = Columns.of(vars(arguments))
    data = text.read_data(arguments.data, tokenizer, arguments.validation, arguments.test, columns)
    model, tokenizer = load.load_model(arguments.model, quantization=quantization)
    model = methods.adapt(model, name, options, data.train.ids, arguments.seed)
    arguments.seq_len = arguments.seq_len or defaults.seq_len_for(model, data)
    sizes = {name: getattr(arguments, name) for name in ("batch_size", "seq_len", "epochs")}
    config = defaults.finetune_config(model, method, data, **sizes, **train_settings(arguments))
    settings = {"model": arguments.model, "method": name}
    optional = {name: getattr(arguments, name) for name in ("validation", "test", "replay")}
    settings |= {name: value for name, value in optional.items() if value is not None}
    settings |= columns.settings() | ({"labels": labels} if (labels := getattr(data, "labels", None)) else {})
    settings |= {option: getattr(options, option) for option in method.options}
    train(arguments, model, tokenizer, data, config, settings, name, options)
