"""pytest tests/peft/test_faults.py: mistakes that are easily made, planted one by one; each makes a check fail.

A check that cannot fail shows nothing. These are the checks of the other files, called with the fault in place.
"""

import pytest

from minilora import nn
from minilora.backend import xp
from minilora.models import llama
from minilora.models.rotary import rotary_tables
from minilora.peft import LoraConfig, PeftModel, files
from minilora.peft.lora import LoraLinear
from minilora.peft.prefix import PrefixLayer
from minilora.quant import blockwise, fast, linear4bit, plain
from tests.helpers.peft_invariants import (
    CASES,
    disables_exactly,
    merges_or_says_why_not,
    refuses_another_base,
    starts_as_promised,
    trains_exactly_its_own,
)
from tests.peft import test_golden as test_peft_golden
from tests.quant import test_blockwise as test_quant_blockwise


def promise(invariant, case: str):
    return lambda folder: invariant(CASES[case], "tied", 0, folder)


def same_logits_as_peft(name: str):
    return lambda folder: test_peft_golden.test_a_trained_adapter_gives_the_same_logits(name)


def same_bits_as_bitsandbytes(folder):
    test_quant_blockwise.test_bitsandbytes_bits(64, "nf4")


def no_scaling(patch):
    patch.setattr(LoraConfig, "scaling", 1.0)


def alpha_in_place_of_alpha_over_r(patch):
    patch.setattr(LoraConfig, "scaling", property(lambda config: config.lora_alpha))


def merge_without_scaling(patch):
    merged = LoraLinear.merged

    def wrong(layer):
        layer.scaling, scaling = 1.0, layer.scaling
        try:
            return merged(layer)
        finally:
            layer.scaling = scaling

    patch.setattr(LoraLinear, "merged", wrong)


def random_b(patch):
    default = LoraConfig.__init__
    patch.setattr(LoraConfig, "__init__", lambda self, **kw: default(self, **{"init_lora_weights": False} | kw))


def base_that_is_not_frozen(patch):
    patch.setattr(nn.Module, "requires_grad_", lambda module, flag=True: module)


def base_that_is_moved_by_each_forward(patch):
    forward = LoraLinear.forward

    def wrong(layer, x):
        layer.base_layer.weight.data = layer.base_layer.weight.data * 1.00001
        return forward(layer, x)

    patch.setattr(LoraLinear, "forward", wrong)


def disabling_that_leaks(patch):
    switch = PeftModel._switch

    def wrong(adapted, on):
        sites = adapted._active.sites
        adapted._active.sites = sites if on else sites[1:]
        switch(adapted, on)
        adapted._active.sites = sites

    patch.setattr(PeftModel, "_switch", wrong)


def fingerprint_of_nothing(patch):
    patch.setattr(files, "base_fingerprint", lambda *arguments: "0")


def fingerprint_of_shapes(patch):
    patch.setattr(files, "weight_digest", lambda array: "0")
    patch.setattr(linear4bit, "weight_digest", lambda array: "0")


def swapped_nibbles(patch):
    quick, slow = fast.quantize_4bit, plain.quantize_4bit
    swap = lambda packed, absmax: (packed << 4 | packed >> 4, absmax)  # noqa: E731
    patch.setattr(fast, "quantize_4bit", lambda *arguments: swap(*quick(*arguments)))
    patch.setattr(plain, "quantize_4bit", lambda *arguments: swap(*slow(*arguments)))


def absmax_of_the_next_block(patch):
    dequantize = blockwise.dequantize_4bit

    def wrong(packed, state, *arguments):
        state.absmax = state.absmax[::-1].copy()
        return dequantize(packed, state, *arguments)

    patch.setattr(test_quant_blockwise, "dequantize_4bit", wrong)


def prefix_that_takes_keys_for_values(patch):
    prefix = PrefixLayer.prefix

    def wrong(layer):
        rows = prefix(layer)
        halves = rows.reshape(rows.shape[0], -1, 2, rows.shape[1] // (2 * len(layer.base_layer.layers)))
        return halves[:, :, ::-1].reshape(*rows.shape)

    patch.setattr(PrefixLayer, "prefix", wrong)


def positions_that_start_at_zero_after_a_prefix(patch):
    wrong = lambda positions, frequencies: rotary_tables(positions - positions.min(), frequencies)  # noqa: E731
    patch.setattr(llama, "rotary_tables", wrong)


def dora_norm_along_the_wrong_axis(patch):
    def wrong(weight):
        norms = xp.sqrt((weight * weight).sum(axis=0))  # (in,)
        return xp.resize(norms, weight.shape[:1])

    patch.setattr("minilora.peft.lora.row_norms", wrong)


CAUGHT_BY = {
    no_scaling: same_logits_as_peft("lora"),
    alpha_in_place_of_alpha_over_r: same_logits_as_peft("rslora"),
    merge_without_scaling: promise(merges_or_says_why_not, "lora"),
    random_b: promise(starts_as_promised, "lora"),
    base_that_is_not_frozen: promise(trains_exactly_its_own, "ia3"),
    base_that_is_moved_by_each_forward: promise(disables_exactly, "lora"),
    disabling_that_leaks: promise(disables_exactly, "bottleneck, pfeiffer"),
    fingerprint_of_nothing: promise(refuses_another_base, "lora"),
    fingerprint_of_shapes: promise(refuses_another_base, "qlora"),
    swapped_nibbles: same_bits_as_bitsandbytes,
    absmax_of_the_next_block: same_bits_as_bitsandbytes,
    prefix_that_takes_keys_for_values: same_logits_as_peft("prefix"),
    positions_that_start_at_zero_after_a_prefix: same_logits_as_peft("prefix"),
    dora_norm_along_the_wrong_axis: same_logits_as_peft("dora"),
}


@pytest.mark.parametrize("fault", CAUGHT_BY, ids=lambda fault: fault.__name__)
def test_the_fault_is_caught(fault, tmp_path, monkeypatch):
    check = CAUGHT_BY[fault]
    check(tmp_path / "sound")
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises(AssertionError):
            check(tmp_path / "faulty")
    check(tmp_path / "mended")
