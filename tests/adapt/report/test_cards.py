"""Which test images a page shows with their predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from adapt.data import ImageSet
from adapt.data.base import UNKNOWN
from adapt.evaluation.predictions import Predictions
from adapt.report.album import Album
from adapt.report.cards import CARDS, Cards, mistakes, unsure

CLASSES = ("bee", "cup", "dog")


def world(labels: list[int], seed: int = 0) -> tuple[Predictions, ImageSet]:
    """Return random predictions of images, of which the second cannot be read."""
    paths = tuple(Path(f"night/x/{number:03}.png") for number in range(len(labels)))
    readable = np.delete(np.arange(len(labels)), 1)
    logits = torch.randn(len(readable), 3, generator=torch.Generator().manual_seed(seed))
    images = ImageSet(paths, np.array(labels, np.int64), CLASSES, "night")
    return Predictions.of(logits, readable), images


def names(cards: Cards) -> list[str]:
    return [card.thumbnail.name for card in cards.shown]


def expected(found: Predictions, images: ImageSet, wrong: bool) -> list[str]:
    """Return the names that a loop over the images chooses."""
    rows = []
    for row, position in enumerate(found.positions.tolist()):
        if not wrong or images.labels[position] not in (UNKNOWN, found.classes[row, 0]):
            rows.append((float(found.scores[row, 0]), images.paths[position].as_posix()))
    return [name for _, name in sorted(rows, reverse=wrong)]


def test_mistakes_are_shown_from_the_most_confident_and_the_rest_is_counted() -> None:
    found, images = world([number % 3 for number in range(99)])
    shown = mistakes(found, images, Album(images=False))
    every = expected(found, images, wrong=True)
    assert len(every) > CARDS and names(shown) == every[:CARDS] and shown.total == len(every)
    for card in shown.shown:
        number = int(card.thumbnail.name[-7:-4])
        assert card.true == CLASSES[images.labels[number]] != card.predicted
        assert card.right is False and card.second != card.predicted
        assert 1 >= card.score >= card.second_score > 0


def test_the_least_sure_come_first_right_or_wrong() -> None:
    found, images = world([number % 3 for number in range(40)])
    shown = unsure(found, images, Album(images=False))
    assert names(shown) == expected(found, images, wrong=False)[:CARDS] and shown.total == 39
    assert {card.right for card in shown.shown} == {True, False}


def test_images_of_unknown_class_are_no_mistakes() -> None:
    found, images = world([UNKNOWN] * 30 + [0])
    shown = mistakes(found, images, Album(images=False))
    assert set(names(shown)) <= {"night/x/030.png"}


def test_without_labels_the_most_confident_predictions_are_shown() -> None:
    found, images = world([UNKNOWN] * 30)
    shown = mistakes(found, images, Album(images=False))
    assert shown.total == 29 and {card.right for card in shown.shown} == {None}
    assert names(shown) == list(reversed(expected(found, images, wrong=False)))[:CARDS]
