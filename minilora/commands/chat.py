"""`minilora chat`: talk to a chat model, which stays loaded and remembers the conversation."""

import sys
from argparse import Namespace
from contextlib import suppress

from minilora.commands import common
from minilora.errors import MiniloraError, print_notes, unknown

MODEL = "smollm2"
HELP = "/reset starts a new conversation, /quit or Ctrl-D ends, Ctrl-C stops an answer"


def add(parser: common.Parser) -> None:
    parser.description = f"{parser.description}\n\nEach line you type is a message.\n{HELP}."
    parser.epilog = "example: minilora chat --model smollm2 --system 'Answer in one sentence.'"
    common.add_model(parser, base=MODEL)
    common.add_flag(parser, "--system", "system message (default: the model's own)", str, metavar="TEXT")
    common.add_flag(parser, "--max-new-tokens", f"length limit of an answer {common.DEFAULT}", common.whole(1), 512)
    common.add_drawing(parser, "0")


def run(arguments: Namespace) -> None:
    from minilora.train.answers import ChatSession

    model, tokenizer = common.load_model(arguments, MODEL)
    how = common.drawing(arguments, temperature=0)
    session = ChatSession(model, tokenizer, arguments.system, arguments.max_new_tokens, **how)
    is_watched = sys.stdin.isatty() and sys.stdout.isatty()
    if is_watched:
        with suppress(ImportError):
            import readline  # noqa: F401 (makes `input` edit lines)
        print(f"The model is loaded; it remembers up to {session.context:,} tokens of conversation.\n{HELP}.")
    prompt = "> " if is_watched else ""
    while True:
        try:
            line = common.read_stdin(lambda: input(prompt)).strip()
        except EOFError:
            print(end="\n" if is_watched else "")
            return
        if line == "/quit":
            return
        if line == "/reset":
            session.reset()
        elif line.startswith("/") and line[1:].isalpha():
            print_notes([unknown("command", line, ("/quit", "/reset"))])
        elif line:
            _answer(session, line)


def _answer(session, question: str) -> None:
    """Print the answer. An error in one question is printed as a note, and does not end the conversation."""
    try:
        answer = session.ask(question)
        common.print_pieces(answer)
        print(flush=True)
        if answer.is_cut:
            print_notes([f"the answer was cut after {len(answer.tokens):,} tokens; raise --max-new-tokens for more"])
    except MiniloraError as error:
        print_notes([str(error)])
    except KeyboardInterrupt:
        print(flush=True)
        print_notes(["stopped"])
