"""Calls on other threads: whatever interrupts who waits for them, nothing hangs or goes on."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.storage import digest
from runtime.workers import Job, on_threads
from tests.runtime.interrupts import elsewhere, interrupted


def test_results_come_in_order_and_from_several_threads():
    gate = threading.Barrier(3, timeout=5)

    def work(number):
        gate.wait()
        return number, threading.get_ident()

    found = on_threads(work, range(3), 3)
    assert [number for number, _ in found] == [0, 1, 2]
    assert len({thread for _, thread in found}) == 3
    assert on_threads(work, [], 3) == []


def test_the_first_error_is_raised_and_nothing_goes_on():
    ended = []

    def work(number):
        if number == 1:
            raise KeyError(number)
        time.sleep(0.01)
        ended.append(number)

    with pytest.raises(KeyError, match="1"):
        on_threads(work, range(1000), 2)
    count = len(ended)
    time.sleep(0.05)
    assert len(ended) == count < 1000


def test_an_interrupt_at_any_bytecode_leaves_nothing_running():
    running = []

    def work(number):
        running.append(number)
        time.sleep(0.001)
        running.remove(number)
        return number

    for _ in interrupted(lambda: None, lambda: on_threads(work, range(4), 2)):
        assert not running
        assert elsewhere(lambda: on_threads(work, range(4), 2)) == [0, 1, 2, 3]


def test_a_job_that_is_abandoned_has_ended_or_never_begins():
    ended = []
    job = Job(lambda: (time.sleep(0.05), ended.append(1)))
    job.start()
    while not job._begun:
        time.sleep(0.001)
    job.abandon()
    assert ended == [1]
    late = Job(lambda: ended.append(2))
    late.abandon()
    late.run()
    assert ended == [1]


def test_many_bytes_have_the_digest_that_few_would_have(monkeypatch):
    tensors = {f"t{n}": np.full((3, n), n, np.float32) for n in range(5)}
    few = digest.tensors_sha256(tensors)
    monkeypatch.setattr(digest, "_SMALL", 0)
    assert digest.tensors_sha256(tensors) == few


def test_nothing_on_a_device_waits_with_a_lock_that_an_interrupt_leaves_held():
    """`concurrent.futures` does: interrupted while a thread starts, it waits for ever."""
    for path in Path(runtime.__file__).parent.rglob("*.py"):
        assert "concurrent.futures import" not in path.read_text(), path
