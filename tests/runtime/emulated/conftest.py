"""The CUDA runtime over a driver that is ours, see driver.cpp; in a process of its own.

Here `test_emulated_cuda.py` starts that process. Other libraries would believe in the driver too.
"""

import ctypes
import os

import pytest

from runtime.cuda.device import CudaDevice

DRIVER = os.environ.get("EMULATED_CUDA")
collect_ignore_glob = [] if DRIVER else ["test_*.py"]


class Driver:
    """What the emulated driver counts."""

    def __init__(self, library):
        self._library = library
        library.emulated_count.restype = library.emulated_live_bytes.restype = ctypes.c_long

    def counts(self, *names):
        return [self._library.emulated_count(name.encode()) for name in names]

    def live_bytes(self):
        return self._library.emulated_live_bytes()

    def fail_launches_after(self, count):
        self._library.emulated_fail_launches_after(ctypes.c_long(count))


@pytest.fixture(scope="session")
def library():
    return Driver(ctypes.CDLL(DRIVER))


@pytest.fixture
def driver(library):
    yield library
    library.fail_launches_after(-1)


@pytest.fixture
def device(driver):
    device = CudaDevice()
    yield device
    device.close()


@pytest.fixture(params=["own memory", "integrated", "no pools"])
def any_device(request, driver, monkeypatch):
    """A device of each kind."""
    monkeypatch.setenv("EMULATED_INTEGRATED", str(int(request.param == "integrated")))
    monkeypatch.setenv("EMULATED_POOLS", str(int(request.param != "no pools")))
    device = CudaDevice()
    yield device
    device.close()
