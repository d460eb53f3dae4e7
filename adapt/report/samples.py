"""Choose samples of every class and domain for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapt.data import ImageSet
from adapt.data.base import UNKNOWN
from adapt.report.album import Album, Thumbnail
from runtime.models import Background

SAMPLES = 8
"""Images of a class and domain that are shown; the style sheet has as many columns."""
_UNLABELLED = 3 * SAMPLES
"""Images without labels that are shown of a domain."""
OPEN_CLASSES, MOST_CLASSES = 16, 64
"""Classes whose samples are shown at once, and those that a page holds at all."""
_SIDE = 80
"""Longest side in pixels."""


@dataclass(frozen=True)
class Column:
    """Samples of one class in one domain."""

    domain: str
    images: int | None
    """Number of images; None where the row does not apply to the domain."""
    samples: Sequence[Thumbnail]


@dataclass(frozen=True)
class ClassRow:
    """Samples of one class, or of images without labels."""

    name: str
    """Name of the class; empty for images without labels."""
    columns: Sequence[Column]


def samples(
    domains: Sequence[tuple[str, ImageSet]],
    album: Album,
    background: Background = "white",
    most: int = MOST_CLASSES,
) -> tuple[list[ClassRow], int]:
    """Return samples of every class, a column for each domain, and the number of all rows.

    Args:
        domains: Name and images of each domain.
        album: Album to put the pictures into.
        background: Colour behind transparent pixels.
        most: Most classes to show.
    """
    names = sorted({name for _, images in domains for name in images.classes})
    if any((images.labels == UNKNOWN).any() for _, images in domains):
        names.insert(0, "")
    rows = []
    for name in names[:most]:
        limit = SAMPLES if name else _UNLABELLED
        columns = []
        for domain, images in domains:
            members = _members(images, name)
            chosen = [images.paths[members[i]] for i in _spaced(len(members), limit)]
            shown = album.thumbnails(chosen, _SIDE, background)
            apart = not name or bool((images.labels == UNKNOWN).all())
            count = None if apart and not shown else len(members)
            columns.append(Column(domain, count, shown))
        rows.append(ClassRow(name, columns))
    return rows, len(names)


def _members(images: ImageSet, name: str) -> NDArray[np.int64]:
    """Return the positions of a class's images; those without labels for an empty name."""
    if not name:
        return np.flatnonzero(images.labels == UNKNOWN)
    if name not in images.classes:
        return np.array([], np.int64)
    return np.flatnonzero(images.labels == images.classes.index(name))


def _spaced(count: int, limit: int) -> list[int]:
    """Return the positions of evenly spaced samples, the first and the last among them."""
    shown = min(count, limit)
    return np.linspace(0, count - 1, shown).round().astype(int).tolist() if count else []
