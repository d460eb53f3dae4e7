"""Recorded runs over a stand-in for TensorRT's contexts, which need engines for a real GPU."""

import numpy as np
import pytest

from runtime.backends.trt.cuda_graphs import Recorded
from runtime.cuda.arena import Arena
from runtime.cuda.base import DeviceArray
from runtime.patch import diff

COUNT = 1000


class Context:
    """Copies the weights to the output, and may not be changed once it was recorded."""

    def __init__(self, device):
        self.device, self.addresses, self.runs = device, {}, 0

    def set_tensor_address(self, name, address):
        assert not self.runs
        self.addresses[name] = address
        return True

    def set_input_shape(self, name, shape):
        assert not self.runs
        return True

    def execute_async_v3(self, stream):
        assert stream == self.device.stream
        self.runs += 1
        self.device.copy(self.addresses["weights"], self.addresses["features"], 4 * COUNT)
        return True


class Engine:
    def __init__(self, device):
        self.device, self.contexts = device, []

    def create_execution_context(self):
        self.contexts.append(Context(self.device))
        return self.contexts[-1]


@pytest.fixture
def parts(device):
    engine = Engine(device)
    recorded = Recorded(device, engine)
    yield device, engine, recorded
    recorded.close()
    recorded.close()


def test_frames_of_every_batch_size_see_every_switch(parts):
    device, engine, recorded = parts
    rng = np.random.default_rng(0)
    tensors = [{"weights": rng.standard_normal(COUNT).astype(np.float32)} for _ in range(3)]
    arena = Arena(device, tensors[0], lambda: tensors[0])
    patches = [arena.prepare(diff(tensors[0], each)) for each in tensors]
    out, pixels = device.allocate(4 * COUNT), device.allocate(96)
    for number in range(24):
        arena.apply(patches[number % 3])
        batch = DeviceArray(pixels.address, "uint8", (1 + number // 2 % 2, 4, 4, 3))
        inputs = {**arena.handles, "pixels": batch}
        assert recorded.run(inputs, "features", out.address)
        found = np.empty(COUNT, np.float32)
        device.download(out.address, found)
        np.testing.assert_array_equal(found, tensors[number % 3]["weights"])
    # The second run of each was followed by the recording; after that the host enqueued nothing.
    assert [context.runs for context in engine.contexts] == [3, 3]


def test_more_shapes_than_contexts_are_kept_for_run_without_a_graph(parts):
    device, engine, recorded = parts
    weights, out = device.allocate(4 * COUNT), device.allocate(4 * COUNT)
    for _ in range(3):
        for batch in range(1, 7):
            inputs = {"weights": DeviceArray(weights.address, "float32", (batch, COUNT))}
            assert recorded.run(inputs, "features", out.address) == (batch <= 4)
    assert len(engine.contexts) == 4


def test_an_engine_whose_runs_cannot_be_recorded_runs_without_graphs(parts, monkeypatch):
    """TensorRT-RTX says so of contexts that ask for memory while they run."""
    device, engine, recorded = parts
    asked = []
    monkeypatch.setattr(
        Context, "is_stream_capturable", lambda self, stream: asked.append(stream), raising=False
    )
    weights, out = device.allocate(4 * COUNT), device.allocate(4 * COUNT)
    for batch in (1, 1, 2):
        inputs = {"weights": DeviceArray(weights.address, "float32", (batch, COUNT))}
        assert not recorded.run(inputs, "features", out.address)
    assert asked == [device.stream] and len(engine.contexts) == 1
