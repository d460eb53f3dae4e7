"""Compare the variants of a task on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from adapt.artifacts.metrics import Metrics
from adapt.compute.device import exact_float32
from adapt.data import DomainPair, digests
from adapt.data.cache import pixels
from adapt.evaluation.confusion import Confusion
from adapt.evaluation.predictions import Predictions, predictions
from adapt.evaluation.trust import Trust, trust
from adapt.evaluation.variants import Variant, check, variants
from adapt.optim.grid import Grid
from runtime.console import ProgressCallback, bytes_text
from runtime.storage.fields import build

HEADER = (
    *("variant", "base", "epoch", "chosen by", "accuracy", "last", "oracle-best"),
    *("ECE %", "AURC %", "infomax", "density %", "file"),
)


@dataclass(frozen=True)
class Line:
    """One variant. Accuracies are percentages, None where no label is known."""

    variant: str
    base: str
    """Architecture of the base model."""
    seed: int | None
    epoch: int | None
    """Epoch of the artifact's weights; None for zero-shot CLIP, like all that follows from it."""
    selected_by: str | None
    """Score that chose the epoch without labels, or `last`."""
    accuracy: float | None
    """Accuracy of the weights in the artifact, measured now."""
    mean_per_class: float | None
    last: float | None
    """Accuracy of the final epoch, from the artifact."""
    last_mean_per_class: float | None
    oracle_best: float | None
    """Accuracy of the epoch chosen on the test labels, from the artifact."""
    oracle_best_mean_per_class: float | None
    density: float
    """Share of the encoder's parameters that changed, in [0, 1]."""
    file_bytes: int | None
    images: int
    """Number of labelled test images."""
    infomax: float
    """Information maximisation of the predictions, in nats: a score that needs no labels."""
    survival: Mapping[Grid, float] | None = field(compare=False)
    """Share of the changed weights that each precision keeps; None where none changed."""
    trust: Trust | None = field(repr=False, compare=False)
    """How far its scores can be trusted; None where no label is known."""
    confusion: Confusion = field(repr=False, compare=False)
    predictions: Predictions = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the line without what is kept per image, JSON-serialisable."""
        left_out = ("confusion", "predictions", "trust")
        own = {k: v for k, v in vars(self).items() if k not in left_out}
        return own | {"trust": None if self.trust is None else self.trust.as_dict()}


def compare(
    pair: DomainPair,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    device: str = "cpu",
    pretrained: str | None = None,
) -> list[Line]:
    """Evaluate zero-shot CLIP and every trained variant; see `lines`."""
    return list(lines(pair, files, settings, device, pretrained))


def lines(
    pair: DomainPair,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    device: str = "cpu",
    pretrained: str | None = None,
    *,
    reuse: bool = False,
    on_progress: ProgressCallback = lambda what, done, total: None,
) -> Iterator[Line]:
    """Yield zero-shot CLIP and every trained variant, each evaluated.

    Args:
        pair: Images of the task; only `test` is read.
        files: Artifacts by variant.
        settings: Settings of zero-shot CLIP, and those that `pair` was split with.
        device: Device to compute on.
        pretrained: Weights of the bases, if they have moved since training.
        reuse: Whether predictions of an earlier evaluation may be taken.
        on_progress: Progress callback.

    Raises:
        DataError: An artifact was tested on other images, so it may have been trained on these.
        UdaError: An artifact is damaged, belongs to another task's classes, or its base is missing.
    """
    check(pair.task, files, None if pair.given else pair.test.digest())
    classes = len(pair.task.classes)
    with exact_float32():
        for variant in variants(pair.task, files, settings, device, pretrained):
            spec = variant.preprocess
            test = pixels(pair.test, spec.size, spec.resize, spec.interpolation, spec.background)
            on_batch = partial(on_progress, f"{pair.task.id}: {variant.name}")
            found = predictions(variant, test, classes, reuse=reuse, on_batch=on_batch)
            yield _line(variant, pair, files.get(variant.name), found)


def _line(variant: Variant, pair: DomainPair, path: Path | None, found: Predictions) -> Line:
    labels, artifact = pair.test.labels[found.positions], variant.artifact
    confusion = Confusion.counted(found.classes[:, 0], labels, pair.task.classes)
    accuracy, mean_per_class = confusion.accuracy, confusion.mean_per_class
    seed = epoch = selected_by = size = None
    last: Mapping[str, Any] = {"accuracy": accuracy, "mean_per_class": mean_per_class}
    best = last
    if artifact is not None and path is not None:
        metrics = build(Metrics, artifact.metrics, "metrics")
        # What training measured on other test images says nothing about these.
        same = not pair.given or digests.same(artifact.metrics["data"]["test"], pair.test.digest())
        last, best = (vars(metrics.last), vars(metrics.oracle_best)) if same else ({}, {})
        seed, size, epoch = artifact.seed, path.stat().st_size, metrics.saved.epoch
        selected_by = metrics.selected.by if metrics.selected else "last"
    return Line(
        variant=variant.name,
        base=variant.base,
        seed=seed,
        epoch=epoch,
        selected_by=selected_by,
        accuracy=accuracy,
        mean_per_class=mean_per_class,
        last=last.get("accuracy"),
        last_mean_per_class=last.get("mean_per_class"),
        oracle_best=best.get("accuracy"),
        oracle_best_mean_per_class=best.get("mean_per_class"),
        density=artifact.density if artifact else 0.0,
        file_bytes=size,
        images=confusion.images,
        infomax=found.infomax,
        survival=variant.survival,
        trust=trust(found, labels, variant.calibration),
        confusion=confusion,
        predictions=found,
    )


def rows(lines: Sequence[Line]) -> list[list[str]]:
    """Return the lines as cells of a table, for people."""

    def percent(overall: float | None, per_class: float | None) -> str:
        first = "-" if overall is None else f"{overall:.2f}"
        return first if per_class is None else f"{first} / {per_class:.2f}"

    return [
        [
            line.variant,
            line.base,
            "-" if line.epoch is None else str(line.epoch),
            line.selected_by or "-",
            percent(line.accuracy, line.mean_per_class),
            percent(line.last, line.last_mean_per_class),
            percent(line.oracle_best, line.oracle_best_mean_per_class),
            "-" if line.trust is None else f"{line.trust.ece:.1f}",
            "-" if line.trust is None else f"{line.trust.aurc:.1f}",
            f"{line.infomax:.3f}",
            f"{100 * line.density:.3f}",
            "-" if line.file_bytes is None else bytes_text(line.file_bytes),
        ]
        for line in lines
    ]
