"""What is OpenVINO's own; the contract of all backends is in `test_backends.py`."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import runtime
from runtime import backends
from runtime.backends.openvino.backend import check_bf16
from runtime.bundles import bundle
from runtime.errors import BackendError
from tests.runtime.contract import random_pixels

FILTERS = {name: (4, 4, 1, 1) for name in ("one", "two")}


def convolutions(count: int) -> bytes:
    """Return a graph of convolutions, each with filters that are an input."""
    names = list(FILTERS)[:count]
    values = ["pixels", *(f"after {name}" for name in names)]
    values[-1] = "features"
    nodes = [
        helper.make_node("Conv", [x, name], [y])
        for x, name, y in zip(values[:-1], names, values[1:], strict=True)
    ]
    inputs = [
        helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 4, 3, 3]),
        *(helper.make_tensor_value_info(n, TensorProto.FLOAT, FILTERS[n]) for n in names),
    ]
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 4, 3, 3])
    graph = helper.make_graph(nodes, "convolutions", inputs, [output])
    opsets = [helper.make_opsetid("", 18)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return model.SerializeToString()


@pytest.fixture
def backend():
    return backends.load("openvino", "cpu", 1)


def test_convolutions_with_filters_that_are_inputs_are_refused_with_what_to_do(backend):
    with pytest.raises(BackendError, match="2 such convolutions; pass --strategy engines"):
        backend.open(convolutions(2))


def test_convolutions_with_constant_filters_run(backend):
    rng = np.random.default_rng(0)
    filters = {name: rng.standard_normal(s).astype(np.float32) for name, s in FILTERS.items()}
    engine = backend.open(convolutions(2), baked=filters)
    x = rng.standard_normal((2, 4, 3, 3)).astype(np.float32)
    wanted = np.einsum("oi,bihw->bohw", filters["one"][..., 0, 0], x)
    wanted = np.einsum("oi,bihw->bohw", filters["two"][..., 0, 0], wanted)
    np.testing.assert_allclose(engine.run({"pixels": x}), wanted, rtol=1e-4, atol=1e-5)


def test_the_one_convolution_of_a_transformer_runs(backend):
    engine = backend.open(convolutions(1))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 4, 3, 3)).astype(np.float32)
    filters = rng.standard_normal(FILTERS["one"]).astype(np.float32)
    engine.bind({"one": filters})
    wanted = np.einsum("oi,bihw->bohw", filters[..., 0, 0], x)
    np.testing.assert_allclose(engine.run({"pixels": x}), wanted, rtol=1e-4, atol=1e-5)


def test_frames_that_are_read_only_are_taken(backend, world):
    with runtime.Session.open(world.path, backend="openvino", threads=1) as session:
        session.switch("a-b")
        pixels = random_pixels(2)
        wanted = session.infer(pixels)
        pixels.flags.writeable = False
        np.testing.assert_array_equal(session.infer(pixels), wanted)


def test_an_input_of_another_shape_is_refused(backend):
    engine = backend.open(convolutions(1))
    engine.bind({"one": np.zeros(FILTERS["one"], np.float32)})
    with pytest.raises(BackendError, match="openvino failed"):
        engine.run({"pixels": np.zeros((1, 5, 3, 3), np.float32)})


def test_a_bf16_bundle_is_multiplied_in_bf16_and_other_bundles_are_not(world, tmp_path):
    """bfloat16 keeps 8 bits: answers are near those of float32, and not the same."""
    pixels = random_pixels(3)
    with runtime.Session.open(world.path, backend="openvino", threads=1) as session:
        session.switch("a-b")
        exact = session.infer(pixels)
    bundle.write(tmp_path / "bf16", **world.parts | {"precision": "bf16"})
    try:
        backends.load("openvino", "cpu", 1, precision="bf16")
    except BackendError as error:
        assert "does not multiply bf16" in str(error)  # what this processor has to answer
        return
    with runtime.Session.open(tmp_path / "bf16", backend="openvino", threads=1) as session:
        session.switch("a-b")
        found = session.infer(pixels)
    assert not np.array_equal(found, exact)
    np.testing.assert_allclose(found, exact, atol=2**-6 * np.abs(exact).max())


def test_a_processor_without_bf16_is_refused_and_named():
    check_bf16("bf16", ["FP32", "BF16"])
    check_bf16("fp32", ["FP32"])
    with pytest.raises(BackendError, match=r"\(it has FP32, INT8\).* --backend ort"):
        check_bf16("bf16", ["INT8", "FP32"])


def test_a_signal_after_two_sessions_reaches_its_handler(world):
    """In a process of its own: with two cores, it would die of the signal."""
    code = """
import faulthandler, signal, sys, runtime
faulthandler.enable()  # its handlers, as Python's own, run on the thread's stack for signals
heard = []
signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
one, two = (runtime.Session.open(sys.argv[1], backend="openvino", threads=1) for _ in range(2))
one.close()
del one
two.close()
del two
signal.raise_signal(signal.SIGUSR1)
print(len(heard))
"""
    words = [sys.executable, "-c", code, str(world.path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
