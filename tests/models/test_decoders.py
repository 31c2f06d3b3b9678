"""pytest tests/models/test_decoders.py: what holds for every family of language models, alone and against transformers.

The golden files are those of golden/make_llama.py and golden/make_gpt2.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from minilora import Tensor, no_grad, optim
from minilora.gradcheck import gradcheck
from minilora.models.cache import KVCache
from minilora.models.language_model import LanguageModel
from tests.models import test_gpt2, test_llama
from tests.models.test_llama import PAD, Given, close, host, ids_of


@dataclass(frozen=True)
class Family:
    """The small models of a family: freshly initialized, and those of the golden files."""

    tiny: Callable[..., LanguageModel]
    of_transformers: Callable  # (name, folder) -> the golden model
    golden: dict  # name -> arrays
    embedding: str  # its name in the body
    checked: dict[str, tuple[str, ...]]  # path of a module -> its parameters that are compared with differences
    transposed: tuple[str, ...] = ()  # ends of the names of weights that transformers holds as (in, out)


FAMILIES = {
    "llama": Family(
        test_llama.tiny,
        lambda name, folder: test_llama.golden_model(name),
        test_llama.GOLDEN,
        "embed_tokens",
        {
            "model.embed_tokens": ("weight",),
            "model.layers.0.self_attn.q_proj": ("weight",),
            "model.layers.0.self_attn.k_proj": ("bias",),
            "model.layers.0.input_layernorm": ("weight",),
            "model.layers.0.mlp.gate_proj": ("weight",),
            "model.norm": ("weight",),
        },
    ),
    "gpt2": Family(
        test_gpt2.tiny,
        test_gpt2.golden_model,
        test_gpt2.GOLDEN,
        "wte",
        {
            "transformer.wte": ("weight",),
            "transformer.wpe": ("weight",),
            "transformer.h.0.attn.c_attn": ("weight", "bias"),
            "transformer.h.0.attn.c_proj": ("weight",),
            "transformer.h.0.ln_1": ("weight",),
            "transformer.h.0.ln_2": ("bias",),
            "transformer.h.0.mlp.c_fc": ("weight",),
            "transformer.h.0.mlp.c_proj": ("bias",),
            "transformer.ln_f": ("weight",),
        },
        test_gpt2.FAN_IN_FAN_OUT,
    ),
}
every = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
every_golden = pytest.mark.parametrize(
    "family, name",
    [pytest.param(family, name, id=f"{kind} {name}") for kind, family in FAMILIES.items() for name in family.golden],
)


# Against transformers


@every_golden
def test_logits_loss_and_gradients_of_transformers(family, name, tmp_path):
    model, golden = family.of_transformers(name, tmp_path), family.golden[name]
    out = model(golden["input_ids"], labels=golden["labels"])
    assert out.loss.dtype == np.float32 and out.logits.dtype == np.float32
    np.testing.assert_allclose(out.logits.numpy(), golden["logits"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out.loss.item(), golden["loss"], rtol=1e-5)
    out.loss.backward()
    for path, p in model.named_parameters():
        expected = golden[f"grad.{path}"]
        gradient = host(p.grad).T if path.endswith(family.transposed) else host(p.grad)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-5 * np.abs(expected).max(), err_msg=path)


@every_golden
def test_left_padding_of_transformers(family, name, tmp_path):
    model, golden = family.of_transformers(name, tmp_path), family.golden[name]
    logits = model(golden["padded_ids"], attention_mask=golden["padded_mask"]).logits.numpy()
    real = golden["padded_mask"] == 1
    np.testing.assert_allclose(logits[real], golden["padded_logits"][real], rtol=1e-5, atol=1e-5)
    assert np.isfinite(logits).all()


@every_golden
def test_greedy_continuations_of_transformers(family, name, tmp_path):
    model, golden = family.of_transformers(name, tmp_path), family.golden[name]
    generated = model.generate(golden["input_ids"], 8, temperature=0)
    np.testing.assert_array_equal(generated, golden["greedy"])
    generated = model.generate(golden["padded_ids"], 8, attention_mask=golden["padded_mask"], temperature=0)
    np.testing.assert_array_equal(generated, golden["padded_greedy"])


@pytest.mark.parametrize("pieces", [[3, 1, 1, 1, 1], [1] * 7, [2, 5], [7]], ids=str)
@every_golden
def test_with_the_cache_as_without(family, name, pieces, tmp_path):
    """Logits computed piece by piece agree within 2e-6 of the largest, also with padding."""
    model, golden = family.of_transformers(name, tmp_path), family.golden[name]
    for ids, mask in [(golden["input_ids"], None), (golden["padded_ids"], golden["padded_mask"])]:
        whole = model(ids, attention_mask=mask).logits.numpy()
        cache, seen = KVCache(10), []
        with no_grad():
            for length in pieces:
                end = cache.length + length
                part_mask = None if mask is None else mask[:, :end]
                part = model(ids[:, cache.length : end], attention_mask=part_mask, past_key_values=cache)
                seen.append(part.logits.numpy())
        real = np.ones(ids.shape, dtype=bool) if mask is None else mask == 1
        stepwise = np.concatenate(seen, axis=1)
        assert cache.length == 7
        np.testing.assert_allclose(stepwise[real], whole[real], rtol=0, atol=2e-6 * np.abs(whole[real]).max())


# What a decoder is


def random_embeddings(family, model, shape) -> Tensor:
    """Return hidden states to use instead of the model's embeddings, with a gradient."""
    hidden = Tensor(np.random.default_rng(0).standard_normal((*shape, 8)).astype("float32"), requires_grad=True)
    setattr(model.body, family.embedding, Given(hidden))
    return hidden


