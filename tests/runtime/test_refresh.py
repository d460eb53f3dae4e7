"""Bundles that change while sessions run."""

import threading
from dataclasses import replace

import numpy as np
import pytest

import runtime
from runtime.bundles import bundle
from runtime.errors import FormatError, TaskError
from runtime.patch import SparseTensor
from runtime.storage.digest import tensors_sha256
from tests.runtime.helpers import smuggle


def write(world, *tasks, **parts) -> None:
    """Replace the bundle by one of these tasks."""
    bundle.write(world.path, **{**world.parts, **parts, "tasks": list(tasks)})
    world.tasks = {task.info.id: task for task in tasks}


def version(world, task, seed, count=150):
    """Another version of a task: other weights, another head."""
    rng = np.random.default_rng(seed)
    old = world.tasks[task]
    where = np.sort(rng.choice(world.base["first.weight"].size, count, replace=False))
    patch = {
        "first.weight": SparseTensor(
            where.astype(np.uint32), rng.standard_normal(count).astype(np.float32)
        )
    }
    head = {"weight": rng.standard_normal(old.head_tensors["weight"].shape).astype(np.float32)}
    return replace(old, patch=patch, head_tensors=head)


def agrees(session, world, frame, task=None) -> None:
    result = session.predict(frame, task)
    want = world.logits(result.task, frame[None])[0]
    np.testing.assert_allclose(result.logits, want, rtol=2e-5, atol=1e-3)
    assert task in (None, result.task)


def test_nothing_new_changes_nothing(world, frame):
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        session.load("a-b")
        assert session.refresh() == ()
        assert session.task == "a-c" and session.resident == ("a-c", "a-b")
        agrees(session, world, frame)


def test_added_replaced_and_removed_tasks_are_told_and_taken_over(world, frame):
    first, second, third = world.tasks.values()
    added = replace(first, info=replace(first.info, id="a-new"))
    with runtime.Session.open(world.path) as session:
        for task in session.tasks:
            agrees(session, world, frame, task)
        session.switch("a-b")
        newer = version(world, "a-c", 1)
        write(world, first, newer, added)
        with pytest.raises(TaskError, match="unknown task 'a-new'"):
            session.switch("a-new")
        assert sorted(session.refresh()) == ["a-c", "a-d", "a-new"]
        assert session.tasks == ("a-b", "a-c", "a-new")
        assert session.resident == ("a-b",) and session.task == "a-b"
        with pytest.raises(TaskError, match="unknown task 'a-d'"):
            session.switch("a-d")
        for task in session.tasks:
            agrees(session, world, frame, task)
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
        assert session.refresh() == ()


def test_the_new_version_of_the_current_task_is_current_at_once(world, frame):
    first, second, third = world.tasks.values()
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        for seed in (1, 2):
            write(world, first, version(world, "a-c", seed), third)
            before = session.predict(frame).logits
            assert session.refresh() == ("a-c",)
            assert session.task == "a-c"
            assert np.abs(session.predict(frame).logits - before).max() > 0.1
            agrees(session, world, frame)
        write(world, first, second, third)  # the first version comes back
        assert session.refresh() == ("a-c",)
        agrees(session, world, frame)
        assert session.resident == ("a-c",)
        session.switch("a-b")
        assert session.resident == ("a-c", "a-b")
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def test_a_session_whose_current_task_is_removed_has_none(world, frame):
    first, second, third = world.tasks.values()
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        write(world, first, third)
        assert session.refresh() == ("a-c",)
        assert session.task is None and session.resident == () and session.task_bytes == 0
        with pytest.raises(TaskError, match=r"no task is selected.*a-b, a-d"):
            session.predict(frame)
        views = session._strategy.weights.views()
        assert all(views[name].tobytes() == array.tobytes() for name, array in world.base.items())
        agrees(session, world, frame, "a-d")


def test_a_damaged_new_version_of_the_current_or_a_pinned_task_changes_nothing(world, frame):
    first, second, third = world.tasks.values()
    for prepare in (runtime.Session.switch, runtime.Session.pin):
        write(world, first, second, third)
        with runtime.Session.open(world.path) as session:
            session.switch("a-b")
            prepare(session, "a-c")
            before = session.task, session.tasks, session.predict(frame).logits
            smuggle(world.path, version(world, "a-c", 3))
            with pytest.raises(FormatError, match="is not the file of task 'a-c'"):
                session.refresh()
            assert (session.task, session.tasks) == before[:2]
            np.testing.assert_array_equal(session.predict(frame).logits, before[2])
            agrees(session, world, frame, "a-c")  # in memory
            write(world, first, second, third)
            assert session.refresh() == ()


