"""Statistics of a task: what they say, how they are stored, and which are refused."""

from dataclasses import replace

import numpy as np
import pytest

import runtime
from runtime.bundles.task import encode_task
from runtime.errors import DataError, FormatError
from runtime.monitoring import statistics
from runtime.monitoring.fit import FEWEST, class_means, quantiles, task_statistics
from runtime.monitoring.folds import cross_fitted
from runtime.monitoring.gaussian import AXES, fit, unit
from runtime.monitoring.statistics import MAX_QUANTILES, MEMBER, read, share_below
from tests.runtime.helpers import smuggle
from tests.runtime.monitoring.test_gaussian import features as drawn
from tests.runtime.watched import own_pixels, statistics_of, watched

MOST_BYTES = 300_000
"""Most bytes of a task's statistics at D = 512 and K = 65."""


def made(count=200, size=24, classes=4, seed=0):
    return task_statistics(
        drawn(count, size, seed), np.random.default_rng(seed).integers(0, classes, count), classes
    )


def again(found, classes=4, **changes):
    """Return statistics as a file hands them on, with parts changed."""
    document = found.document() | changes.pop("document", {})
    tensors = found.tensors() | {f"{MEMBER}.{name}": array for name, array in changes.items()}
    return read({MEMBER: document}, {n: a for n, a in tensors.items() if a is not None}, classes)


def test_scores_of_own_images_come_from_a_fit_that_did_not_see_them():
    rows = unit(drawn(50, 8))
    found = cross_fitted(50, lambda seen: fit(rows[seen]).distances(rows[~seen]))
    for fold in range(5):
        left_out = np.arange(50) % 5 == fold
        np.testing.assert_array_equal(
            found[left_out], fit(rows[~left_out]).distances(rows[left_out])
        )
    stored = made(50, 8).distances
    assert (stored > fit(rows).distances(rows).mean()).mean() > 0.5  # in sample: too small


def test_novelty_is_the_share_of_own_images_that_are_nearer():
    found = made()
    own, other = drawn(2000, 24, seed=3), unit(np.random.default_rng(1).standard_normal((50, 24)))
    distances = found.gaussian.distances(unit(own))
    expected = [(found.distances < distance).mean() for distance in distances]
    np.testing.assert_allclose(found.novelty(own), expected, atol=1e-6)
    assert 0.4 < found.novelty(drawn(2000, 24, seed=0)).mean() < 0.6
    assert (found.novelty(-other) <= 1).all() and (found.novelty(-own) == 1).all()
    np.testing.assert_array_equal(found.novelty(own), found.novelty(7 * own))  # length is nothing


def test_affinity_is_the_cosine_to_the_nearest_class():
    rows, labels = drawn(30, 6), np.arange(30) % 3
    means = class_means(unit(rows), labels, 4)
    for label in range(3):
        mean = unit(rows)[labels == label].mean(0)
        np.testing.assert_allclose(means[label], mean / np.linalg.norm(mean), rtol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(means[:3], axis=1), 1, rtol=1e-6)
    assert not means[3].any()  # never predicted
    found = replace(made(30, 6), class_means=means)
    expected = (unit(rows) @ means.T).max(1)
    np.testing.assert_allclose(found.affinity(rows), expected, rtol=1e-5)


@pytest.mark.parametrize("reject", [0.02, 0.1, 0.5])
def test_own_images_are_unknown_as_often_as_chosen(reject):
    rows = drawn(4000, 24)
    labels = np.random.default_rng(0).integers(0, 4, 2000)
    found = task_statistics(rows[:2000], labels, 4)
    unknown = 1 - found.known(rows[2000:], reject).mean()
    assert 0.4 * reject < unknown < 1.3 * reject
    assert found.known(rows, 0).all() and found.known(-rows, 0).all()


def test_quantiles_keep_the_extremes_and_lose_next_to_nothing():
    values = np.random.default_rng(0).gamma(9, 1, 5000).astype(np.float32)
    kept = quantiles(values)
    assert len(kept) == MAX_QUANTILES and (np.diff(kept) >= 0).all()
    assert (kept[0], kept[-1]) == (values.min(), values.max())
    asked = np.random.default_rng(1).gamma(9, 1, 500)
    exact = share_below(np.sort(values), asked)
    np.testing.assert_allclose(share_below(kept, asked), exact, atol=1.5 / MAX_QUANTILES)
    np.testing.assert_array_equal(quantiles(values[:40]), np.sort(values[:40]))


@pytest.mark.parametrize("size", [96, 512, 1024])
@pytest.mark.parametrize("spread", [0, 1e-7, 1e-4])
def test_own_images_stay_known_where_they_hardly_differ(size, spread):
    for seed in range(3):
        random = np.random.default_rng(seed)
        rows = random.normal(1, 0.3, size) + spread * random.normal(size=(60, size))
        stored = again(task_statistics(rows, np.arange(60) % 3, 4))
        assert stored.known(rows, 0.01).mean() > 0.95
        assert not stored.known(random.normal(1, 0.3, (20, size)), 0.01).any()


