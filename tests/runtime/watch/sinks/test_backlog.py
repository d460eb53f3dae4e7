"""The thread of a sink: in order, never in the way of a camera, and nothing lost in silence."""

import threading
import time

import pytest

from runtime.watch.sinks import backlog, trouble
from runtime.watch.sinks.backlog import Backlog
from runtime.watch.sinks.trouble import Trouble
from tests.runtime.watch.observed import until


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(backlog, "SECOND", 0.02)
    monkeypatch.setattr(backlog, "LAST", 0.1)
    monkeypatch.setattr(backlog, "END", 0.2)


def started(deliver, room=100, **options):
    found = Backlog(deliver, Trouble("--test", "thing"), room, **options)
    found.start()
    return found


def test_things_are_delivered_in_order_and_the_rest_at_the_end():
    got, ended = [], []
    found = started(got.append, finish=lambda: ended.append(True))
    for number in range(50):
        found.put(number)
    found.close()
    found.close()
    found.put(50)
    assert got == list(range(50)) and ended == [True] and found._trouble.lost == 0


def test_a_delivery_that_hangs_holds_nobody_up_and_what_is_lost_is_counted(capfd):
    hanging, free = threading.Event(), threading.Event()

    def deliver(number):
        hanging.set()
        free.wait()

    found = started(deliver, room=10)
    found.put(0)
    hanging.wait()
    for number in range(1, 31):
        found.put(number)
    assert found._trouble.lost == 20
    found.close()
    assert found._trouble.lost == 31  # those that wait, and the one that hangs
    assert "31 things lost so far" in capfd.readouterr().err
    free.set()


@pytest.mark.parametrize("retry", [True, False])
def test_whatever_is_raised_the_thread_goes_on(retry, capfd):
    left, got = [ValueError("odd"), KeyError("key"), MemoryError()], []

    def deliver(number):
        if left:
            raise left.pop(0)
        got.append(number)

    found = started(deliver, retry=retry)
    for number in range(5):
        found.put(number)
    until(lambda: got[-1:] == [4])
    found.close()
    assert got == ([0, 1, 2, 3, 4] if retry else [3, 4])
    assert found._trouble.lost == 5 - len(got)
    assert capfd.readouterr().err.startswith("warning: --test: odd; ")


def test_what_fails_to_the_end_is_said_with_its_reason(capfd):
    def deliver(number):
        raise OSError("no room")

    found = started(deliver, finish=lambda: None)
    for number in range(3):
        found.put(number)
    until(lambda: found._trouble.failing)
    found.close()
    assert capfd.readouterr().err.splitlines()[-1] == (
        "warning: --test: no room; 3 things lost so far"
    )


def test_a_tick_comes_about_once_a_second_also_between_deliveries():
    ticks, begin = [], time.monotonic()
    found = started(lambda number: None, tick=lambda: ticks.append(time.monotonic()))
    until(lambda: len(ticks) >= 3)
    while len(ticks) < 6:
        found.put(0)
    found.close()
    assert ticks[-1] - begin >= (len(ticks) - 1) * backlog.SECOND


def test_nothing_is_said_where_all_is_well(capfd, monkeypatch):
    monkeypatch.setattr(trouble, "MINUTE", 0.0)
    found = started(lambda number: None)
    found.put(1)
    found.close()
    assert capfd.readouterr() == ("", "")
