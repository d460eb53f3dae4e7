"""Tasks that a device drops and refuses over months, and what that costs those that stay."""

from runtime.sessions.cache import Holder, TaskCache
from tests.runtime.test_cache import ids, join, load, make, switch


class Key(str):
    """A key that counts how often one is looked up."""

    looked_up = 0

    def __hash__(self) -> int:
        Key.looked_up += 1
        return super().__hash__()


def test_versions_that_are_gone_cost_the_frames_nothing():
    cache = TaskCache()
    holder = join(cache, ["a-b"])
    load(cache, "a-b")
    cache.join(holder, ["a-b", *(Key(number) for number in range(1000))])
    cache.join(holder, ["a-b"])
    Key.looked_up = 0
    switch(cache, holder, "a-b")
    assert Key.looked_up == 0 and not cache.excess


def test_a_version_that_is_gone_leaves_when_it_is_let_go_of_and_stays_if_it_came_back():
    cache = TaskCache()
    holder = join(cache, ["old", "late"])
    switch(cache, holder, "old", lambda: make("a-b"))
    cache.join(holder, ["new"])
    assert ids(cache) == ["a-b"]
    switch(cache, holder, "late", lambda: make("a-c"))  # of a manifest that was read before
    assert ids(cache) == ["a-c"]
    holder.task = None
    cache.trim()
    assert ids(cache) == []
    cache.join(holder, ["late"])
    load(cache, "late", lambda: make("a-c"))
    assert ids(cache) == ["a-c"]


def test_ten_thousand_versions_leave_nothing_behind():
    cache = TaskCache()
    holder = join(cache, ["0"])

    def size() -> int:
        parts = (*vars(cache).values(), *vars(cache._lru).values(), *vars(cache._loads).values())
        return sum(len(part) for part in parts if hasattr(part, "__len__"))

    sizes = []
    for number in range(10_000):
        key = str(number)
        switch(cache, holder, key, lambda: make("a-b"))
        cache.join(holder, [str(number + 1)])
        sizes.append(size())
    assert ids(cache) == ["a-b"] and sizes[-1] == sizes[10] < 20


def test_a_version_stays_while_one_of_the_sessions_names_it():
    cache, reads = TaskCache(), []

    def use(key: str) -> None:
        load(cache, key, lambda: reads.append(key) or make("a-b"))

    first, second = Holder(), Holder()
    for holder in (first, second):
        cache.join(holder, ["one"])
    use("one")
    cache.join(first, ["two"])
    for key in ("two", "one", "two", "one"):
        use(key)
    assert reads == ["one", "two"]
    cache.join(second, ["two"])
    assert ids(cache) == ["a-b"]
    cache.join(first, ["one"])
    cache.leave(second)
    assert ids(cache) == []
