"""The CUDA runtime, twice: over a driver that is ours, see driver.cpp, and on a GPU (`-m gpu`).

`test_cuda_emulated.py` starts the first in a process of its own: other libraries would believe in
that driver too. A test that takes `driver` looks at what it counted, and has no meaning on a GPU.
"""

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from runtime.cuda.device import CudaDevice

DRIVER = os.environ.get("EMULATED_CUDA")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Let GPUs have what is here and needs no emulated driver."""
    if DRIVER:
        return
    here = Path(__file__).parent
    counting = [i for i in items if here in i.path.parents and "driver" in i.fixturenames]
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gpu)
    items[:] = [item for item in items if item not in counting]
    config.hook.pytest_deselected(items=counting)


class Driver:
    """What the emulated driver counts, and what can be made to fail."""

    def __init__(self, path):
        self.path = path
        self._library = ctypes.CDLL(path)
        self._library.emulated_count.restype = ctypes.c_long
        self._library.emulated_live_bytes.restype = ctypes.c_long
        self._library.emulated_fail_call.restype = ctypes.c_long

    def counts(self, *names):
        return [self._library.emulated_count(name.encode()) for name in names]

    def live_bytes(self):
        return self._library.emulated_live_bytes()

    def fail_launches_after(self, count):
        self._library.emulated_fail_launches_after(ctypes.c_long(count))

    def fail_call(self, number):
        """Let one call fail, after so many others; return whether the one chosen before did."""
        return self._library.emulated_fail_call(ctypes.c_long(number)) < 0

    def fail_for_good(self):
        """Let every call fail until nobody uses the GPU any more, as after a wrong address."""
        self._library.emulated_break()


@pytest.fixture(scope="session")
def library():
    """The emulated driver, loaded before anything asks for one; None on a GPU."""
    return Driver(DRIVER) if DRIVER else None


@pytest.fixture
def driver(library):
    yield library
    library.fail_launches_after(-1)
    library.fail_call(-1)


@pytest.fixture
def device(library):
    device = CudaDevice()
    yield device
    device.close()


@pytest.fixture(params=["own memory", "integrated", "no pools"] if DRIVER else ["as it is"])
def any_device(request, library, monkeypatch):
    """A device of each kind."""
    monkeypatch.setenv("EMULATED_INTEGRATED", str(int(request.param == "integrated")))
    monkeypatch.setenv("EMULATED_POOLS", str(int(request.param != "no pools")))
    device = CudaDevice()
    yield device
    device.close()


@pytest.fixture
def close_to():
    """How logits of the device are compared with the host's: exactly where the host computes."""

    def compare(found, want):
        if DRIVER:
            np.testing.assert_array_equal(found, want)
        else:
            np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-2)

    return compare
