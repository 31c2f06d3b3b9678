"""Start the command line. Ctrl-C while it loads ends the process at once: there is nothing to clean up."""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Load the command line, run one command and return its exit code."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    from minilora import cli

    return cli.main()


def _end(signum: int, frame: FrameType | None) -> None:
    os.write(2, b"minilora: interrupted\n")
    os._exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
