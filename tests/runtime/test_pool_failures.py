"""A pool when devices, tasks and callers fail, and when the bundle changes."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from runtime.bundles import bundle
from runtime.errors import BackendError, DataError, FormatError, TaskError
from runtime.sessions.pool import SessionPool
from tests.runtime.pools import answers, frames


def classify_until_closed(pool, frame):
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

    def classify(count):
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
        assert classify(50) == 0
        failing[1].broken = True
        assert classify(100) == 1
        assert [session.closed for session in pool.sessions] == [False, True, False]
        assert len(pool.predict_many([(f, t) for f in inputs for t in pool.tasks])) == 20
        for backend in failing:
            backend.broken = True
        assert classify_until_closed(pool, inputs[0]) == 2


def test_who_waits_for_a_session_that_fails_is_told(world, failing, frame):
    with (
        SessionPool.open(world.path, sessions=1, threads=1) as pool,
        ThreadPoolExecutor(1) as other,
    ):
        pool.predict(frame, "a-b")
        failing[0].broken = True
        loan = pool._lending.lend("a-b", sys._getframe())
        waiting = other.submit(pool.predict, frame, "a-b")
        with pytest.raises(BackendError, match="out of device memory"):
            loan.session.switch("a-c")
        time.sleep(0.05)
        assert not waiting.done()
        pool._lending.take_back(loan)
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


def test_all_sessions_take_over_the_same_manifest_though_it_changes_meanwhile(
    world, monkeypatch, frame
):
    changed = replace(world.tasks["a-c"], patch={})
    tasks = [changed if t.info.id == "a-c" else t for t in world.tasks.values()]
    with SessionPool.open(world.path, sessions=3, threads=1) as pool:
        for session in pool.sessions:
            session.switch("a-c")
        bundle.write(world.path, **{**world.parts, "tasks": tasks})
        want = answers(world.path, [frame], threads=1)["a-c"][0]
        first = pool.sessions[0]._strategy
        prepare = first.prepare

        def roll_back(*arguments):
            bundle.write(world.path, **world.parts)
            return prepare(*arguments)

        monkeypatch.setattr(first, "prepare", roll_back)
        assert pool.refresh() == ("a-c",)
        monkeypatch.undo()
        for session in pool.sessions:
            np.testing.assert_array_equal(session.predict(frame, "a-c").logits, want)
        assert pool.refresh() == ("a-c",)
        want = answers(world.path, [frame], threads=1)["a-c"][0]
        for session in pool.sessions:
            np.testing.assert_array_equal(session.predict(frame, "a-c").logits, want)
