"""What an artifact tells about its accuracy, typed: the file may come from anywhere."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.spec import check_sha256


@dataclass(frozen=True)
class Last:
    """The epoch that was saved, chosen by nobody. Percentages, None where no label is known."""

    epoch: int
    accuracy: float | None
    mean_per_class: float | None
    per_class: dict[str, float | None] | None
    """Recall by class; None where none of its images is there."""


@dataclass(frozen=True)
class OracleBest:
    """The epoch that the target's test labels would have chosen: what papers print."""

    epoch: int | None
    accuracy: float | None


@dataclass(frozen=True)
class Digests:
    """`ImageSet.digest` by role."""

    source: str
    target: str
    test: str

    def __post_init__(self) -> None:
        for digest in (self.source, self.target, self.test):
            check_sha256(digest)


@dataclass(frozen=True)
class Metrics:
    """What `Artifact.metrics` holds, as a mapping."""

    last: Last
    oracle_best: OracleBest
    density: float
    """Changed over all encoder parameters, in [0, 1]."""
    held_out: bool
    """Whether training never saw the test images."""
    test_images: int
    data: Digests

    def __post_init__(self) -> None:
        last, best = self.last, self.oracle_best
        known = {n is not None for n in (last.accuracy, last.mean_per_class, last.per_class)}
        known |= {best.epoch is not None, best.accuracy is not None}
        if len(known) > 1:
            raise ValueError("either all accuracies are known or none is")
        for value in (last.accuracy, last.mean_per_class, best.accuracy):
            if value is not None and not 0 <= value <= 100:
                raise ValueError(f"an accuracy must be in 0..100, found {value}")
