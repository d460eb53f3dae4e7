"""The tasks in memory: which stay, which leave, who reads them and when errors show."""

import threading
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

import runtime
from runtime import backends
from runtime.bundle import Bundle
from runtime.errors import BackendError, FormatError, TaskError
from runtime.residents import Residents
from runtime.spec import Preprocess, TaskInfo
from runtime.strategies.base import Resident
from runtime.strategies.patch import PatchStrategy

SIZES = {"a-b": 40, "a-c": 30, "a-d": 20, "a-e": 10, "a-f": 50}


@dataclass(frozen=True, eq=False)
class Closable(Resident):
    """A task that notes how often it was closed."""

    closed: list[int] = field(default_factory=list)

    def close(self) -> None:
        self.closed.append(1)


def make(key: str) -> Closable:
    info = TaskInfo(key, "toy", "a", "b", ("x", "y"))
    return Closable(info, Preprocess(16), SIZES[key], key)


def ids(residents: Residents) -> list[str]:
    return [resident.info.id for resident in residents.tasks]


def test_random_use_equals_a_plain_list_of_what_was_used_last():
    rng = np.random.default_rng(0)
    limit = 100
    residents = Residents(limit)
    order: list[str] = []  # the reference: least recently used first
    taken: Counter[str] = Counter()
    pinned: Counter[str] = Counter()
    reads: Counter[str] = Counter()
    refused = evicted = 0

    def read(key: str) -> Closable:
        reads[key] += 1
        return make(key)

    def size(keys) -> int:
        return sum(SIZES[key] for key in keys)

    def leave() -> None:
        nonlocal evicted
        for key in [k for k in order if not taken[k] and not pinned[k]]:
            if size(order) > limit:
                order.remove(key)
                evicted += 1

    def use(key: str) -> None:
        if key in order:
            order.remove(key)
        order.append(key)

    for _ in range(5000):
        key = str(rng.choice(list(SIZES)))
        what = str(
            rng.choice(["get", "take", "pin", "release", "unpin"], p=[0.5, 0.1, 0.1, 0.15, 0.15])
        )
        holds = taken if what in ("take", "release") else pinned
        if what in ("release", "unpin"):
            if holds[key]:
                getattr(residents, what)(key)
                holds[key] -= 1
                if what == "release":
                    use(key)
                leave()
        else:
            held = {k for k in order if pinned[k] or (what != "take" and taken[k])} - {key}
            present, before = key in order, reads[key]
            beside = {k for k in held if pinned[k]} if present else held
            full = size(beside) + SIZES[key] > limit and (not present or what == "pin")
            if full:
                refused += 1
                with pytest.raises(TaskError, match=f"task '{key}' takes {SIZES[key]} bytes"):
                    getattr(residents, what)(key, lambda: read(key))  # noqa: B023
                if present:
                    use(key)
            else:
                getattr(residents, what)(key, lambda: read(key))  # noqa: B023
                use(key)
                if what != "get":
                    holds[key] += 1
            assert reads[key] - before == (not present)
            leave()
        assert ids(residents) == order
        assert residents.nbytes == size(order)
    assert refused > 100 and evicted > 50


def test_what_leaves_is_closed_once_and_never_while_it_is_held():
    residents = Residents(60)
    first = residents.take("a-b", lambda: make("a-b"))
    second = residents.take("a-c", lambda: make("a-c"))  # both in use: over the bound for now
    assert residents.nbytes == 70 and not first.closed
    residents.release("a-b")
    assert first.closed == [1] and not second.closed
    residents.join()
    residents.leave()
    assert second.closed == [1] and first.closed == [1]


def test_two_threads_that_want_an_absent_task_read_it_once():
    residents, go, reads = Residents(), threading.Event(), []

    def read() -> Resident:
        reads.append(1)
        assert go.wait(20)
        return make("a-b")

    found: list[Resident] = []
    threads = [
        threading.Thread(target=lambda: found.append(residents.take("a-b", read))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert reads == [1]
    assert len(found) == 6 and len(set(map(id, found))) == 1


def test_who_waits_for_a_task_that_cannot_be_read_is_told_and_may_try_again():
    residents, go = Residents(), threading.Event()
    told: list[str] = []

    def fail() -> Resident:
        assert go.wait(20)
        raise FormatError("damaged")

    def want() -> None:
        try:
            residents.get("a-b", fail)
        except FormatError as error:
            told.append(str(error))

    threads = [threading.Thread(target=want) for _ in range(3)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert told == ["damaged"] * 3
    assert residents.get("a-b", lambda: make("a-b")).info.id == "a-b"


def test_who_needs_a_task_does_not_wait_for_others_that_are_read_ahead():
    residents, go, began = Residents(), threading.Event(), threading.Event()
    residents.join()

    def slow() -> Resident:
        began.set()
        assert go.wait(20)
        return make("a-b")

    reads = []
    residents.prefetch("a-b", slow)
    residents.prefetch("a-c", lambda: reads.append("ahead") or make("a-c"))
    assert began.wait(20)
    residents.get("a-c", lambda: reads.append("now") or make("a-c"))
    assert reads == ["now"] and ids(residents) == ["a-c"]
    go.set()
    residents.leave()  # waits for the background thread
    assert reads == ["now"]


def test_reading_ahead_never_pushes_out_what_is_held_and_gives_up_before_it_must():
    residents = Residents(60)
    residents.take("a-b", lambda: make("a-b"))
    residents.get("a-e", lambda: make("a-e"))
    seen: list[list[str]] = []
    done = threading.Event()
    residents.prefetch("a-c", lambda: make("a-c"))  # 30 beside 40: no room
    residents.prefetch("a-d", lambda: seen.append(ids(residents)) or done.set() or make("a-d"))
    assert done.wait(20)
    assert residents.get("a-d", lambda: make("a-d")).nbytes == 20
    assert seen == [["a-b", "a-e"]] and ids(residents) == ["a-b", "a-d"]


# --- through a session, on real task files ---


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


def gated(world) -> tuple[runtime.Session, Gate]:
    bundle = Bundle.open(world.path)
    strategy = Gate.open(bundle, backends.load("ort", "cpu", 1), True)
    return runtime.Session(bundle, strategy), strategy


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


def test_frames_are_judged_while_a_task_is_read(world, frame):
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
