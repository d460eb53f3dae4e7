"""Tasks that a device drops and refuses over months, and what that costs those that stay."""

import pickle
import threading

from runtime.errors import TaskError
from runtime.sessions.residents import Residents
from runtime.spec import Preprocess, TaskInfo
from runtime.strategies.base import Resident


def make(task: str, nbytes: int = 10) -> Resident:
    return Resident(TaskInfo(task, "toy", "a", "b", ("x", "y")), Preprocess(16), nbytes, task)


def ids(residents: Residents) -> list[str]:
    return [resident.info.id for resident in residents.tasks]


class Key(str):
    """A key that counts how often one is looked up."""

    looked_up = 0

    def __hash__(self) -> int:
        Key.looked_up += 1
        return super().__hash__()


def test_versions_that_are_gone_cost_the_frames_nothing():
    residents = Residents()
    residents.get("a-b", lambda: make("a-b"))
    residents.join("session", ["a-b", *(Key(number) for number in range(1000))])
    residents.join("session", ["a-b"])
    Key.looked_up = 0
    residents.take("a-b", lambda: make("a-b"))
    residents.release("a-b")
    assert Key.looked_up == 0


def test_a_version_that_is_gone_leaves_when_it_is_let_go_of_and_stays_if_it_came_back():
    residents = Residents()
    residents.join("session", ["old", "late"])
    residents.take("old", lambda: make("a-b"))
    residents.join("session", ["new"])
    assert ids(residents) == ["a-b"]
    residents.release("old")
    assert ids(residents) == []
    residents.take("late", lambda: make("a-c"))  # of a manifest that was read before
    assert ids(residents) == ["a-c"]
    residents.release("late")
    assert ids(residents) == []
    residents.join("session", ["late"])
    residents.get("late", lambda: make("a-c"))
    assert ids(residents) == ["a-c"]


def test_ten_thousand_versions_leave_nothing_behind():
    residents = Residents()
    residents.join("session", ["0"])
    residents.get("0", lambda: make("a-b"))
    sizes = []
    for number in range(1, 10_001):
        key = str(number)
        residents.take(key, lambda: make("a-b"))
        residents.join("session", [key])
        residents.release(key)
        if number in (10, 10_000):
            sizes.append(len(pickle.dumps([vars(residents._shelf), residents._shares])))
    assert ids(residents) == ["a-b"] and sizes[1] < sizes[0] + 100


def test_a_version_stays_while_one_of_the_sessions_names_it():
    residents, reads = Residents(), []

    def use(key: str) -> None:
        residents.take(key, lambda: reads.append(key) or make("a-b"))
        residents.release(key)

    for session in ("first", "second"):
        residents.join(session, ["one"])
    use("one")
    residents.join("first", ["two"])
    for key in ("two", "one", "two", "one"):
        use(key)
    assert reads == ["one", "two"]
    residents.join("second", ["two"])
    assert ids(residents) == ["a-b"]
    residents.join("first", ["one"])
    residents.leave("second")
    assert ids(residents) == []


class Slow:
    """A lock that waits a moment after a background thread let it go without success."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.refused, self.go = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind, error, trace) -> None:
        self._lock.release()
        if kind is TaskError and threading.current_thread().name.startswith("uda-prefetch"):
            self.refused.set()
            assert self.go.wait(20)


def test_a_task_that_had_no_room_ahead_has_it_when_it_is_to_take_the_place_of_the_current_one():
    residents = Residents(60)
    residents.join("session", ["a-b", "a-c"])
    residents._lock = lock = Slow()
    residents.take("a-b", lambda: make("a-b", 40))
    residents.prefetch("a-c", lambda: make("a-c", 30))
    assert lock.refused.wait(20)
    threading.Timer(0.2, lock.go.set).start()  # for who waits, wrongly, for the refused reading
    assert residents.take("a-c", lambda: make("a-c", 30)).info.id == "a-c"
    lock.go.set()
    residents.leave("session")
