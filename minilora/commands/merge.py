"""`minilora merge`: an adapter's update in the weights of its base, as a model folder or a GGUF file."""

import os
from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser, add_flag, add_model, choice, load_model
from minilora.errors import MiniloraError, print_notes
from minilora.formats.atomic import show_path


def add(parser: Parser) -> None:
    parser.epilog = (
        "examples:\n"
        "  minilora merge --adapter runs/numpy --out runs/numpy-merged\n"
        "  minilora merge --adapter runs/x --out merged.gguf --quantize q8_0"
    )
    add_model(parser)
    words = "folder of the merged model, or a .gguf file for llama.cpp (then --adapter may be left out)"
    add_flag(parser, "--out", words, required=True)
    words = "how matrices are stored in a .gguf file: f16 (default), q8_0"
    add_flag(parser, "--quantize", words, choice(("f16", "q8_0")))


def run(arguments: Namespace) -> None:
    from minilora.train import save

    out = Path(arguments.out)
    to_gguf = out.suffix == ".gguf"
    if arguments.adapter is None and not to_gguf:
        raise MiniloraError("merge needs --adapter, the folder of the adapter to merge")
    if arguments.quantize and not to_gguf:
        raise MiniloraError("--quantize needs a .gguf file as --out")
    if os.path.lexists(out) and (to_gguf or not out.is_dir() or any(out.iterdir())):
        raise MiniloraError(f"{show_path(out)} exists; choose another --out")
    model, tokenizer = load_model(arguments)
    merged = model if arguments.adapter is None else model.merge_and_unload()
    if to_gguf:
        save.save_gguf(merged, tokenizer, out, (arguments.quantize or "f16").upper())
    else:
        save.save_model(merged, tokenizer, out)
    print_notes(getattr(model, "notes", []))
    print(f"saved {out}", flush=True)
