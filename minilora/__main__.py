"""Start the command line. Ctrl-C before it is loaded ends the process at once: there is nothing to clean up."""

import os
import signal
import sys


def main() -> int:
    """Load the command line, run one command and return its exit code."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda signum, frame: os._exit(128 + signum))
    from minilora import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
