"""A camera of the demo: drawn images in runs of one class, and a scene that drifts into another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from adapt.data import ImageSet

RUN = (5, 25)
"""Fewest and most frames of one class in a row."""


@dataclass(frozen=True)
class Shown:
    """One frame. Nothing but the statistics of a demo looks at its label."""

    path: Path
    label: str
    scene: str


class Camera:
    """Shows the images of one domain in runs of one class, each once before any comes again."""

    def __init__(self, images: ImageSet, scene: str, seed: int) -> None:
        """Start before the first image.

        Args:
            images: Labelled images of the domain.
            scene: Name of the scene.
            seed: Seed of their order.
        """
        self._frames = self._endless(images, scene, np.random.default_rng(seed))

    def show(self, count: int) -> list[Shown]:
        """Return the next frames."""
        return list(islice(self._frames, count))

    def _endless(self, images: ImageSet, scene: str, draw: np.random.Generator) -> Iterator[Shown]:
        while True:
            groups = [
                draw.permutation(np.flatnonzero(images.labels == label)).tolist()
                for label in range(len(images.classes))
            ]
            while left := [group for group in groups if group]:
                group = left[draw.integers(len(left))]
                for position in group[: draw.integers(RUN[0], RUN[1] + 1)]:
                    label = images.classes[images.labels[position]]
                    yield Shown(images.paths[position], label, scene)
                    group.remove(position)


def drifting(old: Camera, new: Camera, count: int, seed: int) -> list[Shown]:
    """Return frames of one scene that turns into another, frame by frame more often."""
    shares = np.random.default_rng(seed).random(count) < (np.arange(count) + 0.5) / count
    return [(new if changed else old).show(1)[0] for changed in shares]
