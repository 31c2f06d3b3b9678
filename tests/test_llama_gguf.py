"""pytest tests/test_llama_gguf.py: Llama-family models from GGUF files."""

import numpy as np
import pytest

from minilora import backend, quant
from minilora.errors import FormatError
from minilora.formats.gguf import GGUF
from minilora.formats.stored import StoredTensor
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from minilora.models.llama_gguf import BLOCK_NAMES, NAMES, llama_of
from minilora.models.rotary import inverse_frequencies

gguf = pytest.importorskip("gguf")

SIZES = dict(vocab_size=21, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, rope_theta=500.0, rms_norm_eps=1e-5)  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
IDS = np.random.default_rng(1).integers(0, 21, (2, 40))


def model_of(**settings) -> LlamaForCausalLM:
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, "initializer_range": 0.3, **settings}), seed=3)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.data = backend.asarray(np.random.default_rng(len(name)).standard_normal(p.shape, dtype="float32"))
    return model.eval()


def pairs(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k as llama.cpp has them: number i beside number i + D/2."""
    size = len(array) // heads
    order = [head * size + i + half * size // 2 for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return array[order]


def write(path, model: LlamaForCausalLM, change=lambda writer, tensors: None) -> None:
    """`model` as llama.cpp's converter would write it, in float32."""
    config = model.config
    arch = "qwen2" if config.model_type == "qwen2" else "llama"
    writer = gguf.GGUFWriter(path, arch=arch)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    words = {path: name for name, path in NAMES.items()}
    parts = {path: name for name, path in BLOCK_NAMES.items()}
    tensors = {}
    for name, p in model.named_parameters():
        array = backend.to_numpy(p.data)
        stem, kind = name.rsplit(".", 1)
        if stem in words:
            tensors[f"{words[stem]}.{kind}"] = array
            continue
        layer, part = stem.removeprefix("model.layers.").split(".", 1)
        if arch == "llama" and parts[part] in ("attn_q", "attn_k"):
            array = pairs(array, config.num_attention_heads if parts[part] == "attn_q" else config.num_key_value_heads)
        tensors[f"blk.{layer}.{parts[part]}.{kind}"] = array
    change(writer, tensors)
    for name, array in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    "settings",
    [{}, {"tie_word_embeddings": True}, {"model_type": "qwen2", "attention_bias": True}],
    ids=["untied", "tied", "qwen2"],
)
def test_a_model_comes_back(tmp_path, settings):
    model = model_of(**settings)
    write(tmp_path / "model.gguf", model)
    again = LlamaForCausalLM.from_pretrained(tmp_path / "model.gguf")
    assert not again.training and again.config.eos_token_id == 2
    for name in (*SIZES, "tie_word_embeddings", "model_type", "attention_bias", "head_dim"):
        assert getattr(again.config, name) == pytest.approx(getattr(model.config, name)), name
    np.testing.assert_array_equal(again(IDS).logits.numpy(), model(IDS).logits.numpy())


def test_rotary_factors_are_llama_3_s(tmp_path):
    theta = 5e5
    model = model_of(rope_theta=theta, rope_scaling=LLAMA3)
    plain, scaled = inverse_frequencies(8, theta), inverse_frequencies(8, theta, LLAMA3)
    assert not np.allclose(plain, scaled)

    def with_factors(factors):
        return lambda writer, tensors: tensors.update({"rope_freqs.weight": factors.astype("float32")})

    write(tmp_path / "model.gguf", model, with_factors(plain / scaled))
    again = LlamaForCausalLM.from_pretrained(tmp_path / "model.gguf")
    assert again.config.rope_scaling == pytest.approx(LLAMA3)
    np.testing.assert_allclose(again(IDS).logits.numpy(), model(IDS).logits.numpy(), atol=1e-5)
    for wrong in (np.array([1.0, 5, 2, 8]), np.zeros(4), np.full(4, np.nan)):
        write(tmp_path / "model.gguf", model, with_factors(wrong))
        with pytest.raises(FormatError, match="rope_freqs"):
            LlamaForCausalLM.from_pretrained(tmp_path / "model.gguf")


