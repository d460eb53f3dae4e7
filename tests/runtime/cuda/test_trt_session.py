"""Sessions over TensorRT engines: a stand-in's over the emulated driver, real ones on a GPU."""

import dataclasses
import sys
import weakref

import numpy as np
import pytest

import runtime
from runtime.backends.trt.builder import Built, Options
from runtime.backends.trt.device import platform_of, runtime_on
from runtime.backends.trt.engine import TrtEngine
from runtime.backends.trt.engine_file import Recipe, engine_file
from runtime.backends.trt.graphs import baked_graphs, graphs_of
from runtime.backends.trt.library import library as installed
from runtime.backends.trt.library import logger
from runtime.backends.trt.profile import PROFILES, Profile, Span
from runtime.backends.trt.self_test import self_test
from runtime.backends.trt.sets import build_all
from runtime.backends.trt.store import store_of
from runtime.backends.trt.tensors import engine_tensors
from runtime.bundles.bundle import Bundle
from runtime.cuda.tensors import Tensors
from runtime.errors import BackendError, FormatError
from tests.gpus import need_tensorrt
from tests.runtime.conftest import SIZE
from tests.runtime.cuda import stand_in

ORIN = PROFILES["orin"]


@pytest.fixture(autouse=True)
def tensorrt(library, monkeypatch):
    """Let TensorRT be the stand-in, where the driver is one."""
    if library is None:
        need_tensorrt()
    else:
        monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    for cached in (installed, logger):
        cached.cache_clear()
    yield
    for cached in (installed, logger):
        cached.cache_clear()


@pytest.fixture
def build(library, device):
    """Return a function that puts the engines of a bundle into it."""

    def put(path, profile=ORIN, baked=False, **broken):
        bundle, store = Bundle.open(path), store_of(path, None)
        graphs = [*baked_graphs(bundle)] if baked else graphs_of(bundle)
        if library is None:
            list(build_all(bundle, None, profile, graphs=graphs))
            return
        for graph in graphs:
            install(store, device, graph, profile, **broken)

    return put


def install(store, device, graph, profile=ORIN, broken="", change=lambda built: built):
    """Put a stand-in's engine into a store."""
    plan = stand_in.plan(graph.onnx, profile, graph.baked, broken)
    engine = runtime_on(device).deserialize_cuda_engine(plan)
    built = change(Built(plan, engine_tensors(engine), 0.0, None))
    weights = None if graph.baked is None else runtime.storage.digest.tensors_sha256(graph.baked)
    recipe = Recipe(graph.sha256, weights, platform_of(device), profile, Options())
    made = engine_file(graph.stem, recipe, built, tested=True)
    store.install(made, built.plan)
    return made


def opened(path, **options):
    return runtime.Session.open(path, backend="trt", device="cuda", **options)


def close(found, want):
    """The order of additions is the library's own."""
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-2)


def camera(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (SIZE + i, 40, 3), dtype=np.uint8) for i in range(count)]


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_every_task_answers_as_with_onnx_runtime(mixed, build, strategy):
    build(mixed.path, baked=strategy == "engines")
    frames = camera(3)
    with (
        runtime.Session.open(mixed.path, threads=1) as host,
        opened(mixed.path, strategy=strategy) as found,
    ):
        for task in (*host.tasks, *host.tasks[::-1]):
            pairs = zip(
                host.predict_batch(frames, task), found.predict_batch(frames, task), strict=True
            )
            for want, result in pairs:
                assert result.task == task
                close(result.logits, want.logits)
        assert found.base_sha256() == host.base_sha256()


def test_more_frames_than_the_profile_takes_run_in_parts(world, build):
    build(world.path)
    pixels = np.random.default_rng(1).integers(0, 256, (2 * 8 + 3, SIZE, SIZE, 3), np.uint8)
    with opened(world.path) as session:
        for task in session.tasks:
            session.switch(task)
            close(session.infer(pixels), world.logits(task, pixels))
            close(session.infer(pixels[:1]), world.logits(task, pixels[:1]))


