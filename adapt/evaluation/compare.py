"""Compare the variants of a task on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.artifacts.metrics import Metrics
from adapt.compute.device import exact_float32
from adapt.data import DomainPair, digests
from adapt.data.cache import pixels
from adapt.evaluation.confusion import Confusion
from adapt.evaluation.selection import information_maximisation
from adapt.evaluation.variants import Variant, check, variants
from runtime.console import bytes_text
from runtime.storage.fields import build

HEADER = (
    *("variant", "base", "epoch", "chosen by", "accuracy", "last", "oracle-best"),
    *("infomax", "density %", "file"),
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
    confusion: Confusion = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the line without its confusion matrix, JSON-serialisable."""
        return {k: v for k, v in vars(self).items() if k != "confusion"}


@exact_float32()
def compare(
    pair: DomainPair,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    device: str = "cpu",
    pretrained: str | None = None,
) -> list[Line]:
    """Evaluate zero-shot CLIP and every trained variant.

    Args:
        pair: Images of the task; only `test` is read.
        files: Artifacts by variant.
        settings: Settings of zero-shot CLIP, and those that `pair` was split with.
        device: Device to compute on.
        pretrained: Weights of the bases, if they have moved since training.

    Raises:
        DataError: An artifact was tested on other images, so it may have been trained on these.
        UdaError: An artifact is damaged, belongs to another task's classes, or its base is missing.
    """
    check(pair.task, files, None if pair.given else pair.test.digest())
    return [
        _line(variant, pair, files.get(variant.name))
        for variant in variants(pair.task, files, settings, device, pretrained)
    ]


def _line(variant: Variant, pair: DomainPair, path: Path | None) -> Line:
    spec, artifact = variant.preprocess, variant.artifact
    test = pixels(pair.test, spec.size, spec.resize, spec.interpolation, spec.background)
    logits, labels = variant.logits(test.images), pair.test.labels[test.positions]
    found = Confusion.of(logits, labels, pair.task.classes)
    here = found.accuracy, found.mean_per_class
    infomax = round(information_maximisation(logits), 4)
    if artifact is None or path is None:
        return Line(
            *(variant.name, variant.base, None, None, None),
            *here,
            *here,
            *here,
            0.0,
            None,
            found.images,
            infomax,
            found,
        )
    metrics = build(Metrics, artifact.metrics, "metrics")
    # What training measured on other test images says nothing about these.
    same = not pair.given or digests.same(artifact.metrics["data"]["test"], pair.test.digest())
    last = vars(metrics.last) if same else {}
    best = vars(metrics.oracle_best) if same else {}
    return Line(
        variant=variant.name,
        base=variant.base,
        seed=artifact.seed,
        epoch=metrics.saved.epoch,
        selected_by=metrics.selected.by if metrics.selected else "last",
        accuracy=found.accuracy,
        mean_per_class=found.mean_per_class,
        last=last.get("accuracy"),
        last_mean_per_class=last.get("mean_per_class"),
        oracle_best=best.get("accuracy"),
        oracle_best_mean_per_class=best.get("mean_per_class"),
        density=artifact.density,
        file_bytes=path.stat().st_size,
        images=found.images,
        infomax=infomax,
        confusion=found,
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
            f"{line.infomax:.3f}",
            f"{100 * line.density:.3f}",
            "-" if line.file_bytes is None else bytes_text(line.file_bytes),
        ]
        for line in lines
    ]
