"""Lay out a confusion matrix so that it can be read, however many classes there are."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adapt.evaluation.confusion import Confusion
from adapt.report.album import data_uri

MOST = 20
"""Most classes whose counts fit into a table."""
PAIRS = 20
"""Number of confused pairs that are listed."""
_COLOUR = (60, 120, 216)
_OTHERS = "others"


@dataclass(frozen=True)
class Cell:
    """Images of one true and one predicted class."""

    count: int
    share: float
    """Share of the images of the true class, in [0, 1]."""
    right: bool


@dataclass(frozen=True)
class Pair:
    """Images of one class that were predicted as another."""

    true: str
    predicted: str
    count: int
    share: float
    """Share of the images of the true class, in [0, 1]."""


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix, as a page shows it."""

    names: tuple[str, ...]
    """Classes that are shown; the last one stands for all others where there are more."""
    rows: tuple[tuple[Cell, ...], ...]
    note: str
    """Which classes are shown; empty if all are."""
    pairs: tuple[Pair, ...]
    """Most frequent confusions."""
    picture: str | None
    """Picture of the whole matrix as a `data:` URI; None if all of it is in the table."""


def matrix(confusion: Confusion) -> Matrix:
    """Return a matrix of at most `MOST` classes: those that are confused the most."""
    counts, names, note, picture = confusion.counts, confusion.classes, "", None
    own = len(names)  # columns that stand for one class; the last may stand for all others
    pairs = _pairs(confusion)
    if len(names) > MOST:
        wrong = counts - np.diag(np.diag(counts))
        order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")
        chosen = np.sort(order[: MOST - 1])
        counts = _merged(counts, chosen)
        note = (
            f"the {len(chosen)} of {len(names)} classes with the most mistakes; '{_OTHERS}' are "
            "all the rest"
        )
        names, own = (*(names[i] for i in chosen), _OTHERS), len(chosen)
        picture = _picture(confusion.counts)
    total = np.maximum(counts.sum(1), 1)
    rows = tuple(
        tuple(
            Cell(int(count), float(count / total[row]), row == column < own)
            for column, count in enumerate(line)
        )
        for row, line in enumerate(counts)
    )
    return Matrix(names, rows, note, pairs, picture)


def _merged(counts: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the counts (n + 1, n + 1) of n chosen classes and of all others."""
    group = np.full(len(counts), len(chosen))
    group[chosen] = np.arange(len(chosen))
    merged = np.zeros((len(chosen) + 1, len(chosen) + 1), np.int64)
    np.add.at(merged, (group[:, None], group[None, :]), counts)
    return merged


def _pairs(confusion: Confusion) -> tuple[Pair, ...]:
    wrong = confusion.counts - np.diag(np.diag(confusion.counts))
    total = np.maximum(confusion.counts.sum(1), 1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    found = []
    for true, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if count := int(wrong[true, predicted]):
            names = confusion.classes[true], confusion.classes[predicted]
            found.append(Pair(*names, count, count / float(total[true])))
    return tuple(found)


def _picture(counts: NDArray[np.int64]) -> str:
    """Return a pixel for each true class, the row, and predicted class; empty ones are clear."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    pixels = np.zeros((*counts.shape, 4), np.uint8)
    pixels[..., :3] = _COLOUR
    pixels[..., 3] = np.round(255 * np.sqrt(shares))  # so that single images can be seen
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return data_uri("png", stream.getvalue())
