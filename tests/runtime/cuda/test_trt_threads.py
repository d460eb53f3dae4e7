"""Sessions over TensorRT engines that several threads use, and close."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest

from runtime.backends.trt.graphs import graphs_of
from runtime.backends.trt.store import store_of
from runtime.bundles.bundle import Bundle
from runtime.cuda.context import CudaContext
from runtime.cuda.device import CudaDevice
from runtime.errors import BackendError, TaskError
from runtime.sessions.pool import SessionPool
from tests.runtime.cuda import stand_in
from tests.runtime.cuda.test_trt_session import build, camera, install, opened, tensorrt
from tests.runtime.test_threads import stress

__all__ = ["build", "tensorrt"]  # fixtures


@pytest.mark.parametrize("pools", ["0", "1"])
@pytest.mark.parametrize(("strategy", "room"), [("patch", 5000), ("engines", 40_000)])
def test_closing_at_any_moment_ends_every_thread_and_frees_everything(
    mixed, build, driver, monkeypatch, pools, strategy, room
):
    monkeypatch.setenv("EMULATED_POOLS", pools)
    build(mixed.path, baked=strategy == "engines")
    frame, before, wrong = camera(1)[0], driver.live_bytes(), []
    with opened(mixed.path, strategy=strategy) as session:
        want = {task: session.predict(frame, task).logits for task in session.tasks}

    def use(session, number, seed):
        rng = np.random.default_rng([seed, number])
        try:
            while True:
                task, *more = map(str, rng.choice(list(want), 4))
                try:
                    if number == 0:
                        session.prefetch(*more)
                    elif number == 1:
                        session.load(task)
                    elif not np.array_equal(session.predict(frame, task).logits, want[task]):
                        wrong.append(task)
                except TaskError:  # what is in use takes all the room
                    pass
        except BackendError as error:
            if "closed" not in str(error):
                wrong.append(error)
        except BaseException as error:
            wrong.append(error)

    for seed in range(8):
        session = opened(mixed.path, strategy=strategy, max_task_bytes=room)
        threads = [threading.Thread(target=use, args=(session, n, seed)) for n in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.02 + 0.01 * seed)
        session.close()
        for thread in threads:
            thread.join()
        assert not wrong
        assert driver.live_bytes() == before


@pytest.mark.parametrize("coming", [True, False])
def test_engines_that_come_and_go_meanwhile_spoil_no_graph(
    mixed, build, driver, monkeypatch, coming
):
    build(mixed.path)
    frame, threads = camera(1)[0], []
    other = opened(mixed.path)
    real = CudaContext.record

    def record(self, work):
        def meanwhile():
            work()
            target = (lambda: opened(mixed.path).close()) if coming else other.close
            threads.append(threading.Thread(target=target))
            threads[0].start()
            threads[0].join(0.2)

        return real(self, work if threads else meanwhile)

    monkeypatch.setattr(CudaContext, "record", record)
    with opened(mixed.path) as session:
        before = driver.counts("cuGraphLaunch")[0]
        for _ in range(3):
            session.predict(frame, "a-b")
        threads[0].join()
        assert driver.counts("cuGraphLaunch")[0] - before == 1
    other.close()


def test_tasks_that_several_threads_bring_are_opened_one_after_the_other(
    world, build, driver, monkeypatch
):
    """What opens engines is one object, and TensorRT's are for one thread at a time."""
    build(world.path, baked=True)
    busy, met = [], []
    real = stand_in.Runtime.deserialize_cuda_engine

    def slowly(self, content):
        busy.append(1)
        time.sleep(0.05)
        met.append(len(busy))
        busy.pop()
        return real(self, content)

    monkeypatch.setattr(stand_in.Runtime, "deserialize_cuda_engine", slowly)
    with opened(world.path, strategy="engines") as session:
        threads = [threading.Thread(target=session.load, args=(task,)) for task in session.tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(session.resident) == set(session.tasks)
    assert met == [1] * len(met) and len(met) > 3


def test_a_pool_over_two_gpus_keeps_what_belongs_to_each_apart(mixed, build, driver, monkeypatch):
    """A stream or memory of the other GPU's context would be refused."""
    monkeypatch.setenv("EMULATED_GPUS", "2")
    build(mixed.path)
    with closing(CudaDevice(1)) as other:  # of another name, so it wants engines of its own
        for graph in graphs_of(Bundle.open(mixed.path)):
            install(store_of(mixed.path, None), other, graph)
    frame, before = camera(1)[0], driver.live_bytes()
    with opened(mixed.path) as session:
        want = {task: session.predict(frame, task).logits for task in session.tasks}
    devices = ["cuda:0", "cuda:1"]
    with SessionPool.open(
        mixed.path, sessions=4, devices=devices, backend="trt", max_task_bytes=5000
    ) as pool:

        def work(number):
            for task in np.random.default_rng(number).choice(pool.tasks, 40):
                found = pool.predict(frame, str(task))
                np.testing.assert_array_equal(found.logits, want[str(task)])

        stress(work, 4)
        for session in pool.sessions:
            assert session.base_sha256() == session.bundle.manifest.tensors.sha256
    assert driver.live_bytes() == before
