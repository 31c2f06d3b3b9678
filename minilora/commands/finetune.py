"""`minilora finetune`: a model adapted to a text or to conversations, by one of the methods."""

from argparse import Namespace

from minilora.commands import common
from minilora.commands.common import CHATS, DATA, DEFAULT, Parser, add_flag, add_training, number, take_settings
from minilora.commands.options import add_option_flags, read_options
from minilora.peft.method import METHODS, find
from minilora.train import catalog


def add(parser: Parser) -> None:
    example = "example: minilora finetune --data numpy-docs --method lora --out runs/numpy"
    parser.epilog = f"methods: {', '.join(METHODS)}\n{example}"
    flags = parser.add_argument_group("flags")
    add_flag(flags, "--data", f"{DATA}; {CHATS}", required=True)
    add_flag(flags, "--model")
    add_flag(flags, "--method", f"--method NAME --help tells of one {DEFAULT}", default="lora")
    required = "--dry-run" not in parser.typed
    add_flag(flags, "--out", "run folder: metrics, checkpoints and the result", required=required)
    words = "its peak, or auto: searched (default: by the method)"
    add_flag(flags, "--lr", words, lambda text: text if text == "auto" else number(above=0)(text))
    length = flags.add_mutually_exclusive_group()
    add_flag(length, "--steps", "(default: 2 epochs of conversations; 200 for a text)")
    add_flag(length, "--epochs")
    add_flag(flags, "--batch-size")
    data = parser.add_argument_group("data")
    for part in ("validation", "test"):
        add_flag(data, f"--{part}", f"the {part} part: --data is then not divided", metavar="FILE")
    common.add_columns(data)
    add_flag(data, "--seq-len", "tokens per sequence (default: 128; examples: up to 512)")
    common.add_flags(data, "--replay", "--quiz", "--dry-run")
    add_training(parser)
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
    quantization = options.quantization if method.is_quantized else None  # never all of it in float
    tokenizer = load.tokenizer_of(load.path_of_model(arguments.model))
    columns = Columns.of(vars(arguments))
    data = text.read_data(arguments.data, tokenizer, arguments.validation, arguments.test, columns)
    model, tokenizer = load.load_model(arguments.model, quantization=quantization)
    model = methods.adapt(model, name, options, data.train.ids, arguments.seed)
    arguments.seq_len = arguments.seq_len or defaults.seq_len_for(model, data)
    sizes = {name: getattr(arguments, name) for name in ("batch_size", "seq_len", "epochs")}
    config = defaults.finetune_config(model, method, data, **sizes, **train_settings(arguments))
    settings = {"model": arguments.model, "method": name}
    typed = {name: getattr(arguments, name) for name in ("validation", "test", "replay")}
    settings |= {name: value for name, value in typed.items() if value is not None}
    settings |= columns.settings() | ({"labels": labels} if (labels := getattr(data, "labels", None)) else {})
    settings |= {option: getattr(options, option) for option in method.options}
    train(arguments, model, tokenizer, data, config, settings, name, options)
