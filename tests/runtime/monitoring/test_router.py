"""What a router makes of a camera's frames, without a session."""

import threading

import numpy as np
import pytest

from runtime.errors import ConfigError
from runtime.models import Preprocess
from runtime.monitoring import routing, whitening
from runtime.monitoring.gaussian import unit
from runtime.monitoring.router import Router, Seen
from runtime.monitoring.table import RoutingTable, place

SIZE = 12
SPEC = Preprocess(32)
LIKE, UNLIKE = 0.5, 0.999
"""Novelties of frames that look right and wrong."""


def rows(number: int, count: int, seed: int = 0, spread: float = 0.3) -> np.ndarray:
    """Return features (N, 1, D) of frames of a scene."""
    middle = 2 + np.random.default_rng(number).standard_normal(SIZE)
    noise = np.random.default_rng(1000 + seed).standard_normal((count, SIZE)) * spread
    return unit(middle + noise)[:, None]


def made(numbers, untouched=()) -> RoutingTable:
    found = {f"a-{number}": rows(number, 200)[:, 0] for number in numbers}
    shared = whitening.fit(list(found.values()))
    return RoutingTable(
        shared,
        {task: (place(task, routing.fit(f, shared), shared), SPEC) for task, f in found.items()},
        untouched,
    )


@pytest.fixture(scope="module")
def table() -> RoutingTable:
    return made((0, 1, 2))


def watch(router, table, frames, novelty=LIKE, free=False):
    """Show frames one by one, as a session does; return the routes and which were looked at."""
    routes, looked = [], []
    for frame in frames:
        due = router.due(table, 1)
        routes += router.decide(table, 1, {0: frame} if due else {})
        looked.append(bool(due))
        own = novelty(routes[-1].task) if callable(novelty) else novelty
        router.note(table, [Seen(own, frame[0] if free else None, bool(due))])
    return routes, looked


def test_each_scene_is_recognised_from_the_first_frame_on(table):
    for number in range(3):
        router = Router()
        assert (router.task, router.nearest, router.routes) == (None, None, [])
        routes, _ = watch(router, table, rows(number, 60, seed=number))
        assert {route.task for route in routes} == {f"a-{number}"}
        assert all(route.known and route.margin > 0 for route in routes)
        assert router.task == router.nearest == f"a-{number}" == router.routes[0].task
        assert len(router.routes) == 3


def test_it_looks_at_each_frame_at_first_then_at_every_nth(table):
    routes, looked = watch(Router(frames=5, every=4), table, rows(0, 21))
    assert looked == [True] * 5 + [False, False, False, True] * 4
    assert [route.frame_excess is not None for route in routes] == looked
    alone = table.excess(table.scores(rows(0, 21)))[:, 0]
    found = [route.frame_excess for route in routes if route.frame_excess is not None]
    np.testing.assert_allclose(found, alone[looked], rtol=1e-3, atol=1e-4)
    _, looked = watch(Router(every=1), table, rows(0, 30))
    assert all(looked)


def test_a_batch_is_looked_at_as_single_frames_are(table):
    frames = rows(0, 21)
    router = Router(frames=5, every=4)
    due = router.due(table, 21)
    assert due == [0, 1, 2, 3, 4, 8, 12, 16, 20]
    together = router.decide(table, 21, {position: frames[position] for position in due})
    alone, _ = watch(Router(frames=5, every=4), table, frames)
    assert together == alone


def test_a_change_that_looks_wrong_is_followed_within_a_few_frames(table):
    router = Router()
    watch(router, table, rows(0, 40))
    right = rows(1, 12, seed=3)
    routes, looked = watch(
        router, table, right, novelty=lambda task: UNLIKE if task == "a-0" else LIKE
    )
    tasks = [route.task for route in routes]
    assert tasks.index("a-1") <= 5 and set(tasks[6:]) == {"a-1"}
    assert all(looked[1:]) and router.task == "a-1"


def test_a_change_that_looks_right_is_followed_by_the_regular_looks(table):
    router = Router(every=4)
    watch(router, table, rows(0, 40))
    routes, looked = watch(router, table, rows(1, 40, seed=3))
    tasks = [route.task for route in routes]
    assert tasks.index("a-1") <= 4 * 4 and set(tasks[20:]) == {"a-1"}
    assert sum(looked[20:]) < 20


