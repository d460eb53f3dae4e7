"""The contract of every backend on a GPU: the emulated one, with stand-ins for libraries, or real.

A new entry of `BACKENDS` is opened as it is; one that cannot run over the emulated driver needs a
stand-in here.
"""

import sys

import pytest

from runtime import backends
from runtime.backends import BACKENDS
from runtime.backends.trt.graphs import baked_graphs
from runtime.backends.trt.library import library as installed
from runtime.backends.trt.library import logger
from runtime.backends.trt.sets import build_all
from runtime.bundles.bundle import Bundle
from tests.gpus import need_onnxruntime, need_tensorrt
from tests.runtime.contract import BackendContract, Where
from tests.runtime.cuda import stand_in_builder
from tests.runtime.cuda.ort_stand_in import Backend


def build(path, strategy):
    """Build a bundle's engines for this machine's GPU."""
    bundle = Bundle.open(path)
    graphs = baked_graphs(bundle) if strategy == "engines" else None
    list(build_all(bundle, None, None, graphs=graphs))


@pytest.fixture(params=sorted(name for name, own in BACKENDS.items() if "cuda" in own.devices))
def where(request, library, monkeypatch):
    """Each backend on the GPU."""
    if library is None:
        (need_tensorrt if request.param == "trt" else need_onnxruntime)()
    else:
        real = backends.load

        def load(name, device, *others, **settings):
            if name == "ort" and device == "cuda":
                return Backend(device, *others)
            return real(name, device, *others, **settings)

        monkeypatch.setattr(backends, "load", load)
        monkeypatch.setitem(sys.modules, "tensorrt", stand_in_builder)
    for cached in (installed, logger):
        cached.cache_clear()
    ready = build if BACKENDS[request.param].built else lambda path, strategy: None
    yield Where(request.param, "cuda", ready)
    for cached in (installed, logger):
        cached.cache_clear()


class TestOnAGpu(BackendContract):
    pass
