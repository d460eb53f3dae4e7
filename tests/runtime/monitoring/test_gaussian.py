"""Distances and covariances of features against plain computations, and scikit-learn's."""

import numpy as np
import pytest

from runtime.monitoring.gaussian import AXES, fit, shrunk, unit


def features(count, size, seed=0):
    """Return unit-length features (N, D) around a mean, whose axes differ as an encoder's do."""
    rng = np.random.default_rng(seed)
    spread = (1 + np.arange(size)) ** -0.7
    turned = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return unit(
        rng.standard_normal(size) * 0.2 + rng.standard_normal((count, size)) * spread @ turned
    )


def ledoit_wolf(rows):
    """Return the shrunk covariance by the formulas of the paper, with a matrix per row."""
    centred = rows - rows.mean(0)
    count, size = centred.shape
    sample = sum(np.outer(row, row) for row in centred) / count
    scale = np.trace(sample) / size
    away = np.linalg.norm(sample - scale * np.eye(size)) ** 2
    noise = sum(np.linalg.norm(np.outer(row, row) - sample) ** 2 for row in centred) / count**2
    share = min(noise, away) / away
    return (1 - share) * sample + share * scale * np.eye(size)


@pytest.mark.parametrize(("count", "size"), [(12, 30), (200, 30), (40, 7)])
def test_the_covariance_is_that_of_ledoit_and_wolf(count, size):
    rows = features(count, size).astype(np.float64)
    expected = ledoit_wolf(rows)
    np.testing.assert_allclose(shrunk(rows - rows.mean(0)), expected, rtol=1e-6, atol=1e-9)
    found = fit(rows)
    np.testing.assert_allclose(found.mean, rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.covariance(), expected, atol=1e-6 * expected.max())


def test_the_covariance_is_that_of_scikit_learn():
    covariance = pytest.importorskip("sklearn.covariance", reason="scikit-learn is not installed")
    rows = features(150, 60).astype(np.float64)
    expected = covariance.LedoitWolf().fit(rows).covariance_
    np.testing.assert_allclose(shrunk(rows - rows.mean(0)), expected, rtol=1e-6, atol=1e-9)


def test_distances_are_those_of_the_inverse_covariance():
    rows, others = features(300, 40), features(20, 40, seed=1)
    found = fit(rows)
    apart = others.astype(np.float64) - rows.astype(np.float64).mean(0)
    inverse = np.linalg.inv(ledoit_wolf(rows.astype(np.float64)))
    expected = np.sqrt(np.einsum("nd,de,ne->n", apart, inverse, apart))
    np.testing.assert_allclose(found.distances(others), expected, rtol=1e-3)


def test_of_many_dimensions_the_largest_axes_are_kept_and_one_variance_for_the_rest():
    rows, others = features(400, 200), features(50, 200, seed=1)
    found = fit(rows)
    assert found.axes.shape == (AXES, 200)
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(AXES), atol=1e-5)
    assert (np.diff(found.variances) <= 0).all() and 0 < found.rest <= found.variances[-1]
    assert np.trace(found.covariance()) == pytest.approx(
        np.trace(shrunk(rows - rows.astype(np.float64).mean(0))), rel=1e-4
    )
    apart = others.astype(np.float64) - found.mean
    inverse = np.linalg.inv(found.covariance())
    expected = np.sqrt(np.einsum("nd,de,ne->n", apart, inverse, apart))
    np.testing.assert_allclose(found.distances(others), expected, rtol=1e-3)


@pytest.mark.parametrize("rows", [np.ones((5, 8)), np.zeros((5, 8)), np.eye(2, 8)])
def test_images_that_are_all_alike_still_have_finite_distances(rows):
    found = fit(unit(rows))
    assert (found.variances > 0).all() and found.rest > 0
    assert np.isfinite(found.distances(unit(np.random.default_rng(0).random((4, 8))))).all()


def test_features_of_no_length_stay_finite():
    assert unit(np.zeros((2, 3))).tolist() == [[0, 0, 0]] * 2
    np.testing.assert_allclose(np.linalg.norm(unit(np.full((2, 3), 1e-20)), axis=1), 1, rtol=1e-5)
