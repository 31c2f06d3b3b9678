"""pytest tests/test_gestures.py: what people try first who come from NumPy, PyTorch or transformers.

Each gesture gives what it gives there, or one line that says what is wrong; none is silently something else.
"""

import re

import numpy as np
import pytest

from minilora import Tensor, backend, nn, no_grad, optim
from minilora import functional as F
from minilora.models.llama import LlamaConfig, LlamaForCausalLM
from minilora.peft import LoraConfig, PeftModel, get_peft_model
from minilora.quant import Linear4bit
from minilora.tensor import enable_grad

IDS = np.array([[1, 2, 3], [4, 5, 6]])


def tensor(*shape: int, trains: bool = True) -> Tensor:
    """Return a tensor of `shape` with 1, 2, 3, …"""
    return Tensor(1 + np.arange(np.prod(shape), dtype="float32").reshape(shape), requires_grad=trains)


def model(**settings) -> LlamaForCausalLM:
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, **settings)).eval()


# Refused in one line: what is typed, the error, and words of its message

REFUSED = {
    "if tensor": (lambda: bool(tensor(3)), ValueError, "shape (3,) is neither true nor false; use t.numpy().all()"),
    "a dtype as the second argument": (lambda: Tensor([1], "float64"), TypeError, "True or False, not 'float64'"),
    "a shape": (lambda: Tensor(2, 3), TypeError, "requires_grad must be True or False, not 3"),
    "requires_grad_('no')": (lambda: nn.Linear(2, 2).requires_grad_("no"), TypeError, "True or False, not 'no'"),
    "a hole in a list": (lambda: Tensor([[1.0, 2.0], [3.0, None]]), TypeError, "numbers or booleans, not None"),
    "int of several": (lambda: int(tensor(2)), ValueError, "one element, this tensor has shape (2,)"),
    "width of an input": (
        lambda: nn.Linear(3, 2)(tensor(5, 4)),
        ValueError,
        "an input of width 4 does not fit a weight of shape (2, 3), (out, in)",
    ),
    "a normalized_shape": (lambda: F.rms_norm(tensor(2, 3), (3,)), ValueError, "weight of shape (1,) does not fit"),
    "a bias of width 1": (
        lambda: F.layer_norm(tensor(2, 3), None, tensor(1)),
        ValueError,
        "a bias of shape (1,) does not fit rows of width 3",
    ),
    "a tensor as a limit": (lambda: tensor(2).clip(min=Tensor(0.5)), TypeError, "clip takes numbers; ops.maximum"),
    "axes in a list": (lambda: tensor(2, 2).sum(axis=[0, 1]), TypeError, "'list' object cannot be interpreted"),
    "a prefix too many": (
        lambda: nn.Linear(1, 1).load_state_dict({"module.weight": np.ones((1, 1))}, strict=False),
        ValueError,
        "missing weight, bias; unexpected module.weight",
    ),
    "a misspelt group": (
        lambda: optim.SGD([{"params": [tensor(2)], "learning_rate": 1.0}], 0.1),
        ValueError,
        "unknown parameter group setting 'learning_rate': choose from lr, momentum, params, weight_decay",
    ),
    "a group without params": (lambda: optim.SGD([{"param": [tensor(2)]}], 0.1), ValueError, "did you mean 'params'?"),
    "no ids": (lambda: model()(np.zeros((2, 0), int)), ValueError, "shape (batch, length), not (2, 0)"),
    "labels in the mask's place": (lambda: model()(IDS, IDS), ValueError, "attention_mask must hold 1 for a token"),
    "a mask that is added": (lambda: model()(IDS, np.array([[0, 0, -1e9]] * 2)), ValueError, "1 for a token and 0"),
    "ids in the mask's place": (lambda: model().generate(IDS, 1, IDS), ValueError, "zeros on the left and then ones"),
    "half a pad token": (lambda: model().generate(IDS, 1, pad_token_id=1.5), ValueError, "pad_token_id must be"),
    "model and adapter swapped": (
        lambda: PeftModel.from_pretrained("adapter", model()),
        TypeError,
        "the first argument must be the model to adapt, not 'adapter'",
    ),
    "config and model swapped": (
        lambda: get_peft_model(LoraConfig(), model()),
        TypeError,
        "the first argument must be the model to adapt",
    ),
}


@pytest.mark.parametrize("gesture", REFUSED)
def test_a_line_says_what_is_wrong(gesture):
    do, error, words = REFUSED[gesture]
    with pytest.raises(error, match=re.escape(words)) as raised:
        do()
    assert "\n" not in str(raised.value)


# Right: NumPy's functions are the operations of their names, with their gradients

OF_NUMPY = {
    "sum": lambda t: np.sum(t, axis=0),
    "mean": np.mean,
    "max": lambda t: np.max(t, axis=1),
    "var": np.var,
    "reshape": lambda t: np.reshape(t, (3, 2)),
    "transpose": np.transpose,
    "clip": lambda t: np.clip(t, 2, 4),
    "stack": lambda t: np.stack([t, t], axis=1),
    "concatenate": lambda t: np.concatenate([t, t]),
    "where": lambda t: np.where(np.eye(2, 3, dtype=bool), t, 0.0),
}


@pytest.mark.parametrize("name", OF_NUMPY)
def test_numpy_functions_keep_the_gradient(name):
    t = tensor(2, 3)
    result = OF_NUMPY[name](t)
    np.testing.assert_allclose(result.numpy(), OF_NUMPY[name](t.numpy()), rtol=1e-6)
    result.sum().backward()
    assert t.grad is not None and t.grad.shape == t.shape


