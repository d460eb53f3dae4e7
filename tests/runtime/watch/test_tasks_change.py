"""Tasks that are installed, replaced and removed while sources are watched."""

import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from runtime.bundles import bundle
from runtime.bundles.install import install, remove, rollback
from runtime.errors import TaskError
from runtime.sessions.pool import SessionPool
from runtime.sessions.session import Session
from runtime.storage.digest import tensors_sha256
from runtime.watch.settings import SourceSettings
from runtime.watch.watcher import Watcher
from tests.runtime.helpers import newer, under
from tests.runtime.watch.collecting import Collect, check_counts, eventually

SOURCES = [
    SourceSettings("door", "demo:", task="a-b", smooth=1000),
    SourceSettings("yard", "demo:1", task="a-c"),
]


@pytest.fixture(params=["session", "pool"])
def model(request, world):
    if request.param == "session":
        opened = Session.open(world.path)
    else:
        opened = SessionPool.open(world.path, sessions=2)
    with opened:
        yield opened


def seen_after(sink, source, true):
    """Wait for an observation of a source that comes from now on; return it."""
    start = len(sink.seen)
    return sink.until(
        lambda each: each.source == source and true(each) and each not in sink.seen[:start]
    )


def test_a_new_task_is_noticed_by_itself_and_disturbs_nobody(world, model, write_task, capfd):
    new = newer(under(world.tasks["a-c"], "a-new"))
    sink = Collect()
    with Watcher(model, SOURCES, [sink]) as watcher:
        eventually(lambda: sink.seen)
        install(world.path, write_task(new))
        eventually(lambda: "a-new" in watcher.tasks)
        watcher.choose("door", "a-new")
        seen_after(sink, "door", lambda each: each.prediction.task == "a-new")
    check_observed(world, sink)
    assert all(status.failed == 0 for status in watcher.status())
    assert capfd.readouterr().err == "tasks changed: a-new; now a-b, a-c, a-d, a-new\n"


def test_a_task_that_is_removed_is_an_error_of_its_source_alone(world, model):
    sink = Collect()
    with Watcher(model, SOURCES, [sink]) as watcher:
        eventually(lambda: {each.source for each in sink.seen} == {"door", "yard"})
        remove(world.path, "a-c")
        watcher.refresh()
        failed = sink.until(lambda each: each.error is not None)
        assert failed.source == "yard" and isinstance(failed.error, TaskError)
        assert failed.prediction is None and "unknown task 'a-c'" in str(failed.error)
        seen_after(sink, "door", lambda each: each.error is None)
        door, yard = watcher.status()
        assert door.error is None and "unknown task 'a-c'" in yard.error and yard.failed
        with pytest.raises(TaskError, match="unknown task 'a-c'"):
            watcher.choose("door", "a-c")
        rollback(world.path, "a-c")
        watcher.refresh()
        seen_after(sink, "yard", lambda each: each.prediction is not None)
        assert watcher.status()[1].error is None
    assert not [each for each in sink.of("door") if each.error is not None]
    check_observed(world, sink)


def test_the_new_version_of_a_task_takes_over_and_what_is_smoothed_starts_anew(
    world, model, write_task
):
    sink, new = Collect(), newer(world.tasks["a-b"])
    with Watcher(model, SOURCES, [sink]) as watcher:
        eventually(lambda: len(sink.of("door")) > 5)
        install(world.path, write_task(new))
        watcher.refresh()
        first = sink.until(
            lambda each: each.smoothed and each.smoothed.frames < last_of(sink, each)
        )
        last = seen_after(sink, "door", lambda each: True)
    old, world.tasks["a-b"] = world.tasks["a-b"], new
    pixels = last.frame.image
    assert last.prediction.task == "a-b" == old.info.id
    with Session.open(world.path) as session:
        np.testing.assert_array_equal(session.predict(pixels, "a-b").logits, last.prediction.logits)
    assert first.source == "door"


def last_of(sink, observation):
    """Return how many frames its source's former label was smoothed over."""
    own = sink.of(observation.source)
    place = own.index(observation)
    return own[place - 1].smoothed.frames if place else 0


def test_a_damaged_new_task_changes_nothing_until_it_is_whole(
    world, model, write_task, capfd, monkeypatch
):
    monkeypatch.setattr("runtime.watch.tasks._AGAIN", 0.0)
    sink = Collect()
    with Watcher(model, SOURCES, [sink]) as watcher:
        eventually(lambda: sink.seen)
        # The manifest came, and a part of the file: what a copy under way looks like.
        other = world.path.with_name("other.bundle")
        shutil.copytree(world.path, other)
        new = under(newer(world.tasks["a-c"]), "a-new")
        file = install(other, write_task(new)).file.path
        whole = (other / file).read_bytes()
        (world.path / file).write_bytes(whole[:-1] + b"?")
        shutil.copy(other / "manifest.json", world.path / "manifest.json")
        watcher.refresh()
        text = eventually(lambda: capfd.readouterr().err)
        assert text.startswith(f"warning: '{world.path / file}' ") and text.count("\n") == 1
        assert text.endswith("; continuing with a-b, a-c, a-d\n")
        assert watcher.tasks == ("a-b", "a-c", "a-d")
        seen_after(sink, "yard", lambda each: each.prediction is not None)
        (world.path / file).write_bytes(whole)
        eventually(lambda: "a-new" in watcher.tasks)
    assert all(status.failed == 0 for status in watcher.status())
    check_observed(world, sink)


def test_another_base_and_a_bundle_that_is_gone_are_said_and_frames_go_on(world, model, capfd):
    base = {name: 2 * array for name, array in world.base.items()}
    tasks = [replace(task, base_sha256=tensors_sha256(base)) for task in world.tasks.values()]
    sink = Collect()
    with Watcher(model, SOURCES, [sink]) as watcher:
        eventually(lambda: {each.source for each in sink.seen} == {"door", "yard"})
        bundle.write(world.path, **{**world.parts, "tensors": base, "tasks": tasks})
        text = eventually(lambda: capfd.readouterr().err)
        assert text.startswith(f"warning: '{world.path}' has changed its tensors")
        shutil.rmtree(world.path)
        watcher.refresh()
        text = eventually(lambda: capfd.readouterr().err)
        assert text.startswith("warning: ") and text.endswith("; continuing with a-b, a-c, a-d\n")
        seen_after(sink, "yard", lambda each: each.prediction is not None)
        seen_after(sink, "door", lambda each: each.prediction is not None)
    assert all(status.failed == 0 for status in watcher.status())
    check_observed(world, sink)


def check_observed(world, sink):
    """Check what was predicted against the session's preprocessing and NumPy, and the counts."""
    with Session.open(world.path) if world.path.exists() else nullcontext() as session:
        for each in sink.seen[-40:] if session else ():
            if each.prediction is not None:
                want = session.predict(each.frame.image, each.prediction.task)
                np.testing.assert_array_equal(want.logits, each.prediction.logits)
    for status in sink.watched.status():
        check_counts(status)
        assert status.waiting == 0
