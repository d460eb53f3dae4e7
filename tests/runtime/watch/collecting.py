"""A sink that collects, videos to watch, and what must be true of counts."""

import threading
import time

import cv2
import numpy as np

from runtime.watch.sinks.base import Sink
from tests.runtime.conftest import SIZE

WAIT = 60  # seconds, for a machine that is busy


class Collect(Sink):
    """Collects observations, after calling a function with each."""

    def __init__(self, each=lambda observation: None):
        self.seen, self.each, self.closed, self.watched = [], each, 0, None
        self._news = threading.Condition()

    def start(self, watched):
        self.watched = watched

    def take(self, observation):
        self.each(observation)
        with self._news:
            self.seen.append(observation)
            self._news.notify_all()

    def close(self):
        self.closed += 1

    def of(self, source):
        return [each for each in self.seen if each.source == source]

    def until(self, true):
        """Wait until a function of some observation is true; return the first such observation."""
        found = []

        def look():
            found[:] = [each for each in self.seen if true(each)]
            return bool(found)

        with self._news:
            assert self._news.wait_for(look, WAIT), "it never came"
        return found[0]


def video(path, frames=40, seed=0):
    """Write a video of noise; return its path as text."""
    random = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (SIZE, SIZE))
    for _ in range(frames):
        colour = random.integers(0, 256, 3)
        writer.write(np.full((SIZE, SIZE, 3), colour, np.uint8))
    writer.release()
    return str(path)


def check_counts(status):
    """Check that nothing is counted twice or lost."""
    parts = (status.predicted, status.failed, status.skipped, status.dropped, status.waiting)
    assert status.captured == sum(parts) and min(parts) >= 0, status


def check_answers(world, observations):
    """Check that each prediction is that of the task it names, and that frames are in order."""
    numbers = {}
    for each in observations:
        assert each.frame.number > numbers.get(each.source, -1), "a frame came twice or too late"
        numbers[each.source] = each.frame.number
        want = world.logits(each.prediction.task, each.frame.image[None])[0]
        np.testing.assert_allclose(each.prediction.logits, want, rtol=1e-4, atol=1e-2)


def eventually(true):
    """Wait until a function returns something true, and return that."""
    end = time.monotonic() + WAIT
    while not (found := true()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
    return found