@pytest.mark.parametrize("position", [0, 3, 5])
@every
def test_the_future_has_no_influence_and_no_gradient(family, position):
    """Later tokens have exactly no influence, not even by rounding."""
    model, ids = family.tiny(), ids_of(2, 6)
    before = model(ids).logits.numpy()
    changed = ids.copy()
    changed[:, position + 1 :] = (changed[:, position + 1 :] + 1) % 11
    np.testing.assert_array_equal(model(changed).logits.numpy()[:, : position + 1], before[:, : position + 1])

    hidden = random_embeddings(family, model, (2, 6))
    model(ids).logits[:, position].sum().backward()
    g = host(hidden.grad)
    np.testing.assert_array_equal(g[:, position + 1 :], 0)
    assert (np.abs(g[:, : position + 1]).max(axis=-1) > 0).all()


@pytest.mark.parametrize("side", ["left", "right"])
@every
def test_padding_changes_nothing(family, side):
    """The real tokens' logits are the same as without padding, whatever it contains, and it gets no gradient."""
    model = family.tiny()
    ids, lengths = ids_of(3, 6), (6, 4, 1)
    padded, mask = np.full((3, 8), PAD), np.zeros((3, 8), dtype=int)
    for row, length in enumerate(lengths):
        place = slice(8 - length, 8) if side == "left" else slice(0, length)
        padded[row, place], mask[row, place] = ids[row, :length], 1
    out = model(padded, attention_mask=mask).logits.numpy()
    other = model(np.where(mask, padded, 7), attention_mask=mask).logits.numpy()
    np.testing.assert_array_equal(out[mask == 1], other[mask == 1])
    for row, length in enumerate(lengths):
        close(out[row][mask[row] == 1], model(ids[row : row + 1, :length]).logits.numpy()[0])

    hidden = random_embeddings(family, model, (3, 8))
    labels = np.where(mask & np.roll(mask, 1, axis=1), padded, -100)  # the first real token is nobody's to predict
    model(padded, attention_mask=mask, labels=labels).loss.backward()
    np.testing.assert_array_equal(host(hidden.grad)[mask == 0], 0)


@every
def test_embeddings_may_come_in_place_of_ids(family):
    model, ids, mask = family.tiny(), ids_of(2, 5), np.array([[1] * 5, [0, 0, 1, 1, 1]])
    table = getattr(model.body, family.embedding).weight.numpy()
    hidden = Tensor(table[ids], requires_grad=True)
    for settings in ({}, {"attention_mask": mask}):
        output = model.body(inputs_embeds=hidden, **settings)
        np.testing.assert_array_equal(output.numpy(), model.body(ids, **settings).numpy())
    output.sum().backward()
    assert (np.abs(host(hidden.grad)).max(axis=-1) > 0)[mask == 1].all()
    for both in ({}, {"input_ids": ids, "inputs_embeds": hidden}):
        with pytest.raises(ValueError, match="takes either input_ids or inputs_embeds"):
            model.body(**both)


@every
def test_the_whole_model_by_central_differences(family):
    """Parameters of each kind are checked in float64, with a tied head and a padded row."""
    biases = {"attention_bias": True} if family is FAMILIES["llama"] else {}
    model = family.tiny(scale=10, tie_word_embeddings=True, **biases)
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data = p.numpy().astype("float64") + 0.05 * rng.standard_normal(p.shape)
    ids, mask = ids_of(2, 4), np.array([[0, 1, 1, 1], [1, 1, 1, 1]])
    for path, names in family.checked.items():
        holder = model.get_submodule(path)
        for name in names:

            def loss(p, holder=holder, name=name):
                old = getattr(holder, name)
                heads = model.lm_head.weight is old
                setattr(holder, name, p)
                if heads:
                    model.lm_head.weight = p
                out = model(ids, attention_mask=mask, labels=ids).loss
                setattr(holder, name, old)
                if heads:
                    model.lm_head.weight = old
                return out

            gradcheck(loss, Tensor(getattr(holder, name), requires_grad=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: m(np.array([[0, 11]])), IndexError, "11"),
        (lambda m: m(np.array([[0, -1]])), IndexError, "-1"),
        (lambda m: m(np.array([[0.0, 1.0]])), TypeError, "integers"),
        (lambda m: m(ids_of(2, 4), attention_mask=np.ones((2, 3))), ValueError, r"\(2, 3\)"),
        (lambda m: m(ids_of(2, 4), labels=ids_of(2, 3)), ValueError, r"\(2, 3\)"),
        (lambda m: m(ids_of(2, 4), labels=np.full((2, 4), -100)), ValueError, "-100"),
        (lambda m: m(ids_of(2, 1), labels=ids_of(2, 1)), ValueError, "target"),
        (lambda m: m(ids_of(2, 4), labels=np.full((2, 4), 11)), IndexError, "11"),
        (lambda m: m(ids_of(4)), ValueError, r"\(4,\)"),
    ],
)
@every
def test_inputs_that_do_not_fit_are_refused(family, call, error, text):
    with pytest.raises(error, match=text):
        call(family.tiny())


@every
def test_a_tied_head_is_the_embedding(family):
    tied, untied = family.tiny(tie_word_embeddings=True), family.tiny(tie_word_embeddings=False)
    embedding = getattr(tied.body, family.embedding)
    assert tied.lm_head.weight is embedding.weight
    assert "lm_head.weight" not in dict(tied.named_parameters())
    assert "lm_head.weight" in dict(untied.named_parameters())
    ids = ids_of(1, 4)
    tied(ids, labels=ids).loss.backward()
    optim.AdamW(tied.parameters(), lr=0.1).step()
    assert tied.lm_head.weight is embedding.weight
    np.testing.assert_array_equal(tied.lm_head.weight.numpy(), embedding.weight.numpy())
