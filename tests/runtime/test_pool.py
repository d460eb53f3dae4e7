import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import runtime
from runtime.bundles import bundle
from runtime.errors import BackendError, ConfigError
from runtime.sessions.grouping import spread
from runtime.sessions.pool import SessionPool
from tests.runtime.pools import answers, frames


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
    """Room for about two tasks: they come and go while others are classified."""
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
        for offset, task in enumerate(("a-b", "a-c")):
            logits = found[2 * number + offset].logits
            np.testing.assert_allclose(logits, want[task][number], rtol=1e-5, atol=1e-3)


def test_sessions_share_the_tasks_in_memory(world, frame):
    with SessionPool.open(world.path, sessions=3, threads=1) as pool:
        held = pool.sessions[0].load("a-b")
        for session in pool.sessions:
            session.switch("a-b")
            assert session.resident == ("a-b",)
            assert session.task_bytes == held
        assert len({id(session._held.task) for session in pool.sessions}) == 1


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
    ("sessions", "devices", "message"),
    [
        (0, ("cpu",), "sessions must be a whole number from 1; found '0'"),
        ("2", "cpu", "sessions must be a whole number from 1; found '2'"),
        (1, (), "a session for each"),
        (1, ("cpu", "cpu"), "a session for each"),
    ],
)
def test_a_pool_without_enough_sessions_is_a_config_error(world, sessions, devices, message):
    with pytest.raises(ConfigError, match=message):
        SessionPool.open(world.path, sessions=sessions, devices=devices)


def test_one_device_may_be_named_without_a_list(world, frame):
    with SessionPool.open(world.path, sessions=1, devices="cpu") as pool:
        assert pool.predict(frame, "a-b").task == "a-b"
        assert pool.predict_many(zip([frame] * 2, ["a-b", "a-c"], strict=True))[1].task == "a-c"


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


BAD = [
    *(("threads", value, 1) for value in (0, -1, 1.5, "2", True, 100_000)),
    *(("max_task_bytes", value, 0) for value in (-1, 1e9, float("nan"), "1 GB", False)),
]


@pytest.mark.parametrize(("name", "value", "least"), BAD)
@pytest.mark.parametrize("opener", [runtime.Session, SessionPool])
def test_a_number_that_cannot_be_meant_is_one_clear_config_error(world, opener, name, value, least):
    bounds = f"{least}( to [0-9]+ on this machine)?"
    wanted = f"^{name} must be a whole number from {bounds}; found '{value}'$"
    with pytest.raises(ConfigError, match=wanted):
        opener.open(world.path, **{name: value})


def test_numbers_of_numpy_are_numbers(world, frame):
    with runtime.Session.open(
        world.path, threads=np.int64(1), max_task_bytes=np.int64(10**6)
    ) as session:
        assert session.predict(frame, "a-b").task == "a-b"
