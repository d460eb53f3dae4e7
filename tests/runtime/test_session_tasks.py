"""The tasks in memory of a session, on real task files."""

import threading

import numpy as np
import pytest

import runtime
from runtime import backends
from runtime.bundles.bundle import Bundle
from runtime.errors import BackendError, FormatError, TaskError
from runtime.sessions.cache import TaskCache
from runtime.strategies.patch import PatchStrategy
from tests.runtime.helpers import newer, smuggle


class Gate(PatchStrategy):
    """Prepares a task only when it may; everything else as ever."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.open_, self.waiting, self.prepared = threading.Event(), threading.Event(), []

    def prepare(self, task, preprocess):
        if not self.open_.is_set():
            self.waiting.set()
            assert self.open_.wait(20)
        self.prepared.append(task.info.id)
        return super().prepare(task, preprocess)


def gated(world, cache=None) -> tuple[runtime.Session, Gate]:
    bundle = Bundle.open(world.path)
    strategy = Gate.open(bundle, backends.load("ort", "cpu", 1), True)
    return runtime.Session(bundle, strategy, cache), strategy


def held_by(cache: TaskCache) -> list[str]:
    """Return the ids of tasks that stay in memory because someone holds them."""
    cache.trim()
    return [loaded.info.id for key, loaded in cache._lru.items() if cache._held(key, loaded)]


@pytest.fixture
def costs(world) -> dict[str, int]:
    """Bytes of each task in memory; three tasks."""
    with runtime.Session.open(world.path) as session:
        return {task: session.load(task) for task in session.tasks}


def test_the_least_recently_used_task_leaves_and_answers_as_before_when_it_returns(
    world, frame, costs
):
    with runtime.Session.open(world.path, max_task_bytes=sum(costs.values()) - 1) as session:
        first = {task: session.predict(frame, task).logits for task in session.tasks}
        assert session.resident == ("a-c", "a-d")
        session.load("a-b")
        assert session.resident == ("a-d", "a-b")
        assert session.task_bytes == costs["a-d"] + costs["a-b"]
        for task in (*session.tasks, *reversed(session.tasks)):
            np.testing.assert_array_equal(session.predict(frame, task).logits, first[task])
            assert session.task_bytes < sum(costs.values())
            assert session.task in session.resident


def test_without_a_bound_every_task_stays(world, frame, costs):
    with runtime.Session.open(world.path) as session:
        assert session.resident == () and session.task_bytes == 0
        for task in ("a-d", "a-b", "a-c", "a-b"):
            session.switch(task)
        assert session.resident == ("a-d", "a-c", "a-b")
        assert session.task_bytes == sum(costs.values())


def test_a_bound_of_one_task_lets_a_session_switch(world, frame, costs):
    with runtime.Session.open(world.path, max_task_bytes=max(costs.values())) as session:
        for task in (*session.tasks, *reversed(session.tasks)):
            assert session.predict(frame, task).task == task
            assert session.task_bytes <= max(costs.values())


def test_a_task_larger_than_the_bound_is_one_clear_error(world, frame, costs):
    big = max(costs, key=costs.__getitem__)
    small = min(costs, key=costs.__getitem__)
    with runtime.Session.open(world.path, max_task_bytes=costs[big] - 1) as session:
        session.switch(small)
        before = session.predict(frame).logits
        with pytest.raises(
            TaskError,
            match=f"task '{big}' takes {costs[big]} bytes; max_task_bytes is "
            f"{costs[big] - 1}: raise it",
        ):
            session.switch(big)
        assert session.task == small
        np.testing.assert_array_equal(session.predict(frame).logits, before)


def test_pinned_tasks_stay_and_pins_that_leave_no_room_are_one_clear_error(world, frame, costs):
    bound = costs["a-c"] + costs["a-d"]
    assert costs["a-d"] < costs["a-b"] < costs["a-c"]
    with runtime.Session.open(world.path, max_task_bytes=bound) as session:
        session.pin("a-c")
        session.pin("a-c")
        assert session.resident == ("a-c",)
        session.switch("a-d")
        for act in (session.switch, session.load, session.pin):
            with pytest.raises(TaskError, match=r"'a-b' takes .*'a-c'.*or unpin tasks"):
                act("a-b")
        assert session.task == "a-d" and sorted(session.resident) == ["a-c", "a-d"]
        session.unpin("a-c")
        session.unpin("a-c")
        session.switch("a-b")
        assert session.task_bytes <= bound and session.predict(frame).task == "a-b"
        with pytest.raises(TaskError, match="unknown task 'x-y'"):
            session.unpin("x-y")


def test_prefetched_tasks_are_in_memory_without_a_switch_reading_them(world, frame):
    session, strategy = gated(world)
    strategy.open_.set()
    with session:
        session.prefetch("a-d", "a-b", "a-d")
        session.load("a-b")  # waits for the background thread, or reads it now
        session.load("a-d")
        assert sorted(strategy.prepared) == ["a-b", "a-d"]
        for file in (world.path / "tasks").iterdir():
            file.unlink()
        for task in ("a-b", "a-d", "a-b"):
            want = world.logits(task, frame[None])[0]
            found = session.predict(frame, task).logits
            np.testing.assert_allclose(found, want, rtol=2e-5, atol=1e-3)


def test_frames_are_classified_while_a_task_is_read(world, frame):
    session, strategy = gated(world)
    strategy.open_.set()
    with session:
        session.switch("a-b")
        session.load("a-d")
        want = session.predict(frame).logits
        strategy.open_.clear()
        session.prefetch("a-c")
        assert strategy.waiting.wait(20)
        switching = threading.Thread(target=session.switch, args=["a-c"])
        switching.start()
        for _ in range(50):  # neither the background nor a switch that must read keeps these
            np.testing.assert_array_equal(session.predict(frame, "a-b").logits, want)
            assert session.predict(frame, "a-d").task == "a-d"
        assert switching.is_alive()
        strategy.open_.set()
        switching.join()
        assert session.task == "a-c" and strategy.prepared == ["a-b", "a-d", "a-c"]


def test_what_is_wrong_with_a_prefetched_task_shows_when_it_is_wanted(world, frame):
    (file,) = (world.path / "tasks").glob("a-c-*")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with runtime.Session.open(world.path) as session:
        session.switch("a-b")
        with pytest.raises(TaskError, match="unknown task 'x-y'"):
            session.prefetch("a-d", "x-y")
        session.prefetch("a-c", "a-d")
        for act in (session.load, session.switch, session.pin):
            with pytest.raises(FormatError, match="altered"):
                act("a-c")
        assert session.task == "a-b" and session.predict(frame).task == "a-b"
        session.switch("a-d")


def test_integrity_is_checked_when_a_task_enters_memory_and_not_by_a_switch(world, frame, costs):
    with runtime.Session.open(world.path, max_task_bytes=sum(costs.values()) - 1) as session:
        session.load("a-b")
        session.switch("a-c")
        for file in (world.path / "tasks").iterdir():
            file.write_bytes(b"damaged")
        session.switch("a-b")
        want = world.logits("a-b", frame[None])[0]
        np.testing.assert_allclose(session.predict(frame).logits, want, rtol=2e-5, atol=1e-3)
        with pytest.raises(FormatError, match="altered"):
            session.switch("a-d")
        assert session.task == "a-b"


def test_a_session_that_is_closed_ends_its_background_thread_and_takes_no_more(world):
    before = threading.active_count()
    session, strategy = gated(world)
    session.prefetch(*session.tasks)
    assert strategy.waiting.wait(20)
    threading.Timer(0.05, strategy.open_.set).start()
    session.close()
    assert len(strategy.prepared) == 1  # the one that was begun; the others were given up
    for act in (session.load, session.prefetch, session.pin, session.unpin, session.switch):
        with pytest.raises(BackendError, match="the session is closed"):
            act("a-b")
    with pytest.raises(BackendError, match="the session is closed"):
        session.refresh()
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    assert threading.active_count() <= before
    assert session.resident == ()


def test_a_session_that_is_closed_while_it_pins_leaves_no_pin_to_others(world):
    shared = TaskCache()
    other, _ = gated(world, shared)
    session, strategy = gated(world, shared)
    with other:
        pinning = threading.Thread(target=session.pin, args=["a-b"])
        pinning.start()
        assert strategy.waiting.wait(20)
        session.close()  # does not wait for the reading
        strategy.open_.set()
        pinning.join(20)
        assert not pinning.is_alive() and not held_by(shared)


def test_a_session_that_is_closed_while_it_refreshes_leaves_no_pin_to_others(world):
    shared = TaskCache()
    other, _ = gated(world, shared)
    session, strategy = gated(world, shared)
    refused = []

    def refresh() -> None:
        try:
            session.refresh()
        except BackendError as error:
            refused.append(str(error))

    with other:
        strategy.open_.set()
        session.pin("a-b")
        session.pin("a-c")
        strategy.open_.clear()
        strategy.waiting.clear()
        smuggle(world.path, newer(world.tasks["a-b"]))
        refreshing = threading.Thread(target=refresh)
        refreshing.start()
        assert strategy.waiting.wait(20)
        session.close()
        strategy.open_.set()
        refreshing.join(20)
        assert refused == ["the session is closed; open a new one"] and not held_by(shared)
