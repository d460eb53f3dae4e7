"""Score variants on the images that a person sorted, with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapt.artifacts import store
from adapt.artifacts.artifact import Artifact
from adapt.compute.device import exact_float32
from adapt.evaluation.intervals import sign_test, wilson
from adapt.evaluation.spot_check import Sorting, sha256
from adapt.evaluation.stored import ZERO_SHOT, zero_shot_settings
from adapt.evaluation.variants import check, variants
from adapt.registry import DATASETS
from runtime.errors import DataError, TaskError
from runtime.frames.preprocess import read_pixels
from runtime.monitoring.confidence import FEWEST, fit

HEADER = ("variant", "right", "accuracy %", "95 % interval")
PAIRS = ("pair", "only it is right", "only the other", "p (exact McNemar)")


@dataclass(frozen=True)
class Result:
    """The accuracy of one variant, in percent."""

    variant: str
    right: int
    images: int
    accuracy: float
    low: float
    """Lower end of the 95 % Wilson interval."""
    high: float
    """Upper end of that interval."""


@dataclass(frozen=True)
class Pair:
    """Two variants on the same images."""

    first: str
    second: str
    better: int
    """Number of images that only the second gets right."""
    worse: int
    """Number of images that only the first gets right."""
    p: float
    """P-value of McNemar's exact test, two-sided."""


@dataclass(frozen=True)
class Temperature:
    """The temperature of one variant that has an artifact."""

    variant: str
    temperature: float
    images: int
    artifact: str
    """SHA-256 of the artifact's file."""


@dataclass(frozen=True)
class Report:
    """The results of all variants."""

    task: str
    unsorted: int
    none: int
    results: tuple[Result, ...]
    pairs: tuple[Pair, ...]
    temperatures: tuple[Temperature, ...]
    """Of each scored artifact, if enough images are sorted; `calibrate.store` keeps them."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything, JSON-serialisable."""
        return asdict(self)


@exact_float32()
def score(
    sorting: Sorting,
    artifacts: Path,
    only: Sequence[str] = (),
    device: str = "cpu",
    pretrained: str | None = None,
) -> Report:
    """Return how often each variant agrees with the person.

    Args:
        sorting: Sorted images from `adapt.evaluation.spot_check.collect`.
        artifacts: Folder that training wrote.
        only: Variants to score; all of the task, and zero-shot CLIP, if empty.
        device: Device to compute on.
        pretrained: Weights of the bases, if they have moved since training.

    Raises:
        TaskError: There is no artifact of the task, or none of a name in `only`.
        DataError: No image is sorted, or an artifact may have been trained on them.
        UdaError: An artifact is damaged, or its base is missing.
    """
    task, images = sorting.manifest.task, len(sorting.paths)
    if not images:
        raise DataError(
            f"none of the {len(sorting.manifest.images)} images is in a class folder; sort at "
            "least some first"
        )
    files = store.variants(artifacts, task.dataset, task.id)
    if not files:
        store.find(artifacts, task.id, task.dataset)
    unknown = [name for name in only if name not in files and name != ZERO_SHOT]
    if unknown:
        raise TaskError(f"no artifact '{unknown[0]}' of '{task.id}'; available: {', '.join(files)}")
    artifact = Artifact.load(files.get(ZERO_SHOT, next(iter(files.values()))))
    settings = zero_shot_settings(task.dataset if task.dataset in DATASETS else None, artifact)
    files = {name: path for name, path in files.items() if not only or name in only}
    check(task, files, sorting.manifest.digest)
    digests = {name: sha256(path) for name, path in files.items()}
    hits: dict[str, NDArray[np.bool_]] = {}
    temperatures: list[Temperature] = []
    for variant in variants(task, files, settings, device, pretrained):
        if not only or variant.name in only:
            pixels = np.stack([read_pixels(path, variant.preprocess) for path in sorting.paths])
            logits = variant.logits(pixels)
            hits[variant.name] = logits.argmax(-1).numpy() == sorting.labels
            if variant.name in files and images >= FEWEST:
                found = fit(logits.numpy(), sorting.labels)
                made = (variant.name, found.temperature, images, digests[variant.name])
                temperatures.append(Temperature(*made))
    return Report(
        task=f"{task.dataset} {task.id}",
        unsorted=sorting.unsorted,
        none=sorting.none,
        results=tuple(_result(name, int(right.sum()), images) for name, right in hits.items()),
        pairs=tuple(_pair(a, b, hits) for a, b in combinations(hits, 2)),
        temperatures=tuple(temperatures),
    )


def _result(name: str, right: int, images: int) -> Result:
    low, high = wilson(right, images)
    return Result(name, right, images, 100 * right / images, 100 * low, 100 * high)


def _pair(first: str, second: str, hits: Mapping[str, NDArray[np.bool_]]) -> Pair:
    better = int((hits[second] & ~hits[first]).sum())
    worse = int((hits[first] & ~hits[second]).sum())
    return Pair(first, second, better, worse, sign_test(better, worse))


def rows(report: Report) -> list[list[str]]:
    """Return the results as cells of a table, for people."""
    return [
        [
            result.variant,
            f"{result.right} of {result.images}",
            f"{result.accuracy:.1f}",
            f"{result.low:.1f} to {result.high:.1f}",
        ]
        for result in report.results
    ]


def pair_rows(report: Report) -> list[list[str]]:
    """Return the comparisons as cells of a table, for people."""
    return [
        [f"{pair.second} over {pair.first}", str(pair.better), str(pair.worse), f"{pair.p:.2g}"]
        for pair in report.pairs
    ]
