"""Reading ahead: in order, within bounds, and nothing goes on after the end."""

import itertools
import threading
import time

import pytest

from runtime.sources import ahead
from runtime.sources.ahead import Ahead
from tests.runtime.interrupts import elsewhere, interrupted


def test_results_come_in_order_though_later_ones_are_ready_first():
    def work(number):
        time.sleep(0.002 * (number % 3))
        return number

    assert list(Ahead(work, range(50), 3, lambda _: 1)) == list(range(50))
    assert list(Ahead(work, [], 3, lambda _: 1)) == []


def test_calls_run_at_the_same_time():
    gate = threading.Barrier(3, timeout=5)
    assert list(Ahead(lambda n: gate.wait() >= 0, range(3), 3, lambda _: 1)) == [True] * 3


def test_results_that_wait_have_a_bound_of_memory_also_without_end(monkeypatch):
    monkeypatch.setattr(ahead, "ROOM", 100)
    made = []

    def work(number):
        made.append(number)
        return number

    values = Ahead(work, itertools.count(), 2, lambda _: 30)
    taken = [next(values) for _ in range(5)]
    time.sleep(0.05)
    # Four of 30 exceed 100; each of the two threads may have been making one more.
    assert taken == list(range(5)) and len(made) <= 5 + 4 + 2
    values.close()
    count = len(made)
    time.sleep(0.02)
    assert len(made) == count


def test_a_result_larger_than_the_bound_is_given(monkeypatch):
    monkeypatch.setattr(ahead, "ROOM", 10)
    values = Ahead(lambda n: n, range(20), 4, lambda _: 1000)
    assert elsewhere(lambda: list(values), 5) == list(range(20))


def test_an_error_reaches_who_asks_for_that_result():
    def work(number):
        if number == 2:
            raise KeyError(number)
        return number

    values = Ahead(work, range(5), 2, lambda _: 1)
    assert [next(values), next(values)] == [0, 1]
    with pytest.raises(KeyError, match="2"):
        next(values)
    values.close()


def test_an_interrupt_at_any_bytecode_loses_no_result_and_hangs_nothing():
    taken = []

    def start():
        taken.clear()

    def take():
        with_room = Ahead(lambda n: n, range(3), 2, lambda _: 1)
        try:
            for value in with_room:
                taken.append(value)
        finally:
            with_room.close()

    for _ in interrupted(start, take, step=5):
        assert taken == list(range(len(taken)))
