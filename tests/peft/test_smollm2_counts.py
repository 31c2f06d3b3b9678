"""pytest tests/peft/test_smollm2_counts.py

What the methods train on the shape of SmolLM2-135M, as share of the model."""

import pytest

from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import (
    BottleneckConfig,
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)

pytestmark = pytest.mark.host  # the shape counts, not where the arrays are

TASK = {"task_type": "CAUSAL_LM"}
HIDDEN, INTERMEDIATE, LAYERS, KEY_VALUE = 576, 1536, 30, 192
PLAIN = 134_515_008
# Method -> its configuration, parameters by the formula of its paper, and the range of the share in percent.
CASES = {
    "lora": (LoraConfig(**TASK), LAYERS * 8 * (2 * HIDDEN + HIDDEN + KEY_VALUE), (0.1, 1)),
    "prefix": (PrefixTuningConfig(num_virtual_tokens=10, **TASK), 10 * 2 * LAYERS * KEY_VALUE, (0.01, 0.1)),
    "prompt": (PromptTuningConfig(num_virtual_tokens=10, **TASK), 10 * HIDDEN, (0.001, 0.1)),
    "pfeiffer": (BottleneckConfig(), LAYERS * (2 * HIDDEN * 64 + 64 + HIDDEN), (1, 5)),
    "houlsby": (BottleneckConfig(placement="houlsby"), 2 * LAYERS * (2 * HIDDEN * 64 + 64 + HIDDEN), (1, 5)),
    "ia3": (IA3Config(), LAYERS * (2 * KEY_VALUE + INTERMEDIATE), (0.01, 0.1)),
}


@pytest.mark.parametrize("method", CASES)
def test_trainable_share(method):
    config, formula, (least, most) = CASES[method]
    shape = LlamaConfig(
        vocab_size=49_152,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    adapted = get_peft_model(LlamaForCausalLM(shape, seed=None), config)
    assert adapted.get_nb_trainable_parameters() == (formula, PLAIN + formula)
    assert least < 100 * formula / (PLAIN + formula) < most
