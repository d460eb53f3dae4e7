"""What `benchmarks.monitoring` looks at: domains of the demo world, tasks and their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from adapt import data
from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network, load_base
from adapt.clip.model import Clip
from adapt.compute.inference import predict
from adapt.data.base import ImageSet
from adapt.data.cache import pixels
from adapt.evaluation.statistics import with_statistics
from runtime.errors import DataError
from runtime.models import Preprocess
from runtime.monitoring import statistics
from runtime.monitoring.gaussian import Features
from runtime.monitoring.statistics import TaskStatistics

BATCH = 256
DATASETS = {"demo-digits": "fh", "demo-objects": "acpr"}
DIGITS = DATASETS["demo-digits"]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Domain:
    """Images of a domain, and their features under the untouched base."""

    name: str
    train: Pixels
    test: Pixels
    labels: NDArray[np.int64]
    """Of `test`."""
    base_train: Features
    base_test: Features


class View:
    """A task, and what it says of any images."""

    def __init__(self, artifact: Artifact, clip: Clip, target: ImageSet) -> None:
        """Load a task; statistics are computed from its training images if it has none."""
        if statistics.MEMBER not in artifact.optional:
            artifact = with_statistics(artifact, target, torch.device("cpu"), clip)
        self.artifact, self.id = artifact, artifact.task.id
        self.own = self.id[-1]
        """Short name of the domain that it was adapted to."""
        self._network = Network.of(clip, artifact)
        found = statistics.read(
            artifact.optional, artifact.optional_tensors, len(artifact.task.classes)
        )
        if found is None or found.drift is None or found.base_drift is None:
            raise DataError(f"task '{self.id}' has too few images for statistics")
        self.statistics: TaskStatistics = found
        self._seen: dict[int, tuple[Pixels, Features, Features]] = {}

    def look(self, images: Pixels) -> tuple[Features, Features]:
        """Return features (N, D) and logits (N, K) of images (N, S, S, 3)."""
        if id(images) not in self._seen:  # the array is kept, so that its id stays its own
            spec = self.artifact.preprocess
            rows = predict(self._network.encoder, images, BATCH, mean=spec.mean, std=spec.std)
            self._seen[id(images)] = (images, rows.numpy(), self.head(rows.numpy()))
        return self._seen[id(images)][1:]

    def head(self, features: Features) -> Features:
        """Return logits (N, K) of features (N, D)."""
        with torch.inference_mode():
            found: Features = self._network.head(torch.from_numpy(features)).numpy()
        return found


@dataclass(frozen=True, eq=False)
class World:
    """The domains under one base model, and one seed's tasks."""

    clip: Clip
    spec: Preprocess
    domains: Mapping[str, Domain]
    """By their short names, which differ between the two data sets."""
    views: Sequence[View]
    seed: int
    _looked: dict[int, tuple[Pixels, Features]] = field(default_factory=dict)

    def base(self, images: Pixels) -> Features:
        """Return features (N, D) of images under the untouched base."""
        if id(images) not in self._looked:
            self._looked[id(images)] = (images, base_features(self.clip, self.spec, images))
        return self._looked[id(images)][1]

    def others(self, view: View) -> list[str]:
        """Return the other domains that show the classes of a task."""
        kind = self._kind(view)
        return [short for short in kind if short != view.own]

    def foreign(self, view: View) -> list[str]:
        """Return the domains that show nothing of what a task knows."""
        return [short for short in self.domains if short not in self._kind(view)]

    def _kind(self, view: View) -> str:
        return DATASETS[view.artifact.task.dataset]


def load(artifacts: Sequence[Artifact]) -> World:
    """Return the world as one seed's tasks see it, its images drawn if need be.

    Raises:
        DataError: The tasks are not of one base model, or preprocess their frames differently.
    """
    first = artifacts[0]
    for artifact in artifacts:
        if (artifact.base, artifact.preprocess) != (first.base, first.preprocess):
            raise DataError(f"tasks {first.task.id} and {artifact.task.id} differ in their base")
    clip, spec = load_base(first), first.preprocess
    domains, targets = {}, {}
    for dataset, shorts in DATASETS.items():
        for short in shorts:
            pair = data.load(dataset, f"{short}-{short}")
            train, test = _images(pair.target, spec), _images(pair.test, spec)
            looked = (base_features(clip, spec, each) for each in (train, test))
            domains[short] = Domain(pair.target.domain, train, test, pair.test.labels, *looked)
            targets[short] = pair.target
    views = [View(artifact, clip, targets[artifact.task.id[-1]]) for artifact in artifacts]
    world = World(clip, spec, domains, views, int(first.config["seed"]))
    for domain in domains.values():
        world._looked[id(domain.test)] = (domain.test, domain.base_test)
    return world


def base_features(clip: Clip, spec: Preprocess, images: Pixels) -> Features:
    """Return features (N, D) of images under the untouched base."""
    found: Features = predict(clip.visual, images, BATCH, mean=spec.mean, std=spec.std).numpy()
    return found


def _images(images: ImageSet, spec: Preprocess) -> Pixels:
    content = pixels(images, spec.size, spec.resize, spec.interpolation, spec.background)
    return np.stack([content.images[row] for row in range(len(content.images))])
