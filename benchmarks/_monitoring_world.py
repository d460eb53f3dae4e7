"""What `benchmarks.monitoring` looks at: domains, tasks and their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network, load_base
from adapt.clip.model import Clip
from adapt.compute.inference import predict
from adapt.data.base import ImageSet
from adapt.data.cache import pixels
from adapt.evaluation.statistics import with_statistics
from benchmarks._monitoring_sets import Sets
from runtime.errors import DataError
from runtime.models import Preprocess
from runtime.monitoring import statistics
from runtime.monitoring.gaussian import Features
from runtime.monitoring.statistics import TaskStatistics

BATCH = 256
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

    def __init__(self, artifact: Artifact, clip: Clip, target: ImageSet, own: str) -> None:
        """Load a task, and compute its statistics anew from its training images.

        Args:
            artifact: The task.
            clip: Its base model.
            target: Its training images.
            own: Key of the domain that it was adapted to.
        """
        artifact = with_statistics(artifact, target, torch.device("cpu"), clip)
        self.artifact, self.id = artifact, artifact.task.id
        self.own = own
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

    sets: Sets
    clip: Clip
    spec: Preprocess
    domains: Mapping[str, Domain]
    """By their keys in `sets`."""
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
        return [key for key in self._group(view) if key != view.own]

    def foreign(self, view: View) -> list[str]:
        """Return the domains that show nothing of what a task knows."""
        return [key for key in self.domains if key not in self._group(view)]

    def _group(self, view: View) -> Sequence[str]:
        (group,) = (group for group in self.sets.groups if view.own in group)
        return group


def load(artifacts: Sequence[Artifact], sets: Sets) -> World:
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
    for key in (key for group in sets.groups for key in group):
        target, held_out = sets.images(key)
        train, test = _images(target, spec), _images(held_out, spec)
        looked = (base_features(clip, spec, each) for each in (train, test))
        domains[key] = Domain(target.domain, train, test, held_out.labels, *looked)
        targets[key] = target
    keys = [sets.own(artifact.task.id) for artifact in artifacts]
    views = [View(a, clip, targets[key], key) for a, key in zip(artifacts, keys, strict=True)]
    world = World(sets, clip, spec, domains, views, int(first.config["seed"]))
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
