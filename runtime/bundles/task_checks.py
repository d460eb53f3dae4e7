"""Check that a task brings the tensors that its encoder and head take."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from runtime.bundles.entries import CLASSES
from runtime.bundles.task import Task, token_type
from runtime.errors import FormatError
from runtime.models import Precision

Shapes = Mapping[str, tuple[int, ...]]


def check_tokens(task: Task, shapes: Shapes, precision: Precision) -> None:
    """Check that a task brings the tokens that its encoder takes.

    Args:
        task: Task to check.
        shapes: Shapes of the encoder's tokens, by name.
        precision: Precision of the bundle.

    Raises:
        FormatError: Names, shapes or types differ, or a value is not finite.
    """
    dtype = token_type(precision)
    needed = {name: f"{dtype}{tuple(shape)}" for name, shape in shapes.items()}
    found = {name: f"{array.dtype}{array.shape}" for name, array in task.tokens.items()}
    if found != needed:
        name = min(n for n in {**found, **needed} if found.get(n) != needed.get(n))
        raise FormatError(
            f"task '{task.info.id}' brings tokens '{name}' as {found.get(name, 'nothing')}, its "
            f"encoder needs {needed.get(name, 'none of that name')}; export the task again"
        )
    for name, array in task.tokens.items():
        if not bool(np.isfinite(array).all()):
            raise FormatError(
                f"tokens '{name}' of task '{task.info.id}' hold a value that is not finite"
            )


def check_head_names(task: Task, names: Collection[str]) -> None:
    """Check that a task brings as many tensors as its head takes, under their names.

    Args:
        task: Task to check.
        names: Names of the head's inputs except the features.

    Raises:
        FormatError: Names differ.
    """
    if task.head_tensors.keys() != set(names):
        raise FormatError(
            f"task '{task.info.id}' brings {sorted(task.head_tensors)} for its head, expected "
            f"{sorted(names)}; export the task again"
        )


def check_head(task: Task, shapes: Shapes) -> None:
    """Check that a task brings the tensors that its head takes.

    Args:
        task: Task to check.
        shapes: Shapes of the head's inputs except features, `CLASSES` for the number of classes.

    Raises:
        FormatError: Names or shapes differ.
    """
    check_head_names(task, shapes)
    count = len(task.info.classes)
    for name, shape in shapes.items():
        needed = tuple(count if size == CLASSES else size for size in shape)
        _check_shape(task, name, task.head_tensors[name].shape == needed, needed)


def check_head_like(task: Task, other: Task) -> None:
    """Check that a task brings the same tensors as another task of its head.

    Args:
        task: Task to check.
        other: Task that fits the head.

    Raises:
        FormatError: Names or shapes differ by more than the number of classes.
    """
    check_head_names(task, other.head_tensors)
    alike, own = len(other.info.classes), len(task.info.classes)
    for name, array in other.head_tensors.items():
        found, shape = task.head_tensors[name].shape, array.shape
        # The axis of the classes is not known: any that has their number in both may be it.
        fits = len(found) == len(shape) and all(
            a == b or (a, b) == (own, alike) for a, b in zip(found, shape, strict=True)
        )
        _check_shape(task, name, fits, tuple(own if size == alike else size for size in shape))


def _check_shape(task: Task, name: str, fits: bool, needed: tuple[int, ...]) -> None:
    if not fits:
        raise FormatError(
            f"task '{task.info.id}' has {len(task.info.classes)} classes and brings head tensor "
            f"'{name}' of shape {task.head_tensors[name].shape}, expected {needed}; export the "
            "task again"
        )
