"""A lock whose holder may be interrupted: one at a time, and never held by nobody."""

import os
import sys
import threading
import time

import pytest

from runtime.errors import BackendError
from runtime.mutex import Hold, Mutex, running
from tests.runtime.interrupts import Stop, elsewhere, interrupted
from tests.runtime.test_threads import stress


def test_one_thread_at_a_time_and_every_thread_in_the_end():
    mutex, inside, most, total = Mutex(), [0], [0], [0]

    def enter() -> None:
        with mutex:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            before = total[0]
            if before % 50 == 0:
                time.sleep(1e-4)
            total[0] = before + 1
            inside[0] -= 1

    stress(lambda number: [enter() for _ in range(1000)])
    assert total == [8000] and most == [1] and mutex.free


@pytest.mark.parametrize("nested", [False, True])
def test_whoever_is_interrupted_at_any_bytecode_holds_nothing(nested):
    mutex = Mutex(nested=nested)

    def enter() -> None:
        with mutex:
            assert mutex.mine

    for _ in interrupted(lambda: None, enter):
        assert mutex.free
        elsewhere(enter)
        enter()


def test_one_that_is_interrupted_in_line_lets_nobody_in_before_the_holder_leaves(monkeypatch):
    mutex, go, order = Mutex(), threading.Event(), []

    def hold() -> None:
        with mutex:
            order.append("in")
            assert go.wait(20)
            order.append("out")

    def give_up() -> None:
        with mutex:
            order.append("never")

    def late() -> None:
        with mutex:
            order.append("late")

    def stop(hold: Hold) -> None:
        if threading.current_thread() is not threading.main_thread():
            wait(hold)
        elif mutex._last is not hold:  # this thread is in line behind it
            raise Stop

    threads = [threading.Thread(target=hold), threading.Thread(target=late)]
    threads[0].start()
    while not order:
        time.sleep(0.001)
    wait = Hold.wait
    monkeypatch.setattr(Hold, "wait", stop)
    with pytest.raises(Stop):
        give_up()
    threads[1].start()
    time.sleep(0.3)
    assert order == ["in"]
    go.set()
    for thread in threads:
        thread.join()
    assert order == ["in", "out", "late"]


def test_a_call_from_within_is_refused_unless_the_lock_is_for_such():
    plain, nested = Mutex(), Mutex(nested=True)

    def again(mutex: Mutex) -> None:
        with mutex:
            pass

    with plain:
        with pytest.raises(BackendError, match="signal handler"):
            again(plain)
        assert not plain.free
    assert plain.free
    with nested:
        again(nested)
        again(nested)
        assert nested.mine
        assert elsewhere(lambda: nested.mine) is False
    assert nested.free


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_does_not_wait_for_threads_that_did_not_come_along():
    mutex, held, go = Mutex(), threading.Event(), threading.Event()

    def hold() -> None:
        with mutex:
            held.set()
            assert go.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    child = os.fork()
    if not child:
        with mutex:
            os._exit(7)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_call_runs_until_it_has_ended_also_where_it_called_others():
    found = []

    def outer() -> None:
        frame = sys._getframe()
        found.append(frame)
        assert running(frame)
        assert (lambda: running(frame))()
        assert elsewhere(lambda: running(frame))

    outer()
    assert not running(found[0])
