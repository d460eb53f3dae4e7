"""Drift: the sum, its threshold for streams with runs, and the monitor with its state."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from runtime import DriftMonitor, Prediction
from runtime.errors import ConfigError, FormatError, StorageError, TaskError
from runtime.monitoring import cusum, statistics
from runtime.monitoring.fit import base_limits, task_statistics
from runtime.monitoring.table import Route
from tests.runtime.interrupts import elsewhere, interrupted

CLASSES, SIZE = 4, 6


def images(count, seed, away=0.0):
    """Return features of `count` images, some of whose classes lie farther off than others."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    spread = np.array([0.1, 0.15, 0.2, 0.25])[labels]
    centre = np.eye(SIZE)[labels % 2] + np.ones(SIZE)
    noise = random.normal(0, 1, (count, SIZE)) * spread[:, None]
    return (centre + noise + away * np.eye(SIZE)[5]).astype(np.float32), labels


@pytest.fixture(scope="module")
def own():
    features, labels = images(1000, 0)
    return task_statistics(features, labels, CLASSES)


def predictions(own, features, labels, task="a-c"):
    names = tuple("wxyz")
    logits = np.eye(CLASSES, dtype=np.float32)[labels]
    return [Prediction(task, names, *row, own) for row in zip(logits, features, strict=True)]


def seen(monitor, found):
    return [monitor.see(prediction) for prediction in found]


def test_the_sum_is_that_of_a_plain_loop():
    limits = cusum.Limits(np.array([2.0, 3.0]), np.array([1.0, 0.5]), 8.0)
    steps = [(2.0, 0), (4.0, 0), (4.0, 1), (99.0, 1), (99.0, 0), (1.0, 0), (float("nan"), 0)]
    level, expected, levels, sums = 0.0, 0.0, [], []
    for distance, predicted in steps:
        away = {0: (distance - 2) / 1, 1: (distance - 3) / 0.5}[predicted]
        away = 4 if away != away else min(away, 4)
        expected = min(max(expected + away - 0.4, 0), 8)
        level = limits.rise(level, distance, predicted)
        levels.append(8 * level)
        sums.append(expected)
    assert levels == pytest.approx(sums)
    assert levels == pytest.approx([0, 1.6, 3.2, 6.8, 8, 6.6, 8])


def test_false_alarms_are_as_rare_as_stated_where_a_class_is_shown_for_a_while(own):
    limits, random = own.drift, np.random.default_rng(1)
    features, labels = images(4000, 7)
    distances = own.gaussian.distances(statistics.unit(features))
    frames, alarms, level, on = 0, 0, 0.0, False
    while frames < 200_000:
        predicted = int(random.integers(CLASSES))
        for image in random.choice(np.flatnonzero(labels == predicted), 15):
            level = limits.rise(0.0 if on else level, distances[image], predicted)
            on = level >= 1
            alarms, frames = alarms + on, frames + 1
    assert alarms <= 4  # 20 in 100,000 would be 40


def test_limits_of_odd_images_are_sound():
    for distances, predicted in (
        (np.ones(20, np.float32), np.zeros(20, np.int64)),  # all alike, of one class
        (np.arange(20, dtype=np.float32), np.arange(20) % 2 * 3),  # two classes never predicted
    ):
        found = cusum.fit_limits(distances, predicted, CLASSES)
        again = cusum.fit_limits(distances, predicted, CLASSES)
        assert cusum.checked(found.means, found.deviations, found.threshold, CLASSES)
        assert found.threshold == again.threshold
        assert found.means[1] == pytest.approx(distances.mean())


def test_states_follow_the_scene(own):
    monitor, enough = DriftMonitor(every=1), own.drift.enough
    at_home = seen(monitor, predictions(own, *images(enough + 20, 3)))
    assert [d.state for d in at_home[: enough - 1]] == ["not enough frames yet"] * (enough - 1)
    assert {d.state for d in at_home[enough:]} == {"steady"}
    away = seen(monitor, predictions(own, *images(30, 4, away=3.0)))
    first = next(i for i, d in enumerate(away) if d.state == "drifting")
    assert first < 10 and away[-1].state == "drifting" and away[-1].level == 1.0
    assert away[-1].alarms == 1
    back = seen(monitor, predictions(own, *images(10 * enough, 5)))
    assert back[0].state == "drifting" and back[-1].state == "steady" and back[-1].alarms == 1


