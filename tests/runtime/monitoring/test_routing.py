"""Whitening, clusters and tables, against computations in double precision."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import FormatError
from runtime.models import Preprocess
from runtime.monitoring import routing, whitening
from runtime.monitoring.gaussian import shrunk, unit
from runtime.monitoring.kmeans import kmeans, means, squares
from runtime.monitoring.routing import TaskRouting
from runtime.monitoring.table import RoutingTable, limit, place
from runtime.monitoring.whitening import Whitening
from runtime.storage import checksummed

SIZE = 24
SPEC = Preprocess(32)


def features(number: int, count: int = 300, seed: int = 0) -> np.ndarray:
    """Return features of a task: three clusters around a place of its own."""
    place_ = np.random.default_rng(100 + number).standard_normal(SIZE)
    rng = np.random.default_rng(seed * 50 + number)
    clusters = np.random.default_rng(200 + number).standard_normal((3, SIZE)) * 0.5
    scale = np.linspace(0.05, 0.4, SIZE)
    noise = rng.standard_normal((count, SIZE)) * scale
    return unit(3 + place_ + clusters[rng.integers(0, 3, count)] + noise)


@pytest.fixture(scope="module")
def shared() -> Whitening:
    return whitening.fit([features(number) for number in range(4)])


@pytest.fixture(scope="module")
def carried(shared) -> dict[str, TaskRouting]:
    return {f"a-{number}": routing.fit(features(number), shared) for number in range(4)}


def table_of(shared, carried, specs=None) -> RoutingTable:
    placed = {task: place(task, own, shared) for task, own in carried.items()}
    return RoutingTable(
        shared, {task: (own, (specs or {}).get(task, SPEC)) for task, own in placed.items()}
    )


def test_clusters_that_lie_apart_are_found_the_same_way_every_time():
    rng = np.random.default_rng(3)
    truth = np.repeat(np.arange(5), 40)
    rows = rng.standard_normal((5, 3))[truth] * 20 + rng.standard_normal((200, 3)) * 0.1
    found = kmeans(rows, 5)
    np.testing.assert_array_equal(found, kmeans(rows, 5))
    pairs = {(int(a), int(b)) for a, b in zip(found, truth, strict=True)}
    assert len(pairs) == 5
    centres = means(rows, found, np.zeros((5, 3)))
    naive = ((rows[:, None] - centres[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squares(rows, centres), naive, atol=1e-8)


def test_equal_rows_make_fewer_centres():
    same = np.tile(features(0)[:1], (40, 1))
    found = routing.fit(same, Whitening(np.eye(SIZE, dtype=np.float32)))
    assert found.centres.shape == (1, SIZE) and found.sample.shape == (10, SIZE)


@pytest.mark.parametrize("size", [8, 512])
def test_images_that_are_all_alike_have_a_whitening_that_can_be_read(size):
    rows = unit(np.random.default_rng(0).normal(1, 0.3, (1, size)))
    for group in (np.repeat(rows, 30, 0), unit(rows + 1e-7 * np.arange(30)[:, None])):
        found = whitening.fit([group])
        again = Whitening.decode(found.encode(), Path("whitening"))
        np.testing.assert_allclose(again.factor, found.factor, rtol=1e-3, atol=1)
        own = place("a-b", routing.fit(group, found), found)
        assert np.isfinite([own.mean, own.spread]).all()


def test_whitened_features_vary_by_one_in_every_direction_within_tasks(shared):
    groups = [features(number).astype(np.float64) for number in range(4)]
    covariance = shrunk(np.concatenate([group - group.mean(0) for group in groups]))
    wide = shared.factor.astype(np.float64)
    np.testing.assert_allclose(wide @ covariance @ wide.T, np.eye(SIZE), atol=1e-4)
    assert (np.tril(shared.factor, -1) == 0).all()


def test_a_whitening_comes_back_from_its_file_in_half_precision(shared):
    found = Whitening.decode(shared.encode(), Path("w"))
    some = features(1, 20, seed=9)
    np.testing.assert_allclose(found.apply(some), shared.apply(some), rtol=3e-3, atol=3e-2)
    assert shared.encode() == shared.encode()
    huge = Whitening((shared.factor * 1e3).astype(np.float32))
    assert np.isfinite(Whitening.decode(huge.encode(), Path("w")).factor).all()


def test_its_file_has_the_bytes_of_a_triangle_of_halves():
    factor = np.triu(np.random.default_rng(0).standard_normal((512, 512))).astype(np.float32)
    assert len(Whitening(factor).encode()) < 512 * 513 + 1000 < 300_000
    own = TaskRouting(np.zeros((routing.CENTRES, 512)), np.zeros((routing.SAMPLE, 512)))
    assert sum(array.nbytes for array in own.tensors().values()) < 75_000


@pytest.mark.parametrize(
    ("document", "tensors", "message"),
    [
        ({"more": 1}, {}, "members are others"),
        ({}, {"other": np.ones(6, np.float16)}, "members are others"),
        ({"dimensions": 0}, {}, "0 dimensions"),
        ({"dimensions": 9000}, {}, "9000 dimensions"),
        ({"dimensions": True}, {}, "True dimensions"),
        ({"dimensions": 3.0}, {}, "3.0 dimensions"),
        ({"dimensions": 4}, {}, r"float16\(6,\), expected float16\(10,\)"),
        ({"scale": 0.0}, {}, "a scale of 0"),
        ({"scale": -1}, {}, "a scale of -1"),
        ({"scale": "x"}, {}, "could not convert"),
        ({"scale": None}, {}, "not a whitening"),
        ({"scale": 1e300}, {}, "above 1e"),
        ({}, {"triangle": np.ones(6, np.float32)}, "float32"),
        ({}, {"triangle": np.array([1, np.nan, 1, 1, 1, 1], np.float16)}, "not finite"),
    ],
)
def test_a_file_that_is_not_a_whitening_is_refused(document, tensors, message):
    whole = {"dimensions": 3, "scale": 1.0} | document
    arrays = tensors or {"triangle": np.ones(6, np.float16)}
    content = checksummed.encode("uda-whitening", 1, whole, arrays)
    with pytest.raises(FormatError, match=message):
        Whitening.decode(content, Path("w"))


def test_other_and_altered_files_are_refused_as_a_whitening(shared):
    with pytest.raises(FormatError, match="is not a uda-whitening file"):
        Whitening.decode(checksummed.encode("uda-task", 1, {}, {}), Path("w"))
    content = bytearray(shared.encode())
    content[-3] ^= 1
    with pytest.raises(FormatError, match="was altered"):
        Whitening.decode(bytes(content), Path("w"))


@pytest.mark.parametrize("fewer", [0, 5])
def test_scores_are_soft_squared_distances(shared, carried, fewer):
    """Also where one task has fewer centres than the others."""
    second = list(carried)[1]
    own = carried[second]
    carried = {**carried, second: replace(own, centres=own.centres[fewer:])}
    table = table_of(shared, carried)
    rows = features(2, 30, seed=4)
    found = table.scores(rows[:, None])
    wide = shared.factor.astype(np.float64)
    for index, task in enumerate(table.tasks):
        apart = (rows[:, None].astype(np.float64) - carried[task].centres) @ wide.T
        near = np.exp(-(apart**2).sum(-1) / 8).mean(1)
        np.testing.assert_allclose(found[:, index], -8 * np.log(near), rtol=1e-4, atol=1e-2)
    assert (found.argmin(1) == 2).all()


def test_a_tasks_own_images_have_no_excess(shared, carried):
    table = table_of(shared, carried)
    scores = table.scores(features(1, 200, seed=7)[:, None])
    excess = table.excess(scores)[:, 1]
    assert abs(excess.mean()) < 0.5 and 0.5 < excess.std() < 2 and (excess < limit(1)).mean() > 0.97
    foreign = table.scores(-features(1, 20)[:, None])
    assert (table.excess(foreign).min(1) > 10).all()
    bounded = table.excess(table.bounded(foreign))
    np.testing.assert_allclose(bounded, 10, rtol=1e-4)
    np.testing.assert_array_equal(table.bounded(scores), scores)


def test_the_ranking_goes_by_distance_and_margins_are_to_the_nearest_other(shared, carried):
    table = table_of(shared, carried)
    scores = table.scores(features(3, 1, seed=2)[:, None])[0]
    routes = table.ranking(scores, 1)
    assert routes[0].task == "a-3" and routes[0].known and not routes[-1].known
    distances = [route.distance for route in routes]
    assert distances == sorted(distances)
    for rank, route in enumerate(routes):
        other = distances[0 if rank else 1]
        assert route.margin == pytest.approx(other - route.distance, abs=1e-4)
        index = table.index(route.task)
        alone = table.route(scores, index, route.known, scores)
        assert route.frame_excess == route.excess
        assert alone == pytest.approx(route, abs=1e-4)
    assert routes[0].margin > 0 > routes[1].margin


def test_a_table_of_one_task_has_no_margin(shared, carried):
    table = table_of(shared, {"a-1": carried["a-1"]})
    scores = table.scores(features(1, 1, seed=2)[:, None])[0]
    (route,) = table.ranking(scores, 1)
    assert route.margin is None and route.known
    assert table.route(scores, 0, True).margin is None


def test_tasks_with_other_frames_are_scored_by_their_own_features(shared, carried):
    specs = {"a-0": Preprocess(32, "crop"), "a-3": Preprocess(32, "crop")}
    table, one = table_of(shared, carried, specs), table_of(shared, carried)
    assert table.tasks == ("a-0", "a-3", "a-1", "a-2") and len(table.specs) == 2
    first, second = features(0, 5, seed=3), features(2, 5, seed=3)
    found = table.scores(np.stack([first, second], 1))
    a, b = one.scores(first[:, None]), one.scores(second[:, None])
    np.testing.assert_allclose(found, np.concatenate([a[:, [0, 3]], b[:, [1, 2]]], 1), rtol=1e-4)


def test_a_task_of_other_features_is_refused(carried):
    with pytest.raises(FormatError, match="features of 24 dimensions.*takes 3"):
        place("a-b", carried["a-1"], Whitening(np.eye(3, dtype=np.float32)))


def test_what_a_task_carries_comes_back_and_other_versions_are_ignored(carried):
    own = carried["a-1"]
    found = routing.read({"routing": own.document()}, own.tensors())
    np.testing.assert_allclose(found.centres, own.centres, atol=1e-3)
    np.testing.assert_allclose(found.sample, own.sample, atol=1e-3)
    for optional in ({}, {"routing": {"version": 2}}, {"routing": 3}):
        assert routing.read(optional, own.tensors()) is None


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("centres", None),
        ("centres", np.zeros((0, 24), np.float16)),
        ("centres", np.zeros((65, 24), np.float16)),
        ("centres", np.zeros((2, 23), np.float16)),
        ("centres", np.zeros(24, np.float16)),
        ("centres", np.zeros((2, 24), np.float64)),
        ("centres", np.full((2, 24), np.nan, np.float16)),
        ("centres", np.full((2, 24), 1e4, np.float16)),
        ("sample", np.zeros((1, 24), np.float16)),
        ("sample", np.zeros((1025, 24), np.float16)),
        ("sample", np.full((2, 24), np.inf, np.float32)),
    ],
)
def test_damaged_members_are_refused(carried, name, array):
    own = carried["a-1"]
    tensors = dict(own.tensors())
    if array is None:
        del tensors[f"routing.{name}"]
    else:
        tensors[f"routing.{name}"] = array
    with pytest.raises(FormatError, match="member 'routing' is damaged"):
        routing.read({"routing": own.document()}, tensors)


def test_a_sample_without_spread_still_knows_its_own(shared):
    same = np.tile(features(0)[:1], (30, 1))
    table = table_of(shared, {"a-b": routing.fit(same, shared)})
    assert table.ranking(table.scores(same[:1, None])[0], 1)[0].known
    assert not table.ranking(table.scores(-same[:1, None])[0], 1)[0].known
