"""Temperatures and figures of calibration, against plain computations."""

import numpy as np
import pytest

from runtime.errors import DataError, FormatError
from runtime.monitoring import confidence
from runtime.monitoring.confidence import Calibration, fit, softmax
from runtime.monitoring.reliability import area, bins, calibration_error, risks


def drawn(count=20_000, classes=8, scale=3.0, seed=0):
    """Return logits, and labels drawn with the softmax of them as probabilities."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((count, classes))
    chances = softmax(logits).astype(np.float64)
    labels = (rng.random((count, 1)) > chances.cumsum(1)).sum(1).clip(max=classes - 1)
    return logits.astype(np.float32), labels


def loss(logits, labels, temperature):
    return -np.log(softmax(logits, temperature)[np.arange(len(logits)), labels]).mean()


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 2.5, 6.0])
def test_the_temperature_that_logits_were_multiplied_by_is_found(temperature):
    logits, labels = drawn()
    found = fit(logits * temperature, labels)
    assert found.temperature == pytest.approx(temperature, rel=0.03) and found.images == 20_000
    around = [loss(logits * temperature, labels, found.temperature * by) for by in (0.93, 1, 1.07)]
    assert around[1] == min(around)


def test_few_images_that_are_all_right_do_not_make_everything_certain():
    logits, _ = drawn(50)
    found = fit(logits, logits.argmax(1))
    assert 0.2 < found.temperature < 1
    worst = fit(logits, logits.argmin(1))
    assert 1 < worst.temperature <= confidence.MOST
    with pytest.raises(DataError, match="at least 50 sorted images, found 49"):
        fit(logits[:49], logits[:49].argmax(1))
    huge = fit(logits * 1e30, logits.argmax(1))
    assert confidence.LEAST <= huge.temperature <= confidence.MOST


def test_a_calibration_is_read_as_it_was_written():
    made = Calibration(1.25, 50)
    assert confidence.read({confidence.MEMBER: made.document()}) == made
    assert str(made) == "50 sorted images"
    assert confidence.read({}) is None
    assert confidence.read({confidence.MEMBER: {**made.document(), "version": 2}}) is None
    assert confidence.read({confidence.MEMBER: "of another kind"}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": value}
        for value in (0, -1, 0.01, 21, float("nan"), float("inf"), "1", None, True, 10**400)
    ]
    + [{"images": value} for value in (0, 49, 50.0, "50", None, True)],
)
def test_a_damaged_calibration_is_refused(change):
    document = Calibration(1.0, 50).document() | change
    with pytest.raises(FormatError, match="calibration of the task is damaged"):
        confidence.read({confidence.MEMBER: document})


def test_true_probabilities_have_next_to_no_calibration_error():
    logits, labels = drawn()
    right = logits.argmax(1) == labels
    assert calibration_error(softmax(logits).max(1), right) < 0.01
    assert calibration_error(softmax(logits, 3).max(1), right) > 0.1
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0
    assert calibration_error(np.zeros(4), np.ones(4, bool)) == 1


def test_the_calibration_error_is_that_of_a_loop():
    rng = np.random.default_rng(3)
    scores, right = rng.random(300), rng.random(300) < 0.7
    scores[:3] = 0, 1, 1 / 15
    total = 0.0
    for k in range(15):
        own = [i for i in range(300) if min(int(scores[i] * 15), 14) == k]
        total += abs(sum(scores[own]) - sum(right[own]))
    assert calibration_error(scores, right) == pytest.approx(total / 300)
    found = bins(scores, right)
    assert sum(each.count for each in found) == 300
    assert [each.low for each in found] == pytest.approx([k / 15 for k in range(15)])


def test_risks_are_the_errors_among_the_surest():
    scores, right = np.array([0.9, 0.5, 0.7, 0.2]), np.array([True, False, False, True])
    assert risks(scores, right).tolist() == pytest.approx([0, 1 / 2, 2 / 3, 2 / 4])
    assert area(scores, right) == pytest.approx((0 + 1 / 2 + 2 / 3 + 2 / 4) / 4)
    assert area(scores, np.ones(4, bool)) == 0


def test_equal_scores_have_no_order():
    right = np.array([True, False, True, False])
    for order in ([0, 1, 2, 3], [1, 3, 0, 2]):
        assert risks(np.full(4, 0.5), right[order]).tolist() == pytest.approx([0.5] * 4)
