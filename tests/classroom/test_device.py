"""The stand-in device of lesson 03: `pytest tests/classroom/test_device.py`."""

from importlib import import_module

import numpy as np
import pytest

pytestmark = pytest.mark.host

device = import_module("lessons.03_backend.device")
DeviceArray, functions = device.DeviceArray, device.functions


@pytest.fixture(autouse=True)
def counting():
    device.reset()


@pytest.fixture
def a():
    return DeviceArray(np.array([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize(
    "mix",
    [
        np.exp,
        np.max,
        np.asarray,
        list,
        lambda a: np.ones(2) + a,
        lambda a: a * np.float32(2),
        lambda a: functions.where(a > 1, a, np.ones(2)),
        lambda a: functions.stack([a, np.ones((2, 2))]),
        lambda a: functions.exp(2.0),
        lambda a: a[np.array([0])],
        lambda a: a[[0]],
        lambda a: device.upload(a),
        lambda a: device.upload([1.0]),
        lambda a: device.download(np.ones(2)),
    ],
)
def test_host_and_device_do_not_mix(a, mix):
    with pytest.raises(TypeError):
        mix(a)


def test_indices_wrap_without_a_word(a):
    ids = device.upload(np.array([[2, 5], [-1, 0]]))
    np.testing.assert_array_equal(a[ids]._array, a._array[[[0, 1], [1, 0]]])
    np.testing.assert_array_equal(a[..., ids]._array, a._array[:, [[0, 1], [1, 0]]])
    np.testing.assert_array_equal(functions.take(a, ids, axis=0)._array, a._array[[[0, 1], [1, 0]]])


def test_it_counts_orders_waits_and_copies(a):
    total = (functions.asarray(a) * 2).sum()
    assert device.counts == {"computed": 2, "waited": 0, "uploaded": 0}
    assert float(total) == 20 and total > 3 and total.item() == 20 and a[a > 1].shape == (3,)
    assert device.counts["waited"] == 4
    functions.asarray([1, 2])
    assert device.counts["uploaded"] == 1
