"""pytest tests/train/test_methods.py: every method makes trainable what it should, language model or classifier."""

import numpy as np
import pytest

from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from minilora.quant import quantize_model, quantized_linears
from minilora.train import methods
from minilora.train.loop import trainable

SHAPE = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 2, "tie_word_embeddings": True}


@pytest.mark.parametrize("method", methods.METHODS)
def test_a_classifier_trains_its_head_and_what_the_method_says(method):
    body = LlamaForCausalLM(LlamaConfig(**SHAPE))
    model = LlamaForSequenceClassification.from_language_model(body, 3, seed=0)
    model = methods.adapt(model, method, tokens=range(10))
    names = set(trainable(model))
    assert any(name.endswith("score.weight") for name in names)
    assert (len(names) == 1) == (method == "feature-extraction")
    ids = np.arange(12).reshape(3, 4)
    model(ids, attention_mask=np.ones_like(ids), labels=np.arange(3)).loss.backward()
    assert all(p.grad is not None for p in trainable(model).values())


@pytest.mark.parametrize("name, other", [("full", "full-fine-tuning"), ("feature-extraction", "feature_extraction")])
def test_another_name_of_a_method_trains_the_same(name, other):
    models = [methods.adapt(LlamaForCausalLM(LlamaConfig(**SHAPE)), called) for called in (name, other)]
    assert set(trainable(models[0])) == set(trainable(models[1]))
    every = {path for path, _ in models[1].named_parameters()}
    assert (set(trainable(models[1])) == every) == (name == "full")


def test_a_head_of_its_own_leaves_the_embeddings_alone():
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    before = model.model.embed_tokens.weight
    model = methods.adapt(model, "feature-extraction")
    assert set(trainable(model)) == {"lm_head.weight"}
    assert model.lm_head.weight is not before and not before.requires_grad


def test_a_base_in_4_bits_already_stays_so():
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    options = methods.Options(rank=2, quant_type="fp4", blocksize=32, double_quantization=True)
    assert options.quantization == {"quant_type": "fp4", "blocksize": 32, "compress_statistics": True}
    quantize_model(model, **options.quantization)
    layers = [model.get_submodule(path) for path in quantized_linears(model)]
    adapted = methods.adapt(model, "qlora", options)
    assert [adapted.get_submodule(path) for path in quantized_linears(adapted)] == layers