def test_frames_that_lie_on_the_device_are_read_there_whatever_their_address(world, build, device):
    """Three features of 6 x 4 bytes: the second part begins off the alignment."""
    build(world.path, Profile("two", Span(1, 1, 2), Span(2, 2, 9)))
    bundle = Bundle.open(world.path)
    head = graphs_of(bundle)[-1]
    made = store_of(world.path, None).find(head.sha256, platform_of(device))
    plan = store_of(world.path, None).plan(made)
    engine = TrtEngine(device, runtime_on(device), plan, made.tensors, made.recipe.profile)
    features = np.random.default_rng(3).standard_normal((3, 6)).astype(np.float32)
    weight = bundle.task("a-c", bundle.layout()).head_tensors["weight"]
    placed = Tensors(device, {"features": features, "weight": weight})
    close(engine.run(placed.handles), features @ weight.T)
    close(engine.run({"features": features, "weight": weight}), features @ weight.T)
    with pytest.raises(BackendError, match="the graph wants 'weight'"):
        engine.run({"features": features})
    with pytest.raises(BackendError, match="no input 'bias'"):
        engine.run({"features": features, "weight": weight, "bias": weight})
    engine.close()
    engine.close()
    with pytest.raises(BackendError, match="closed"):
        engine.run(placed.handles)
    placed.close()


def test_switches_leave_the_base_bit_for_bit(mixed, build):
    build(mixed.path)
    frame, rng = camera(1)[0], np.random.default_rng(2)
    with opened(mixed.path) as session:
        want = {task: session.predict(frame, task).logits for task in session.tasks}
        for task in rng.choice(session.tasks, 200):
            session.switch(str(task))
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
        for task in session.tasks:
            np.testing.assert_array_equal(session.predict(frame, task).logits, want[task])


def test_opening_builds_nothing_and_names_the_command(world, build):
    with pytest.raises(BackendError) as error:
        opened(world.path)
    assert "no engine of graph" in str(error.value)
    assert str(error.value).endswith(f"run: uda-runtime build {world.path}")
    assert not (world.path / "engines").exists()
    build(world.path)
    with (
        opened(world.path, strategy="engines") as session,
        pytest.raises(BackendError, match="uda-runtime build .* --strategy engines"),
    ):
        session.switch("a-b")


def test_engines_may_lie_elsewhere(world, build, tmp_path):
    build(world.path)
    (world.path / "engines").rename(tmp_path / "e")
    with pytest.raises(BackendError, match="no engine of graph"):
        opened(world.path)
    with opened(world.path, engines=tmp_path / "e") as session:
        assert session.predict(camera(1)[0], "a-b").task == "a-b"


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_closing_releases_what_the_library_holds_before_the_device_goes(
    mixed, build, driver, monkeypatch, strategy
):
    """The session is still there, and so may be what it had opened."""
    build(mixed.path, baked=strategy == "engines")
    alive = []

    class Engine(stand_in.ICudaEngine):
        def __init__(self, *given):
            super().__init__(*given)
            alive.append(weakref.ref(self))

    monkeypatch.setattr(stand_in, "ICudaEngine", Engine)
    session = opened(mixed.path, strategy=strategy)
    for task in session.tasks:
        for _ in range(3):
            session.predict(camera(1)[0], task)
    engines, close = [ref() for ref in alive], session.backend.memory.device.close
    assert engines and None not in engines
    stand_in._kept.clear()  # the stream has done all of it
    del engines
    left = []

    def closing():
        left.extend(ref() for ref in alive)
        close()

    monkeypatch.setattr(session.backend.memory.device, "close", closing)
    session.close()
    assert left and not any(left)


def test_all_memory_is_given_back(mixed, build, driver):
    build(mixed.path)
    before = driver.live_bytes()
    with opened(mixed.path) as session:
        for task in session.tasks:
            session.predict(camera(1)[0], task)
    assert driver.live_bytes() == before


