"""`minilora merge`: merge an adapter into the weights of its base, and save a model folder or a GGUF file.

Without an adapter, it saves the model itself in the other format.
"""

import os
from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser, add_flag, add_model, choice, load_model
from minilora.errors import MiniloraError, escape, print_notes
from minilora.formats.atomic import show_path


def add(parser: Parser) -> None:
    parser.epilog = (
        "examples:\n"
        "  minilora merge --adapter runs/numpy --out runs/numpy-merged\n"
        "  minilora merge --model smollm2 --out smollm2.gguf --quantize q8_0"
    )
    words = "folder for the merged model in float32, for transformers, or a .gguf file for llama.cpp"
    add_flag(parser, "--out", words, required=True)
    add_model(parser)
    words = "type of the matrices in a .gguf file: f16, q8_0 (default: f16)"
    add_flag(parser, "--quantize", words, choice(("f16", "q8_0")))


def run(arguments: Namespace) -> None:
    from minilora.train import save

    out = Path(arguments.out)
    to_gguf = out.suffix == ".gguf"
    if arguments.adapter is None and arguments.model is None:
        raise MiniloraError("merge needs --adapter FOLDER, the adapter to merge, or a --model to save as it is")
    if arguments.quantize and not to_gguf:
        raise MiniloraError(f"--quantize is for .gguf files, and --out {show_path(out)} is not one")
    if not to_gguf and out.suffix[1:2].isalpha() and not out.is_dir():  # llama-3.2-1B is a folder's name
        raise MiniloraError(f"--out {show_path(out)} ends in {escape(out.suffix)}: give a .gguf file, or a folder")
    if os.path.lexists(out) and (to_gguf or not out.is_dir() or any(out.iterdir())):
        raise MiniloraError(f"{show_path(out)} exists already; choose another --out")
    model, tokenizer = load_model(arguments)
    merged = model if arguments.adapter is None else model.merge_and_unload()
    if to_gguf:
        save.save_gguf(merged, tokenizer, out, (arguments.quantize or "f16").upper())
    else:
        save.save_model(merged, tokenizer, out)
    print_notes(getattr(model, "notes", []))
    print(f"saved {out}", flush=True)
