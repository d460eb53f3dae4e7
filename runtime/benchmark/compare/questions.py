"""Frames that all candidates answer, with their labels where these are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runtime.bundles.bundle import Bundle
from runtime.errors import TaskError
from runtime.models import Preprocess, TaskInfo

_NOISE, _TOTAL = 16, 64
"""Most frames of noise for each task, and about as many in all, but one for each."""


@dataclass(frozen=True)
class Question:
    """A frame for a task."""

    name: str
    """Path of the image, for messages."""
    task: str
    frame: NDArray[np.uint8]
    """(H, W, 3)."""
    label: int | None = None
    """Index of its class among the task's; None where it is unknown."""


@dataclass(frozen=True)
class Form:
    """What a task expects, and what its answers mean."""

    info: TaskInfo
    preprocess: Preprocess


def form_of(bundles: Sequence[Bundle], task: str) -> Form:
    """Return the form of a task, which must have the same classes in all bundles.

    Raises:
        TaskError: The classes differ.
        FormatError: A bundle is damaged.
    """
    first, *others = (bundle.task(task, bundle.layout()) for bundle in bundles)
    for bundle, other in zip(bundles[1:], others, strict=True):
        if other.info.classes != first.info.classes:
            raise TaskError(
                f"task '{task}' has other classes in '{bundle.path}' than in "
                f"'{bundles[0].path}'; name bundles of the same tasks"
            )
    spec = replace(bundles[0].preprocess(task), background=first.background)
    return Form(first.info, spec)


def noise(forms: Sequence[Form]) -> list[Question]:
    """Return frames of noise for each task, of the size that its encoder takes.

    Larger ones would come out of the resizing as even grey.
    """
    count = max(1, min(_NOISE, _TOTAL // len(forms)))
    return [
        Question(f"noise {number}", form.info.id, frame)
        for form in forms
        for number, frame in enumerate(
            np.random.default_rng(0).integers(
                0, 256, (count, form.preprocess.size, form.preprocess.size, 3), dtype=np.uint8
            )
        )
    ]
