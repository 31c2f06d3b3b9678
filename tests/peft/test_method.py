"""pytest tests/peft/test_method.py: one record for each method, from which names, looks, flags and lists are made."""

import pytest

from experiments import comparison
from minilora import peft
from minilora.errors import MiniloraError
from minilora.peft import CONFIGS, METHODS, Options
from minilora.peft.method import Counts, find
from minilora.plan.shapes import PRESETS
from minilora.show.grids import IN_SENTENCES, NAMES, in_order
from minilora.show.style import LOOKS

pytestmark = pytest.mark.host


@pytest.mark.parametrize("name", METHODS)
def test_a_record_is_in_every_list(name):
    method = METHODS[name]
    assert method.name == name == find(name) == find((method.other_names or (name,))[-1])
    assert NAMES[name] == method.label and LOOKS[name] == method.look and IN_SENTENCES[name]
    assert (method.config is not None) == (method.make_trainable is None)
    counts = method.plan(PRESETS["base"], Options()).counts
    assert isinstance(counts, Counts) and counts.total(6) > 0


def test_what_the_comparison_leaves_out_are_methods():
    assert METHODS.keys() > comparison.LEFT_OUT and not comparison.LEFT_OUT & set(comparison.METHODS)


def test_no_two_look_or_are_called_alike():
    assert len({(look["marker"], str(look["linestyle"])) for look in LOOKS.values()}) == len(LOOKS) == len(NAMES)
    called = [name for method in METHODS.values() for name in (method.name, *method.other_names)]
    assert len({*called, *NAMES}) == len(called) + 3 and len({*NAMES.values()}) == len(NAMES)


def test_what_is_not_known_is_an_error_and_never_a_gap():
    with pytest.raises(MiniloraError, match="unknown method 'lara': did you mean 'lora'"):
        find("lara")
    with pytest.raises(MiniloraError, match="unknown method in the records 'vora'"):
        in_order(["lora", "vora"])
    with pytest.raises(TypeError, match="no method has an option ranks; the options are"):
        Options(ranks=3)
    with pytest.raises(AttributeError, match="'ranks'"):
        _ = Options().ranks
    assert in_order(["qlora", "base", "lora", "lora"]) == ["base", "lora", "qlora"]


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.config])
def test_a_configuration_is_found_by_its_type(name):
    method, tokens = METHODS[name], list(range(20))
    config = method.make_config(Options(rank=3), tokens)
    assert CONFIGS[config.peft_type] is type(config) and type(config).__name__ in peft.__all__
