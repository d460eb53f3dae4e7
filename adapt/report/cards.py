"""Choose the test images that a page shows: confident mistakes and uncertain predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapt.data import ImageSet
from adapt.data.base import UNKNOWN
from adapt.evaluation.predictions import Predictions
from adapt.report.album import Album, Thumbnail
from runtime.models import Background

CARDS = 24
"""Number of images of a kind that are shown."""
_SIDE = 144
"""Longest side in pixels."""


@dataclass(frozen=True)
class Card:
    """One image with its prediction, or with its label alone."""

    thumbnail: Thumbnail
    predicted: str
    """Predicted class, or the label of an image without a score."""
    score: float | None
    second: str | None
    """Second class; None if that is unknown, like its score."""
    second_score: float | None
    true: str | None
    """Class by its label; None if that is unknown."""

    @property
    def right(self) -> bool | None:
        """Whether the prediction is right; None without a label."""
        return None if self.true is None else self.true == self.predicted


@dataclass(frozen=True)
class Cards:
    """Some of the predictions of one kind."""

    shown: Sequence[Card]
    total: int
    """Number of all of this kind."""


def mistakes(
    found: Predictions, test: ImageSet, album: Album, background: Background = "white"
) -> Cards:
    """Return the wrong predictions with the highest scores; any ones where no label is known.

    Args:
        found: Predictions of the test images.
        test: Test images.
        album: Album to put the pictures into.
        background: Colour behind transparent pixels.
    """
    labels = test.labels[found.positions]
    wrong = (found.classes[:, 0] != labels) & (labels != UNKNOWN)
    if (labels == UNKNOWN).all():
        wrong = np.ones_like(wrong)
    chosen = np.flatnonzero(wrong)
    order = chosen[np.argsort(-found.scores[chosen, 0], kind="stable")]
    return _cards(order, found, test, album, background)


def unsure(
    found: Predictions, test: ImageSet, album: Album, background: Background = "white"
) -> Cards:
    """Return the predictions with the lowest scores; arguments as for `mistakes`."""
    order = np.argsort(found.scores[:, 0], kind="stable")
    return _cards(order, found, test, album, background)


def _cards(
    order: NDArray[np.int64],
    found: Predictions,
    test: ImageSet,
    album: Album,
    background: Background,
) -> Cards:
    some = order[:CARDS]
    positions = found.positions[some].tolist()
    pictures = album.thumbnails([test.paths[i] for i in positions], _SIDE, background)
    cards = []
    for row, position, picture in zip(some.tolist(), positions, pictures, strict=True):
        label = int(test.labels[position])
        first, second = (test.classes[i] for i in found.classes[row].tolist())
        score, second_score = found.scores[row].tolist()
        true = None if label == UNKNOWN else test.classes[label]
        cards.append(Card(picture, first, score, second, second_score, true))
    return Cards(cards, len(order))
