"""SmolLM2-135M in minilora beside transformers and PEFT: the same results, and files that open in both directions.

    pip install -e ".[parity,gguf]" && minilora models get smollm2 && python -m benchmarks.smollm2

See `benchmarks.smollm2_checks`. `benchmarks.speed` measures the speed of steps and decoding, and the memory of each
library's process; `benchmarks.memory` measures what a step keeps alive, and the memory of minilora's process.
"""

import argparse
import sys
import tempfile
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("torch", "transformers", "peft", "bitsandbytes", "gguf")  # the extras parity and gguf
say = partial(print, flush=True)


# The parts


def show_equal() -> None:
    from benchmarks import smollm2_checks as checks

    with tempfile.TemporaryDirectory() as folder:
        result = checks.equal(Path(folder))
    say(f"Same results: logits (goal {checks.GOAL:.0e} of the largest) and {checks.NEW_TOKENS} greedy tokens")
    say(f"{'transformers has its weights from':<36}{'bits':>6}{'10 answers':>12}{'long text':>11}{'texts':>10}")
    names = {"saved": "a folder that minilora saved", "gguf": "the GGUF file, by its own reader"}
    for key, row in result["transformers"].items():
        texts = f"{row['texts'] - len(row['differing'])} of {row['texts']}"
        bits = "equal" if row["weights_equal"] else "differ"
        say(f"{names[key]:<36}{bits:>6}{row['answers']:>12.1e}{row['long']:>11.1e}{texts:>10}")
        for other in row["differing"]:
            where = f"prompt {other['prompt']} differs at token {other['token']}"
            say(f"  {where}, where the two best logits are {other['gap']:.1e} apart")
    say(f"{checks.QUESTION} {result['answer']}")


def show_out() -> None:
    from benchmarks import smollm2_checks as checks

    say(f"Files opened in the other library: how far apart logits are (goal {checks.GOAL:.0e}), and moved by training")
    say(f"{'what':<22}{'from':<14}{'opens in':<14}{'apart':>10}{'moved':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for row in checks.out_again(Path(folder)):
            title = f"{row['kind']}, {row['what']}"
            say(f"{title:<22}{row['from']:<14}{row['to']:<14}{row['distance']:>10.1e}{row['moved']:>10.1e}")


PARTS = {"equal": show_equal, "out": show_out}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    arguments = parser.parse_args()

    from minilora.errors import MiniloraError
    from minilora.train import catalog

    if missing := [name for name in NEEDED if find_spec(name) is None]:
        print(f'{", ".join(missing)} missing: pip install -e ".[parity,gguf]"', file=sys.stderr)
        return 2
    try:
        catalog.find("smollm2")
    except MiniloraError as error:
        print(error, file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")  # warnings of PEFT and transformers, which we cannot fix
    for part in [arguments.only] if arguments.only else PARTS:
        PARTS[part]()
        say("")
    return 0


if __name__ == "__main__":
    sys.exit(main())
