"""The points of the strips against NumPy's quantiles."""

import numpy as np
import pytest

from runtime.prediction import Prediction
from runtime.sources.live.base import LiveFrame
from runtime.watch.observation import Observation
from runtime.watch.web import series
from runtime.watch.web.series import POINTS, SECONDS, Series


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is set."""
    now = [1000.0]
    monkeypatch.setattr(series.time, "monotonic", lambda: now[0])
    return now


def seen(milliseconds, task="a-b"):
    prediction = Prediction(task, ("x", "y"), np.array([1, 0], np.float32))
    frame = LiveFrame(np.zeros((2, 2, 3), np.uint8), 0, 0.0, 0.0)
    return Observation("door", frame, prediction, milliseconds=milliseconds)


@pytest.mark.parametrize("count", [1, 2, 3, 60, 101])
def test_a_point_has_numpys_quantiles(clock, count):
    latencies = np.random.default_rng(count).gamma(2, 9, count)
    found = Series()
    for each in latencies:
        found.add(seen(each))
    (point,) = found.points()
    assert point.frames == count and point.number == 1000 // SECONDS
    want = np.quantile(latencies, [0.5, 0.99])
    assert [point.median, point.p99] == pytest.approx(want, abs=0.006)


def test_five_minutes_are_kept_and_no_more(clock):
    found = Series()
    for second in range(2 * SECONDS * POINTS):
        clock[0] = 1000.0 + second
        found.add(seen(float(second)))
    points = found.points()
    last = int(clock[0] // SECONDS)
    assert [point.number for point in points] == list(range(last - POINTS + 1, last + 1))
    assert points[-1].median == 2 * SECONDS * POINTS - 1.5
    assert found.points(since=last - 2) == points[-2:]
    clock[0] += SECONDS * POINTS
    assert found.points() == [], "what is older than five minutes is not shown"


def test_a_point_has_the_task_of_most_frames(clock):
    found = Series()
    for task in ("a-b", "a-c", "a-c"):
        found.add(seen(1.0, task))
    assert found.points()[0].task == "a-c"


def test_many_frames_take_bounded_memory(clock):
    found = Series()
    for number in range(5000):
        found.add(seen(float(number)))
    (point,) = found.points()
    assert point.frames == 5000 and point.novelty is None
    assert len(found._open.latencies) == 1024