def test_a_scene_of_no_task_is_none_and_keeps_the_task_that_is_there(table):
    router = Router()
    watch(router, table, rows(2, 40))
    routes, looked = watch(router, table, rows(7, 80, seed=5), novelty=UNLIKE)
    assert [route.known for route in routes[6:]] == [False] * 74
    assert router.task is None and router.nearest == "a-2"
    assert {route.task for route in routes} == {"a-2"}
    # It stops looking at every frame, as nothing new comes of it.
    assert sum(looked[30:]) <= 50 // router.every + 1
    back, _ = watch(router, table, rows(2, 60, seed=6))
    assert router.task == "a-2" and back[-1].known


def test_a_first_scene_of_no_task_is_none_as_well(table):
    routes, _ = watch(Router(), table, rows(7, 5))
    assert not any(route.known for route in routes)


def test_single_broken_frames_change_nothing(table):
    frames = rows(1, 60)
    broken = -rows(0, 60, seed=4)
    frames[20::12] = broken[20::12]
    routes, _ = watch(Router(every=1), table, frames)
    assert {route.task for route in routes} == {"a-1"} and all(route.known for route in routes)


def test_between_two_near_tasks_it_does_not_waver():
    rng = np.random.default_rng(0)
    middle = 2 + rng.standard_normal(SIZE)
    near = {
        f"a-{number}": unit(middle + 0.05 * number + rng.standard_normal((300, SIZE)) * 0.3)
        for number in range(2)
    }
    shared = whitening.fit(list(near.values()))
    own = {task: (place(task, routing.fit(f, shared), shared), SPEC) for task, f in near.items()}
    table = RoutingTable(shared, own)
    frames = unit(middle + 0.025 + rng.standard_normal((400, SIZE)) * 0.3)[:, None]
    routes, _ = watch(Router(every=1), table, frames)
    tasks = [route.task for route in routes]
    changes = sum(a != b for a, b in zip(tasks, tasks[1:], strict=False))
    single = table.scores(frames).argmin(1)
    assert changes < 40 < (np.diff(single) != 0).sum()


def test_a_task_that_leaves_the_encoder_alone_needs_no_looks():
    table = made((0, 1, 2), untouched=["a-0", "a-1"])
    router = Router()
    _, looked = watch(router, table, rows(0, 40), free=True)
    assert looked == [True] + [False] * 39 and len(router._state.rows) == 15
    routes, looked = watch(router, table, rows(1, 20, seed=3), novelty=UNLIKE, free=True)
    assert not any(looked) and [route.task for route in routes[5:]] == ["a-1"] * 15


def test_a_task_that_comes_is_taken_up_and_one_that_goes_is_left(table):
    router = Router()
    watch(router, table, rows(3, 30))
    assert router.task is None
    more = made((0, 1, 2, 3))
    routes, _ = watch(router, more, rows(3, 1, seed=9))
    assert (routes[0].task, routes[0].known) == ("a-3", True)
    routes, looked = watch(router, table, rows(3, 3, seed=9))
    assert looked[0] and not any(route.known for route in routes)
    assert {route.task for route in routes} <= set(table.tasks)


def test_what_was_seen_under_another_preprocessing_is_forgotten(table):
    router = Router()
    watch(router, table, rows(0, 20))
    other = made((0, 1, 2))
    other.specs = (Preprocess(64),)
    assert router.due(other, 1) == []
    routes = router.decide(other, 1, {0: rows(1, 1)[0]})
    assert routes[0].task == "a-1"


def test_it_can_be_reset_also_between_looking_and_deciding(table):
    router = Router()
    watch(router, table, rows(0, 20))
    router.reset()
    assert (router.task, router.routes) == (None, [])
    assert router.decide(table, 1, {}) is None
    assert router.due(table, 3) == [0, 1, 2]
    router.note(table, [Seen(UNLIKE, None, False)])  # nothing is known of the frame
    assert router.nearest is None


@pytest.mark.parametrize(
    "wrong", [{"frames": 0}, {"frames": 1001}, {"every": 0}, {"every": 1.5}, {"frames": True}]
)
def test_numbers_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name} must be a whole number from 1 to 1000"):
        Router(**wrong)


def test_threads_that_share_one_leave_it_in_a_valid_state(table):
    router, errors = Router(every=2), []

    def run(number):
        try:
            watch(router, table, rows(number, 150, seed=number), novelty=UNLIKE)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    routes, _ = watch(router, table, rows(2, 60, seed=9))
    assert router.task == "a-2" == routes[-1].task
