"""Metrics of an artifact as checked dataclasses, since the file may come from anywhere."""

from __future__ import annotations

from dataclasses import dataclass

from adapt.data import digests


@dataclass(frozen=True)
class Last:
    """The final epoch. Accuracies are percentages, None where no label is known."""

    epoch: int
    accuracy: float | None
    mean_per_class: float | None
    per_class: dict[str, float | None] | None
    """Recall by class; None for a class without images."""


@dataclass(frozen=True)
class Selected:
    """The epoch whose weights were saved, chosen by a score that needs no labels."""

    by: str
    """Name of the score, see `adapt.evaluation.selection`."""
    epoch: int
    accuracy: float | None
    mean_per_class: float | None
    per_class: dict[str, float | None] | None


@dataclass(frozen=True)
class OracleBest:
    """The epoch that the target's test labels would have chosen: what papers print."""

    epoch: int | None
    accuracy: float | None
    mean_per_class: float | None = None
    """Mean of the classes' recalls in that epoch."""


@dataclass(frozen=True)
class Digests:
    """`ImageSet.digest` by role."""

    source: str
    target: str
    test: str

    def __post_init__(self) -> None:
        for digest in (self.source, self.target, self.test):
            digests.check(digest)


@dataclass(frozen=True)
class Metrics:
    """The content of `Artifact.metrics`."""

    last: Last
    oracle_best: OracleBest
    density: float
    """Share of the encoder's parameters that the saved weights change, in [0, 1]."""
    held_out: bool
    """Whether training never saw the test images."""
    test_images: int
    data: Digests
    selected: Selected | None = None
    """None where the last epoch's weights were saved."""

    def __post_init__(self) -> None:
        last, best = self.last, self.oracle_best
        tested: list[Last | Selected] = [last] if self.selected is None else [last, self.selected]
        known = {best.epoch is not None, best.accuracy is not None}
        for epoch in tested:
            values = (epoch.accuracy, epoch.mean_per_class, epoch.per_class)
            known |= {value is not None for value in values}
        if len(known) > 1:
            raise ValueError("either all accuracies must be known or none")
        percentages = [v for e in tested for v in (e.accuracy, e.mean_per_class)]
        for value in (*percentages, best.accuracy):
            if value is not None and not 0 <= value <= 100:
                raise ValueError(f"an accuracy must be in 0..100, found {value}")

    @property
    def saved(self) -> Last | Selected:
        """The epoch whose weights were saved."""
        return self.selected or self.last
