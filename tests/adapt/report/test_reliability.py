"""Charts of how far scores can be trusted, against the numbers that they show."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from adapt.evaluation.predictions import Predictions
from adapt.evaluation.trust import Trust, trust
from adapt.report.curves import AREA
from adapt.report.reliability import reliability
from runtime.monitoring.confidence import Calibration


def found(calibration: Calibration | None = None, right: bool = False) -> Trust:
    logits = 3 * torch.randn(400, 5, generator=torch.Generator().manual_seed(2))
    made = Predictions.of(logits, np.arange(400), calibration)
    labels = np.random.default_rng(0).integers(0, 5, 400)
    labels[::2] = made.classes[::2, 0]
    one = trust(made, made.classes[:, 0] if right else labels, calibration)
    assert one is not None
    return one


def test_bars_stand_at_their_scores_and_are_as_high_as_the_accuracy() -> None:
    given = found()
    chart = reliability(given).charts[0]
    filled = [one for one in given.bins if one.count]
    assert len(chart.bars) == len(filled) > 5
    wide, high = AREA["width"] - AREA["left"], AREA["bottom"] - AREA["top"]
    for bar, one in zip(chart.bars, filled, strict=True):
        assert bar.x == pytest.approx(AREA["left"] + one.low * wide, abs=0.1)
        assert bar.height == pytest.approx(one.accuracy * high, abs=0.1)
        assert bar.y + bar.height == pytest.approx(AREA["bottom"], abs=0.1)
        assert f"{one.count} of score" in bar.title


def test_the_line_goes_from_the_surest_tenth_to_all() -> None:
    given = found()
    chart = reliability(given).charts[1]
    points = [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", chart.line)]
    assert len(points) == len(given.accuracies)
    assert (points[0][0], points[-1][0]) == (AREA["left"], AREA["width"])
    values = [accuracy for _, accuracy in sorted(given.accuracies)]
    assert np.argsort([-y for _, y in points]).tolist() == np.argsort(values).tolist()
    assert (chart.low, chart.high) == (f"{min(values):.0f}", f"{max(values):.0f}")
    flat = reliability(found(right=True)).charts[1]
    assert (flat.low, flat.high) == ("100", "")


def test_the_sentence_says_what_the_scores_are_from() -> None:
    assert (
        "The scores are uncalibrated, so they are not probabilities; " in reliability(found()).text
    )
    text = reliability(found(Calibration(2.0, 64))).text
    assert text.startswith(
        "The confidences are calibrated on 64 sorted images. Expected calibration error"
    )
