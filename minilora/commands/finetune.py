"""`minilora finetune`: a model adapted to a text or to conversations, by one of the methods."""

from argparse import Namespace

from minilora.commands.common import (
    CHATS,
    DATA,
    Parser,
    add_batch_size,
    add_length,
    add_model,
    add_seq_len,
    add_training,
    number,
)
from minilora.commands.options import add_option_flags, read_options
from minilora.peft.method import METHODS, find
from minilora.train import catalog


def add(parser: Parser) -> None:
    example = "example: minilora finetune --data numpy-docs --method lora --out runs/numpy"
    parser.epilog = f"methods: {', '.join(METHODS)}\n{example}"
    flags = parser.add_argument_group("flags")
    flags.add_argument("--data", required=True, help=f"{DATA}; {CHATS}: their responses are learned")
    add_model(flags, adapter=False)
    flags.add_argument("--method", default="lora", help="--method NAME --help tells of one (default: %(default)s)")
    flags.add_argument("--out", required=True, help="run folder: metrics, checkpoints and the result")
    words = "its peak, or auto: searched (default: by the method)"
    flags.add_argument("--lr", type=lambda text: text if text == "auto" else number(above=0)(text), help=words)
    add_length(flags, "2 epochs of conversations; 200 for a text")
    add_batch_size(flags, 8)
    data = parser.add_argument_group("data")
    for part in ("validation", "test"):
        words = f"the {part} part, for which --data is then not divided"
        data.add_argument(f"--{part}", metavar="FILE", help=words)
    add_seq_len(data, None)
    add_option_flags(parser)
    add_training(parser)


def run(arguments: Namespace) -> None:
    from minilora.commands.training import Training, check_folder, train_settings
    from minilora.train import defaults, load, methods, text

    check_folder(arguments)
    arguments.data = catalog.resolve(arguments.data)
    name = find(arguments.method)
    method, options = METHODS[name], read_options(arguments, name)
    quantization = options.quantization if method.is_quantized else None  # never all of it in float
    tokenizer = load.tokenizer_of(load.path_of_model(arguments.model))
    data = text.read_data(arguments.data, tokenizer, arguments.validation, arguments.test)
    model, tokenizer = load.load_model(arguments.model, quantization=quantization)
    model = methods.adapt(model, name, options, data.train.ids, arguments.seed)
    arguments.seq_len = arguments.seq_len or defaults.seq_len_for(model, data)
    sizes = {name: getattr(arguments, name) for name in ("batch_size", "seq_len", "epochs")}
    config = defaults.finetune_config(model, method, data, **sizes, **train_settings(arguments))
    settings = {"model": arguments.model, "method": name}
    settings |= {part: path for part in ("validation", "test") if (path := getattr(arguments, part)) is not None}
    settings |= {option: getattr(options, option) for option in method.options}
    Training(arguments, model, tokenizer, data, name, options, settings, config).run()
