"""`minilora generate`: a prompt continued, or a question answered by a chat model."""

import sys
from argparse import Namespace
from collections import deque

import numpy as np

from minilora.commands import common
from minilora.commands.common import whole
from minilora.errors import MiniloraError, print_notes

NEW_TOKENS = 60  # of a text that is continued


def add(parser: common.Parser) -> None:
    parser.epilog = 'example: minilora generate --prompt "Return the" --max-new-tokens 40'
    common.add_model(parser)
    parser.add_argument("--prompt", required=True, help="text to continue; - reads standard input")
    parser.add_argument(
        "--chat", action="store_true", help="put the prompt as a question to a chat model and print its answer"
    )
    parser.add_argument(
        "--system", type=str, metavar="TEXT", help="the system message of --chat (default: the model's own)"
    )
    parser.add_argument(
        "--max-new-tokens", type=whole(0), help=f"(default: {NEW_TOKENS}; with --chat 512, or what the model can hold)"
    )
    common.add_drawing(parser, "0.8; with --chat 0")
    common.add_json(parser)


def run(arguments: Namespace) -> None:
    from minilora.train import answers, load

    if arguments.system is not None and not arguments.chat:
        raise MiniloraError("--system goes with --chat: only a chat model has a system message")
    model, tokenizer = load.load_model(arguments.model, common.adapters(arguments), strength=arguments.strength)
    print_notes(getattr(model, "notes", []))
    prompt = common.read_stdin(sys.stdin.read) if arguments.prompt == "-" else arguments.prompt
    if not prompt:
        raise MiniloraError("the prompt is empty; give at least one character")
    if arguments.chat:
        ids = answers.question_ids(tokenizer, prompt, arguments.system)
        ends, new_tokens = answers.end_token_ids(tokenizer, model.config), answers.answer_room(model, len(ids))
    else:
        ids, new_tokens, listed = tokenizer.encode_prompt(prompt), NEW_TOKENS, model.config.eos_token_id
        ends = [] if listed is None else np.atleast_1d(listed).tolist()
    if arguments.max_new_tokens is not None:
        new_tokens = arguments.max_new_tokens
    how = common.drawing(arguments, temperature=0 if arguments.chat else 0.8)
    made = answers.Continuation(model, tokenizer, ids, new_tokens, ends, trims=arguments.chat, **how)
    if arguments.json:
        deque(made, maxlen=0)
        facts = {"prompt": prompt, "continuation": made.text, "cut": made.is_cut}
        common.print_result(arguments, facts, "")
        return
    if not arguments.chat:
        common.print_pieces([prompt])
    common.print_pieces(made)
    print(flush=True)
    if arguments.chat and made.is_cut:
        print_notes([f"the answer was cut after {new_tokens:,} tokens; --max-new-tokens gives it more"])
