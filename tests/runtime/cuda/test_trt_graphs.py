"""CUDA graphs of TensorRT's engines: kept across batch sizes and switches, or quietly not made."""

import numpy as np
import pytest

from runtime.backends.trt import cuda_graphs
from runtime.backends.trt.device import platform_of, runtime_on
from runtime.backends.trt.engine import TrtEngine
from runtime.backends.trt.graphs import graphs_of
from runtime.backends.trt.profile import PROFILES
from runtime.backends.trt.self_test import self_test
from runtime.backends.trt.store import store_of
from runtime.bundles.bundle import Bundle
from runtime.cuda.tensors import Tensors
from tests.runtime.conftest import SIZE
from tests.runtime.cuda import stand_in
from tests.runtime.cuda.test_trt_session import build, camera, close, install, opened, tensorrt

__all__ = ["build", "tensorrt"]  # fixtures
BATCHES = (1, 1, 2, 2, 3, 3, 8, 1, 1)
SETTERS = ("set_input_shape", "set_tensor_address", "contexts")


def random_pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def counted(driver):
    """Return what was launched as a graph, run as it is, and set, so far."""
    names = ("execute_async_v3", *SETTERS)
    return np.array(
        [*driver.counts("cuGraphLaunch", "graphs"), *(stand_in.calls[name] for name in names)]
    )


def test_frames_of_every_batch_size_see_every_switch(mixed, build):
    build(mixed.path)
    pixels = random_pixels(19)
    with opened(mixed.path) as session:
        for number in range(40):
            count = (1, 1, 2, 8, 19)[number // 5 % 5]
            task = session.tasks[number % len(session.tasks)]
            session.switch(task)
            close(session.infer(pixels[:count]), mixed.logits(task, pixels[:count]))
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256


@pytest.mark.parametrize("lie", ["frames", "pixels"])
def test_a_batch_size_that_comes_back_replays_its_graph(world, build, driver, lie):
    build(world.path)
    frames, pixels = camera(8), random_pixels(8)
    with opened(world.path) as session:
        session.switch("a-b")
        for count in BATCHES:
            before = counted(driver)
            if lie == "frames":
                session.predict_batch(frames[:count])
            else:
                close(session.infer(pixels[:count]), world.logits("a-b", pixels[:count]))
        assert (counted(driver) - before).tolist() == [1, 0, 0, 0, 0, 0]
        if lie == "pixels":
            session.switch("a-c")  # of other classes, so the head's part differs
            for _ in range(3):
                close(session.infer(pixels[:1]), world.logits("a-c", pixels[:1]))


def test_a_frame_is_one_launch_and_its_features_stay_on_the_device(world, build, driver):
    build(world.path)
    names = ["cuGraphLaunch", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"]
    names += ["cuMemcpyDtoDAsync_v2", "cuStreamSynchronize", "cuMemAllocAsync"]
    with opened(world.path) as session:
        session.switch("a-b")
        for _ in range(3):
            session.infer(random_pixels(1))
        before = driver.counts(*names)
        session.infer(random_pixels(1, seed=1))
        assert np.subtract(driver.counts(*names), before).tolist() == [1, 1, 1, 0, 1, 0]


def test_what_is_bound_is_set_once_though_no_run_is_recorded(world, build, driver):
    build(world.path, broken="record")
    with opened(world.path) as session:
        session.switch("a-b")
        for count in (1, 1, 1, 2, 2, 2):
            before = [stand_in.calls[name] for name in SETTERS]
            pixels = random_pixels(count)
            close(session.infer(pixels), world.logits("a-b", pixels))
            after = [stand_in.calls[name] for name in SETTERS]
        assert after == before
        session.infer(random_pixels(1))  # the pixels of one, and the features of one
        after = [stand_in.calls[name] for name in SETTERS]
        assert np.subtract(after, before).tolist() == [2, 2, 0]


@pytest.mark.parametrize("broken", ["record", "contexts"])
def test_an_engine_that_cannot_be_recorded_runs_without_graphs(
    world, build, device, driver, broken
):
    build(world.path, broken=broken)
    before = driver.counts("graphs", "cuGraphLaunch")
    with opened(world.path) as session:
        for count in BATCHES:
            for task in session.tasks:
                pixels = random_pixels(count)
                session.switch(task)
                close(session.infer(pixels), world.logits(task, pixels))
    assert driver.counts("graphs", "cuGraphLaunch") == before
    bundle, store = Bundle.open(world.path), store_of(world.path, None)
    encoder = graphs_of(bundle)[0]
    made = install(store, device, encoder, broken=broken)
    placed = Tensors(device, bundle.weights().views())
    self_test(device, made, store.plan(made), placed.handles)
    placed.close()


def test_the_least_recently_used_graph_leaves(world, build, driver, monkeypatch):
    monkeypatch.setattr(cuda_graphs, "_MOST", 2)
    build(world.path)
    before = driver.counts("graphs")[0]
    with opened(world.path) as session:
        session.switch("a-b")

        def run(count):
            start = counted(driver)
            pixels = random_pixels(count)
            close(session.infer(pixels), world.logits("a-b", pixels))
            return (counted(driver) - start)[0]

        for count in (1, 1, 2, 2):
            assert run(count) == 0
        assert run(1) == run(2) == run(1) == 1
        assert [run(3), run(3), run(3)] == [0, 0, 1]  # in the place of 2
        assert run(1) == 1 and run(2) == 0
        assert driver.counts("graphs")[0] - before == 2
    assert driver.counts("graphs")[0] == before


def test_all_contexts_compute_in_one_memory(world, build, driver):
    build(world.path)
    stand_in.activations.clear()
    with opened(world.path) as session:
        session.switch("a-b")
        for count in BATCHES:
            session.infer(random_pixels(count))
    assert len(stand_in.activations) == 2 + 2 * 3  # of two engines, and of three graphs
    assert len(set(stand_in.activations)) == 1


def test_heads_of_equal_shape_share_a_graph_wherever_they_lie(world, build, device, driver):
    build(world.path)
    store, head = store_of(world.path, None), graphs_of(Bundle.open(world.path))[-1]
    made = store.find(head.sha256, platform_of(device))
    engine = TrtEngine(device, runtime_on(device), store.plan(made), made.tensors, PROFILES["orin"])
    rng = np.random.default_rng(4)
    weights = [rng.standard_normal((5, 6)).astype(np.float32) for _ in range(3)]
    placed = [Tensors(device, {"weight": weight}) for weight in weights]
    features = rng.standard_normal((2, 6)).astype(np.float32)
    before = counted(driver)
    for number in (0, 1, 2, 0, 0, 2, 1, 1):
        found = engine.run({"features": features, **placed[number].handles})
        close(found, features @ weights[number].T)
    launched, *_ = counted(driver) - before
    assert launched == 6
    # Memory that is given again may have the address of what was there, and other values.
    address = placed[0].handles["weight"].address
    device.upload(weights[2], address)
    again = {"weight": type(placed[0].handles["weight"])(address, "float32", (5, 6))}
    close(engine.run({"features": features, **again}), features @ weights[2].T)
    engine.close()