def test_quantized_as_it_is_read(tmp_path):
    """The same codes as quantizing the whole model; digests too, by which adapters know their base."""
    write(tmp_path / "model.gguf", model_of())
    for options in ({}, {"quant_type": "fp4", "blocksize": 32, "compress_statistics": True}):
        streamed = quant.load_4bit(LlamaForCausalLM, tmp_path / "model.gguf", **options)
        whole = quant.quantize_model(LlamaForCausalLM.from_pretrained(tmp_path / "model.gguf"), **options)
        assert quant.quantized_linears(streamed) == quant.quantized_linears(whole) != []
        assert quant.quantization(streamed) == quant.quantization(whole)
        for path in quant.quantized_linears(whole):
            one, other = streamed.get_submodule(path), whole.get_submodule(path)
            np.testing.assert_array_equal(backend.to_numpy(one.packed), backend.to_numpy(other.packed))
            assert one.weight_digest == other.weight_digest
        np.testing.assert_array_equal(streamed(IDS).logits.numpy(), whole(IDS).logits.numpy())
    assert not isinstance(streamed.lm_head, quant.Linear4bit)
    write(
        tmp_path / "nan.gguf", model_of(), lambda writer, tensors: tensors["blk.1.ffn_up.weight"].__setitem__(0, np.nan)
    )
    with pytest.raises(FormatError, match=r"layers\.1\.mlp\.up_proj"):
        quant.load_4bit(LlamaForCausalLM, tmp_path / "nan.gguf")


def test_a_classifier_takes_the_body(tmp_path):
    model = model_of()
    write(tmp_path / "model.gguf", model)
    classifier = LlamaForSequenceClassification.from_pretrained(tmp_path / "model.gguf")
    np.testing.assert_array_equal(classifier.model(IDS).numpy(), model.model(IDS).numpy())


FAULTS = {
    "another architecture": (lambda w, t: w.kv_data[0].update({"general.architecture": gguf.gguf_writer.GGUFValue(
        "mamba", gguf.GGUFValueType.STRING)}), "'mamba'.*llama, qwen2"),
    "a field that is missing": (lambda w, t: w.kv_data[0].pop("llama.block_count"), "llama.block_count is None"),
    "a field of another type": (lambda w, t: w.kv_data[0]["llama.block_count"].__setattr__("value", "2") or
                                w.kv_data[0]["llama.block_count"].__setattr__("type", gguf.GGUFValueType.STRING),
                                "llama.block_count is '2', not of type int"),
    "no embeddings": (lambda w, t: t.pop("token_embd.weight"), "no table of embeddings"),
    "a missing tensor": (lambda w, t: t.pop("blk.1.ffn_up.weight"), "missing model.layers.1.mlp.up_proj.weight"),
    "a tensor of another model": (lambda w, t: t.update({"blk.0.ssm.weight": t["output.weight"]}), r"blk\.0\.ssm"),
    "a block too many": (lambda w, t: t.update({"blk.2.ffn_up.weight": t["blk.1.ffn_up.weight"]}), "unexpected"),
    "heads that do not fit": (lambda w, t: t.update({"blk.0.attn_q.weight": t["blk.0.attn_q.weight"][:31]}), "31 rows"),
    "YaRN": (lambda w, t: w.add_string("llama.rope.scaling.type", "yarn"), "'yarn'"),
    "a false size": (lambda w, t: w.kv_data[0]["llama.feed_forward_length"].__setattr__("value", 2**30), "claims"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_is_no_such_model(tmp_path, name):
    change, words = FAULTS[name]
    write(tmp_path / "model.gguf", model_of(), change)
    with pytest.raises(FormatError, match=words) as caught:
        LlamaForCausalLM.from_pretrained(tmp_path / "model.gguf")
    assert "model.gguf" in str(caught.value) and "\n" not in str(caught.value)


def test_linear_scaling_from_metadata():
    scaling = {"general.architecture": "llama", "llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    fields = {
        "llama.embedding_length": 8,
        "llama.feed_forward_length": 8,
        "llama.block_count": 0,
        "llama.attention.head_count": 2,
        "llama.context_length": 9,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }
    table = StoredTensor((5, 8), lambda: np.zeros((5, 8), "float32"))
    config, _ = llama_of(GGUF(scaling | fields, {"token_embd.weight": table}), "it")
    assert LlamaConfig.from_dict(config).rope_scaling == {"rope_type": "linear", "factor": 4.0}
