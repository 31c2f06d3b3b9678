"""pytest tests/models/test_llama_gguf.py: Llama-family models from GGUF files."""

import numpy as np
import pytest

from minilora import backend, nn, quant
from minilora.errors import FormatError, MiniloraError
from minilora.formats.gguf import read_gguf, write_gguf
from minilora.models.gpt2 import GPT2Config, GPT2LMHeadModel
from minilora.models.llama import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from minilora.models.llama_gguf import BLOCK_NAMES, NAMES, gguf_of
from minilora.models.rotary import inverse_frequencies
from minilora.peft import LoraConfig, PrefixTuningConfig, get_peft_model

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
    """Reorder the rows of q or k as llama.cpp stores them: row i beside row i + D/2."""
    size = len(array) // heads
    order = [head * size + i + half * size // 2 for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return array[order]


def write(path, model: LlamaForCausalLM, change=lambda writer, tensors: None) -> None:
    """Write `model` as llama.cpp's converter would, in float32."""
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
    writer.add_rope_dimension_count(config.head_dim)
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
    """The codes, and the digests that identify an adapter's base, equal those of quantizing the whole model."""
    path = tmp_path / "model.gguf"
    write(path, model_of())
    for options in ({}, {"quant_type": "fp4", "blocksize": 32, "compress_statistics": True}):
        streamed = quant.load_4bit(LlamaForCausalLM, path, **options)
        whole = quant.quantize_model(LlamaForCausalLM.from_pretrained(path), **options)
        assert quant.quantized_linears(streamed) == quant.quantized_linears(whole) != []
        assert quant.quantization(streamed) == quant.quantization(whole)
        for linear in quant.quantized_linears(whole):
            one, other = streamed.get_submodule(linear), whole.get_submodule(linear)
            np.testing.assert_array_equal(backend.to_numpy(one.packed), backend.to_numpy(other.packed))
            assert one.weight_digest == other.weight_digest
        np.testing.assert_array_equal(streamed(IDS).logits.numpy(), whole(IDS).logits.numpy())


FAULTS = {
    "another architecture": (lambda w, t: w.kv_data[0].update({"general.architecture": gguf.gguf_writer.GGUFValue(
        "mamba", gguf.GGUFValueType.STRING)}), "'mamba'.*llama, qwen2"),
    "a field that is missing": (lambda w, t: w.kv_data[0].pop("llama.block_count"), "lacks llama.block_count"),
    "a field of another type": (lambda w, t: w.kv_data[0]["llama.block_count"].__setattr__("value", "2") or
                                w.kv_data[0]["llama.block_count"].__setattr__("type", gguf.GGUFValueType.STRING),
                                "llama.block_count is '2', not of type int"),
    "no embeddings": (lambda w, t: t.pop("token_embd.weight"), "no embedding table"),
    "a missing tensor": (lambda w, t: t.pop("blk.1.ffn_up.weight"), "missing model.layers.1.mlp.up_proj.weight"),
    "a tensor of another model": (lambda w, t: t.update({"blk.0.ssm.weight": t["output.weight"]}), r"blk\.0\.ssm"),
    "a block of 5,000 digits": (lambda w, t: t.update({f"blk.{'9' * 5000}.attn_q.weight": t["output.weight"]}),
                                "a tensor that does not belong to a llama model: blk.999"),
    "a block too many": (lambda w, t: t.update({"blk.2.ffn_up.weight": t["blk.1.ffn_up.weight"]}), "model: blk.2"),
    "heads that do not fit": (lambda w, t: t.update({"blk.0.attn_q.weight": t["blk.0.attn_q.weight"][:31]}), "31 rows"),
    "heads rotated in part": (lambda w, t: w.kv_data[0]["llama.rope.dimension_count"].__setattr__("value", 4),
                              "llama.rope.dimension_count is 4, but only heads rotated whole \\(8\\) are supported"),
    "an architecture that is a list": (lambda w, t: w.kv_data[0].update({"general.architecture":
        gguf.gguf_writer.GGUFValue([1, 2], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)}), r"\[1, 2\]"),
    "YaRN": (lambda w, t: w.add_string("llama.rope.scaling.type", "yarn"), "'yarn'"),
    "linear scaling": (lambda w, t: w.add_float32("llama.rope.scaling.factor", 4.0), "'linear'"),  # without a type
    "its older name": (lambda w, t: w.add_float32("llama.rope.scale_linear", 4.0), "'linear'"),
    "a false size": (lambda w, t: w.kv_data[0]["llama.feed_forward_length"].__setattr__("value", 2**30), "claims"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_is_no_such_model(tmp_path, name):
    change, words = FAULTS[name]
    write(tmp_path / "model.gguf", model_of(), change)
    with pytest.raises(FormatError, match=words) as caught:
        LlamaForCausalLM.from_pretrained(tmp_path / "model.gguf")
    assert "model.gguf" in str(caught.value) and "\n" not in str(caught.value)


# Out again.

VARIANTS = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", "attention_bias": True},
    "mistral": {"model_type": "mistral", "num_key_value_heads": 1},
    "wide heads": {"head_dim": 12},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "Llama 3's scaling": {"rope_theta": 5e5, "rope_scaling": LLAMA3},
}


def half_of(**settings) -> LlamaForCausalLM:
    """Make a model whose matrices F16 holds exactly."""
    model = model_of(**settings)
    for p in model.parameters():
        p.data = backend.asarray(backend.to_numpy(p.data).astype("float16" if p.ndim == 2 else "float32").astype("f4"))
    model.lm_head.weight = model.model.embed_tokens.weight if model.config.tie_word_embeddings else model.lm_head.weight
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_a_model_goes_out_and_comes_back(tmp_path, name):
    model = half_of(**VARIANTS[name])
    write_gguf(tmp_path / "model.gguf", gguf_of(model))
    again = LlamaForCausalLM.from_pretrained(tmp_path / "model.gguf")
    assert not again.training and again.config.eos_token_id == 2
    for field in (*SIZES, "tie_word_embeddings", "attention_bias", "mlp_bias", "head_dim", "rope_scaling"):
        assert getattr(again.config, field) == pytest.approx(getattr(model.config, field)), field
    np.testing.assert_array_equal(again(IDS).logits.numpy(), model(IDS).logits.numpy())


def test_matrices_go_out_in_q8_0_where_rows_are_whole_blocks(tmp_path):
    model = model_of(hidden_size=32, intermediate_size=48, tie_word_embeddings=True)
    content = gguf_of(model, "Q8_0")
    kinds = {name.removesuffix(".weight"): tensor.kind for name, tensor in content.tensors.items()}
    assert kinds["blk.0.ffn_down"] == "F16" and kinds["blk.0.attn_norm"] == "F32"  # rows of 48, a vector
    assert kinds["blk.0.attn_q"] == kinds["token_embd"] == kinds["blk.0.ffn_up"] == "Q8_0"
    assert content.metadata["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert content.metadata["general.quantization_version"] == gguf.GGML_QUANT_VERSION
    write_gguf(tmp_path / "model.gguf", content)
    again = LlamaForCausalLM.from_pretrained(tmp_path / "model.gguf").state_dict()
    for name, array in model.state_dict().items():
        error, largest = np.abs(backend.to_numpy(again[name] - array)).max(), np.abs(backend.to_numpy(array)).max()
        assert (error > 0) == name.endswith(("proj.weight", "tokens.weight", "head.weight")), name
        assert error <= 0.51 * largest / 127, name  # half a step


@pytest.mark.parametrize("name", VARIANTS)
def test_the_file_is_as_llama_cpp_s_converter_writes_it(tmp_path, name):
    """Names, kinds and bytes of tensors, and metadata, equal those of `write`, which is independent of `gguf_of`."""
    model = half_of(**VARIANTS[name])
    write(tmp_path / "theirs.gguf", model)
    write_gguf(tmp_path / "ours.gguf", gguf_of(model))
    theirs, ours = read_gguf(tmp_path / "theirs.gguf"), read_gguf(tmp_path / "ours.gguf")
    assert ours.tensors.keys() - {"rope_freqs.weight"} == theirs.tensors.keys()
    for tensor, expected in theirs.tensors.items():
        assert ours.tensors[tensor].kind == ("F16" if len(expected.shape) == 2 else "F32")
        np.testing.assert_array_equal(ours.tensors[tensor].read(), expected.read(), err_msg=tensor)
    for key, value in theirs.metadata.items():
        assert ours.metadata.get(key) == value or key.startswith("tokenizer."), key
    arch = ours.metadata["general.architecture"]
    assert ours.metadata[f"{arch}.rope.dimension_count"] == model.config.head_dim
    assert ours.metadata["general.file_type"] == gguf.LlamaFileType.MOSTLY_F16


def test_the_factors_of_llama_3_are_written_in_f32():
    content = gguf_of(model_of(**VARIANTS["Llama 3's scaling"]))
    factors = content.tensors["rope_freqs.weight"]
    assert factors.kind == "F32" and factors.shape == (4,)
    expected = inverse_frequencies(8, 5e5) / inverse_frequencies(8, 5e5, LLAMA3)
    np.testing.assert_array_equal(factors.read(), expected)
    assert "llama.rope.scaling.type" not in content.metadata  # llama.cpp would scale twice


def test_a_merged_adapter_goes_out(tmp_path):
    for base, config in (
        (model_of(), LoraConfig(r=2, target_modules="all-linear")),
        (quant.quantize_model(model_of()), LoraConfig(r=2)),
    ):
        adapted = get_peft_model(base, config)
        for p in adapted.parameters():
            if p.requires_grad:
                p.data = backend.asarray(np.random.default_rng(5).standard_normal(p.shape, dtype="float32") * 0.1)
        expected = adapted(IDS).logits.numpy()
        write_gguf(tmp_path / "merged.gguf", gguf_of(adapted.merge_and_unload()))
        again = LlamaForCausalLM.from_pretrained(tmp_path / "merged.gguf")(IDS).logits.numpy()
        np.testing.assert_allclose(again, expected, atol=2e-2 * np.abs(expected).max())


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=21, n_embd=16, n_layer=1, n_head=2, n_positions=32))


def adapted(config, keep_wrapper: bool):
    model = model_of()
    wrapper = get_peft_model(model, config)
    return wrapper if keep_wrapper else model


def with_head_bias():
    model = model_of()
    model.lm_head.bias = nn.Parameter(backend.xp.zeros(21, dtype="float32"))
    return model


REFUSED = {
    "GPT-2": (gpt2, "GPT2LMHeadModel of type gpt2 cannot be written as GGUF: only language models of llama"),
    "a classifier": (
        lambda: LlamaForSequenceClassification.from_language_model(model_of(), 2),
        "LlamaForSequenceClassification of type llama cannot be written",
    ),
    "no model": (lambda: model_of().model.norm, "RMSNorm cannot be written"),
    "4 bits": (lambda: quant.quantize_model(model_of()), "layers in 4 bits"),
    "an adapter's wrapper": (lambda: adapted(LoraConfig(r=2), True), "has an adapter on it"),
    "an adapted model": (lambda: adapted(LoraConfig(r=2), False), "has an adapter on it"),
    "a prefix": (lambda: adapted(PrefixTuningConfig(num_virtual_tokens=2), False), "has an adapter on it"),
    "a bias that llama.cpp does not read": (with_head_bias, "a llama model in a GGUF file cannot have lm_head.bias"),
    "qwen2 with biases in its MLP": (
        lambda: model_of(model_type="qwen2", attention_bias=True, mlp_bias=True),
        r"a qwen2 model in a GGUF file cannot have .*layers\.0\.mlp\.gate_proj\.bias.*and 3 more",
    ),
    "qwen2 with wide heads": (lambda: model_of(model_type="qwen2", head_dim=12), "heads of size 8, not 12"),
    "a scaling that is not found again": (
        lambda: model_of(rope_theta=5e5, rope_scaling={**LLAMA3, "high_freq_factor": 9.0}),
        "cannot hold rotary scaling with .*low_freq_factor 1, high_freq_factor 9",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_gguf_has_no_words_for_is_refused(name):
    make, words = REFUSED[name]
    with pytest.raises(MiniloraError, match=words) as caught:
        gguf_of(make())
    assert "\n" not in str(caught.value)
