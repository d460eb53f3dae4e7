"""The tasks in memory: which stay, which leave, who reads them and when errors show."""

import threading
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import pytest

from runtime.errors import FormatError, TaskError
from runtime.sessions.residents import Residents
from runtime.spec import Preprocess, TaskInfo
from runtime.strategies.base import Resident

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
    residents.join("session", SIZES)
    residents.leave("session")
    assert second.closed == [1] and first.closed == [1]


class Told(Future):
    """A reading that counts who has asked for its result, and so gets no other one."""

    asked = threading.Semaphore(0)

    def result(self, timeout=None):
        Told.asked.release()
        return super().result(timeout)


def at_once(residents, monkeypatch, count, read) -> list[object]:
    """Want a task on so many threads while it is being read; return what each of them got."""
    monkeypatch.setattr("runtime.sessions.residents.Future", Told)
    Told.asked = threading.Semaphore(0)
    go, found = threading.Event(), []

    def slow() -> Resident:
        assert go.wait(20)
        return read()

    def want() -> None:
        try:
            found.append(residents.take("a-b", slow))
        except FormatError as error:
            found.append(str(error))

    threads = [threading.Thread(target=want) for _ in range(count)]
    for thread in threads:
        thread.start()
    for _ in range(count - 1):  # all but the one that reads
        assert Told.asked.acquire(timeout=20)
    go.set()
    for thread in threads:
        thread.join()
    return found


def test_two_threads_that_want_an_absent_task_read_it_once(monkeypatch):
    residents, reads = Residents(), []
    found = at_once(residents, monkeypatch, 6, lambda: reads.append(1) or make("a-b"))
    assert reads == [1]
    assert len(found) == 6 and len(set(map(id, found))) == 1


def test_who_waits_for_a_task_that_cannot_be_read_is_told_and_may_try_again(monkeypatch):
    residents, reads = Residents(), []

    def fail() -> Resident:
        reads.append(1)
        raise FormatError("damaged")

    assert at_once(residents, monkeypatch, 3, fail) == ["damaged"] * 3
    assert reads == [1]
    assert residents.get("a-b", lambda: make("a-b")).info.id == "a-b"


def test_who_needs_a_task_does_not_wait_for_others_that_are_read_ahead():
    residents, go, began = Residents(), threading.Event(), threading.Event()
    residents.join("session", SIZES)

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
    residents.leave("session")  # waits for the background thread
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
