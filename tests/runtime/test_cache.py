"""The tasks in memory: which stay, which leave, who reads them and when errors show."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from runtime.errors import FormatError, TaskError
from runtime.models import Preprocess, TaskInfo
from runtime.sessions.cache import Holder, Lease, TaskCache
from runtime.strategies.base import LoadedTask

SIZES = {"a-b": 40, "a-c": 30, "a-d": 20, "a-e": 10, "a-f": 50}


@dataclass(frozen=True, eq=False)
class Closable(LoadedTask):
    """A task that notes how often it was closed."""

    closed: list[int] = field(default_factory=list)

    def close(self) -> None:
        self.closed.append(1)


def make(key: str, nbytes: int | None = None) -> Closable:
    info = TaskInfo(key, "toy", "a", "b", ("x", "y"))
    nbytes = SIZES[key] if nbytes is None else nbytes
    return Closable(info, Preprocess(16), nbytes, key, "head", {}, None, None)


def ids(cache: TaskCache) -> list[str]:
    return [loaded.info.id for loaded in cache.tasks]


def load(cache: TaskCache, key: str, read=None, **how) -> LoadedTask:
    """Bring a task into memory for a moment, as `Session.load` does."""
    lease = Lease()
    cache.lease(lease)
    try:
        return cache.load(key, read or (lambda: make(key)), lease, **how)
    finally:
        cache.end(lease)


def switch(cache: TaskCache, holder: Holder, key: str, read=None) -> LoadedTask:
    """Make a task the current one of a session, as `Session.switch` does."""
    lease = Lease()
    cache.lease(lease)
    try:
        while (found := cache.claim(holder, [key])) is None:
            cache.load(key, read or (lambda: make(key)), lease, beside=False)
        (holder.task,) = found
    finally:
        holder.coming = ()
        cache.end(lease)
        cache.trim()
    return holder.task


def join(cache: TaskCache, keys=SIZES) -> Holder:
    holder = Holder()
    cache.join(holder, keys)
    return holder


def test_random_use_equals_a_plain_list_of_what_was_used_last():
    rng = np.random.default_rng(0)
    limit = 100
    cache = TaskCache(limit)
    holders = [join(cache), join(cache)]
    order: list[str] = []  # the reference: least recently used first
    current: list[str | None] = [None, None]
    pinned: list[set[str]] = [set(), set()]
    reads: Counter[str] = Counter()
    refused = evicted = 0

    def read(key: str) -> Closable:
        reads[key] += 1
        return make(key)

    def size(keys) -> int:
        return sum(SIZES[key] for key in keys)

    def leave(*held: str) -> None:
        nonlocal evicted
        held = {*held, *current, *pinned[0], *pinned[1]}
        for key in [k for k in order if k not in held]:
            if size(order) > limit:
                order.remove(key)
                evicted += 1

    def use(key: str) -> None:
        if key in order:
            order.remove(key)
        order.append(key)

    for _ in range(5000):
        key, n = str(rng.choice(list(SIZES))), int(rng.integers(2))
        what = str(rng.choice(["load", "switch", "pin", "unpin"], p=[0.4, 0.3, 0.1, 0.2]))
        pins = pinned[0] | pinned[1]
        users = {k for k in current if k is not None}
        present, before = key in order, reads[key]
        if what == "unpin":
            pinned[n].discard(key)
            holders[n].pins.pop(key, None)
            cache.trim()
            leave()
        else:
            beside = pins if what == "switch" or (what == "pin" and present) else pins | users
            full = size(beside - {key}) + SIZES[key] > limit and (not present or what == "pin")
            reading = partial(read, key)
            act = {
                "load": partial(load, cache, key, reading),
                "switch": partial(switch, cache, holders[n], key, reading),
                "pin": partial(load, cache, key, reading, pin=True),
            }[what]
            if what == "switch" and current[n] is not None:
                use(current[n])
            if full:
                refused += 1
                with pytest.raises(TaskError, match=f"task '{key}' takes {SIZES[key]} bytes"):
                    act()
                if present:
                    use(key)
            else:
                if what == "pin":
                    holders[n].pins[key] = key
                    pinned[n].add(key)
                act()
                use(key)
                leave(key)  # while the former task is still held
                if what == "switch":
                    current[n] = key
            assert reads[key] - before == (not present)
            leave()
        assert ids(cache) == order, what
        assert cache.nbytes == size(order)
    assert refused > 100 and evicted > 50


def test_what_leaves_is_closed_once_and_never_while_it_is_held():
    cache = TaskCache(60)
    one, other = join(cache), join(cache)
    first = switch(cache, one, "a-b")
    second = switch(cache, other, "a-c")  # both in use: over the bound for now
    assert cache.nbytes == 70 and not first.closed
    switch(cache, one, "a-c")
    assert first.closed == [1] and not second.closed
    for holder in (one, other, other):
        cache.leave(holder)
    assert second.closed == [1] and first.closed == [1]


def test_a_call_that_was_interrupted_holds_nothing():
    cache = TaskCache(60)
    join(cache)

    def interrupted() -> None:
        lease = Lease()
        cache.lease(lease)
        cache.load("a-b", lambda: make("a-b"), lease)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    load(cache, "a-c")
    assert ids(cache) == ["a-c"]


def test_what_was_read_when_its_call_was_interrupted_is_closed():
    cache, made = TaskCache(60), []
    join(cache)

    def read() -> Closable:
        made.append(make("a-b"))
        return made[-1]

    def stop(*_) -> None:
        raise KeyboardInterrupt

    cache._check_room = stop
    with pytest.raises(KeyboardInterrupt):
        load(cache, "a-b", read)
    del cache._check_room
    assert ids(cache) == [] and made[0].closed == [1]
    assert load(cache, "a-b", read) is made[1] and not made[1].closed


def at_once(cache, count, read) -> list[object]:
    """Want a task on so many threads while it is being read; return what each of them got."""
    go, found = threading.Event(), []

    def slow() -> LoadedTask:
        assert go.wait(20)
        return read()

    def want() -> None:
        try:
            found.append(load(cache, "a-b", slow))
        except FormatError as error:
            found.append(str(error))
        except KeyboardInterrupt:
            found.append("interrupted")

    threads = [threading.Thread(target=want) for _ in range(count)]
    for thread in threads:
        thread.start()
    while sum(lease.keys == ("a-b",) for lease in tuple(cache._leases)) < count:
        time.sleep(0.001)
    time.sleep(0.05)  # from there to the wait for who reads it is a few lines
    go.set()
    for thread in threads:
        thread.join()
    return found


def test_two_threads_that_want_an_absent_task_read_it_once():
    cache, reads = TaskCache(), []
    found = at_once(cache, 6, lambda: reads.append(1) or make("a-b"))
    assert reads == [1]
    assert len(found) == 6 and len(set(map(id, found))) == 1


def test_who_waits_for_a_task_that_cannot_be_read_is_told_and_may_try_again():
    cache, reads = TaskCache(), []

    def fail() -> LoadedTask:
        reads.append(1)
        raise FormatError("damaged")

    assert at_once(cache, 3, fail) == ["damaged"] * 3
    assert reads == [1]
    assert load(cache, "a-b").info.id == "a-b"


def test_who_waits_for_a_thread_that_is_interrupted_reads_it():
    cache, reads = TaskCache(), []

    def fail() -> LoadedTask:
        reads.append(1)
        if len(reads) == 1:
            raise KeyboardInterrupt
        return make("a-b")

    found = at_once(cache, 4, fail)
    assert len(reads) == 2 and found.count("interrupted") == 1
    assert len(set(map(id, found))) == 2


def test_who_needs_a_task_does_not_wait_for_others_that_are_read_ahead():
    cache, go, began = TaskCache(), threading.Event(), threading.Event()
    holder = join(cache)

    def slow() -> LoadedTask:
        began.set()
        assert go.wait(20)
        return make("a-b")

    reads = []
    cache.prefetch("a-b", slow)
    cache.prefetch("a-c", lambda: reads.append("ahead") or make("a-c"))
    assert began.wait(20)
    load(cache, "a-c", lambda: reads.append("now") or make("a-c"))
    assert reads == ["now"] and ids(cache) == ["a-c"]
    go.set()
    cache.leave(holder)  # waits for the background thread
    assert reads == ["now"]


def test_reading_ahead_never_pushes_out_what_is_held_and_gives_up_before_it_must():
    cache = TaskCache(60)
    holder = join(cache)
    switch(cache, holder, "a-b")
    load(cache, "a-e")
    seen: list[list[str]] = []
    done = threading.Event()
    cache.prefetch("a-c", lambda: make("a-c"))  # 30 beside 40: no room
    cache.prefetch("a-d", lambda: seen.append(ids(cache)) or done.set() or make("a-d"))
    assert done.wait(20)
    assert load(cache, "a-d").nbytes == 20
    assert seen == [["a-b", "a-e"]] and ids(cache) == ["a-b", "a-d"]
    cache.leave(holder)


def test_a_task_that_had_no_room_ahead_has_it_when_it_is_to_take_the_place_of_the_current_one():
    cache, began, go = TaskCache(60), threading.Event(), threading.Event()
    holder = join(cache)
    switch(cache, holder, "a-b")

    def slow() -> LoadedTask:
        began.set()
        assert go.wait(20)
        return make("a-c")

    cache.prefetch("a-c", slow)  # which will be refused
    assert began.wait(20)
    threading.Timer(0.05, go.set).start()
    assert switch(cache, holder, "a-c").info.id == "a-c"  # waits for that, and reads it
    cache.leave(holder)
