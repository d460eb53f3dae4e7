import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import runtime
from runtime import backends, bundle, strategies
from runtime.backends.ort import OrtBackend
from runtime.errors import BackendError, ConfigError, DataError, FormatError, TaskError
from runtime.grouping import spread
from runtime.pool import SessionPool
from runtime.strategies.patch import PatchStrategy


def frames(count, size=16):
    return list(np.random.default_rng(3).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def answers(path, inputs, **kwargs):
    """Return what one session says to each frame under each task, one call at a time."""
    with runtime.Session.open(path, **kwargs) as session:
        found = {}
        for task in session.tasks:
            session.switch(task)
            found[task] = [session.predict(frame).logits for frame in inputs]
    return found


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_many_threads_get_what_one_session_says_bit_for_bit(mixed, strategy):
    inputs = frames(8)
    want = answers(mixed.path, inputs, threads=1, strategy=strategy)
    tasks = list(want)

    def camera(seed):
        rng = np.random.default_rng(seed)
        for _ in range(150):
            task, number = tasks[rng.integers(len(tasks))], int(rng.integers(len(inputs)))
            found = pool.predict(inputs[number], task)
            assert found.task == task
            np.testing.assert_array_equal(found.logits, want[task][number])
        return True

    with (
        SessionPool.open(mixed.path, sessions=3, threads=1, strategy=strategy) as pool,
        ThreadPoolExecutor(6) as cameras,
    ):
        assert all(cameras.map(camera, range(6)))
        assert len({session.task for session in pool.sessions} - {None}) > 1


def test_eviction_changes_no_answer(mixed):
    """Room for about two tasks: they come and go while others are judged."""
    inputs = frames(4)
    want = answers(mixed.path, inputs, threads=1)
    tasks = list(want)
    with runtime.Session.open(mixed.path) as session:
        room = 2 * max(session.load(task) for task in tasks)

    def camera(seed):
        rng = np.random.default_rng(seed)
        for _ in range(60):
            task, number = tasks[rng.integers(len(tasks))], int(rng.integers(len(inputs)))
            found = pool.predict(inputs[number], task)
            np.testing.assert_array_equal(found.logits, want[task][number])
        return True

    with (
        SessionPool.open(mixed.path, sessions=2, threads=1, max_task_bytes=room) as pool,
        ThreadPoolExecutor(4) as cameras,
    ):
        assert all(cameras.map(camera, range(4)))


def test_predict_many_keeps_the_order_and_the_answers(mixed):
    inputs = frames(8)
    want = answers(mixed.path, inputs, threads=1)
    rng = np.random.default_rng(5)
    tasks = list(want)
    picks = [(int(rng.integers(8)), tasks[rng.integers(len(tasks))]) for _ in range(200)]
    with SessionPool.open(mixed.path, sessions=3, threads=1) as pool:
        found = pool.predict_many([(inputs[number], task) for number, task in picks])
        assert pool.predict_many([]) == []
    assert [result.task for result in found] == [task for _, task in picks]
    for (number, task), result in zip(picks, found, strict=True):
        single = want[task][number]  # a batch sums in another order
        np.testing.assert_allclose(result.logits, single, rtol=0, atol=3e-6 * np.abs(single).max())


def test_parts_are_spread_and_keep_a_frame_with_all_tasks_of_its_encoder_pass():
    first, second = frames(2)
    encodings = ["base", "own", "base", "base", "own"]
    parts = spread([first, second, second, first, first], encodings, 2)
    assert sorted(map(sorted, parts)) == [[0, 2, 3], [1, 4]]
    many = frames(100)
    for sessions, sizes in ((1, [32, 32, 32, 4]), (2, [32, 32, 32, 4]), (8, 7 * [13] + [9])):
        assert [len(part) for part in spread(many, 100 * ["a"], sessions)] == sizes
    assert sorted(sum(spread(many, [i % 3 for i in range(100)], 4), [])) == list(range(100))
    assert spread([], [], 3) == []


def test_a_frame_under_tasks_that_change_nothing_is_encoded_once(world, tmp_path, failing):
    tasks = [replace(world.tasks[task], patch={}) for task in ("a-b", "a-c")]
    path = tmp_path / "untouched.bundle"
    bundle.write(path, **{**world.parts, "tasks": [*tasks, world.tasks["a-d"]]})
    first, second = frames(2)
    want = answers(path, [first, second], threads=1)
    failing.clear()
    with SessionPool.open(path, sessions=2, threads=1) as pool:
        found = pool.predict_many([(f, t) for f in (first, second) for t in ("a-b", "a-c")])
    assert sum(backend.encoded for backend in failing) == 2
    for number in range(2):
        for place, task in enumerate(("a-b", "a-c")):
            logits = found[2 * number + place].logits
            np.testing.assert_allclose(logits, want[task][number], rtol=1e-5, atol=1e-3)


def test_sessions_share_the_tasks_in_memory(world, frame):
    with SessionPool.open(world.path, sessions=3, threads=1) as pool:
        held = pool.sessions[0].load("a-b")
        for session in pool.sessions:
            session.switch("a-b")
            assert session.resident == ("a-b",)
            assert session.task_bytes == held
        assert len({id(session._current) for session in pool.sessions}) == 1


def test_engines_are_nobody_elses(world):
    with SessionPool.open(world.path, sessions=2, threads=1, strategy="engines") as pool:
        pool.sessions[0].load("a-b")
        assert pool.sessions[1].resident == ()


def test_a_session_that_is_on_the_task_is_taken_before_others(world, frame):
    with SessionPool.open(world.path, sessions=2, threads=1) as pool:
        pool.predict(frame, "a-b")
        pool.predict(frame, "a-c")
        on = {session.task: session for session in pool.sessions}
        assert set(on) == {"a-b", "a-c"}
        for task in ("a-c", "a-c", "a-b", "a-c"):
            pool.predict(frame, task)
        assert {session.task: session for session in pool.sessions} == on
        pool.predict(frame, "a-d")  # on the one that was used longest ago
        assert {session.task for session in pool.sessions} == {"a-c", "a-d"}


class Failing(OrtBackend):
    """A device that refuses tasks for good once it is told to; it counts frames it encodes."""

    made: list = []
    broken, encoded = False, 0

    def __init__(self, device, threads, engines):
        super().__init__(device, threads, engines)
        Failing.made.append(self)

    def open(self, graph, *, small=False, baked=None):
        engine = super().open(graph, small=small, baked=baked)
        run = engine.run

        def count(inputs):
            self.encoded += len(inputs.get("pixels", ()))
            return run(inputs)

        engine.run = count
        return engine


class FailingStrategy(PatchStrategy):
    """One whose device takes no new values and not the former ones either."""

    def switch(self, new, old):
        if self.backend.broken:
            self.close()
            raise BackendError("out of device memory")
        super().switch(new, old)


@pytest.fixture
def failing(monkeypatch):
    """Let pools open their sessions on failing devices; return these."""
    monkeypatch.setattr(Failing, "made", [])
    monkeypatch.setattr(backends, "load", lambda name, *arguments: Failing(*arguments))
    monkeypatch.setattr(strategies, "load", lambda name, *parts: FailingStrategy.open(*parts))
    return Failing.made


def judge_until_closed(pool, frame):
    """Return how many calls meet a failing device before no session is left."""
    failed = 0
    for task in 10 * pool.tasks:
        try:
            pool.predict(frame, task)
        except BackendError as error:
            if "every session of the pool is closed" in str(error):
                return failed
            failed += 1
    return -1


def test_a_session_whose_device_fails_does_not_poison_the_others(mixed, failing):
    inputs = frames(4)
    want = answers(mixed.path, inputs, threads=1)
    failing.clear()
    rng = np.random.default_rng(1)

    def judge(count):
        """Return how many of so many random calls fail; all others must be right."""
        failed = 0
        for _ in range(count):
            task, number = str(rng.choice(pool.tasks)), int(rng.integers(4))
            try:
                found = pool.predict(inputs[number], task)
            except BackendError as error:
                assert "out of device memory" in str(error)
                failed += 1
            else:
                np.testing.assert_array_equal(found.logits, want[task][number])
        return failed

    with SessionPool.open(mixed.path, sessions=3, threads=1) as pool:
        assert judge(50) == 0
        failing[1].broken = True
        assert judge(100) == 1
        assert [session.closed for session in pool.sessions] == [False, True, False]
        assert len(pool.predict_many([(f, t) for f in inputs for t in pool.tasks])) == 20
        for backend in failing:
            backend.broken = True
        assert judge_until_closed(pool, inputs[0]) == 2


def test_who_waits_for_a_session_that_fails_is_told(world, failing, frame):
    with (
        SessionPool.open(world.path, sessions=1, threads=1) as pool,
        ThreadPoolExecutor(1) as other,
    ):
        pool.predict(frame, "a-b")
        failing[0].broken = True
        with pool._session("a-b") as session:
            waiting = other.submit(pool.predict, frame, "a-b")
            with pytest.raises(BackendError, match="out of device memory"):
                session.switch("a-c")
            time.sleep(0.05)
            assert not waiting.done()
        with pytest.raises(BackendError, match="every session of the pool is closed"):
            waiting.result(10)


def test_errors_of_one_call_leave_the_pool_as_it_was(world, frame):
    with SessionPool.open(world.path, sessions=2, threads=1) as pool:
        want = pool.predict(frame, "a-b").logits
        for _ in range(3):
            with pytest.raises(TaskError, match="unknown task 'x-y'"):
                pool.predict(frame, "x-y")
            with pytest.raises(TaskError, match="unknown task 'x-y'"):
                pool.predict_many([(frame, "a-b"), (frame, "x-y")])
            with pytest.raises(DataError, match="must be uint8"):
                pool.predict(frame.astype(np.float32), "a-b")
            with pytest.raises(DataError, match="must be uint8"):
                pool.predict_many([(frame, "a-c"), (frame.astype(np.float32), "a-b")])
        np.testing.assert_array_equal(pool.predict(frame, "a-b").logits, want)


def test_a_damaged_task_is_an_error_for_those_who_want_it_alone(world, frame):
    want = answers(world.path, [frame], threads=1)
    (file,) = (world.path / "tasks").glob("a-c-*")
    file.write_bytes(file.read_bytes()[:-1])
    with SessionPool.open(world.path, sessions=2, threads=1) as pool:
        for _ in range(3):
            with pytest.raises(FormatError, match="altered"):
                pool.predict(frame, "a-c")
            for task in ("a-b", "a-d"):
                np.testing.assert_array_equal(pool.predict(frame, task).logits, want[task][0])


def test_refresh_brings_a_new_version_to_every_session(world, make_world, frame):
    other = make_world("other.bundle", seed=0)
    changed = replace(
        other.tasks["a-c"],
        head_tensors={"weight": 2 * other.tasks["a-c"].head_tensors["weight"]},
    )
    with SessionPool.open(world.path, sessions=3, threads=1) as pool:
        old = pool.predict(frame, "a-c").logits
        assert pool.refresh() == ()
        tasks = [changed if t.info.id == "a-c" else t for t in world.tasks.values()]
        bundle.write(world.path, **{**world.parts, "tasks": tasks})
        assert pool.refresh() == ("a-c",)
        for session in pool.sessions:
            np.testing.assert_allclose(session.predict(frame, "a-c").logits, 2 * old, rtol=1e-5)
        assert pool.refresh() == ()


def test_a_session_that_fails_to_refresh_keeps_no_other_from_it(world, failing, frame):
    changed = replace(world.tasks["a-c"], patch={})
    with SessionPool.open(world.path, sessions=3, threads=1) as pool:
        for session in pool.sessions:
            session.switch("a-c")
        tasks = [changed if t.info.id == "a-c" else t for t in world.tasks.values()]
        bundle.write(world.path, **{**world.parts, "tasks": tasks})
        failing[0].broken = True
        with pytest.raises(BackendError, match="out of device memory"):
            pool.refresh()
        assert [session.closed for session in pool.sessions] == [True, False, False]
        want = answers(world.path, [frame], threads=1)["a-c"][0]
        for session in pool.sessions[1:]:
            np.testing.assert_array_equal(session.predict(frame, "a-c").logits, want)


def test_a_closed_pool_says_so_and_closes_twice(world, frame):
    pool = SessionPool.open(world.path, threads=1)
    pool.predict(frame, "a-b")
    pool.close()
    pool.close()
    for call in (
        lambda: pool.predict(frame, "a-b"),
        lambda: pool.predict_many([(frame, "a-b")]),
        pool.refresh,
    ):
        with pytest.raises(BackendError, match="closed; open a new"):
            call()
    assert all(session.closed for session in pool.sessions)


@pytest.mark.parametrize(
    ("sessions", "devices"), [(0, ("cpu",)), (1, ()), (1, ("cpu", "cpu")), (-1, ("cpu",))]
)
def test_a_pool_without_enough_sessions_is_a_config_error(world, sessions, devices):
    with pytest.raises(ConfigError, match="a session for each"):
        SessionPool.open(world.path, sessions=sessions, devices=devices)


def test_a_device_that_is_not_there_opens_nothing(world):
    before = threading.active_count()
    with pytest.raises(BackendError, match="unknown device 'tpu'"):
        SessionPool.open(world.path, sessions=2, devices=("cpu", "tpu"))
    assert threading.active_count() == before


def test_the_cores_are_shared_out_among_the_sessions(world, failing, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for sessions, threads in ((1, 8), (3, 2), (16, 1)):
        failing.clear()
        SessionPool.open(world.path, sessions=sessions).close()
        assert [backend._threads for backend in failing] == sessions * [threads]
