"""pytest tests/parity/test_engine_parity.py: functions, modules and optimizers next to PyTorch on fresh numbers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from minilora import Tensor, backend, optim  # noqa: E402
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


def test_a_state_dict_goes_to_pytorch_and_computes_the_same():
    ours, theirs = test_nn.Small(), make_nn.Small()
    theirs.load_state_dict({name: torch.from_numpy(backend.to_numpy(a)) for name, a in ours.state_dict().items()})
    ids = np.random.default_rng(0).integers(0, 7, (3, 4))
    np.testing.assert_allclose(ours(ids).numpy(), theirs(torch.from_numpy(ids)).detach().numpy(), rtol=1e-5, atol=1e-5)
