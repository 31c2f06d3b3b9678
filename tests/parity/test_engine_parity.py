"""pytest tests/parity/test_engine_parity.py: functions, modules and optimizers next to PyTorch on fresh numbers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from minilora import Tensor, backend, ops, optim  # noqa: E402
from tests import test_functional as functional  # noqa: E402
from tests import test_nn, test_optim  # noqa: E402
from tests.golden import make_functional, make_nn  # noqa: E402

pytestmark = pytest.mark.parity
torch.set_num_threads(1)  # these tensors are too small to share


@pytest.mark.parametrize("name", make_functional.CASES)
@pytest.mark.parametrize("seed", [101, 102, 103])
def test_functional(name, seed):
    expected = make_functional.compute(make_functional.CASES[name], np.random.default_rng(seed))
    functional.compare(name, functional.run(name, expected), expected)


def test_every_case_has_both_halves():
    assert set(make_functional.CASES) == set(functional.CALLS)
    assert set(make_nn.OPTIMIZERS) == set(test_optim.OPTIMIZERS)


@pytest.mark.parametrize("name, options", [("LambdaLR", (lambda i: 0.9**i,)), ("CosineAnnealingLR", (7, 0.02))])
def test_schedules(name, options):
    groups = [{"params": [1.0], "lr": 0.5}, {"params": [2.0]}]
    ours = optim.SGD([group | {"params": [Tensor(group["params"], True)]} for group in groups], lr=0.1)
    theirs = torch.optim.SGD([group | {"params": [torch.ones(1)]} for group in groups], lr=0.1)
    one = getattr(optim.lr_scheduler, name)(ours, *options)
    other = getattr(torch.optim.lr_scheduler, name)(theirs, *options)
    for _ in range(9):
        np.testing.assert_allclose(one.get_last_lr(), other.get_last_lr(), rtol=1e-12)
        theirs.step()  # PyTorch warns otherwise
        one.step()
        other.step()


@pytest.mark.parametrize("name", make_nn.OPTIMIZERS)
def test_optimizers(name):
    start = make_nn.start(np.random.default_rng(101))
    expected = make_nn.optimize(name, start)
    make, settings = test_optim.OPTIMIZERS[name]
    params = {key: Tensor(start[key].astype("float64"), requires_grad=True) for key in ("w", "b")}
    goals = {key: backend.asarray(start[f"goal_{key}"].astype("float64")) for key in params}
    optimizer = make(params.values(), **settings)
    for step in range(1, 101):
        for key, p in params.items():
            p.grad = make_nn.gradient(p.data, goals[key], step)
        optimizer.step()
    for key, p in params.items():
        np.testing.assert_allclose(p.numpy(), expected[f"{name}.100.{key}"], rtol=1e-11, atol=1e-12)


def test_a_state_dict_goes_to_pytorch_and_computes_the_same():
    ours, theirs = test_nn.Small(), make_nn.Small()
    theirs.load_state_dict({name: torch.from_numpy(backend.to_numpy(a)) for name, a in ours.state_dict().items()})
    ids = np.random.default_rng(0).integers(0, 7, (3, 4))
    np.testing.assert_allclose(ours(ids).numpy(), theirs(torch.from_numpy(ids)).detach().numpy(), rtol=1e-5, atol=1e-5)


# What both call by nearly the same name. Drawn above 0.2, where all of it is defined.
ELEMENTWISE = {
    "exp": (lambda t: t.exp(), torch.exp),
    "log": (lambda t: t.log(), torch.log),
    "sqrt": (lambda t: t.sqrt(), torch.sqrt),
    "tanh": (lambda t: t.tanh(), torch.tanh),
    "sigmoid": (lambda t: t.sigmoid(), torch.sigmoid),
    "abs": (lambda t: (t - 1).abs(), lambda t: (t - 1).abs()),
    "clip": (lambda t: t.clip(0.5, 1.5), lambda t: t.clip(0.5, 1.5)),
    "pow": (lambda t: t**2.5, lambda t: t**2.5),
    "rpow": (lambda t: 2**t, lambda t: 2**t),
    "sum": (lambda t: t.sum(axis=(0, 2)), lambda t: t.sum(dim=(0, 2))),
    "mean": (lambda t: t.mean(axis=1, keepdims=True), lambda t: t.mean(dim=1, keepdim=True)),
    "var": (lambda t: t.var(axis=-1), lambda t: t.var(dim=-1, correction=0)),
    "max": (lambda t: t.max(axis=1), lambda t: t.amax(dim=1)),
    "min": (lambda t: t.min(), lambda t: t.amin()),
    "logsumexp": (lambda t: ops.logsumexp(t, axis=(1, 2)), lambda t: t.logsumexp(dim=(1, 2))),
    "index": (lambda t: t[:, [0, 2, 2], 1:], lambda t: t[:, [0, 2, 2], 1:]),
    "mask": (lambda t: t[t > 1], lambda t: t[t > 1]),
    "transpose": (lambda t: t.transpose(2, 0, 1) * t.transpose(2, 0, 1), lambda t: t.permute(2, 0, 1) ** 2),
    "matmul": (lambda t: t @ t.swapaxes(1, 2), lambda t: t @ t.transpose(1, 2)),
    "where": (lambda t: ops.where(t > 1, t * t, -t), lambda t: torch.where(t > 1, t * t, -t)),
    "maximum": (lambda t: ops.maximum(t, 2 - t), lambda t: torch.maximum(t, 2 - t)),
    "stack": (lambda t: ops.stack([t, t * t], axis=2), lambda t: torch.stack([t, t * t], dim=2)),
    "concatenate": (lambda t: ops.concatenate([t, t * t], axis=-1), lambda t: torch.cat([t, t * t], dim=-1)),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_ops(name):
    rng = np.random.default_rng(0)
    a = rng.uniform(0.2, 2, (2, 3, 4))
    ours, theirs = ELEMENTWISE[name]
    t, u = Tensor(a, requires_grad=True), torch.from_numpy(a.copy()).requires_grad_()
    out, expected = ours(t), theirs(u)
    assert out.shape == tuple(expected.shape)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    flow = rng.standard_normal(out.shape)
    out.backward(flow)
    expected.backward(torch.from_numpy(np.asarray(flow)))
    np.testing.assert_allclose(backend.to_numpy(t.grad), u.grad.numpy(), rtol=1e-8, atol=1e-8)
