"""Measure every epoch, and make the metrics of an artifact from all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapt.evaluation.evaluate import Scores
from runtime.errors import TrainingError

EpochRow = dict[str, Any]
"""One line of metrics.jsonl. Accuracies are percentages, None where no label is known."""


_ORACLE = {
    "oracle_best": "accuracy",
    "oracle_best_epoch": "epoch",
    "oracle_best_mean_per_class": "mean_per_class",
}
ROW = frozenset(_ORACLE) | frozenset(
    "epoch iteration losses lr density survival accuracy mean_per_class per_class seconds "
    "scores".split()
)
"""Keys that the row of an epoch has had since the first checkpoints; later ones may be missing."""


_NUMBERS, _OR_NONE = ("lr", "density", "seconds"), ("survival", "accuracy", "mean_per_class")


def check_row(row: Mapping[str, Any], number: int) -> None:
    """Refuse a row that `epoch_row` cannot have made.

    Args:
        row: Row of a file, untrusted.
        number: Number of the epoch, from 1.

    Raises:
        ValueError: A key is missing, or a value has another type.
    """
    where = f"row {number} of the finished epochs"
    if missing := ROW - row.keys():
        raise ValueError(f"{where} lacks '{min(missing)}'")
    optional = (*_OR_NONE, "oracle_best", "oracle_best_epoch", "oracle_best_mean_per_class")
    by_name = {name: row[name] for name in ("losses", "scores")}
    good = {
        **{name: type(row[name]) is int for name in ("epoch", "iteration")},
        **{name: _number(row[name]) for name in _NUMBERS},
        **{name: row[name] is None or _number(row[name]) for name in optional},
        **{
            name: isinstance(part, dict) and all(_number(value) for value in part.values())
            for name, part in by_name.items()
        },
        "per_class": row["per_class"] is None
        or isinstance(row["per_class"], dict)
        and all(value is None or _number(value) for value in row["per_class"].values()),
    }
    if bad := [name for name, fits in good.items() if not fits]:
        raise ValueError(f"{where} has the invalid {bad[0]} = {row[bad[0]]!r:.40}")
    if row["epoch"] != number:
        raise ValueError(f"{where} has epoch {row['epoch']}")


def _number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(float(str(value)))


@dataclass
class Meter:
    """Sums of the loss terms of an epoch, in float64."""

    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0
    """Number of iterations summed."""

    def add(self, pending: Sequence[Mapping[str, Tensor]], iteration: int) -> dict[str, float]:
        """Add the terms of some iterations, in one transfer from the device, and return the last.

        Args:
            pending: Scalars by name of each iteration, oldest first, with equal names.
            iteration: Number of iterations done, including these.

        Raises:
            TrainingError: A loss is not finite.
        """
        names = list(pending[0])
        values = torch.stack([t.float() for terms in pending for t in terms.values()]).tolist()
        latest: dict[str, float] = {}
        for row in range(len(pending)):
            latest = dict(zip(names, values[row * len(names) :], strict=False))
            for name, value in latest.items():
                if not math.isfinite(value):
                    number = iteration - len(pending) + row + 1
                    raise TrainingError(
                        f"the loss '{name}' became {value} at iteration {number}; lower the "
                        "learning rate, or check the data; no artifact was written"
                    )
                self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += len(pending)
        return latest

    def means(self) -> dict[str, float]:
        """Return the mean of each term."""
        return {name: total / self.count for name, total in self.sums.items()}


def epoch_row(
    history: Sequence[EpochRow],
    scores: Scores | None,
    *,
    epoch: int,
    iteration: int,
    losses: Mapping[str, float],
    lr: float,
    density: float,
    survival: float | None,
    seconds: float,
    label_free: Mapping[str, float],
    budget: float = 0.0,
) -> EpochRow:
    """Return the row of an epoch.

    Args:
        history: Rows of the epochs before it.
        scores: Scores on the test images; None if they are unlabelled.
        epoch: Number of the epoch, from 1; 0 if nothing was trained.
        iteration: Number of iterations done.
        losses: Means of the loss terms over the epoch, by name.
        lr: Learning rate of the first parameter group at the last iteration; 0 without any group.
        density: Share of the encoder's parameters that changed, in [0, 1].
        survival: Share of the changes that mixed precision sees; None without changes or mixed
            precision.
        seconds: Time spent on the epoch, without evaluation.
        label_free: Scores that need no labels, by name, see `adapt.evaluation.selection`.
        budget: Largest density that may be deployed, or 0 for any. Once an epoch meets it, a
            denser one cannot be the oracle-best.
    """
    accuracy = None if scores is None else scores.accuracy
    per_class = None if scores is None else scores.mean_per_class
    row = {
        "epoch": epoch,
        "iteration": iteration,
        "losses": dict(losses),
        "lr": lr,
        "density": density,
        "survival": survival,
        "accuracy": accuracy,
        "mean_per_class": per_class,
        "per_class": None if scores is None else scores.per_class,
        "seconds": round(seconds, 3),
        "scores": dict(label_free),
    }
    rows = [*history, row]
    allowed = [r for r in rows if not budget or r["density"] <= budget] or rows
    best = None if accuracy is None else max(allowed, key=lambda r: r["accuracy"])  # the first
    for name, key in _ORACLE.items():
        row[name] = best and best[key]
    return row


def metrics(
    history: Sequence[EpochRow],
    held_out: bool,
    images: int,
    data: Mapping[str, str],
    selected: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """Return the metrics of an artifact, see `adapt.artifacts.metrics.Metrics`.

    Args:
        history: Rows of all epochs.
        held_out: Whether training never saw the test images.
        images: Number of test images.
        data: Digests of the image sets, by role.
        selected: Name of the score that chose the saved epoch, and position of its row; None if
            the last epoch was saved.
    """
    keys, last = ("epoch", "accuracy", "mean_per_class", "per_class"), history[-1]
    saved = last if selected is None else history[selected[1]]
    return {
        "last": {k: last[k] for k in keys},
        "oracle_best": {
            "epoch": last["oracle_best_epoch"],
            "accuracy": last["oracle_best"],
            "mean_per_class": last["oracle_best_mean_per_class"],
        },
        "density": saved["density"],
        "held_out": held_out,
        "test_images": images,
        "data": dict(data),
        "selected": selected and {"by": selected[0], **{k: saved[k] for k in keys}},
    }


def density(encoder: nn.Module, base: Mapping[str, NDArray[Any]]) -> float:
    """Return the share of an encoder's parameters that changed, in [0, 1].

    Args:
        encoder: Encoder to compare.
        base: Tensors of the base, from `adapt.clip.model.encoder_tensors`.
    """
    changed = total = 0
    for name, parameter in encoder.named_parameters():
        total += parameter.numel()
        if parameter.requires_grad:
            changed += int((parameter.detach().cpu() != torch.from_numpy(base[name])).sum())
    return changed / total
