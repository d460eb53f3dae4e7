"""Sessions on a device; the emulated one's memory is read by ONNX Runtime's CPU provider."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

import runtime
from runtime import backends
from runtime.backends.ort.backend import OrtBackend
from runtime.cuda.device import CudaDevice
from runtime.errors import BackendError, DataError
from runtime.sessions.pool import SessionPool
from tests.gpus import need_onnxruntime
from tests.runtime.conftest import SIZE, head_graph
from tests.runtime.cuda.ort_stand_in import Backend
from tests.runtime.test_threads import stress


@pytest.fixture
def cuda(library, monkeypatch):
    """Let `cuda` be the emulated device, if there is one."""

    def load(name, device, threads, *engines):
        return (Backend if device == "cuda" else OrtBackend)(device, threads)

    if library is None:
        need_onnxruntime()
    else:
        monkeypatch.setattr(backends, "load", load)


def camera(count=3, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(SIZE, 60, (count, 2))
    return [rng.integers(0, 256, (int(h), int(w), 3), dtype=np.uint8) for h, w in sizes]


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_every_task_answers_as_on_the_host(mixed, cuda, close_to, strategy):
    frames = camera()
    with (
        runtime.Session.open(mixed.path, threads=1, strategy=strategy) as host,
        runtime.Session.open(mixed.path, device="cuda", threads=1, strategy=strategy) as device,
    ):
        pairs = [(frame, task) for frame in frames for task in host.tasks]
        for task in (*host.tasks, *host.tasks[::-1]):
            for want, found in zip(
                host.predict_batch(frames, task), device.predict_batch(frames, task), strict=True
            ):
                assert found.task == task
                close_to(found.logits, want.logits)
        for want, found in zip(host.predict_many(pairs), device.predict_many(pairs), strict=True):
            assert found.task == want.task
            np.testing.assert_allclose(found.logits, want.logits, rtol=1e-4, atol=1e-2)
        pixels = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
        host.switch("a-e")
        device.switch("a-e")
        close_to(device.infer(pixels), host.infer(pixels))
        assert device.base_sha256() == device.bundle.manifest.tensors.sha256


def test_a_thousand_switches_leave_the_base_bit_for_bit(mixed, cuda):
    rng, frame = np.random.default_rng(2), camera(1)[0]
    with runtime.Session.open(mixed.path, device="cuda", threads=1) as session:
        want = {task: session.predict(frame, task).logits for task in session.tasks}
        for task in rng.choice(session.tasks, 1000):
            session.switch(str(task))
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
        for task in session.tasks:
            np.testing.assert_array_equal(session.predict(frame, task).logits, want[task])


def test_a_switch_of_a_resident_task_neither_copies_from_the_host_nor_waits(mixed, cuda, driver):
    names = ["cuStreamSynchronize", "cuMemcpyHtoDAsync_v2", "cuMemAllocAsync", "cuMemFreeAsync"]
    with runtime.Session.open(mixed.path, device="cuda", threads=1) as session:
        for task in session.tasks:
            session.switch(task)
        before = driver.counts("cuLaunchKernel", "cuMemcpyDtoDAsync_v2", *names)
        session.switch("a-b")  # two patches; from a-f
        session.switch("a-d")
        session.switch("a-c")  # one that brings tokens instead of a patch
        after = driver.counts("cuLaunchKernel", "cuMemcpyDtoDAsync_v2", *names)
    assert np.subtract(after, before).tolist() == [5, 1, 0, 0, 0, 0]


def test_tasks_beyond_the_bound_leave_the_device(mixed, cuda, driver):
    frames = camera(2)
    with runtime.Session.open(mixed.path, device="cuda", threads=1) as session:
        want = {task: session.predict(frames[0], task).logits for task in session.tasks}
        sizes = {task: session.load(task) for task in session.tasks}
    assert all(size % 256 == 0 or size > 256 for size in sizes.values())
    most = max(sizes.values()) + min(sizes.values())
    with runtime.Session.open(mixed.path, device="cuda", threads=1, max_task_bytes=most) as session:
        rng, live = np.random.default_rng(3), []
        for number, task in enumerate(rng.choice(session.tasks, 200)):
            np.testing.assert_array_equal(
                session.predict(frames[0], str(task)).logits, want[str(task)]
            )
            assert session.task_bytes <= most
            if number >= 100:
                live.append(driver.live_bytes())
        assert max(live) - min(live) <= 2 * most
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def test_closing_a_session_gives_back_all_memory(mixed, cuda, driver):
    before = driver.live_bytes()
    for strategy in ("patch", "engines"):
        with runtime.Session.open(mixed.path, device="cuda", strategy=strategy) as session:
            for task in session.tasks:
                session.predict(camera(1)[0], task)
        assert driver.live_bytes() == before


def test_a_bundle_that_does_not_open_leaves_nothing_behind(mixed, cuda, driver, monkeypatch):
    before = driver.live_bytes()
    held = np.subtract(*driver.counts("cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2"))
    with pytest.raises(BackendError, match="unknown strategy"):
        runtime.Session.open(mixed.path, device="cuda", strategy="nope")
    monkeypatch.setenv("EMULATED_BYTES", "100")
    with pytest.raises(BackendError, match="out of memory"):
        runtime.Session.open(mixed.path, device="cuda")
    assert driver.live_bytes() == before
    assert held == np.subtract(
        *driver.counts("cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2")
    )


@pytest.mark.parametrize("launches", [0, 1])
def test_a_switch_that_the_device_refuses_leaves_the_current_task(mixed, cuda, driver, launches):
    """Refused for good, so that not even the old task can be written: closed."""
    frame = camera(1)[0]
    with runtime.Session.open(mixed.path, device="cuda", threads=1) as session:
        session.load("a-f")
        session.switch("a-b")
        driver.fail_launches_after(launches)
        with pytest.raises(BackendError, match=r"cuLaunchKernel.*closed, open a new one"):
            session.switch("a-f")
        assert session.closed
        assert session.task is None
        with pytest.raises(BackendError, match="closed; open a new one"):
            session.predict(frame)


def test_a_device_that_fails_ends_the_session_and_no_later_one(world, cuda, driver):
    frame = camera(1)[0]
    with runtime.Session.open(world.path, device="cuda", threads=1) as session:
        want = session.predict(frame, "a-b").logits
        session.load("a-c")
        driver.fail_for_good()
        for task in ("a-b", "a-c", "a-d"):
            with pytest.raises(BackendError, match="LAUNCH_FAILED|closed"):
                session.predict(frame, task)
    with runtime.Session.open(world.path, device="cuda", threads=1) as session:
        np.testing.assert_array_equal(session.predict(frame, "a-b").logits, want)


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this onnxruntime has no CUDA provider",
)
def test_a_provider_that_does_not_start_says_why_and_the_cpu_takes_no_part(driver, capfd):
    """As where the driver is too old: over an emulated one CUDA's own libraries do not start."""
    backend = OrtBackend("cuda", None)
    try:
        with pytest.raises(BackendError, match="cannot open the graph on cuda: ") as error:
            backend.open(head_graph())
    finally:
        backend.memory.close()
    text = str(error.value)
    assert text.endswith("; check the driver and the CUDA libraries, or choose --device cpu")
    assert "\n" not in text and "explicitly added the CPU" not in text
    assert capfd.readouterr().out == ""