def test_a_camera_that_starts_in_another_scene_drifts_at_once(own):
    found = seen(DriftMonitor(every=1), predictions(own, *images(12, 4, away=3.0)))
    assert found[-1].state == "drifting" and found[-1].frames < own.drift.enough


def test_of_many_frames_one_is_looked_at(own):
    found = seen(DriftMonitor(every=10), predictions(own, *images(95, 3)))
    assert [d.frames for d in found] == [i // 10 + 1 for i in range(95)]


def test_tasks_are_watched_apart(own):
    monitor = DriftMonitor(every=1)
    seen(monitor, predictions(own, *images(30, 4, away=3.0), "a-c"))
    (other,) = seen(monitor, predictions(own, *images(1, 3), "a-p"))
    assert (other.task, other.state, other.frames) == ("a-p", "not enough frames yet", 1)
    monitor.reset("a-c")
    (again,) = seen(monitor, predictions(own, *images(1, 3), "a-c"))
    assert again.frames == 1


def test_what_a_router_saw_through_the_base_is_watched_too(own):
    both = replace(own, base_drift=base_limits(*images(1000, 0), CLASSES))
    found = predictions(both, *images(60, 3))

    def routed(excess, task="a-c"):
        route = Route(task, 1.0, None, 9.0, True, excess)
        return [replace(prediction, route=route) for prediction in found]

    assert {d.state for d in seen(DriftMonitor(1), routed(0.0))} <= {
        "not enough frames yet",
        "steady",
    }
    states = [d.state for d in seen(DriftMonitor(1), routed(4.0))]
    assert "drifting" in states[:15]
    # A router looks when it wants to: those frames count, but one in `every` at most.
    apart = [p for pair in zip(routed(None), routed(4.0), strict=True) for p in pair]
    drifted = [d.state == "drifting" for d in seen(DriftMonitor(4), apart)]
    assert not any(drifted[:25]) and any(drifted[:60])
    monitor = DriftMonitor(1)
    assert seen(monitor, routed(4.0))[-1].state == "drifting"
    assert seen(monitor, found)[-1].state == "steady"  # no router any more
    # Of frames that were not looked at alone, the router says what the ones before were like.
    for unwatched in (routed(4.0, "a-p"), routed(None), predictions(own, *images(60, 3))):
        assert "drifting" not in [d.state for d in seen(DriftMonitor(1), unwatched)]


def test_a_saved_state_goes_on_as_if_it_had_not_stopped(own, tmp_path):
    first, then = predictions(own, *images(33, 3)), predictions(own, *images(33, 4, away=0.4))
    straight = DriftMonitor(every=4)
    expected = seen(straight, first + then)
    stopped = DriftMonitor(every=4)
    seen(stopped, first)
    stopped.save(tmp_path / "gate.json")
    assert seen(DriftMonitor.load(tmp_path / "gate.json"), then) == expected[33:]


def test_a_task_with_other_statistics_is_watched_anew(own, tmp_path):
    monitor = DriftMonitor(every=1)
    seen(monitor, predictions(own, *images(30, 4, away=3.0)))
    monitor.save(tmp_path / "gate.json")
    other = task_statistics(*images(1000, 9), CLASSES)
    same = replace(own)  # read again from the file
    for found, frames in ((same, 31), (other, 1)):
        (drift,) = seen(
            DriftMonitor.load(tmp_path / "gate.json"), predictions(found, *images(1, 3))
        )
        assert drift.frames == frames


DAMAGED = {
    "not JSON": b"\x00{",
    "a list": b"[]",
    "another kind": {"kind": "uda-other"},
    "a later schema": {"schema": 2},
    "an unknown key": {"more": 1},
    "no frames between": {"every": 0},
    "waiting too long": {"waiting": 3},
    "waiting too long for the base": {"base_waiting": -1},
    "a level above 1": {"level": 1.5},
    "a level of infinity": b'{"kind": "uda-drift", "schema": 1, "every": 3, "waiting": 0, '
    b'"base_waiting": 0, "tasks": {"a-c": {"of": "x", "level": 1e999, "frames": 1}}}',
    "a negative count": {"frames": -1},
    "more alarms than frames": {"alarms": 99},
    "a huge count": {"frames": 1 << 60},
    "drift without an alarm": {"alarms": 0, "drifting": True},
    "text for a number": {"level": "0"},
    "large": b" " * (16 << 20) + b"{}",
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_state_is_refused(own, tmp_path, what):
    monitor = DriftMonitor(every=3)
    seen(monitor, predictions(own, *images(5, 4, away=3.0)))
    path = tmp_path / "gate.json"
    monitor.save(path)
    change = DAMAGED[what]
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        document = json.loads(path.read_text())
        watch = document["tasks"]["a-c"]
        for key, value in change.items():
            (watch if key in watch else document)[key] = value
        path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=r"gate\.json"):
        DriftMonitor.load(path)


def test_a_state_that_cannot_be_written_leaves_the_former(own, tmp_path):
    monitor, path = DriftMonitor(), tmp_path / "gate.json"
    monitor.save(path)
    before = path.read_bytes()
    with pytest.raises(StorageError):
        monitor.save(path / "below")
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_a_number_of_frames_is_checked(every):
    with pytest.raises(ConfigError, match="every must be a whole number"):
        DriftMonitor(every)


def test_a_task_without_limits_is_refused(own):
    (plain,) = predictions(replace(own, drift=None), *images(1, 0))
    for prediction in (plain, replace(plain, statistics=None), replace(plain, features=None)):
        with pytest.raises(TaskError, match="'a-c' has no limits of drift"):
            DriftMonitor().see(prediction)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_whatever_interrupts_it_the_next_frame_is_taken(own, tmp_path):
    monitor, (first, second) = DriftMonitor(every=1), predictions(own, *images(2, 3))
    path = tmp_path / "gate.json"

    def call():
        monitor.see(first)
        monitor.save(path)
        monitor.reset("a-b")

    for _ in interrupted(lambda: monitor.see(first), call, step=7, sample=400):
        before = elsewhere(lambda: monitor.see(second)).frames
        assert elsewhere(lambda: monitor.see(second)).frames == before + 1
        DriftMonitor.load(path)


def test_threads_lose_no_frame(own):
    monitor, found = DriftMonitor(every=1), predictions(own, *images(200, 3))
    threads = [threading.Thread(target=seen, args=(monitor, found)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor.see(found[0]).frames == 801


def test_limits_travel_with_the_statistics(own):
    own = replace(own, base_drift=base_limits(*images(500, 2), CLASSES))
    document, tensors = own.document(), own.tensors()
    read = statistics.read({"statistics": json.loads(json.dumps(document))}, tensors, CLASSES)
    for found, limits in ((read.drift, own.drift), (read.base_drift, own.base_drift)):
        assert found.threshold == limits.threshold
        np.testing.assert_array_equal(found.means, limits.means)
        np.testing.assert_array_equal(found.deviations, limits.deviations)
    assert read.drift.threshold != read.base_drift.threshold
    del document["drift"]
    assert statistics.read({"statistics": document}, tensors, CLASSES).drift is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 0.0),
        ("threshold", 1e9),
        ("threshold", "12"),
        ("threshold", None),
        ("means", np.zeros(3, np.float32)),
        ("means", np.full(CLASSES, np.nan, np.float32)),
        ("deviations", np.zeros(CLASSES, np.float32)),
        ("deviations", None),
    ],
)
def test_damaged_limits_are_refused(own, name, value):
    document, tensors = own.document(), own.tensors()
    if name == "threshold":
        document["drift"] = {"threshold": value}
    else:
        tensors[f"statistics.drift_{name}"] = value
    with pytest.raises(FormatError, match="the statistics of the task are damaged"):
        statistics.read({"statistics": document}, tensors, CLASSES)
