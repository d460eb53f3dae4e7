"""The confusion matrix against counting by hand, its table and its picture."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapt.evaluation.confusion import WORST, Confusion, figure, rows
from runtime.frames.preprocess import read_image

CLASSES = ("bee", "cup", "dog", "egg")
TRUTH = np.array([0, 0, 0, 1, 1, 2, -1, 0])
SEEN = [0, 1, 1, 1, 0, 1, 2, 0]


def logits(predictions: list[int], classes: int = 4) -> Tensor:
    return torch.eye(classes)[torch.tensor(predictions)]


@pytest.fixture
def confusion() -> Confusion:
    return Confusion.of(logits(SEEN), TRUTH, CLASSES)


def test_counts_equal_a_loop_over_the_images(confusion: Confusion) -> None:
    expected: NDArray[np.int64] = np.zeros((4, 4), np.int64)
    for truth, seen in zip(TRUTH.tolist(), SEEN, strict=True):
        if truth >= 0:
            expected[truth, seen] += 1
    np.testing.assert_array_equal(confusion.counts, expected)
    assert confusion.images == 7
    assert confusion.accuracy == pytest.approx(100 * 3 / 7)
    assert confusion.mean_per_class == pytest.approx((50 + 50 + 0) / 3)


def test_a_line_says_recall_precision_and_the_commonest_mistake(confusion: Confusion) -> None:
    bee, cup, dog, egg = confusion.lines()
    assert (bee.images, bee.recall, bee.confused_with, bee.confused) == (4, 50, "cup", 2)
    assert bee.precision == pytest.approx(200 / 3)
    assert (cup.recall, cup.precision, cup.confused_with) == (50, 25, "bee")
    assert (dog.recall, dog.precision, dog.confused_with) == (0, None, "cup")
    assert (egg.images, egg.recall, egg.precision, egg.confused_with) == (0, None, None, None)


def test_without_a_known_label_nothing_is_measured() -> None:
    found = Confusion.of(logits([0, 1]), np.array([-1, -1]), CLASSES)
    assert (found.images, found.accuracy, found.mean_per_class) == (0, None, None)


def test_few_classes_are_all_shown(confusion: Confusion) -> None:
    cells, note = rows(confusion.lines())
    assert not note
    assert cells[0] == ["bee", "4", "50.00", "66.67", "cup (2)"]
    assert cells[3] == ["egg", "0", "-", "-", "-"]


def test_of_many_classes_the_worst_are_shown() -> None:
    names = [f"c{i:03d}" for i in range(345)]
    truth = np.arange(345).repeat(2)
    seen = truth.copy()
    seen[[14, 15, 200]] = 0  # both images of class 7, one of class 100
    cells, note = rows(Confusion.of(logits(seen.tolist(), 345), truth, names).lines())
    assert note == "the 10 classes with the lowest recall, of 345"
    assert len(cells) == WORST
    assert [row[:3] for row in cells[:3]] == [
        ["c007", "2", "0.00"],
        ["c100", "2", "50.00"],
        ["c000", "2", "100.00"],
    ]


def test_files_hold_the_counts_and_a_picture(confusion: Confusion, tmp_path: Path) -> None:
    confusion.write(tmp_path / "new", "street day-night")
    document = json.loads((tmp_path / "new" / "confusion.json").read_text())
    assert document["counts"] == confusion.counts.tolist()
    assert document["classes"] == list(CLASSES)
    assert document["per_class"][0]["confused_with"] == "cup"
    assert document["accuracy"] == confusion.accuracy
    picture = read_image(tmp_path / "new" / "confusion.png")
    assert min(picture.shape[:2]) > 400 and picture.std() > 10


def test_any_name_can_stand_in_the_picture(tmp_path: Path) -> None:
    names = ("a $x^2", "$", "狗", "b" * 200)
    found = Confusion.of(logits(SEEN), TRUTH, names)
    found.write(tmp_path, "$\\frac{")
    assert (tmp_path / "confusion.png").stat().st_size > 1000


@pytest.mark.parametrize(("count", "named"), [(10, True), (65, True), (345, False)])
def test_names_stand_where_they_fit(count: int, named: bool) -> None:
    names = [f"c{i:03d}" for i in range(count)]
    found = Confusion.of(logits([*range(count)], count), np.arange(count), names)
    axis = figure(found, "title").axes[0]
    assert ([tick.get_text() for tick in axis.get_yticklabels()] == names) is named
    assert (len(axis.texts) == count) is (count <= 20)


@pytest.mark.parametrize(
    "title", ["street day-night", "office-home clipart-real_world, cmkd-rst-d0.015: " * 3, "W" * 90]
)
def test_the_title_lies_inside_the_picture_and_beside_nothing(
    title: str, confusion: Confusion
) -> None:
    picture = figure(confusion, title)
    picture.savefig(io.BytesIO())  # lays it out
    assert picture._suptitle is not None
    found = picture._suptitle.get_window_extent()
    assert found.x0 >= 0 and found.x1 <= picture.bbox.x1 and found.y1 <= picture.bbox.y1
    for axis in picture.axes:  # of the matrix, and of its colour bar
        tight = axis.get_tightbbox()
        assert tight is not None and not found.overlaps(tight)