def test_a_task_for_which_there_is_no_room_leaves_the_current_one(mixed, cuda, driver, monkeypatch):
    frame = camera(1)[0]
    with runtime.Session.open(mixed.path, device="cuda", threads=1) as session:
        want = session.predict(frame, "a-b").logits
        before = driver.live_bytes()
        monkeypatch.setenv("EMULATED_BYTES", "100")
        with pytest.raises(BackendError, match="out of memory"):
            session.switch("a-d")
        monkeypatch.delenv("EMULATED_BYTES")
        session.backend.memory.device.synchronize()
        assert driver.live_bytes() <= before + 256
        assert session.task == "a-b"
        np.testing.assert_array_equal(session.predict(frame).logits, want)


def test_a_frame_that_is_none_is_refused_before_the_device_sees_it(mixed, cuda, driver):
    with runtime.Session.open(mixed.path, device="cuda", threads=1) as session:
        before = driver.counts("cuLaunchKernel")
        with pytest.raises(DataError, match="a frame must be"):
            session.predict(np.zeros((4, 4)), "a-b")
        with pytest.raises(DataError, match="too narrow to crop"):
            session.predict(np.zeros((1, 900, 3), np.uint8), "a-c")
        assert driver.counts("cuLaunchKernel") == before


def test_many_threads_get_each_tasks_own_answer(mixed, cuda):
    frames = camera(4, seed=5)
    with runtime.Session.open(mixed.path, device="cuda", threads=1) as session:
        want = {t: [session.predict(f, t).logits.tobytes() for f in frames] for t in session.tasks}

        def work(number):
            rng = np.random.default_rng(number)
            for _ in range(60):
                task, i = str(rng.choice(session.tasks)), int(rng.integers(4))
                assert session.predict(frames[i], task).logits.tobytes() == want[task][i]

        stress(work, 4)
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def test_a_pool_on_one_gpu_gives_every_session_its_own_weights(mixed, cuda, close_to):
    frames = camera(4, seed=6)
    with runtime.Session.open(mixed.path, threads=1) as host:
        want = {t: [host.predict(f, t).logits for f in frames] for t in host.tasks}
    with SessionPool.open(mixed.path, sessions=2, devices=["cuda"], threads=1) as pool:

        def work(number):
            rng = np.random.default_rng(number)
            for _ in range(40):
                task, i = str(rng.choice(pool.tasks)), int(rng.integers(4))
                close_to(pool.predict(frames[i], task).logits, want[task][i])

        stress(work, 4)
        for session in pool.sessions:
            assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def test_tasks_come_and_go_while_frames_run(mixed, cuda, close_to):
    frame = camera(1)[0]
    with runtime.Session.open(mixed.path, threads=1) as host:
        want = {task: host.predict(frame, task).logits for task in host.tasks}
    with runtime.Session.open(mixed.path, device="cuda", threads=1) as free:
        room = sum(sorted(free.load(task) for task in free.tasks)[-2:])
    with runtime.Session.open(mixed.path, device="cuda", threads=1, max_task_bytes=room) as session:
        for number in range(60):
            task = session.tasks[number % 5]
            session.prefetch(session.tasks[(number + 1) % 5])
            for _ in range(3):
                close_to(session.predict(frame, task).logits, want[task])
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def test_sessions_in_a_row_give_all_memory_back(mixed, cuda, library):
    frame, watch = camera(1)[0], CudaDevice()  # which keeps the context

    def use():
        with runtime.Session.open(mixed.path, device="cuda", threads=1) as session:
            for _ in range(3):  # the last time from what was recorded
                for task in session.tasks:
                    session.predict(frame, task)

    use()  # libraries load code, and keep it
    free = watch.free_bytes()
    for _ in range(10):
        use()
    left = free - watch.free_bytes()
    watch.close()
    assert left <= (0 if library else 32 << 20)  # cuBLAS alone takes as much for each engine


LEFT_OPEN = """if True:
    import sys
    import numpy as np
    import runtime

    session = runtime.Session.open(sys.argv[1], device="cuda")
    for _ in range(3):
        found = session.predict(np.zeros((20, 24, 3), np.uint8), "a-b")
    print(found.task)
"""


def test_a_process_that_leaves_a_session_open_ends_quietly(mixed):
    need_onnxruntime()
    command = [sys.executable, "-c", LEFT_OPEN, str(mixed.path)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "a-b\n", "")


def test_tasks_that_are_fetched_ahead_are_there_when_their_frame_comes(mixed, cuda, close_to):
    frame = camera(1)[0]
    with (
        runtime.Session.open(mixed.path, threads=1) as host,
        runtime.Session.open(mixed.path, device="cuda", threads=1) as device,
    ):
        device.prefetch(*device.tasks)
        for task in device.tasks:
            close_to(device.predict(frame, task).logits, host.predict(frame, task).logits)
        assert set(device.resident) == set(device.tasks)
