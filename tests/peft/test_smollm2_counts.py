"""pytest tests/peft/test_smollm2_counts.py: the methods train as many as the formulas say, on SmolLM2-135M's shape."""

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
HIDDEN, INTERMEDIATE, LAYERS, KEY_VALUE = 576, 1536, 30, 192
HEADS = {"num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}
PLAIN = 134_515_008
CASES = {  # method -> its configuration, parameters by the formula of its paper
    "lora": (LoraConfig(), LAYERS * 8 * (2 * HIDDEN + HIDDEN + KEY_VALUE)),
    "prefix": (PrefixTuningConfig(num_virtual_tokens=10), 10 * 2 * LAYERS * KEY_VALUE),
    "prompt": (PromptTuningConfig(num_virtual_tokens=10), 10 * HIDDEN),
    "pfeiffer": (BottleneckConfig(), LAYERS * (2 * HIDDEN * 64 + 64 + HIDDEN)),
    "houlsby": (BottleneckConfig(placement="houlsby"), 2 * LAYERS * (2 * HIDDEN * 64 + 64 + HIDDEN)),
    "ia3": (IA3Config(), LAYERS * (2 * KEY_VALUE + INTERMEDIATE)),
}


@pytest.mark.parametrize("method", CASES)
def test_trainable_parameters(method):
    config, formula = CASES[method]
    shape = LlamaConfig(49_152, HIDDEN, INTERMEDIATE, num_hidden_layers=LAYERS, **HEADS)
    adapted = get_peft_model(LlamaForCausalLM(shape, seed=None), config)
    assert adapted.get_nb_trainable_parameters() == (formula, PLAIN + formula)
