"""Whatever interrupts a call, at any bytecode: no wrong answer, no lock that stays held."""

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.bundles import bundle
from runtime.bundles.bundle import Bundle
from tests.runtime.helpers import newer
from tests.runtime.interrupts import ROOT, Checker, elsewhere, interrupted

pytestmark = [
    # A file that was just opened, or a result that nobody takes.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
STRATEGIES = ["patch", "engines"]
# Of the mixed world: two patches, and two tasks that bring tokens instead.
WAYS = [("a-b", "a-f"), ("a-f", "a-b"), ("a-b", "a-c"), ("a-c", "a-b"), ("a-c", "a-e")]


@pytest.fixture(params=STRATEGIES)
def opened(request, mixed, frame):
    """A session with all tasks in memory, and what it must answer."""
    check = Checker(mixed.path, frame, strategy=request.param)
    with runtime.Session.open(mixed.path, threads=1, strategy=request.param) as session:
        for task in session.tasks:
            session.load(task)
        yield session, check


def test_a_switch_goes_through_five_files_at_most_and_comes_back_twice_before_it_writes(opened):
    session, _ = opened
    session.switch("a-b")
    session.switch("a-f")
    entered = []

    def enter(frame, event, argument):
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(ROOT):
            entered.append((Path(name).name, frame.f_code.co_name))
        return None

    sys.setprofile(enter)
    try:
        session.switch("a-b")
    finally:
        sys.setprofile(None)
    files = [name for name, _ in entered]
    assert len(set(files)) <= 5, entered
    # What is called on the way and returns before the strategy is told: the lock, and the cache.
    strategy = next(n for n, (_, function) in enumerate(entered) if function == "switch" and n)
    aside = [name for name in files[:strategy] if name != "switching.py"]
    assert len({*aside}) <= 2, entered


@pytest.mark.parametrize("way", WAYS, ids="-to-".join)
def test_a_switch(opened, way):
    session, check = opened
    old, new = way
    for _ in interrupted(lambda: session.switch(old), lambda: session.switch(new)):
        assert session.task in way
        check(session, new)
        check.base(session)


def test_a_switch_that_reads_a_file_within_a_bound(mixed, frame):
    check = Checker(mixed.path, frame)
    with runtime.Session.open(mixed.path, threads=1) as free:
        bound = max(free.load("a-b"), free.load("a-f"))
    with runtime.Session.open(mixed.path, threads=1, max_task_bytes=bound) as session:
        for _ in interrupted(lambda: session.switch("a-b"), lambda: session.switch("a-f"), step=9):
            check(session, "a-f", "a-b")
            assert session.task_bytes <= bound


def test_a_prediction(opened, frame):
    session, check = opened
    for _ in interrupted(lambda: session.switch("a-b"), lambda: session.predict(frame, "a-f")):
        check(session, "a-f")


def test_predictions_of_several_tasks(opened, frame):
    session, check = opened
    pairs = [(frame, task) for task in ("a-c", "a-f", "a-e")]
    for _ in interrupted(
        lambda: session.switch("a-b"), lambda: session.predict_many(pairs), step=4
    ):
        check(session, "a-f")


def test_a_look_at_the_base(opened):
    session, check = opened
    for _ in interrupted(lambda: session.switch("a-f"), session.base_sha256):
        assert session.task == "a-f"
        check(session, "a-b")


def test_a_pin_and_its_end(mixed, frame):
    check = Checker(mixed.path, frame)
    with runtime.Session.open(mixed.path, threads=1) as session:
        session.switch("a-b")

        def both() -> None:
            session.pin("a-f")
            session.unpin("a-f")

        for _ in interrupted(lambda: session.unpin("a-f"), both):
            check(session)
            elsewhere(lambda: session.pin("a-f"))
            assert "a-f" in session.resident


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_refresh(world, make_world, frame, strategy):
    """The current task has another version, a pinned one is gone, another one is new."""
    other = make_world("other.bundle")
    tasks = [other.tasks["a-b"], newer(replace(other.tasks["a-c"], patch={}))]
    bundle.write(other.path, **{**other.parts, "tasks": tasks})
    check, after = (Checker(path, frame, strategy=strategy) for path in (world.path, other.path))
    with runtime.Session.open(world.path, threads=1, strategy=strategy) as session:
        bundles = Bundle.open(world.path), Bundle.open(other.path)

        def back() -> None:
            session.refresh(bundles[0])
            session.switch("a-c")
            session.pin("a-d")

        step = 6 if strategy == "patch" else 12
        for _ in interrupted(back, lambda: session.refresh(bundles[1]), step=step):
            assert session.task == "a-c"
            result = elsewhere(lambda: session.predict(frame))
            assert result.task == "a-c"
            now = session.bundle is bundles[1]
            assert (after if now else check).same(result)
            elsewhere(lambda: session.refresh(bundles[1]))
            assert session.task == "a-c" and session.tasks == ("a-b", "a-c")
            after(session, "a-b")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_current_task_that_is_removed_by_a_refresh(world, make_world, frame, strategy):
    other = make_world("other.bundle")
    bundle.write(other.path, **{**other.parts, "tasks": [other.tasks["a-b"]]})
    check = Checker(world.path, frame, strategy=strategy)
    with runtime.Session.open(world.path, threads=1, strategy=strategy) as session:
        bundles = Bundle.open(world.path), Bundle.open(other.path)

        def back() -> None:
            session.refresh(bundles[0])
            session.switch("a-c")

        for _ in interrupted(back, lambda: session.refresh(bundles[1]), step=8):
            if session.bundle is bundles[0]:
                check(session, "a-c")
            else:
                with pytest.raises(runtime.UdaError, match="no task is selected"):
                    session.predict(frame)
            elsewhere(lambda: session.refresh(bundles[1]))
            assert session.task is None
            check(session, "a-b")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_close(mixed, frame, strategy):
    opened = []

    def prepare() -> None:
        while opened:
            opened.pop().close()
        opened.append(runtime.Session.open(mixed.path, threads=1, strategy=strategy))
        opened[0].switch("a-f")
        opened[0].pin("a-b")

    for _ in interrupted(prepare, lambda: opened[0].close(), step=8):
        (session,) = opened
        elsewhere(session.close)
        assert session.closed and session.resident == () and session._strategy.closed
        with pytest.raises(runtime.UdaError, match="closed"):
            session.predict(frame, "a-b")


def test_a_pool(mixed, frame):
    check = Checker(mixed.path, frame)
    turn = itertools.cycle(check.want)
    with runtime.SessionPool.open(mixed.path, sessions=2, threads=1) as pool:
        for session in pool.sessions:
            for task in pool.tasks:
                session.load(task)

        def answers() -> None:
            for task in (next(turn), next(turn), next(turn)):
                found = elsewhere(lambda: pool.predict(frame, task))  # noqa: B023
                assert found.task == task and check.same(found)

        for call in (
            lambda: pool.predict(frame, "a-f"),
            lambda: pool.predict_many([(frame, "a-b"), (frame, "a-c"), (frame, "a-f")]),
        ):
            for _ in interrupted(lambda: pool.sessions[0].switch("a-d"), call, step=5):
                answers()
                for session in pool.sessions:
                    check(session)
                assert sum(not loan.over for loan in pool._lending._loans.values()) == 0
        for result in pool.predict_many([(frame, task) for task in pool.tasks] * 3):
            np.testing.assert_allclose(result.logits, check.want[result.task], rtol=1e-5, atol=0.01)


def test_a_refresh_and_the_close_of_a_pool(world, frame):
    check = Checker(world.path, frame)
    opened = []

    def prepare() -> None:
        while opened:
            opened.pop().close()
        opened.append(runtime.SessionPool.open(world.path, sessions=2, threads=1))
        opened[0].predict(frame, "a-b")

    prepare()
    for _ in interrupted(lambda: None, lambda: opened[0].refresh(), step=5):
        assert elsewhere(opened[0].refresh) == ()
        assert check.same(elsewhere(lambda: opened[0].predict(frame, "a-c")))
    for _ in interrupted(prepare, lambda: opened[0].close(), step=15):
        elsewhere(opened[0].close)
        assert all(session.closed for session in opened[0].sessions)
