"""`minilora generate`: continue a prompt, or have a chat model answer a question."""

import sys
from argparse import Namespace
from collections import deque

import numpy as np

from minilora.commands import common
from minilora.errors import MiniloraError, print_notes

NEW_TOKENS = 60  # default length of a continuation


def add(parser: common.Parser) -> None:
    parser.epilog = 'example: minilora generate --prompt "Return the" --max-new-tokens 40'
    common.add_flag(parser, "--prompt", "text to continue, or - to read standard input", required=True)
    common.add_model(parser)
    common.add_flag(parser, "--chat", "ask a chat model the prompt, and print its answer", bool)
    common.add_flag(parser, "--system", "system message for --chat (default: the model's own)", str, metavar="TEXT")
    words = f"length limit (default: {NEW_TOKENS}; with --chat: 512, or what the model can hold)"
    common.add_flag(parser, "--max-new-tokens", words, common.whole(0))
    common.add_drawing(parser, "0.8; with --chat 0")
    common.add_flag(parser, "--json")


def run(arguments: Namespace) -> None:
    from minilora.train import answers

    if arguments.system is not None and not arguments.chat:
        raise MiniloraError("--system needs --chat: only a conversation has a system message")
    model, tokenizer = common.load_model(arguments)
    prompt = common.read_stdin(sys.stdin.read) if arguments.prompt == "-" else arguments.prompt
    if not prompt:
        raise MiniloraError("the prompt is empty; give at least one character")
    how = common.drawing(arguments, temperature=0 if arguments.chat else 0.8)
    new_tokens = answers.ANSWER_TOKENS if arguments.chat else NEW_TOKENS
    new_tokens = new_tokens if arguments.max_new_tokens is None else arguments.max_new_tokens
    if arguments.chat:
        pieces = answers.ChatSession(model, tokenizer, arguments.system, new_tokens, **how).ask(prompt)
    else:
        ids, eos = tokenizer.encode_prompt(prompt), model.config.eos_token_id
        ends = [] if eos is None else np.atleast_1d(eos).tolist()
        pieces = answers.Continuation(model, tokenizer, ids, new_tokens, ends, **how)
    if arguments.json:
        deque(pieces, maxlen=0)  # generate everything first
        common.print_result(arguments, {"prompt": prompt, "continuation": pieces.text, "cut": pieces.is_cut}, "")
        return
    common.print_pieces([] if arguments.chat else [prompt])
    common.print_pieces(pieces)
    print(flush=True)
    if arguments.chat and pieces.is_cut:
        print_notes([f"the answer was cut after {len(pieces.tokens):,} tokens; raise --max-new-tokens for more"])
