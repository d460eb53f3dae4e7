"""Compute confusion matrices, and show them as a table and a picture."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adapt.data.base import UNKNOWN
from runtime.console import write_json
from runtime.storage.writing import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER = ("class", "images", "recall %", "precision %", "most confused with")
WORST = 10
"""Number of classes shown when there are more than twice as many."""
_NUMBERS, _LABELS = 20, 80
"""Largest numbers of classes whose counts, and whose names, fit into the picture."""
_PER_INCH = 7
"""Letters of the title that fit into an inch, wide ones among them."""


@dataclass(frozen=True)
class ClassLine:
    """The figures of one class, in percent; None where there is nothing to divide by."""

    name: str
    images: int | None
    """Number of images of the class; None if unknown."""
    recall: float | None
    """Share of its images that were recognised."""
    precision: float | None
    """Share of the images predicted as this class that are of it."""
    confused_with: str | None
    """Class that most of its other images were predicted as; None without an error."""
    confused: int
    """Number of those images."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of images by true and predicted class."""

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    """Counts (K, K) by true class, the row, and predicted class, the column."""

    @classmethod
    def of(cls, logits: Tensor, labels: NDArray[np.int64], classes: Sequence[str]) -> Confusion:
        """Return the confusion of logits (N, K) on labels (N,); UNKNOWN (-1) rows do not count."""
        return cls.counted(logits.argmax(-1).numpy(), labels, classes)

    @classmethod
    def counted(
        cls, predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str]
    ) -> Confusion:
        """Return the confusion of predicted classes (N,), otherwise like `of`."""
        known, size = labels != UNKNOWN, len(classes)
        pairs = labels[known] * size + predicted[known]
        counts = np.bincount(pairs, minlength=size**2).reshape(size, size)
        return cls(tuple(classes), counts)

    @property
    def images(self) -> int:
        """Number of images of known class."""
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float | None:
        """Correct over all, in [0, 100]; None without images."""
        return _share(int(np.trace(self.counts)), self.images)

    @property
    def mean_per_class(self) -> float | None:
        """Mean of the recalls of the classes that occur (VisDA's figure); None without images."""
        recalls = [line.recall for line in self.lines() if line.recall is not None]
        return sum(recalls) / len(recalls) if recalls else None

    def lines(self) -> list[ClassLine]:
        """Return a line per class, in the order of the classes."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        total, called = self.counts.sum(1).tolist(), self.counts.sum(0).tolist()
        lines = []
        for k, name in enumerate(self.classes):
            hits, other = int(self.counts[k, k]), int(wrong[k].argmax())
            count = int(wrong[k, other])
            lines.append(
                ClassLine(
                    name=name,
                    images=total[k],
                    recall=_share(hits, total[k]),
                    precision=_share(hits, called[k]),
                    confused_with=self.classes[other] if count else None,
                    confused=count,
                )
            )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return everything, JSON-serialisable."""
        return {
            "accuracy": self.accuracy,
            "mean_per_class": self.mean_per_class,
            "images": self.images,
            "per_class": [asdict(line) for line in self.lines()],
            "classes": list(self.classes),
            "counts": self.counts.tolist(),
        }

    def write(self, folder: Path, title: str) -> None:
        """Write `confusion.json` and `confusion.png` into a folder, each atomically.

        Raises:
            StorageError: A file cannot be written.
        """
        write_json(folder / "confusion.json", self.as_dict())
        picture = figure(self, title)
        with replacing(folder / "confusion.png") as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in another script
            picture.savefig(temporary, format="png", dpi=110)


def rows(lines: Sequence[ClassLine]) -> tuple[list[list[str]], str]:
    """Return cells of a table, and a note that is empty when all classes are in it.

    Of more than 20 classes the 10 with the lowest recall are shown, the worst first.
    """
    note = ""
    if len(lines) > 2 * WORST:
        present = [line for line in lines if line.recall is not None]
        note = f"the {WORST} classes with the lowest recall, of {len(lines)}"
        lines = sorted(present, key=lambda line: (line.recall, line.name))[:WORST]
    cells = [
        [
            line.name,
            str(line.images),
            _percent(line.recall),
            _percent(line.precision),
            f"{line.confused_with} ({line.confused})" if line.confused_with else "-",
        ]
        for line in lines
    ]
    return cells, note


def figure(confusion: Confusion, title: str) -> Figure:
    """Return a picture of each row's shares, with counts and names where they fit."""
    from matplotlib.figure import Figure

    size = len(confusion.classes)
    side = min(max(4.5, 0.22 * size + 2), 13)  # inches
    picture = Figure(figsize=(side, side), layout="constrained")
    axis = picture.subplots()
    total = confusion.counts.sum(1, keepdims=True)
    shares = 100 * confusion.counts / np.maximum(total, 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    bar = picture.colorbar(image, ax=axis, shrink=0.7)
    bar.set_label("% of the images of the true class")
    if size <= _LABELS:
        names = [name if len(name) <= 24 else name[:23] + "…" for name in confusion.classes]
        font = 9 if size <= _NUMBERS else 6
        style: dict[str, Any] = {"fontsize": font, "parse_math": False}
        axis.set_xticks(range(size), names, rotation=90, **style)
        axis.set_yticks(range(size), names, **style)
    if size <= _NUMBERS:
        for (row, column), count in np.ndenumerate(confusion.counts):
            if count:
                color = "white" if shares[row, column] > 55 else "#222222"
                axis.text(
                    column, row, str(count), ha="center", va="center", fontsize=8, color=color
                )
    unnamed = "" if size <= _LABELS else ", by position"
    axis.set_xlabel(f"predicted class{unnamed}")
    axis.set_ylabel(f"true class{unnamed}")
    lines = textwrap.wrap(title, int(side * _PER_INCH)) or [""]
    picture.suptitle("\n".join(lines), fontsize=10, parse_math=False)
    return picture


def _share(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
