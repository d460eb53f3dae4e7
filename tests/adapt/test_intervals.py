"""Intervals and p-values against published figures and exact sums."""

from __future__ import annotations

import math

import pytest

from adapt.evaluation.intervals import sign_test, wilson


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_those_of_newcombe(
    right: int, images: int, low: float, high: float
) -> None:
    assert wilson(right, images) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(images - right, images)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_ends_solve_the_score_equation() -> None:
    for end in wilson(85, 100):
        assert abs(0.85 - end) / math.sqrt(end * (1 - end) / 100) == pytest.approx(1.959964, 1e-6)


def test_wilson_covers_the_truth_about_as_often_as_it_says() -> None:
    n, p = 100, 0.85
    chance = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    covered = [low <= p <= high for low, high in (wilson(k, n) for k in range(n + 1))]
    assert sum(c for c, inside in zip(chance, covered, strict=True) if inside) == pytest.approx(
        0.95, abs=0.02
    )


def test_sign_test_sums_the_tails_of_a_fair_coin() -> None:
    assert sign_test(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert sign_test(2, 8) == sign_test(8, 2)
    assert sign_test(5, 5) == sign_test(0, 0) == 1.0
    assert sign_test(0, 2000) < 1e-300  # no overflow