def test_a_task_with_more_classes_than_the_engines_take_is_told_the_profile(world, build, driver):
    build(world.path, Profile("small", Span(1, 1, 2), Span(2, 2, 3)))
    with opened(world.path) as session:
        assert session.predict(camera(1)[0], "a-c").task == "a-c"
        with pytest.raises(BackendError, match=r"profile 'small' takes .*2\.\.2\.\.3 classes"):
            session.predict(camera(1)[0], "a-d")


def test_an_engine_that_the_library_cannot_open_says_why(world, build, device, driver):
    build(world.path)
    store, graph = store_of(world.path, None), graphs_of(Bundle.open(world.path))[0]

    def harm(built):
        return dataclasses.replace(built, plan=b"x" + built.plan)

    install(store, device, graph, change=harm)
    with pytest.raises(BackendError, match="cannot open an engine .*bad magicTag; build it again"):
        opened(world.path)


def test_an_engine_that_is_not_what_its_description_says_is_refused(world, build, device, driver):
    build(world.path)
    store, graph = store_of(world.path, None), graphs_of(Bundle.open(world.path))[0]

    def rename(built):
        first = dataclasses.replace(built.tensors[1], dtype="float16")
        return dataclasses.replace(built, tensors=(built.tensors[0], first, *built.tensors[2:]))

    install(store, device, graph, change=rename)
    with pytest.raises(FormatError, match="is not what its description says"):
        opened(world.path)


def test_an_engine_of_others_is_refused(world, build, device, driver):
    build(world.path)
    store, head = store_of(world.path, None), graphs_of(Bundle.open(world.path))[-1]
    other = head.onnx.replace(b"features", b"fixtures")
    plan = stand_in.plan(other, ORIN)

    def swap(built):
        tensors = engine_tensors(runtime_on(device).deserialize_cuda_engine(plan))
        return Built(plan, tensors, 0.0, None)

    install(store, device, head, change=swap)
    with pytest.raises(FormatError, match="was not built from a bundle: it gives logits"):
        opened(world.path)


def test_a_library_that_does_not_start_lets_go_of_the_gpu(world, driver, monkeypatch):
    def runtime(logger):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    held = ["cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2"]
    before = np.subtract(*driver.counts(*held))
    monkeypatch.setattr(stand_in, "Runtime", runtime)
    with pytest.raises(BackendError, match="cannot start"):
        opened(world.path)
    assert np.subtract(*driver.counts(*held)) == before


def test_a_session_on_a_device_that_has_failed_is_closed_without_another_error(
    world, build, driver
):
    build(world.path)
    with opened(world.path) as session:
        session.predict(camera(1)[0], "a-b")
        driver.fail_for_good()
        for task in ("a-b", "a-c"):
            with pytest.raises(BackendError, match="LAUNCH_FAILED|closed"):
                session.predict(camera(1)[0], task)
    assert session.closed


def test_a_run_that_fails_says_why(world, build, driver):
    build(world.path, broken="run")
    with opened(world.path) as session, pytest.raises(BackendError, match="an address is missing"):
        session.predict(camera(1)[0], "a-b")


@pytest.mark.parametrize("broken", ["", "nan", "again", "batch"])
def test_the_self_test_finds_engines_that_compute_nonsense(world, device, driver, broken):
    bundle, store = Bundle.open(world.path), store_of(world.path, None)
    encoder, head = graphs_of(bundle)
    task = bundle.task("a-b", bundle.layout())
    for graph, values in ((encoder, bundle.weights().views()), (head, task.head_tensors)):
        made = install(store, device, graph, broken=broken)
        placed = Tensors(device, values)
        if broken:
            with pytest.raises(BackendError, match="failed its self-test"):
                self_test(device, made, store.plan(made), placed.handles)
        else:
            self_test(device, made, store.plan(made), placed.handles)
        placed.close()
