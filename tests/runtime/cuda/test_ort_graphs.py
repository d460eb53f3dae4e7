"""CUDA graphs that ONNX Runtime records: kept by shape, or quietly not made."""

import threading

import numpy as np
import pytest

import runtime
from runtime.errors import BackendError
from tests.runtime.conftest import SIZE
from tests.runtime.cuda.ort_stand_in import StandInSession, calls
from tests.runtime.cuda.test_device_session import camera
from tests.runtime.cuda.test_device_session import cuda as cuda  # a fixture
from tests.runtime.interrupts import elsewhere, interrupted

BATCHES = (1, 1, 2, 2, 3, 3, 8, 1, 1)


@pytest.fixture
def opened(mixed, cuda):
    with runtime.Session.open(mixed.path, device="cuda", threads=1) as session:
        yield session


def random_pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def check(session, world, task, pixels):
    session.switch(task)
    found = session.infer(pixels)
    np.testing.assert_allclose(found, world.logits(task, pixels), rtol=1e-4, atol=1e-2)


def test_frames_of_every_batch_size_see_every_switch(mixed, opened):
    for number in range(60):
        count = (1, 1, 2, 8, 19)[number // 5 % 5]
        check(opened, mixed, opened.tasks[number % 5], random_pixels(count, number))
    assert opened.base_sha256() == opened.bundle.manifest.tensors.sha256


@pytest.mark.parametrize("lie", ["frames", "pixels"])
def test_a_batch_size_that_comes_back_replays_its_graph(mixed, opened, driver, lie):
    names = ["cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemAllocAsync"]
    frames, pixels = camera(8), random_pixels(8)
    opened.switch("a-b")
    for count in BATCHES:
        before, copies = dict(calls), driver.counts(*names)
        if lie == "frames":
            opened.predict_batch(frames[:count])
        else:
            check(opened, mixed, "a-b", pixels[:count])
    # Of encoder and head, both there since the last frame; the features were on the device.
    changed = {name: calls[name] - before.get(name, 0) for name in calls}
    assert {name: count for name, count in changed.items() if count} == {"replayed": 2}
    assert np.subtract(driver.counts(*names), copies).tolist() == [1, 1, 0]


def test_a_run_whose_output_goes_elsewhere_is_another_graph(mixed, opened):
    """An encoder's features stay on the device for a head, or come to the host by themselves."""
    for number in range(8):
        pixels = random_pixels(2, number)
        check(opened, mixed, "a-b", pixels)
        found = opened.features(list(pixels), "a-b")
        np.testing.assert_allclose(found, mixed.features("a-b", pixels), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("inside", [True, False])
def test_a_graph_that_cannot_be_recorded_runs_without(mixed, opened, driver, monkeypatch, inside):
    """The session fails in the middle of recording, or spoils it and notices at the end."""
    tried = []

    def spoil(session):
        tried.append(session)
        if inside:
            session.run(None, {})  # without inputs
        opened._strategy.backend.memory.device.synchronize()

    monkeypatch.setattr(StandInSession, "refuse", spoil)
    before = calls["recorded"], calls["replayed"]
    for count in BATCHES:
        check(opened, mixed, "a-b", random_pixels(count))
    assert (calls["recorded"], calls["replayed"]) == before
    assert len(tried) == 2 * 3  # encoder and head, once for each batch that came twice


def test_every_thread_records_for_itself(mixed, opened, driver):
    """Over the emulated driver; ONNX Runtime keeps graphs by thread."""
    before = calls["recorded"]

    def work():
        for _ in range(4):
            check(opened, mixed, "a-b", random_pixels(1))

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert calls["recorded"] - before == 4


def test_sessions_that_come_and_go_meanwhile_spoil_no_graph(mixed, opened, driver, monkeypatch):
    """Whoever opens or releases one waits for the whole GPU, which nothing can record."""
    found, threads = [], []

    def come_and_go():
        with runtime.Session.open(mixed.path, device="cuda", threads=1) as session:
            check(session, mixed, "a-c", random_pixels(2))
            found.append(session.task)

    def meanwhile(session):
        if not threads:
            threads.append(threading.Thread(target=come_and_go))
            threads[0].start()
            threads[0].join(0.2)

    monkeypatch.setattr(StandInSession, "refuse", meanwhile)
    before = calls["recorded"]
    for _ in range(4):
        check(opened, mixed, "a-b", random_pixels(1))
    threads[0].join()
    assert found == ["a-c"]
    assert calls["recorded"] - before == 2  # encoder and head


def test_a_session_that_closes_meanwhile_spoils_no_graph(mixed, opened, driver, monkeypatch):
    other, threads = runtime.Session.open(mixed.path, device="cuda", threads=1), []

    def meanwhile(session):
        if not threads:
            threads.append(threading.Thread(target=other.close))
            threads[0].start()
            threads[0].join(0.2)

    monkeypatch.setattr(StandInSession, "refuse", meanwhile)
    before = calls["recorded"]
    for _ in range(3):
        check(opened, mixed, "a-b", random_pixels(1))
    threads[0].join()
    assert calls["recorded"] - before == 2  # encoder and head


def test_frames_do_not_wait_while_an_engine_is_opened(mixed, opened, driver):
    device, (ready, done) = opened.backend.memory.device, (threading.Event() for _ in range(2))

    def hold():
        with device.whole_gpu:
            ready.set()
            done.wait()

    def frames():
        for _ in range(4):
            check(opened, mixed, "a-b", random_pixels(1))

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait()
    before = calls["recorded"]
    try:
        assert elsewhere(frames, 20) is None
    finally:
        done.set()
        holder.join()
    assert calls["recorded"] == before
    elsewhere(frames, 20)
    assert calls["recorded"] - before == 2  # encoder and head, now that nobody has the GPU


def test_what_a_graph_binds_lies_on_the_device(mixed, opened):
    encoder = next(iter(opened._strategy.encoders.values())).engine
    with pytest.raises(BackendError, match="binds what lies there, found an array of the host"):
        encoder.bind({"first.bias": np.zeros(300, np.float32)})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_prediction_that_is_interrupted_while_it_is_recorded(mixed, opened):
    frames = camera(2)
    want = {t: [opened.predict(f, t).logits for f in frames] for t in opened.tasks}
    task = opened._load("a-f")
    engines = [
        opened._strategy.encoders[task.encoder].engine,
        opened._strategy._heads[task.head],
    ]

    def prepare() -> None:
        opened.switch("a-b")
        for engine in engines:  # so that the second run is recorded, under an id of its own
            engine._here, engine._most = threading.local(), 1 << 30
            engine._ids.clear()

    work = [frames[0]] * 3
    for n in interrupted(prepare, lambda: [opened.predict(f, "a-f") for f in work], step=12):
        for name in ("a-f", "a-c"):
            for found in (
                elsewhere(lambda: opened.predict(frames[n % 2], name)),  # noqa: B023
                opened.predict(frames[n % 2], name),
            ):
                assert found.task == name
                np.testing.assert_allclose(found.logits, want[name][n % 2], rtol=1e-4, atol=1e-2)
    assert opened.base_sha256() == opened.bundle.manifest.tensors.sha256
