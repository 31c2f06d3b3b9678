"""pytest tests/commands/test_options.py: the flags of the methods, made from their records."""

import pytest

from minilora.commands.common import Parser
from minilora.commands.options import add_option_flags, read_options
from minilora.errors import MiniloraError
from minilora.peft import METHODS, Options

pytestmark = pytest.mark.host


def parser(*flags: str) -> Parser:
    made = Parser(flags, prog="tuned")
    made.add_argument("--method")
    add_option_flags(made)
    return made


@pytest.mark.parametrize("name", METHODS)
def test_the_help_of_a_method_has_its_flags_alone(name):
    text = " ".join(parser("--method", name, "--help").format_help().split())
    method = METHODS[name]
    assert method.label in text and method.description in text
    flags = [word for word in text.split() if word.startswith("--")]
    assert flags.pop() == "--help"  # which has all the others
    assert sorted(flags) == sorted(f"--{option.replace('_', '-')}" for option in method.options)
    for option in method.options.values():
        assert f"{option.help} (default: {option.default_words})" in text
    assert "--rank" not in parser("--help").format_help()


def test_flags_become_options_and_a_bad_value_is_named_by_its_flag():
    flags = parser("--rank", "4", "--targets", "q_proj,v_proj", "--double-quantization").parse()
    assert read_options(flags, "qlora") == Options(rank=4, targets=["q_proj", "v_proj"], double_quantization=True)
    flags = parser("--rank", "4", "--virtual-tokens", "3").parse()
    assert read_options(flags, "prefix", only_own=True).rank == 8
    for typed, name, words in (
        (["--rank", "0"], "lora", "--rank must be a whole number of at least 1, not 0"),
        (["--alpha", "nan"], "dora", "--alpha must be a positive number or None, not nan"),
        (["--placement", "houlsy"], "bottleneck", "--placement must be one of pfeiffer, houlsby, parallel"),
        (["--quant-type", "nf5"], "qlora", "--quant-type must be one of nf4, fp4, int4, not nf5; did you"),
        (["--rank", "4", "--placement", "houlsby"], "ia3", "method ia3 does not use --placement, --rank"),
    ):
        with pytest.raises(MiniloraError) as error:
            read_options(parser(*typed).parse(), name)
        assert words in str(error.value)
