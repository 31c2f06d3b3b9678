"""`minilora generate`: a prompt continued, or a question answered by a chat model."""

import sys
from argparse import Namespace

from minilora.commands import common
from minilora.commands.common import number, share, whole
from minilora.errors import MiniloraError


def add(parser: common.Parser) -> None:
    parser.epilog = 'example: minilora generate --model base --prompt "Return the" --max-new-tokens 40'
    common.add_model(parser)
    parser.add_argument("--prompt", required=True, help="text to continue; - reads standard input")
    parser.add_argument(
        "--chat", action="store_true", help="put the prompt as a question to a chat model and print its answer"
    )
    parser.add_argument("--system", metavar="TEXT", help="the system message of --chat (default: the model's own)")
    parser.add_argument("--max-new-tokens", type=whole(0), default=60, help="(default: %(default)s)")
    parser.add_argument("--temperature", type=number(least=0), default=0.8, help="0 is greedy (default: %(default)s)")
    parser.add_argument("--top-k", type=whole(1), help="draw among so many of the likeliest tokens")
    parser.add_argument("--top-p", type=share, help="draw among the likeliest that reach this share together")
    common.add_seed(parser)
    common.add_json(parser)


def run(arguments: Namespace) -> None:
    from minilora.train import answers, recipes

    if arguments.system is not None and not arguments.chat:
        raise MiniloraError("--system goes with --chat: only a chat model has a system message")
    model, tokenizer = recipes.load_model(arguments.model, arguments.adapter)
    common.print_notes(getattr(model, "notes", []))
    prompt = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    if not prompt:
        raise MiniloraError("the prompt is empty; give at least one character")
    if arguments.chat:
        ids = answers.question_ids(tokenizer, prompt, arguments.system)
        ends = answers.end_token_ids(tokenizer, model.config)
    else:
        ids, ends = tokenizer.encode_prompt(prompt), None
    how = {name: getattr(arguments, name) for name in ("temperature", "top_k", "top_p", "seed")}
    out = model.generate(ids[None], arguments.max_new_tokens, **how, eos_token_id=ends)
    continuation = tokenizer.decode(out[0, len(ids) :])
    if arguments.chat:
        continuation = continuation.strip()
    facts = {"prompt": prompt, "continuation": continuation}
    common.print_result(arguments, facts, continuation if arguments.chat else prompt + continuation)
