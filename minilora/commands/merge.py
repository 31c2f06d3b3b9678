"""`minilora merge`: an adapter's update in the weights of its base, as a model folder or a GGUF file."""

import os
from argparse import Namespace
from pathlib import Path

from minilora.commands.common import Parser, add_model, print_notes
from minilora.errors import MiniloraError, escape
from minilora.formats.atomic import show_path


def add(parser: Parser) -> None:
    parser.epilog = (
        "example: minilora merge --model base --adapter runs/numpy --out runs/numpy-merged\n"
        "         minilora merge --model smollm2 --adapter runs/x --out merged.gguf"
    )
    add_model(parser)
    parser.add_argument(
        "--out",
        required=True,
        help="folder of the merged model, or a .gguf file for llama.cpp, in F16 (then --adapter may be left out)",
    )


def run(arguments: Namespace) -> None:
    from minilora.train import recipes

    out = Path(arguments.out)
    to_gguf = out.suffix == ".gguf"
    if to_gguf and os.path.lexists(out):
        raise MiniloraError(f"{show_path(out)} exists; choose another --out")
    if to_gguf and not out.parent.is_dir():
        raise MiniloraError(f"there is no folder {show_path(out.parent)} to write {escape(out.name)} into")
    if not to_gguf and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MiniloraError(f"{show_path(out)} exists and is not an empty folder; choose another --out")
    if arguments.adapter is None and not to_gguf:
        raise MiniloraError("merge needs --adapter, the folder of the adapter to merge")
    source = arguments.model or recipes.base_of(arguments.adapter)
    model, tokenizer = recipes.load_model(source, arguments.adapter)
    merged = model if arguments.adapter is None else model.merge_and_unload()
    if to_gguf:
        recipes.save_gguf(merged, tokenizer, out, source)
    else:
        recipes.save_model(merged, tokenizer, out)
    print_notes(getattr(model, "notes", []))
    print(f"saved {out}", flush=True)
