"""pytest tests/peft/test_settings.py: every field of every configuration refuses what it may not hold, all at once.

What a kind of field allows is asked in tests/test_fields.py.
"""

from math import nan

import pytest

from minilora.errors import MiniloraError
from minilora.peft import (
    BitFitConfig,
    BottleneckConfig,
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    VeraConfig,
)

pytestmark = pytest.mark.host
TWO = {"num_virtual_tokens": 2}
BAD = [  # a configuration, {field: value}, and what the message says of each
    (
        LoraConfig,
        {"r": 0, "lora_alpha": nan, "lora_dropout": 1.0, "use_rslora": 1, "use_dora": "yes", "rank_pattern": ["q"]}
        | {"init_lora_weights": "pisa", "target_modules": [], "modules_to_save": [None], "task_type": "DIVINATION"},
        ["r must be a whole number of at least 1, not 0", "lora_alpha must", "not nan", "lora_dropout must"]
        + ["use_rslora must be True or False", "use_dora must", "did you mean 'pissa'?", "target_modules must be names"]
        + ["rank_pattern must be a dictionary", "modules_to_save must", "task_type must be", "SEQ_CLS", "DIVINATION"],
    ),
    (LoraConfig, {"rank_pattern": {"q": 0, "v": 2.5, "k": 3}}, ["rank_pattern['q'] must be", "rank_pattern['v'] must"]),
    (LoraConfig, {"alpha_pattern": {"q": 0, "v": nan}}, ["alpha_pattern['q'] must be", "alpha_pattern['v'] must be"]),
    (LoraConfig, {"target_modules": ""}, ["target_modules must be names, one or more"]),
    (LoraConfig, {"target_modules": {"q_proj": 1}}, ["target_modules must be names"]),
    (LoraConfig, {"init_lora_weights": 1}, ["init_lora_weights must be", "not 1"]),
    (LoraConfig, {"bias": "lora_only", "layers_to_transform": [1.5]}, ["BitFitConfig", "layers_to_transform must be"]),
    (BitFitConfig, {"norms": None, "target_modules": 3}, ["norms must be True or False, not None", "target_modules"]),
    (LNTuningConfig, {"target_modules": 3, "modules_to_save": [1]}, ["target_modules must", "modules_to_save must"]),
    (
        IA3Config,
        {"feedforward_modules": {"a": 1}, "target_modules": 3},
        ["feedforward_modules must be names", "target_modules must be names"],
    ),
    (
        BottleneckConfig,
        {"bottleneck_size": -1, "placement": "houlsbi", "activation": "tanh"},
        ["bottleneck_size must be a whole number of at least 1", "placement must be one of pfeiffer, houlsby, parallel"]
        + [
            "did you mean 'houlsby'?",
            "activation must be one of gelu",
        ],
    ),
    (
        VeraConfig,
        {"r": 2.0, "d_initial": 0, "projection_prng_key": -1},
        ["r must be", "d_initial must be a number other than 0", "projection_prng_key must be a whole number"],
    ),
    (PrefixTuningConfig, {}, ["num_virtual_tokens must be", "None"]),
    (PrefixTuningConfig, TWO | {"init_token_ids": []}, ["init_token_ids must be a list of token ids"]),
    (PrefixTuningConfig, TWO | {"init_token_ids": [1, 2.0]}, ["init_token_ids must be a list of token ids"]),
    (
        PrefixTuningConfig,
        {"num_virtual_tokens": -1, "encoder_hidden_size": 1.5, "init_weights": 3, "task_type": "x"},
        ["num_virtual_tokens", "encoder_hidden_size", "init_weights", "task_type"],
    ),
    (
        PromptTuningConfig,
        {"num_virtual_tokens": 2.5, "prompt_tuning_init": 1, "prompt_tuning_init_text": 3, "task_type": "x"},
        ["num_virtual", "init must be one of RANDOM, SAMPLE_VOCAB, TEXT", "text or None, not 3", "task"],
    ),
]


@pytest.mark.parametrize("config, options, words", BAD)
def test_bad_settings_are_all_named(config, options, words):
    with pytest.raises(MiniloraError) as error:
        config(**options)
    assert isinstance(error.value, ValueError)
    for word in words:
        assert word in str(error.value)
