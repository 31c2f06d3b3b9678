"""pytest tests/peft/test_method.py: one record for each method, from which names, looks, flags and lists are made."""

from argparse import ArgumentParser

import pytest

from experiments import comparison
from experiments.results import advise
from minilora import peft
from minilora.errors import MiniloraError
from minilora.peft import CONFIGS, METHODS, LoraConfig, Options
from minilora.peft.method import Counts, find, known_options, method_of
from minilora.plan.shapes import PRESETS
from minilora.show.grids import IN_SENTENCES, NAMES, in_order
from minilora.show.style import LOOKS
from minilora.train.methods import add_option_flags, method_list, read_options

pytestmark = pytest.mark.host


@pytest.mark.parametrize("name", METHODS)
def test_a_record_is_in_every_list(name):
    method = METHODS[name]
    assert method.name == name == find(name) == find((method.other_names or (name,))[-1])
    assert NAMES[name] == method.label and LOOKS[name] == method.look and IN_SENTENCES[name]
    assert f"  {name} " in method_list() and method.description in method_list()
    assert (name in advise.ADAPTERS) == (method.config is not None) == (method.make_trainable is None)
    assert (name in comparison.METHODS) == method.is_compared
    counts = method.plan(PRESETS["base"], Options()).counts
    assert isinstance(counts, Counts) and counts.total(6) > 0


def test_no_two_look_or_are_called_alike():
    assert len({(look["marker"], str(look["linestyle"])) for look in LOOKS.values()}) == len(LOOKS) == len(NAMES)
    called = [name for method in METHODS.values() for name in (method.name, *method.other_names)]
    assert len({*called, *NAMES}) == len(called) + 3 and len({*NAMES.values()}) == len(NAMES)


def test_what_is_not_known_is_an_error_and_never_a_gap():
    with pytest.raises(MiniloraError, match="unknown method 'lara': did you mean 'lora'"):
        find("lara")
    with pytest.raises(MiniloraError, match="unknown method in the records 'vora'"):
        in_order(["lora", "vora"])
    with pytest.raises(TypeError, match="no method has an option ranks; there are"):
        Options(ranks=3)
    with pytest.raises(AttributeError, match="'ranks'"):
        _ = Options().ranks
    with pytest.raises(AttributeError, match="cannot be changed"):
        Options().rank = 3
    assert in_order(["qlora", "base", "lora", "lora"]) == ["base", "lora", "qlora"]


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.config])
def test_a_configuration_tells_its_method(name):
    method, tokens = METHODS[name], list(range(20))
    config = method.make_config(Options(rank=3), tokens)
    assert CONFIGS[config.peft_type] is type(config) and type(config).__name__ in peft.__all__
    told = method_of(config)
    assert told.config is method.config and told.variant == method.variant  # QLoRA's is LoRA's
    assert told is method or not method.variant


def test_of_several_variants_the_largest_change_gives_the_name():
    assert method_of(LoraConfig(use_rslora=True, use_dora=True)).name == "dora"


def arguments(*flags: str):
    parser = ArgumentParser()
    add_option_flags(parser)
    return parser.parse_args(flags)


def test_every_option_has_a_flag_with_its_help_and_default():
    parser = ArgumentParser()
    add_option_flags(parser)
    text = " ".join(parser.format_help().split())
    for name, option in known_options().items():
        assert f"--{name.replace('_', '-')}" in text and option.help in text
    assert "(default: all-linear)" in text and "(default: twice the rank)" in text


def test_flags_become_options_and_a_bad_value_is_named_by_its_flag():
    read = read_options(arguments("--rank", "4", "--targets", "q_proj,v_proj", "--double-quantization"), "qlora")
    assert read == Options(rank=4, targets=["q_proj", "v_proj"], double_quantization=True)
    assert read_options(arguments("--rank", "4", "--virtual-tokens", "3"), "prefix", only_own=True).rank == 8
    for flags, name, words in (
        (["--rank", "0"], "lora", "--rank must be a whole number of at least 1, not 0"),
        (["--alpha", "nan", "--dropout", "1"], "dora", "--alpha must be a positive number or None, not nan; --dropout"),
        (["--virtual-tokens", "0"], "prompt", "--virtual-tokens must be a whole number of at least 1, not 0"),
        (["--placement", "houlsy"], "bottleneck", "--placement must be one of pfeiffer, houlsby, parallel"),
        (
            ["--quant-type", "nf5"],
            "qlora",
            "--quant-type must be one of nf4, fp4, int4, not 'nf5'; did you",
        ),
        (["--rank", "4", "--placement", "x"], "ia3", "method ia3 does not use --placement, --rank"),
    ):
        with pytest.raises(MiniloraError) as error:
            read_options(arguments(*flags), name)
        assert words in str(error.value)
