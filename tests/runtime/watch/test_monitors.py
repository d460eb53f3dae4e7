"""Drift and harvest of watched sources, smoothing, and percentiles."""

import json
import stat
import time

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, FormatError, StorageError
from runtime.monitoring.drift import DriftMonitor
from runtime.prediction import Prediction
from runtime.sessions.session import Session
from runtime.watch.latencies import Latencies
from runtime.watch.settings import Harvest, Monitoring, SourceSettings
from runtime.watch.smoothing import Smoother
from runtime.watch.watcher import Watcher
from tests.runtime.conftest import _make_world
from tests.runtime.watch.collecting import WAIT, Collect, check_counts, eventually
from tests.runtime.watched import foreign_pixels, own_pixels, watch


def film(path, pixels):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (16, 16))
    for frame in pixels:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return str(path)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    return {
        "own": film(folder / "own.avi", own_pixels(200, 4)),
        "foreign": film(folder / "foreign.avi", foreign_pixels(200, 4)),
    }


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Return a bundle with a task that carries statistics."""
    return watch(_make_world(tmp_path_factory.mktemp("world") / "toy.bundle"), tasks=["a-b"])


def run(world, films, monitoring, task="a-b", pause=0.0, **more):
    sink = Collect(lambda observation: time.sleep(pause))
    sources = [SourceSettings(n, w, task=task, fast=True, **more) for n, w in films.items()]
    with Session.open(world.path) as session:
        with Watcher(session, sources, [sink], monitoring) as watcher:
            assert watcher.wait(WAIT)
    for status in watcher.status():
        check_counts(status)
        assert status.failed == 0
    return sink, {status.name: status for status in watcher.status()}


def test_each_source_has_a_drift_of_its_own_that_outlasts_a_restart(seen, films, tmp_path):
    monitoring = Monitoring(drift=True, state=tmp_path / "state")
    sink, found = run(seen, films, monitoring)
    for name in films:
        monitor = DriftMonitor()
        for each in sink.of(name):
            assert each.drift == monitor.see(each.prediction)
        assert found[name].drifts == {"a-b": sink.of(name)[-1].drift}
    assert found["foreign"].drifts["a-b"].state == "drifting"
    assert found["own"].drifts["a-b"].state != "drifting"
    again, found = run(seen, films, monitoring)
    assert again.of("foreign")[0].drift.state == "drifting"
    assert found["own"].drifts["a-b"].frames == 40 and found["own"].drifts["a-b"].alarms == 0
    file = tmp_path / "state" / "own.drift.json"
    file.write_text("{")
    with pytest.raises(FormatError, match=r"own\.drift\.json"):
        run(seen, films, monitoring)


def test_a_state_that_cannot_be_kept_is_an_error_at_the_start(seen, films, tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StorageError, match="cannot write"):
        run(seen, films, Monitoring(drift=True, state=tmp_path / "state"))


def test_frames_are_collected_in_a_private_folder_for_each_source(seen, films, tmp_path):
    folder = tmp_path / "harvest"
    _, found = run(seen, films, Monitoring(harvest=Harvest(folder)))
    for path in (folder, folder / "own", folder / "foreign"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert set(found["own"].harvested) == {"trusted", "unsure", "held-out"}


def test_a_single_source_is_collected_in_the_folder_itself(seen, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 16, 16, 3), np.uint8)
    path = film(tmp_path / "long.avi", noise)  # frames that show nothing are not collected
    monitoring = Monitoring(harvest=Harvest(tmp_path / "harvest"))
    _, found = run(seen, {"own": path}, monitoring, pause=0.005, every=2)
    kept = [file.parent.name for file in (tmp_path / "harvest").rglob("*.png")]
    assert {part: kept.count(part) for part in found["own"].harvested} == found["own"].harvested
    assert len(kept) > 0
    with pytest.raises(ConfigError, match="not empty and not a harvest"):
        run(seen, {"own": path}, Monitoring(harvest=Harvest(tmp_path)))


def test_a_task_without_statistics_is_said_once_and_its_frames_are_classified(
    world, films, tmp_path, capfd
):
    sink, found = run(world, films, Monitoring(drift=True, harvest=Harvest(tmp_path / "harvest")))
    assert all(each.drift is None for each in sink.seen) and len(sink.seen) == 400
    assert found["own"].drifts == {} and set(found["own"].harvested.values()) == {0}
    lines = sorted(capfd.readouterr().err.splitlines())
    assert len(lines) == 4 and all("task 'a-b' has no " in line for line in lines)
    assert lines[0].startswith("warning: foreign: ") and lines[3].startswith("warning: own: ")


def test_a_harvest_that_goes_away_does_not_stop_a_camera(seen, films, tmp_path, capfd):
    sink, folder = Collect(), tmp_path / "harvest"
    source = SourceSettings("door", films["own"], task="a-b", fast=True, every=5)
    monitoring = Monitoring(harvest=Harvest(folder))
    with Session.open(seen.path) as session:
        with Watcher(session, [source], [sink], monitoring) as watcher:
            (folder / "trusted").rename(tmp_path / "gone")
            (folder / "trusted").write_text("in the way")
            assert watcher.wait(WAIT)
    (status,) = watcher.status()
    check_counts(status)
    assert status.predicted == 40 and status.failed == 0
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) <= 1 and all(line.startswith("warning: door: cannot") for line in errors)


def test_a_smoother_starts_anew_with_another_task_and_with_other_classes():
    smoother = Smoother(3)

    def see(task, *logits):
        classes = tuple("xyz"[: len(logits)])
        return smoother.see(Prediction(task, classes, np.array(logits, np.float32)))

    assert see("a", 0, 9) == ("y", pytest.approx(1 / (1 + np.exp(-9))), 1)
    assert see("a", 9, 0)[1:] == (pytest.approx(0.5), 2)
    assert see("a", 9, 0) == ("x", pytest.approx(2 / 3, abs=1e-3), 3)
    assert see("a", 9, 0).score > 0.99 and see("a", 9, 0).frames == 3
    assert see("b", 0, 9) == ("y", pytest.approx(1, abs=1e-3), 1)
    assert see("b", 0, 0, 9) == ("z", pytest.approx(1, abs=1e-3), 1)
    smoother.reset()
    assert see("b", 9, 0, 0).frames == 1


def test_percentiles_are_right_within_two_percent_and_take_no_more_memory():
    random, latencies = np.random.default_rng(0), Latencies()
    values = random.lognormal(3, 1, 20_000)
    for value in values:
        latencies.add(value)
    for share in (0.0, 0.5, 0.9, 0.99, 1.0):
        want = np.quantile(values, share, method="inverted_cdf")
        assert latencies.percentile(share) == pytest.approx(want, rel=0.02)
    assert len(latencies._bins) < 1000
    assert Latencies().percentile(0.5) is None
    latencies.add(0.0)  # a clock that stood still
    assert latencies.percentile(0.0) == pytest.approx(1e-3, rel=0.02)


def test_what_is_kept_is_kept_once_a_minute_too(seen, tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.watch.upkeep.MINUTE", 0.1)
    source = SourceSettings("door", "demo:", task="a-b")
    monitoring = Monitoring(drift=True, state=tmp_path)
    with Session.open(seen.path) as session:
        with Watcher(session, [source], [], monitoring):
            path = tmp_path / "door.drift.json"
            eventually(lambda: json.loads(path.read_text())["tasks"])
