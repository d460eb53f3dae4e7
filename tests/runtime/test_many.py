"""Frames of several tasks in one call: the plan, the answers, and how often an encoder runs."""

from dataclasses import replace

import numpy as np
import pytest

import runtime
from runtime import backends
from runtime.bundles import bundle
from runtime.bundles.bundle import Bundle
from runtime.errors import BackendError, DataError, TaskError
from runtime.frames.preprocess import preprocess
from runtime.sessions.grouping import plan
from runtime.strategies.patch import PatchStrategy
from tests.runtime.watched import watch


class Counting(PatchStrategy):
    """Notes the batch of every encoder pass and what it was switched to; else as ever."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.passes, self.switches = [], []

    def features(self, resident, pixels):
        self.passes.append(len(pixels))
        return super().features(resident, pixels)

    def see(self, resident, pixels):
        self.passes.append(len(pixels))
        return super().see(resident, pixels)

    def switch(self, new):
        self.switches.append(new and new.info.id)
        super().switch(new)


def counted(world) -> tuple[runtime.Session, Counting]:
    made = Bundle.open(world.path)
    strategy = Counting.open(made, backends.load("ort", "cpu", 1), True)
    return runtime.Session(made, strategy), strategy


@pytest.fixture
def untouched(make_world):
    """Fifteen tasks: twelve that change nothing, with heads of their own, and three that do."""
    world = make_world("untouched.bundle", tasks=15)
    tasks = [
        replace(task, patch={}) if number < 12 else task
        for number, task in enumerate(world.tasks.values())
    ]
    bundle.write(world.path, **{**world.parts, "tasks": tasks})
    world.tasks = {task.info.id: task for task in tasks}
    return world


def frames_of(count, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(10, 60, (count, 2))
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]


def random_calls(rng, tasks, count):
    for _ in range(count):
        n = int(rng.integers(1, 40))
        yield rng.integers(0, 8, n).tolist(), rng.choice(tasks, n).tolist()


@pytest.mark.parametrize("most", [1, 3, 32])
def test_a_plan_classifies_everything_once_and_encodes_each_frame_once_per_share(most):
    rng = np.random.default_rng(0)
    tasks = list("abcdefg")
    shares = dict(zip(tasks, "xxyyyzw", strict=True))
    pool = [object() for _ in range(8)]
    for choice, wanted in random_calls(rng, tasks, 200):
        frames = [pool[i] for i in choice]
        current = str(rng.choice(tasks)) if rng.random() < 0.8 else None
        batches = plan(frames, wanted, shares, current, most)
        classified, encoded, order = {}, [], []
        for batch in batches:
            (share,) = {shares[task] for task in batch.heads}
            order.append(share)
            assert len(batch.frames) <= most
            encoded += [(share, id(frames[position])) for position in batch.frames]
            for task, pairs in batch.heads.items():
                for row, position in pairs:
                    assert frames[batch.frames[row]] is frames[position]
                    assert position not in classified
                    classified[position] = task
            assert current not in batch.heads or next(iter(batch.heads)) == current
        assert classified == dict(enumerate(wanted))
        pairs = zip(frames, wanted, strict=True)
        assert sorted(encoded) == sorted({(shares[task], id(frame)) for frame, task in pairs})
        # No share comes back once it was left, and the current task's comes first.
        assert len([s for i, s in enumerate(order) if i == 0 or order[i - 1] != s]) == len({*order})
        if current in wanted:
            assert order[0] == shares[current]


def test_many_equal_one_by_one_predictions_in_the_order_of_the_call(mixed):
    rng = np.random.default_rng(1)
    frames = frames_of(8)
    with runtime.Session.open(mixed.path) as session, runtime.Session.open(mixed.path) as single:
        for choice, tasks in random_calls(rng, session.tasks, 25):
            found = session.predict_many([(frames[i], t) for i, t in zip(choice, tasks)])  # noqa: B905
            assert [result.task for result in found] == tasks
            for i, task, result in zip(choice, tasks, found, strict=True):
                want = single.predict(frames[i], task)
                assert result.classes == want.classes
                np.testing.assert_allclose(result.logits, want.logits, rtol=1e-5, atol=0.01)
                pixels = preprocess(frames[i], session.bundle.preprocess(task))[None]
                exact = mixed.logits(task, pixels)[0]
                np.testing.assert_allclose(result.logits, exact, rtol=1e-4, atol=0.1)
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def test_tasks_that_change_nothing_share_one_encoder_pass_and_no_others_do(untouched, frame):
    other = np.flip(frame, 1)
    session, strategy = counted(untouched)
    with session:
        tasks = session.tasks
        found = session.predict_many([(frame, task) for task in tasks])
        assert strategy.passes == [1, 1, 1, 1]  # twelve together, three alone
        for task, result in zip(tasks, found, strict=True):
            want = untouched.logits(task, frame[None])[0]
            np.testing.assert_allclose(result.logits, want, rtol=2e-5, atol=1e-3)
        strategy.passes.clear()
        session.predict_many([(frame, "a-b"), (other, "a-c"), (frame, "a-d"), (frame, "a-b")])
        assert strategy.passes == [2]
        strategy.passes.clear()
        session.predict_many([(frame, "a-b"), (frame.copy(), "a-b")])  # equal is not the same
        assert strategy.passes == [2]


def test_tasks_with_equal_tokens_share_a_pass_unless_their_frames_are_resized_otherwise(mixed):
    one, two = mixed.tasks["a-c"], mixed.tasks["a-e"]
    twin = replace(two, tokens=one.tokens)
    squashed = replace(twin, info=replace(two.info, id="a-x"), resize="squash")
    bundle.write(mixed.path, **{**mixed.parts, "tasks": [one, twin, squashed]})
    (frame,) = frames_of(1)
    session, strategy = counted(mixed)
    with session:
        found = session.predict_many([(frame, task) for task in ("a-c", "a-e", "a-x")])
        assert strategy.passes == [1, 1]
        mixed.tasks = {"a-c": one, "a-e": twin, "a-x": squashed}
        for result in found:
            pixels = preprocess(frame, session.bundle.preprocess(result.task))[None]
            exact = mixed.logits(result.task, pixels)[0]
            np.testing.assert_allclose(result.logits, exact, rtol=1e-4, atol=0.1)


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_frames_of_one_task_are_answered_as_by_predict_batch_to_the_bit(world, strategy):
    watch(world, tasks=["a-c"])  # a-b has no statistics
    frames = frames_of(20)
    with runtime.Session.open(world.path, strategy=strategy, threads=1) as session:
        for task in ("a-b", "a-c"):
            want = session.predict_batch(frames, task)
            found = session.predict_many([(f, task) for f in (*frames, *reversed(frames))])
            for one, other in zip(found, want + want[::-1], strict=True):
                np.testing.assert_array_equal(one.logits, other.logits)
                np.testing.assert_array_equal(one.features, other.features)
                assert (one.features is None) == (task == "a-b")


def test_a_group_runs_in_batches_of_32(world):
    frames = frames_of(70)
    session, strategy = counted(world)
    with session:
        found = session.predict_many([(frame, "a-c") for frame in frames])
        assert strategy.passes == [32, 32, 6]
        for frame, result in zip(frames, found, strict=True):
            want = session.predict(frame).logits
            np.testing.assert_allclose(result.logits, want, rtol=1e-5, atol=1e-3)


def test_the_current_task_comes_first_and_each_other_is_switched_to_once(world, frame):
    session, strategy = counted(world)
    with session:
        session.switch("a-c")
        strategy.switches.clear()
        calls = ["a-b", "a-c", "a-d", "a-b", "a-c"]
        found = session.predict_many([(frame, task) for task in calls])
        assert [result.task for result in found] == calls
        assert strategy.switches == ["a-b", "a-d"]
        assert session.task == "a-d"


def test_many_work_within_a_bound_that_holds_one_task(mixed):
    frames = frames_of(8)
    with runtime.Session.open(mixed.path) as free:
        most = max(free.load(task) for task in free.tasks)
        pairs = [(frames[i % 8], task) for i, task in enumerate(3 * free.tasks)]
        want = free.predict_many(pairs)
    with runtime.Session.open(mixed.path, max_task_bytes=most) as session:
        for _ in range(2):
            for result, expected in zip(session.predict_many(pairs), want, strict=True):
                assert result.task == expected.task
                np.testing.assert_allclose(result.logits, expected.logits, rtol=1e-5, atol=0.01)
            assert session.task_bytes <= most


def test_a_task_given_with_a_frame_is_switched_to(world, frame):
    with runtime.Session.open(world.path) as session:
        for task in ("a-c", "a-b", "a-d", "a-d"):
            result = session.predict(frame, task=task)
            assert (result.task, session.task) == (task, task)
            want = world.logits(task, frame[None])[0]
            np.testing.assert_allclose(result.logits, want, rtol=2e-5, atol=1e-3)
            batch = session.predict_batch([frame, frame], task="a-b")
            assert [r.task for r in batch] == ["a-b"] * 2 and session.task == "a-b"


def test_pairs_may_come_one_by_one(world, frame):
    with counted(world)[0] as session:
        results = session.predict_many(zip([frame] * 2, ["a-b", "a-c"], strict=True))
    assert [result.task for result in results] == ["a-b", "a-c"]


def test_bad_calls_change_nothing(world, frame):
    session, strategy = counted(world)
    with session:
        session.switch("a-b")
        assert session.predict_many([]) == []
        with pytest.raises(TaskError, match=r"unknown task 'x-y'.*a-b, a-c, a-d"):
            session.predict_many([(frame, "a-c"), (frame, "x-y")])
        with pytest.raises(TaskError, match="unknown task 'x-y'"):
            session.predict(frame, task="x-y")
        with pytest.raises(DataError, match="must be uint8"):
            session.predict_many([(frame, "a-c"), (frame / 255, "a-d")])
        for pairs in ([frame, frame], (frame, "a-c"), None, [(frame, "a-c", 1)]):
            with pytest.raises(DataError, match="come as pairs"):
                session.predict_many(pairs)
        with pytest.raises(TaskError, match="expected the id of a task"):
            session.predict(frame, task=["a-c"])
        assert session.task == "a-b" and strategy.passes == [] and strategy.switches == ["a-b"]
    with pytest.raises(BackendError, match="closed"):
        session.predict_many([(frame, "a-b")])