def test_what_a_file_rounds_is_rounded_before_it_is_compared():
    random = np.random.default_rng(0)
    mixed = random.normal(size=(3, 1024))  # so few directions that the others vary by next to 0
    rows = random.normal(1, 0.3, 1024) + 0.3 * random.normal(size=(200, 3)) @ mixed
    found = task_statistics(rows, np.zeros(200, np.int64), 4)
    np.testing.assert_array_equal(again(found).novelty(rows), found.novelty(rows))
    assert 0.45 < found.novelty(rows).mean() < 0.55


def test_features_of_any_length_are_compared():
    rows = drawn(200, 24)
    found = made()
    for length in (1e-40, 1e-20, 1e20, 1e37):
        scaled = (length * rows).astype(np.float32)
        np.testing.assert_allclose(found.novelty(scaled), found.novelty(rows), atol=0.05)


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match=f"at least {FEWEST} images, found {FEWEST - 1}"):
        made(FEWEST - 1)
    assert made(FEWEST).images == FEWEST


def test_a_file_hands_statistics_on_within_its_size_and_loses_next_to_nothing(world):
    found = made(1200, 512, 65)
    assert found.gaussian.axes.shape == (AXES, 512)
    stored = again(found, 65)
    rows, others = drawn(200, 512, seed=4), drawn(200, 512, seed=5) @ np.eye(512)[::-1]
    for some in (rows, others):
        ours, theirs = (each.gaussian.distances(unit(some)) for each in (found, stored))
        np.testing.assert_allclose(theirs, ours, rtol=2e-3)
        np.testing.assert_allclose(stored.affinity(some), found.affinity(some), atol=5e-4)
    task = world.tasks["a-d"]
    carrying = watched(task, found)
    assert len(encode_task(carrying)) - len(encode_task(task)) < MOST_BYTES
    assert sum(array.nbytes for array in found.tensors().values()) < MOST_BYTES


def test_a_task_without_statistics_or_with_those_of_another_version_has_none():
    assert read({}, {}, 4) is None
    found = made()
    assert again(found).images == 200
    assert again(found, document={"version": statistics.VERSION + 1}) is None
    assert read({MEMBER: "of another kind"}, {}, 4) is None


def huge(*shape):
    return np.zeros(shape, np.float32)


DAMAGE = {
    "no mean": {"mean": None},
    "no classes": {"class_means": None},
    "a mean of matrices": {"mean": huge(2, 24)},
    "axes of another size": {"axes": huge(4, 23)},
    "axes without variances": {"variances": huge(0)},
    "classes of another task": {"class_means": huge(5, 24)},
    "a variance of 0": {"variances": huge(24)},
    "a variance next to 0": {"variances": np.full(24, 1e-40, np.float32)},
    "no number": {"distances": np.full(3, np.nan, np.float32)},
    "infinite axes": {"axes": np.full((24, 24), np.inf, np.float16)},
    "whole numbers": {"mean": np.zeros(24, np.int32)},
    "double precision": {"mean": np.zeros(24, np.float64)},
    "a mean beyond the sphere": {"mean": np.full(24, 3.0, np.float32)},
    "means beyond the sphere": {"class_means": np.full((4, 24), 9.0, np.float32)},
    "distances that fall": {"distances": np.arange(5, 0, -1, dtype=np.float32)},
    "too many distances": {"distances": huge(MAX_QUANTILES + 1)},
    "too many affinities": {"affinities": huge(MAX_QUANTILES + 1)},
    "too many axes": {"axes": huge(25, 24), "variances": np.ones(25, np.float32)},
    "no images": {"document": {"images": 0}},
    "images of text": {"document": {"images": "200"}},
    "no rest": {"document": {"rest": None}},
    "a rest of 0": {"document": {"rest": 0}},
    "a rest of nothing": {"document": {"rest": float("nan")}},
    "a rest without end": {"document": {"rest": 10**400}},
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_statistics_are_refused(what):
    with pytest.raises(FormatError, match="statistics of the task are damaged"):
        again(made(), **DAMAGE[what])


def test_a_session_refuses_a_task_with_damaged_statistics_and_runs_the_others(world):
    task = watched(world.tasks["a-c"], statistics_of(world, "a-c"))
    tensors = {**task.optional_tensors, f"{MEMBER}.variances": np.zeros(6, np.float32)}
    smuggle(world.path, replace(task, optional_tensors=tensors))
    frame = own_pixels(1)[0]
    with runtime.Session.open(world.path, threads=1) as session:
        with pytest.raises(FormatError, match="a variance is not positive.*export the task again"):
            session.predict(frame, "a-c")
        assert session.predict(frame, "a-b").known is None