def test_another_base_precision_or_graph_wants_a_new_session(world, mixed, frame):
    first, second, third = world.tasks.values()
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        bundle.write(world.path, **mixed.parts)
        with pytest.raises(FormatError, match="has changed its encoders.*open a new session"):
            session.refresh()
        base = {name: 2 * array for name, array in world.base.items()}
        identity = tensors_sha256(base)
        tasks = [replace(task, base_sha256=identity) for task in (first, second, third)]
        write(world, *tasks, tensors=base)
        with pytest.raises(FormatError, match="has changed its tensors.*open a new session"):
            session.refresh()
        world.tasks = {task.info.id: task for task in (first, second, third)}
        agrees(session, world, frame)
        (world.path / "manifest.json").unlink()
        with pytest.raises(FormatError, match="is not a bundle"):
            session.refresh()
        agrees(session, world, frame)


def test_a_pin_follows_its_task_to_a_new_version_and_ends_with_it(world, frame):
    first, second, third = world.tasks.values()
    with runtime.Session.open(world.path) as session:
        session.pin("a-c")
        session.pin("a-d")
        write(world, first, version(world, "a-c", 4))
        assert sorted(session.refresh()) == ["a-c", "a-d"]
        assert session.resident == ("a-c",)
        agrees(session, world, frame, "a-c")
        session.switch("a-b")
        session.unpin("a-c")
        write(world, first, second, third)
        session.refresh()
        assert session.resident == ("a-b",)


def test_a_pinned_task_whose_new_version_has_no_room_is_told_and_nothing_changes(world, frame):
    first, second, third = world.tasks.values()
    with runtime.Session.open(world.path) as session:
        bound = session.load("a-b") + session.load("a-d")
    with runtime.Session.open(world.path, max_task_bytes=bound) as session:
        session.switch("a-b")
        session.pin("a-d")
        write(world, first, second, version(world, "a-d", 5, count=200))
        with pytest.raises(TaskError, match=r"'a-d' takes .*'a-b'.* keep .*max_task_bytes"):
            session.refresh()
        assert sorted(session.resident) == ["a-b", "a-d"] and session.task_bytes == bound
        session.unpin("a-d")
        assert session.refresh() == ("a-d",) and session.resident == ("a-b",)
        agrees(session, world, frame)


def test_a_new_version_needs_no_room_beside_the_one_it_replaces(world, frame):
    first, second, third = world.tasks.values()
    with runtime.Session.open(world.path) as session:
        bound = session.load("a-c")
    with runtime.Session.open(world.path, max_task_bytes=bound) as session:
        session.switch("a-c")
        session.pin("a-c")
        write(world, first, replace(second, head_tensors=version(world, "a-c", 6).head_tensors))
        assert sorted(session.refresh()) == ["a-c", "a-d"]
        assert session.resident == ("a-c",) and session.task_bytes == bound
        agrees(session, world, frame)


def test_frames_and_refreshes_at_once_see_one_version_or_the_other(world, frame):
    first, second, third = world.tasks.values()
    versions = [version(world, "a-c", seed) for seed in range(3)]
    wants = []
    for task in versions:
        world.tasks["a-c"] = task
        wants.append(world.logits("a-c", frame[None])[0])
    stop, errors = threading.Event(), []
    seen = [threading.Event() for _ in wants]
    with runtime.Session.open(world.path, threads=1) as session:
        write(world, first, versions[0], third)
        session.refresh()

        def classify(named: bool) -> None:
            try:
                while not stop.is_set():
                    if named:
                        found = session.predict(frame, "a-c")
                    else:
                        (found,) = session.predict_many([(frame, "a-c")])
                        session.switch("a-b")
                    near = [np.allclose(found.logits, want, rtol=2e-5, atol=1e-3) for want in wants]
                    assert sum(near) == 1
                    seen[near.index(True)].set()
            except BaseException as error:
                errors.append(error)
                for event in seen:
                    event.set()  # nobody need wait for this thread

        threads = [threading.Thread(target=classify, args=[n == 0]) for n in range(2)]
        for thread in threads:
            thread.start()
        try:
            for number in range(1, 13):
                write(world, first, versions[number % 3], third)
                assert session.refresh() == ("a-c",)
                # From here on no thread may bring the former version back.
                found = session.predict(frame, "a-c").logits
                np.testing.assert_allclose(found, wants[number % 3], rtol=2e-5, atol=1e-3)
                assert seen[number % 3].wait(20), "the threads meet every version"
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not errors
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