def test_pytorchs_names_are_numpys_operations_with_their_gradients():
    t, weights = tensor(2, 3), np.array([[1.0, 2.0, 4.0]], "float32")
    np.testing.assert_array_equal(t.view(3, 2).numpy(), t.reshape(3, 2).numpy())
    assert t.view(-1).shape == (6,) and t.unsqueeze(0).shape == (1, 2, 3) and t.unsqueeze(-1).shape == (2, 3, 1)
    for dim in (0, -1):
        np.testing.assert_allclose(t.softmax(dim).numpy(), F.softmax(t, axis=dim).numpy(), rtol=1e-6)
    assert np.isfinite((1000 * t).softmax(dim=-1).numpy()).all()
    (t.softmax() * weights).sum().backward()
    own, t.grad = t.grad, None
    (F.softmax(t) * weights).sum().backward()
    np.testing.assert_allclose(Tensor(own).numpy(), Tensor(t.grad).numpy(), atol=1e-6)
    t.grad = None
    copy = t.clone()
    copy.sum().backward()
    assert (Tensor(t.grad).numpy() == 1).all() and copy is not t and Tensor(IDS).clone().dtype == IDS.dtype
    assert t.to(backend.device()) is t and nn.Linear(1, 1).to(backend.device()).device == backend.device()
    with pytest.raises(ValueError, match="arrays are on .*, not mps"):
        t.to("mps")


def test_a_tensor_of_one_element_is_a_number_and_numpy_asks_for_shapes():
    loss = Tensor(np.full((1, 1), 2.75))
    assert int(loss) == 2 and float(loss) == 2.75 and bool(loss)
    assert f"{loss:.3f} {loss:>6.1f}" == "2.750    2.8" and f"{loss}" == str(loss)
    assert np.shape(tensor(2, 3)) == (2, 3) and np.ndim(tensor(2, 3)) == 2 and np.size(tensor(2, 3)) == 6
    assert nn.Parameter([1.0], requires_grad=np.bool_(True)).requires_grad


# In place


@pytest.mark.parametrize("operator", ["+=", "-=", "*=", "/=", "**=", "@="])
@pytest.mark.parametrize("block", [no_grad, enable_grad])
def test_a_parameter_does_not_silently_stay_as_it_was(operator, block):
    """`for p in model.parameters(): p -= lr * p.grad` would only rebind the name p."""
    for p in (tensor(2), nn.Parameter([1.0], requires_grad=False)):
        with block(), pytest.raises(RuntimeError, match=r"change its array: p.data -= lr"):
            exec(f"p {operator} 2.0", {"p": p})
    p = tensor(2)
    p.data -= 0.5
    np.testing.assert_array_equal(p.numpy(), [0.5, 1.5])


def test_a_sum_may_grow_in_place():
    total, p = Tensor(0.0), tensor(2)
    for _ in range(2):
        total += (p * p).sum()
    total.backward()
    assert total.item() == 10 and np.array_equal(Tensor(p.grad).numpy(), [4, 8])


def test_a_parameter_is_not_lost_to_its_module():
    layer = nn.Linear(2, 2)
    layer(tensor(1, 2)).sum().backward()
    for value in (np.zeros((2, 2)), Tensor(np.zeros((2, 2))), 0.0, layer.weight.grad):
        with pytest.raises(TypeError, match=r"Linear.weight is a parameter: assign an nn.Parameter"):
            layer.weight = value
    with no_grad(), pytest.raises(TypeError, match="Linear.weight is a parameter"):
        layer.weight = layer.weight - 0.1 * layer.weight.grad
    layer.weight, layer.bias = nn.Parameter(np.zeros((2, 2)), requires_grad=False), None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    layer.weight = tensor(2, 2) * 2  # computed from what trains, as in meta-learning
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


# Optimizers


def test_a_generator_that_was_read_is_not_taken_for_no_parameters():
    parameters = nn.Linear(2, 2).parameters()
    optim.AdamW(parameters, 0.1)
    for use in (lambda: optim.clip_grad_norm_(parameters, 1.0), lambda: optim.SGD(parameters, 0.1)):
        with pytest.raises(ValueError, match="no parameters.*empty after its first use"):
            use()


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.AdamW])
@pytest.mark.parametrize("gradient", [[1.0, 1.0], 1.0, Tensor([1.0, 1.0])], ids=["list", "number", "Tensor"])
def test_a_gradient_is_an_array(optimizer, gradient):
    p = tensor(2)
    p.grad = gradient
    with pytest.raises(TypeError, match="gradient of parameter 0 must be an array, not <class"):
        optimizer([p], 0.1).step()
    np.testing.assert_array_equal(p.numpy(), [1, 2])


# Models


@pytest.mark.parametrize("settings", [{"temperature": 0}, {}, {"temperature": 0, "prompt_lookup_num_tokens": 3}])
def test_no_token_is_drawn_from_nan(settings):
    broken = model()
    broken.lm_head.weight.data *= float("nan")
    with pytest.raises(ValueError, match="the model's logits are NaN"):
        broken.generate(IDS[:1], 2, **settings)


def test_generating_in_training_mode_does_not_drop_out():
    adapted = get_peft_model(model(), LoraConfig(r=2, lora_dropout=0.5)).train()
    with pytest.raises(ValueError, match=r"in training mode.*model.eval\(\) before generating"):
        adapted.generate(IDS, 2)
    assert adapted.eval().generate(IDS, 2).shape == (2, 5)
    assert get_peft_model(model(), LoraConfig(r=2)).train().generate(IDS, 2).shape == (2, 5)  # nothing is dropped


def test_writing_into_a_weight_in_4_bits_is_not_lost():
    layer = Linear4bit.from_linear(nn.Linear(8, 4))
    assert backend.is_writable(layer.weight.data) == (backend.name != "numpy"), "CuPy has no arrays that are read-only"
