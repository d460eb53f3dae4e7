"""Curves and confusion matrices of a page against the numbers that they show."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from adapt.evaluation.confusion import Confusion
from adapt.report.curves import AREA, curves, number
from adapt.report.matrix import MOST, matrix


def history(accuracy: list[float | None], density: float = 0.01) -> list[dict[str, object]]:
    return [
        {
            "epoch": epoch,
            "accuracy": value,
            "density": density * epoch,
            "survival": None,
            "scores": {"infomax": 0.1 * epoch, "entropy": 2.0 - 0.1 * epoch},
            "losses": {"source": 1.0 / epoch, **({"late": 5.0} if epoch > 1 else {})},
        }
        for epoch, value in enumerate(accuracy, 1)
    ]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_a_curve_goes_through_its_values_between_the_least_and_the_largest() -> None:
    values = [40.0, 55.0, 70.0, 60.0]
    accuracy = curves(history(list(values)), chosen=4, best=3)[0]
    assert (accuracy.name, accuracy.low, accuracy.high) == ("accuracy, %", "40", "70")
    found = points(accuracy.path)
    assert [x for x, _ in found] == pytest.approx(np.linspace(found[0][0], found[-1][0], 4), 1e-3)
    heights = [found[0][1] - y for _, y in found]
    expected = [(v - 40) / 30 * (found[0][1] - found[2][1]) for v in values]
    assert heights == pytest.approx(expected, abs=0.1)
    assert all(AREA["left"] <= x <= AREA["width"] for x, _ in found)
    assert all(AREA["top"] <= y <= AREA["bottom"] for _, y in found)
    chosen, best = accuracy.marks
    assert (chosen.name, chosen.epoch, chosen.value) == ("chosen", 4, "60")
    assert (best.name, best.epoch, best.value) == ("oracle-best", 3, "70")
    assert (chosen.x, chosen.y) == found[3] and (best.x, best.y) == found[2]


def test_every_figure_has_a_curve_with_its_direction() -> None:
    found = {curve.name: curve for curve in curves(history([1.0, 2.0, 3.0]), 2, 3)}
    assert list(found) == [
        "accuracy, %", "encoder changed, %", "score: infomax", "score: entropy", "loss: source",
        "loss: late",
    ]  # fmt: skip
    assert found["score: infomax"].hint == "higher is better"
    assert found["score: entropy"].hint == "lower is better"
    assert found["encoder changed, %"].high == "3" and not found["encoder changed, %"].marks
    assert [mark.epoch for mark in found["loss: source"].marks] == [2]
    assert len(points(found["loss: late"].path)) == 2  # the first epoch lacks it


def test_what_is_unknown_or_never_changes_has_no_curve() -> None:
    names = [curve.name for curve in curves(history([None, None], density=0.0), 2, None)]
    assert names == ["score: infomax", "score: entropy", "loss: source", "loss: late"]


def test_a_long_run_has_a_bounded_number_of_points() -> None:
    (accuracy, *_) = curves(history([float(i % 7) for i in range(5000)]), 4999, 7)
    assert len(points(accuracy.path)) == 400 and len(accuracy.path) < 6000
    assert accuracy.marks[0].epoch == 4999


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (63.4881, "63.49"), (0.05, "0.05"), (1234.5, "1234.5"), (1e-6, "1.00e-06"),
     (1e7, "1.00e+07"), (-0.5, "-0.5")],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def confusion(size: int, wrong: list[tuple[int, int, int]]) -> Confusion:
    """Return ten images of each class, of which some are wrong: (true, predicted, count)."""
    counts = 10 * np.eye(size, dtype=np.int64)
    for true, predicted, count in wrong:
        counts[true, true] -= count
        counts[true, predicted] += count
    return Confusion(tuple(f"c{i:03}" for i in range(size)), counts)


def test_few_classes_are_all_in_the_matrix() -> None:
    found = matrix(confusion(MOST, [(0, 1, 4), (2, 0, 1)]))
    assert not found.note and found.picture is None and len(found.rows) == MOST
    cell = found.rows[0][1]
    assert (cell.count, cell.share, cell.right) == (4, 0.4, False)
    assert [(p.true, p.predicted, p.count, p.share) for p in found.pairs] == [
        ("c000", "c001", 4, 0.4), ("c002", "c000", 1, 0.1),
    ]  # fmt: skip
    assert all(row[i].right for i, row in enumerate(found.rows))


def test_of_many_classes_the_most_confused_are_shown_and_no_image_is_lost() -> None:
    full = confusion(345, [(300, 7, 9), (8, 300, 5), (12, 13, 1)])
    found = matrix(full)
    assert len(found.names) == len(found.rows) == MOST and found.names[-1] == "others"
    assert {"c300", "c007", "c008", "c012", "c013"} <= set(found.names)
    assert list(found.names[:-1]) == sorted(found.names[:-1])
    assert sum(cell.count for row in found.rows for cell in row) == 3450
    assert found.rows[found.names.index("c300")][found.names.index("c007")].count == 9
    assert found.rows[0][0].right and not found.rows[-1][-1].right
    assert "19 of 345 classes with the most mistakes" in found.note
    assert found.picture is not None
    content = base64.b64decode(found.picture.partition(",")[2])
    picture = np.asarray(Image.open(io.BytesIO(content)))
    assert picture.shape == (345, 345, 4) and len(content) < 20_000
    assert picture[300, 7, 3] == round(255 * 0.9**0.5) and picture[20, 21, 3] == 0


def test_a_class_without_images_divides_by_nothing() -> None:
    counts = np.zeros((3, 3), np.int64)
    counts[0, 1] = 2
    found = matrix(Confusion(("a", "b", "c"), counts))
    assert [cell.share for cell in found.rows[1]] == [0, 0, 0]
    assert [(pair.true, pair.share) for pair in found.pairs] == [("a", 1.0)]
